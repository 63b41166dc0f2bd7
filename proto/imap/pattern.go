package imap

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// A pattern matches names: "*" any characters, "%" any but the separator
// (RFC 9051 §6.3.9). INBOX is the same in every case, as a level above others
// too.
type pattern struct{ exact, upper *glob }

func newPattern(text string) pattern {
	text = norm.NFC.String(belowInbox(text)) // RFC 9051 §5.1
	return pattern{newGlob(text, "*%", ""), newGlob(strings.ToUpper(text), "*%", "")}
}

// newFind is the pattern of FIND, where "%" and "?" are any one character
// (RFC 1730 §A.6.3.OBS.1).
func newFind(text string) pattern {
	return pattern{newGlob(text, "*", "%?"), newGlob(strings.ToUpper(text), "*", "%?")}
}

// belowInbox is name with INBOX in capitals if that is its first level.
func belowInbox(name string) string {
	if n := len(inbox); len(name) > n && name[n] == separator[0] && strings.EqualFold(name[:n], inbox) {
		return inbox + name[n:]
	}
	return name
}

func (p pattern) matches(n *name) bool {
	if n.text == inbox {
		return p.upper.matches(inbox)
	}
	return p.exact.matches(n.wire)
}

// A glob is a text with wildcards. Matching keeps the set of the places in it
// that the name so far leads to, as bits: it takes one pass over the name,
// whatever the pattern.
type glob struct {
	head  string            // before the first wildcard
	n     int               // places from there on
	any   []uint64          // those of "*"
	level []uint64          // those of "%"
	one   []uint64          // those of any one character
	at    map[byte][]uint64 // those of each other octet
}

// newGlob takes a text in which the octets of wild stand for many characters,
// those of single for one.
func newGlob(text, wild, single string) *glob {
	i := strings.IndexAny(text, wild+single)
	if i < 0 {
		return &glob{head: text}
	}
	g := &glob{head: text[:i]}
	if text = text[i:]; len(text) > 2*maxName {
		return nil // nothing is as long
	}
	words := len(text)/64 + 1
	g.any, g.level, g.one, g.at = make([]uint64, words), make([]uint64, words), make([]uint64, words), map[byte][]uint64{}
	for i := 0; i < len(text); g.n++ {
		set := g.any
		switch j := i + len(text[i:]) - len(strings.TrimLeft(text[i:], wild)); {
		case j > i: // a run of wildcards is one: the strongest of it
			if !strings.Contains(text[i:j], "*") {
				set = g.level
			}
			i = j
		case strings.IndexByte(single, text[i]) >= 0:
			set = g.one
			i++
		default:
			if set = g.at[text[i]]; set == nil {
				set = make([]uint64, words)
				g.at[text[i]] = set
			}
			i++
		}
		set[g.n/64] |= 1 << (g.n % 64)
	}
	return g
}

func (g *glob) matches(text string) bool {
	if g == nil {
		return false
	}
	text, ok := strings.CutPrefix(text, g.head)
	if !ok || g.n == 0 {
		return ok && text == ""
	}
	now := make([]uint64, len(g.any))
	now[0] = 1 | (g.any[0]|g.level[0])&1<<1 // the wildcard it begins with may stand for nothing
	for i := range len(text) {
		c := text[i]
		at := g.at[c]
		var moved, skipped, left uint64
		for w, v := range now {
			stay := g.any[w]
			if c != separator[0] {
				stay |= g.level[w]
			}
			next := v&stay | moved
			step := g.one[w]
			if at != nil {
				step |= at[w]
			}
			next |= v & step << 1
			moved = v & step >> 63
			// No wildcard follows another, so this is all there is to skip.
			skip := next & (g.any[w] | g.level[w])
			next |= skip<<1 | skipped
			skipped = skip >> 63
			now[w] = next
			left |= next
		}
		if left == 0 {
			return false
		}
	}
	return now[g.n/64]>>(g.n%64)&1 != 0
}
