package maildir

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Courier keeps its UIDs in courierimapuiddb, what POP3 calls the messages in courierpop3dsizelist, keywords in files of the
// directory courierimapkeywords, and subscriptions in courierimapsubscribed. All of it is taken over once, into
// Dovecot's files, by whoever first finds a folder without these; Courier's stay as they are.
const (
	courierList       = "courierimapuiddb"
	courierPOP3       = "courierpop3dsizelist"
	courierKeywords   = "courierimapkeywords"
	courierSubscribed = "courierimapsubscribed"
	courierMost       = 16 << 20 // octets of keywords that are read
)

// A courierMessage is a line of courierpop3dsizelist. The sizes there are not ours to trust.
type courierMessage struct {
	base, uidl string
}

// parseCourierPOP3 reads "/version next validity" and lines "name size n:validity:utf8"; before version 2 there is no
// validity, before version 3 no mark of UTF-8.
func parseCourierPOP3(text string) (list []courierMessage) {
	head, rest, _ := strings.Cut(text, "\n")
	if len(head) < 2 || head[0] != '/' || head[1] < '1' || head[1] > '3' {
		return nil
	}
	for line := range strings.Lines(rest) {
		words := strings.Split(strings.TrimRight(line, "\r\n"), " ")
		if len(words) < 3 {
			continue
		}
		base := string(baseOf([]byte(strings.Join(words[:len(words)-2], " "))))
		numbers := strings.Split(words[len(words)-1], ":")
		n, err := strconv.ParseUint(numbers[0], 10, 64)
		if err != nil || !validBase(base) {
			continue
		}
		uidl := fmt.Sprintf("UID%d", n)
		if n == 0 {
			uidl = courierName(base)
		} else if len(numbers) > 1 {
			v, err := strconv.ParseUint(numbers[1], 10, 64)
			if err != nil {
				continue
			}
			if v > 0 {
				uidl += fmt.Sprintf("-%d", v)
			}
		}
		list = append(list, courierMessage{base, uidl})
	}
	return list
}

// courierName is a UIDL of the oldest kind: the base name, with what POP3 might not like as "+" and two digits.
func courierName(base string) string {
	var b strings.Builder
	for i := range len(base) {
		if c := base[i]; c < 0x21 || c > 0x7e || c == '\'' || c == '"' || c == '+' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// parseCourierKeywords reads the file :list: the names, an empty line, and lines "base:n n" with numbers from 0 on.
func parseCourierKeywords(text string) (names []string, of map[string][]string) {
	of = map[string][]string{}
	inHead := true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if inHead {
			if inHead = line != ""; inHead {
				names = append(names, line)
			}
			continue
		}
		base, numbers, ok := strings.Cut(line, ":")
		if !ok || !validBase(base) {
			continue
		}
		var set []string
		for number := range strings.FieldsSeq(numbers) {
			if n, err := strconv.ParseUint(number, 10, 16); err == nil && n < uint64(len(names)) {
				set = append(set, names[n])
			}
		}
		of[base] = set
	}
	return names, of
}

// courierFile takes the name of a file beside :list apart. It holds all keywords of one message, a line each, and is newer
// than :list: "base" is the newest, of ".n.base" the one with the largest number.
func courierFile(name string) (base string, age uint64, ok bool) {
	if !strings.HasPrefix(name, ".") {
		return name, 1<<64 - 1, validBase(name)
	}
	number, base, ok := strings.Cut(name[1:], ".")
	age, err := strconv.ParseUint(number, 10, 63)
	return base, age, ok && err == nil && validBase(base)
}

// courierKeywords reads what keywords the messages have.
func (p *place) courierKeywords() (names []string, of map[string][]string, err error) {
	data, _, err := p.readFile(courierKeywords+"/:list", 0, courierMost)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	names, of = parseCourierKeywords(string(data))
	fd, err := openDir(p.fd, courierKeywords)
	if errors.Is(err, fs.ErrNotExist) {
		return names, of, nil
	}
	if err != nil {
		return nil, nil, err
	}
	dir := os.NewFile(uintptr(fd), courierKeywords)
	entries, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, nil, err
	}
	newest := map[string]uint64{}
	from := map[string]string{}
	for _, entry := range entries {
		if base, age, ok := courierFile(entry); ok && age >= newest[base] {
			newest[base], from[base] = age, entry
		}
	}
	for _, base := range slices.Sorted(maps.Keys(from)) {
		data, _, err := p.readFile(courierKeywords+"/"+from[base], 0, 1<<20)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		of[base] = nil
		for line := range strings.Lines(string(data)) {
			if name := strings.TrimRight(line, "\r\n"); name != "" {
				of[base] = append(of[base], name)
			}
		}
		names = append(names, of[base]...)
	}
	return names, of, nil
}

// courierLines gives the UID list that Courier's files make, in Dovecot's form; "" when there is nothing to take over. What
// was only ever read by POP3 has no UIDs yet: they follow the order of that list, under a UIDVALIDITY from validity.
func (p *place) courierLines(validity func() (uint32, error)) (string, error) {
	data, _, err := p.readFile(courierList, 0, maxListSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	head, known := parseListHead(line)
	known = known && head.version == 1
	data, _, err = p.readFile(courierPOP3, 0, maxListSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	pop3 := parseCourierPOP3(string(data))
	if !known && len(pop3) == 0 {
		return "", nil
	}
	ext := map[string]string{}
	for _, m := range pop3 {
		if validUIDL(m.uidl) {
			ext[m.base] = " P" + m.uidl
		}
	}
	type entry struct {
		uid  uint32
		base string
	}
	var lines []entry
	if known {
		parseListLines(rest, 1, 0, func(uid uint32, _, base string) {
			lines = append(lines, entry{uid, base})
			head.next = max(head.next, uid+1)
		})
	} else {
		if head.validity, err = validity(); err != nil {
			return "", err
		}
		slices.SortStableFunc(pop3, func(a, b courierMessage) int { return byDelivery(a.base, b.base) })
		pop3 = slices.CompactFunc(pop3, func(a, b courierMessage) bool { return a.base == b.base })
		for i, m := range pop3 {
			lines = append(lines, entry{uint32(i) + 1, m.base})
		}
		head.next = uint32(len(lines)) + 1
	}
	head.version, head.fields = 3, []string{newGUID()}
	b := appendListHead(nil, head)
	for _, l := range lines {
		b = appendListLine(b, l.uid, ext[l.base], l.base)
	}
	return string(b), nil
}

// takeCourier takes over what Courier has left in a folder without a UID list, under the lock: first the keywords, into the
// names of the files, and at last the list, after which there is nothing to take over any more. Whoever is killed in
// between has it done again. beyond are the keywords of messages for which there is no letter, by base names.
func (p *place) takeCourier(root *place) (took bool, beyond map[string][]string, err error) {
	for _, name := range []string{listName, journalName, "dovecot.index.log"} {
		if st, err := p.stamp(name); err != nil || st != (stamp{}) {
			return false, nil, err // it was Dovecot's or ours since
		}
	}
	text, err := p.courierLines(func() (uint32, error) { return nextValidity(root) })
	if err != nil || text == "" {
		return false, nil, err
	}
	names, of, err := p.courierKeywords()
	if err != nil {
		return false, nil, err
	}
	if len(of) > 0 {
		if beyond, err = p.nameKeywords(names, of); err != nil {
			return false, nil, err
		}
		if err := p.sync("cur"); err != nil {
			return false, nil, err
		}
	}
	if err := p.replace(listName, listTmp, []byte(text), nil); err != nil {
		return false, nil, err
	}
	return true, beyond, nil
}

// nameKeywords gives keywords letters, and puts these into the names of the files.
func (p *place) nameKeywords(names []string, of map[string][]string) (beyond map[string][]string, err error) {
	data, _, err := p.readFile(keywordsName, 0, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	k := parseKeywords(string(data))
	free := 0
	for _, name := range names {
		if _, ok := k.letter(name); ok || !validKeyword(name) {
			continue
		}
		for free < len(k) && k[free] != "" {
			free++
		}
		if free < len(k) {
			k[free] = name
		}
	}
	err = p.replace(keywordsName, keywordsTmp, k.text(), func(int) error {
		mtime := unix.Timespec{Sec: time.Now().Unix()}
		return utimesAt(p.fd, keywordsTmp, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime})
	})
	if err != nil {
		return nil, err
	}
	type move struct{ from, to string }
	var moves []move
	beyond = map[string][]string{}
	for _, dir := range []byte{inNew, inCur} {
		_, err := p.readNames(sub(dir)[:3], func(name []byte) {
			base := string(baseOf(name))
			var letters uint32
			for _, keyword := range of[base] {
				if i, ok := k.letter(keyword); ok {
					letters |= 1 << i
				} else if validKeyword(keyword) && !slices.Contains(beyond[base], keyword) {
					beyond[base] = append(beyond[base], keyword)
				}
			}
			in := parseInfo(string(name[len(base):]))
			if letters&^in.letters != 0 {
				to := "cur/" + base + infoText(in.flags, in.letters|letters, in.other, in.extra)
				moves = append(moves, move{sub(dir) + string(name), to})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(moves, func(a, b move) int { return cmp.Compare(a.from, b.from) })
	for _, m := range moves {
		if err := renameNew(p.fd, m.from, p.fd, m.to); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return beyond, nil
}

// addBeyond gives messages the keywords from Courier that have no letter, under the lock.
func (b *box) addBeyond() {
	for base, names := range b.beyond {
		k, i, ok := b.lookup(base)
		if !ok {
			continue
		}
		labels, err := b.labels(names, true)
		if err != nil {
			slog.Warn("keywords from Courier are left out", "folder", b.journal.folder, "keywords", names, "err", err)
			continue
		}
		bl := b.rows.blocks[k]
		in := b.info(bl.mark[i])
		b.put(bl.uid[i], b.mark(in.dir, octets(in.text), joinMore(in.more, nil, labels.more)))
	}
	b.beyond = nil
}

// parseCourierSubscriptions reads courierimapsubscribed: a name a line, below INBOX, in UTF-8 or (before Courier 5) in
// modified UTF-7.
func parseCourierSubscriptions(text string) (names []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := DecodeUTF7(line); ok {
			line = name
		}
		if len(line) > len(inbox)+1 && strings.EqualFold(line[:len(inbox)+1], inbox+".") {
			line = line[len(inbox)+1:]
		}
		if name, err := cleanName(line); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
