package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MaxKeywords is how many keywords a folder can have: as many as there are letters in the names of files, as every
// program sees them, and the others in the journal.
const MaxKeywords = 256

const (
	keywordsName = "dovecot-keywords"
	keywordsTmp  = "dovecot-keywords.lock"
	maxLetters   = 26
	maxMore      = MaxKeywords - maxLetters
)

// keywordNames are the names of the letters a-z; "" where a letter has none.
type keywordNames [maxLetters]string

// parseKeywords reads lines "n name", n from 0 to 25. What makes no sense is passed over; the first name of a
// letter counts, and the first letter of a name.
func parseKeywords(text string) (k keywordNames) {
	for line := range strings.Lines(text) {
		number, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		n, err := strconv.ParseUint(number, 10, 8)
		if !ok || err != nil || n >= maxLetters || !validKeyword(name) || k[n] != "" {
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
	for i := range maxLetters {
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

// readKeywords brings the names up to the file; messages whose letters got other names are changed.
func (b *box) readKeywords() error {
	now, err := b.dir.stamp(keywordsName)
	if err != nil || now == b.kwStamp {
		return err
	}
	var k keywordNames
	if (now != stamp{}) {
		data, st, err := b.dir.readFile(keywordsName, 0, 1<<20)
		switch {
		case err == nil:
			now = stampOf(&st)
		case foreign(err):
			slog.Warn("the names of the keywords cannot be read", "folder", b.journal.folder, "err", err)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		k = parseKeywords(string(data))
	}
	b.kwStamp = now
	b.takeKeywords(k)
	return nil
}

// foreign tells whether an error of readFile says that what has the name is no file of ours or Dovecot's: a link, a directory,
// or far too large.
func foreign(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EFBIG)
}

func (b *box) takeKeywords(k keywordNames) {
	var differ uint32
	for i := range k {
		if k[i] != b.keywords[i] {
			differ |= 1 << i
		}
	}
	if differ == 0 {
		return
	}
	b.keywords, b.state = k, nil
	concerned := func(in *info) bool { return in.letters&differ != 0 }
	if !slices.ContainsFunc(b.infos, concerned) {
		return
	}
	b.log.changed = append(b.log.changed, b.rows.uids(func(m uint32) bool { return concerned(b.info(m)) })...)
	old := b.infos
	b.remark(func(m uint32) uint32 {
		in := old[m]
		return b.mark(in.dir, octets(in.text), in.more)
	})
	b.version++
}

// A labelSet is some keywords of a box.
type labelSet struct {
	letters uint32
	more    []uint16 // places in the list of those beyond the letters
}

// labels finds keywords. Under the lock, names that are not known get a letter, or a place beyond the letters, when
// add is set: ErrKeywords when there are too many, and then none of them got one.
func (b *box) labels(names []string, add bool) (set labelSet, err error) {
	k, more := b.keywords, b.more
	fresh := false
	for _, name := range names {
		i, ok := k.letter(name)
		if ok {
			set.letters |= 1 << i
			if add {
				continue
			}
		}
		if n, found := strings.CutPrefix(name, "unknown-"); found {
			if v, err := strconv.ParseUint(n, 10, 8); err == nil && v < maxLetters && k[v] == "" {
				set.letters |= 1 << v
				continue
			}
		}
		at := slices.IndexFunc(more, func(m string) bool { return strings.EqualFold(m, name) })
		if at < 0 && add {
			if !validKeyword(name) {
				return set, fmt.Errorf("%w: not a keyword: %q", ErrKeywords, name)
			}
			if i, ok = b.freeLetter(&k); ok {
				k[i], fresh = name, true
				set.letters |= 1 << i
				continue
			}
			if len(more) == maxMore {
				return set, ErrKeywords
			}
			at, more = len(more), append(more[:len(more):len(more)], name)
		}
		if at >= 0 && !slices.Contains(set.more, uint16(at)) {
			set.more = append(set.more, uint16(at))
		}
	}
	if fresh {
		if err := b.writeKeywords(k); err != nil {
			return set, err
		}
	}
	if n := len(more) - len(b.more); n > 0 {
		b.more, b.state = more, nil
		b.log.keywords += n
	}
	return set, nil
}

// joinMore gives the further keywords old has, without those of remove, with those of add.
func joinMore(old string, remove, add []uint16) string {
	if len(remove)+len(add) == 0 {
		return old
	}
	var list []uint16
	for k := range placesOf(old) {
		if !slices.Contains(remove, uint16(k)) {
			list = append(list, uint16(k))
		}
	}
	list = append(list, add...)
	slices.Sort(list)
	return placesText(slices.Compact(list))
}

// freeLetter finds a letter that has no name, and that no message we know of carries already.
func (b *box) freeLetter(k *keywordNames) (int, bool) {
	var used uint32
	for _, in := range b.infos {
		used |= in.letters
	}
	for i := range k {
		if k[i] == "" && used&(1<<i) == 0 {
			return i, true
		}
	}
	return 0, false
}

// writeKeywords puts the names on disk, under the lock.
func (b *box) writeKeywords(k keywordNames) error {
	if err := b.dir.replaceKeywords(k.text()); err != nil {
		return fmt.Errorf("write keywords: %w", err)
	}
	st, err := b.dir.stamp(keywordsName)
	if err != nil {
		return err
	}
	b.kwStamp = st
	b.takeKeywords(k)
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
