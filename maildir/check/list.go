package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	listName = "dovecot-uidlist"
	maxUID   = 1<<32 - 2
)

// A uidList is dovecot-uidlist as it stands there, and what is wrong with it.
type uidList struct {
	version  int // 0: the first line cannot be understood
	validity uint32
	next     uint32
	fields   []string // the other words of the first line
	lines    []line   // those that can be understood, in the order of the file
	torn     bool     // its last line has no end
	faults   []fault
}

// A line is "UID [Kvalue ...] :base" of the list.
type line struct {
	uid       uint32
	ext, base string // ext has a blank before each field
}

// A fault is something wrong in a control file.
type fault struct {
	line int // counted from 1
	uid  uint32
	kind string
	text string
}

// parseList takes the UID list apart and forgives nothing.
func parseList(text string) *uidList {
	l := &uidList{}
	head, rest, ended := strings.Cut(text, "\n")
	bad := func(n int, uid uint32, kind, format string, args ...any) {
		l.faults = append(l.faults, fault{n, uid, kind, fmt.Sprintf(format, args...)})
	}
	switch {
	case text == "":
		bad(1, 0, kindListHead, "the UID list is empty")
		return l
	case strings.Trim(text, "\x00") == "":
		bad(1, 0, kindListHead, "the UID list holds nothing but NUL octets")
		return l
	case !ended:
		l.torn = true
		bad(1, 0, kindListHead, "the first line of the UID list has no end")
	}
	crlf := strings.HasSuffix(head, "\r")
	if why := l.head(strings.TrimSuffix(head, "\r")); why != "" {
		bad(1, 0, kindListHead, "the first line of the UID list %s", why)
	}
	var last uint32
	uids, bases := map[uint32]string{}, map[string]uint32{}
	for n := 2; rest != ""; n++ {
		var s string
		if s, rest, ended = strings.Cut(rest, "\n"); !ended {
			l.torn = true
			bad(n, 0, kindListTorn, "the last line of the UID list has no end: %q", short(s))
			break
		}
		if t, cr := strings.CutSuffix(s, "\r"); cr {
			s, crlf = t, true
		}
		ln, why := parseLine(s, l.version)
		if why != "" {
			bad(n, ln.uid, kindListLine, "line %d of the UID list %s: %q", n, why, short(s))
			continue
		}
		other, doubled := uids[ln.uid]
		switch {
		case doubled && other == ln.base:
			bad(n, ln.uid, kindUIDTwice, "line %d of the UID list is there twice", n)
		case doubled:
			bad(n, ln.uid, kindUIDTwice, "line %d of the UID list gives UID %d to a second message: %q and %q", n, ln.uid, short(other), short(ln.base))
		case ln.uid < last:
			bad(n, ln.uid, kindUIDOrder, "line %d of the UID list has UID %d behind UID %d", n, ln.uid, last)
		}
		if uid, ok := bases[ln.base]; ok && !doubled {
			bad(n, ln.uid, kindBaseTwice, "line %d of the UID list gives UID %d to a message that has UID %d already: %q", n, ln.uid, uid, short(ln.base))
		}
		uids[ln.uid], bases[ln.base] = ln.base, ln.uid
		last = max(last, ln.uid)
		l.lines = append(l.lines, ln)
	}
	if crlf {
		bad(0, 0, kindListLine, "lines of the UID list end in CRLF")
	}
	return l
}

// head reads the first line: "3 Vvalidity Nnext [Kvalue ...]", or "1 validity next" as Courier writes it.
func (l *uidList) head(s string) (why string) {
	words := strings.Split(s, " ")
	switch words[0] {
	case "1":
		if len(words) != 3 {
			return "is not \"1 validity next\""
		}
		if l.validity = parseUID(words[1]); l.validity == 0 {
			return "has no UIDVALIDITY"
		}
		l.version, l.next = 1, parseUID(words[2])
	case "3":
		for _, w := range words[1:] {
			switch {
			case w == "":
				why = "has an empty field"
			case w[0] == 'V':
				l.validity = parseUID(w[1:])
			case w[0] == 'N':
				l.next = parseUID(w[1:])
			case w[0] < 'A' || w[0] > 'Z':
				why = fmt.Sprintf("has a field that is none: %q", short(w))
			default:
				l.fields = append(l.fields, w)
			}
		}
		if l.validity == 0 {
			return "has no UIDVALIDITY"
		}
		l.version = 3
	default:
		return fmt.Sprintf("has no version that is known: %q", short(s))
	}
	if l.next == 0 && why == "" {
		why = "has no next UID"
	}
	return why
}

// parseUID reads a number from 1 to 2^32-2; 0: it is none.
func parseUID(s string) uint32 {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || v > maxUID || s[0] == '+' {
		return 0
	}
	return uint32(v)
}

// parseLine reads a line without its end. A list whose first line is lost is taken for one of version 3.
func parseLine(s string, version int) (ln line, why string) {
	number, rest, ok := strings.Cut(s, " ")
	if ln.uid = parseUID(number); ln.uid == 0 {
		return ln, "does not begin with a UID"
	}
	if !ok {
		return ln, "has no name"
	}
	if version == 1 {
		ln.base = rest
	} else {
		for {
			if base, found := strings.CutPrefix(rest, ":"); found {
				ln.base = base
				break
			}
			field, after, found := strings.Cut(rest, " ")
			if !found {
				return ln, "has no name"
			}
			if field == "" || field[0] < 'A' || field[0] > 'Z' {
				return ln, "has a field that is none"
			}
			ln.ext += " " + field
			rest = after
		}
	}
	ln.base, _, _ = strings.Cut(ln.base, ":") // older Dovecots wrote the flags too
	switch {
	case ln.base == "":
		return ln, "has no name"
	case len(ln.base) > 255 || strings.ContainsAny(ln.base, "/\x00") || ln.base[0] == '.':
		return ln, "has a name that no message can have"
	}
	return ln, ""
}

// last gives the highest UID that the list knows of, and 0 without any.
func (l *uidList) last() uint32 {
	var last uint32
	for _, ln := range l.lines {
		last = max(last, ln.uid)
	}
	return last
}

// nextUID is the one that whoever reads the list gives next.
func (l *uidList) nextUID() uint32 { return max(l.next, l.last()+1) }

// salvage gives the lines that a new list should have: rising UIDs, one for each message. Of two UIDs of one message the
// larger counts, as for those who read the list so far; of two messages with one UID the one that is there,
// else the former.
func (l *uidList) salvage(there func(base string) bool) []line {
	lines := slices.Clone(l.lines)
	slices.SortStableFunc(lines, func(a, b line) int {
		switch {
		case a.uid != b.uid:
			return int(int64(a.uid) - int64(b.uid))
		case a.base == b.base || there(a.base) == there(b.base):
			return 0
		case there(a.base):
			return -1
		}
		return 1
	})
	lines = slices.CompactFunc(lines, func(a, b line) bool { return a.uid == b.uid })
	kept := lines[:0]
	latest := map[string]uint32{}
	for _, ln := range lines {
		latest[ln.base] = ln.uid
	}
	for _, ln := range lines {
		if latest[ln.base] == ln.uid {
			kept = append(kept, ln)
		}
	}
	return kept
}

// print writes a list of version 3.
func (l *uidList) print() []byte {
	b := make([]byte, 0, 64+len(l.lines)*88)
	b = fmt.Appendf(b, "3 V%d N%d", l.validity, l.nextUID())
	for _, f := range l.fields {
		b = append(append(b, ' '), f...)
	}
	b = append(b, '\n')
	for _, ln := range l.lines {
		b = strconv.AppendUint(b, uint64(ln.uid), 10)
		b = append(append(append(b, ln.ext...), " :"...), ln.base...)
		b = append(b, '\n')
	}
	return b
}

// short keeps a text that may be anything within a line.
func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
