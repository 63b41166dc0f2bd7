package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keywordsName = "dovecot-keywords"
	keywordsTmp  = "dovecot-keywords.lock"
	maxKeywords  = 26
)

// keywordNames are the names of the letters a-z; "" where a letter has none.
type keywordNames [maxKeywords]string

// parseKeywords reads lines "n name", n from 0 to 25. What makes no sense is passed over; the first name of a
// letter counts, and the first letter of a name.
func parseKeywords(text string) (k keywordNames) {
	for line := range strings.Lines(text) {
		number, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		n, err := strconv.ParseUint(number, 10, 8)
		if !ok || err != nil || n >= maxKeywords || !validKeyword(name) || k[n] != "" {
			continue
		}
		if _, taken := k.letter(name); !taken {
			k[n] = name
		}
	}
	return k
}

func (k *keywordNames) text() []byte {
	var b []byte
	for i, name := range k {
		if name != "" {
			b = fmt.Appendf(b, "%d %s\n", i, name)
		}
	}
	return b
}

// letter finds the place of a name, without regard to case.
func (k *keywordNames) letter(name string) (int, bool) {
	for i, n := range k {
		if n != "" && strings.EqualFold(n, name) {
			return i, true
		}
	}
	return 0, false
}

// names lists the names of a set of letters. A letter without a name is "unknown-n", as Dovecot calls it.
func (k *keywordNames) names(letters uint32) []string {
	var list []string
	for i := range maxKeywords {
		if letters&(1<<i) == 0 {
			continue
		}
		if k[i] != "" {
			list = append(list, k[i])
		} else {
			list = append(list, "unknown-"+strconv.Itoa(i))
		}
	}
	return list
}

// all lists the names that there are.
func (k *keywordNames) all() []string {
	var list []string
	for _, n := range k {
		if n != "" {
			list = append(list, n)
		}
	}
	return list
}

// validKeyword tells whether a name may be a keyword: an atom of RFC 9051 §9 of a sensible length.
func validKeyword(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f && c < 0x80 || strings.IndexByte(`(){%*"\`, c) >= 0 {
			return false
		}
	}
	return true
}

// readKeywords brings the names up to the file; messages whose letters got other names become other pictures.
func (f *Folder) readKeywords() error {
	now, err := f.dir.stamp(keywordsName)
	if err != nil || now == f.kwStamp {
		return err
	}
	var k keywordNames
	if (now != stamp{}) {
		data, st, err := f.dir.readFile(keywordsName, 0, 1<<20)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			now = stampOf(&st)
		}
		k = parseKeywords(string(data))
	}
	f.kwStamp = now
	f.takeKeywords(k)
	return nil
}

func (f *Folder) takeKeywords(k keywordNames) {
	var differ uint32
	for i := range k {
		if k[i] != f.keywords[i] {
			differ |= 1 << i
		}
	}
	if differ == 0 {
		return
	}
	f.keywords, f.changed = k, true
	f.infos = nil
	for i, m := range f.lines {
		if m.info.letters&differ != 0 {
			c := *m
			c.info = f.info([]byte(m.info.text))
			f.lines[i] = &c
		}
	}
}

// letters finds the letters of keywords. Under the lock, names that have none get one when add is set:
// ErrKeywords when all 26 are taken, and then none of them got one.
func (f *Folder) letters(names []string, add bool) (uint32, error) {
	var set uint32
	k, fresh := f.keywords, false
	for _, name := range names {
		i, ok := k.letter(name)
		if !ok {
			if n, found := strings.CutPrefix(name, "unknown-"); found {
				if v, err := strconv.ParseUint(n, 10, 8); err == nil && v < maxKeywords && k[v] == "" {
					set |= 1 << v
					continue
				}
			}
			if !add {
				continue
			}
			if !validKeyword(name) {
				return 0, fmt.Errorf("%w: not a keyword: %q", ErrKeywords, name)
			}
			if i, ok = f.freeLetter(&k); !ok {
				return 0, ErrKeywords
			}
			k[i], fresh = name, true
		}
		set |= 1 << i
	}
	if fresh {
		if err := f.writeKeywords(k); err != nil {
			return 0, err
		}
	}
	return set, nil
}

// freeLetter finds a letter that has no name, and that no message we know of carries already.
func (f *Folder) freeLetter(k *keywordNames) (int, bool) {
	var used uint32
	for _, m := range f.lines {
		used |= m.info.letters
	}
	for i := range k {
		if k[i] == "" && used&(1<<i) == 0 {
			return i, true
		}
	}
	return 0, false
}

// writeKeywords puts the names on disk, under the lock.
func (f *Folder) writeKeywords(k keywordNames) error {
	if err := f.dir.replaceKeywords(k.text()); err != nil {
		return fmt.Errorf("write keywords: %w", err)
	}
	st, err := f.dir.stamp(keywordsName)
	if err != nil {
		return err
	}
	f.kwStamp = st
	f.takeKeywords(k)
	return nil
}

// replaceKeywords writes the file anew. Dovecot reads it again only when its time differs in whole seconds: it has to grow by
// one at least.
func (p *place) replaceKeywords(text []byte) error {
	mtime := time.Now().Unix()
	var old unix.Stat_t
	if err := statat(p.fd, keywordsName, &old); err == nil {
		mtime = max(mtime, int64(old.Mtim.Sec)+1)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.replace(keywordsName, keywordsTmp, text, func(int) error {
		return utimesAt(p.fd, keywordsTmp, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: mtime}})
	})
}
