package imap

import (
	"bytes"
	"strings"
)

// A needle is the text that is searched for, folded.
type needle struct {
	text  string
	ascii bool // nothing else is in it
	rare  int  // place of the octet that is met least often; -1: there is but a blank

	lower, upper byte // that octet in either case
}

func newNeedle(s string) needle {
	n := needle{text: string(fold(nil, []byte(strings.ToValidUTF8(s, "\ufffd")))), rare: -1}
	n.ascii = isASCII([]byte(n.text))
	for i := range len(n.text) {
		c := n.text[i]
		if c != ' ' && n.ascii && (n.rare < 0 || often(c) < often(n.text[n.rare])) {
			n.rare = i
		}
	}
	if n.rare >= 0 {
		n.upper = n.text[n.rare]
		if n.lower = n.upper; 'A' <= n.lower && n.lower <= 'Z' {
			n.lower += 'a' - 'A'
		}
	}
	return n
}

func (n *needle) empty() bool { return n.text == "" }

// often is about how often a character is met in a thousand of mail.
func often(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return [...]int{65, 14, 30, 35, 90, 20, 17, 40, 60, 3, 8, 35, 25, 55, 60, 22, 2, 50, 55, 70, 25, 9, 15, 4, 15, 2}[c-'A']
	case '0' <= c && c <= '9':
		return 12
	case strings.IndexByte(`.-/:=<>,;"`, c) >= 0:
		return 10
	}
	return 3
}

// in looks for the needle in text in UTF-8. room is for what has to be folded.
func (n *needle) in(text []byte, room *[]byte) bool {
	switch {
	case n.empty():
		return true
	case !isASCII(text):
	case !n.ascii:
		return false
	case n.rare >= 0:
		if yes, sure := n.inASCII(text); sure {
			return yes
		}
	}
	*room = fold((*room)[:0], text)
	return n.inFolded(*room)
}

func (n *needle) inFolded(b []byte) bool { return bytes.Contains(b, []byte(n.text)) }

// inASCII looks for the needle without folding the text first. It is not sure
// when there are too many places that begin like the needle.
func (n *needle) inASCII(b []byte) (yes, sure bool) {
	lower, upper := bytes.IndexByte(b, n.lower), -1
	if n.upper != n.lower {
		upper = bytes.IndexByte(b, n.upper)
	}
	left := 8 * len(b)
	for lower >= 0 || upper >= 0 {
		next, c := &lower, n.lower
		if lower < 0 || upper >= 0 && upper < lower {
			next, c = &upper, n.upper
		}
		at := *next
		cost, yes := n.around(b, at)
		if yes {
			return true, true
		}
		if left -= cost; left < 0 {
			return false, false
		}
		if *next = bytes.IndexByte(b[at+1:], c); *next >= 0 {
			*next += at + 1
		}
	}
	return false, true
}

// around compares the needle with what stands around its rare octet, and tells
// at how many octets it has looked.
func (n *needle) around(b []byte, at int) (cost int, yes bool) {
	j := at + 1
	for k := n.rare + 1; k < len(n.text); k++ {
		c := n.text[k]
		if j >= len(b) || folded[b[j]] != c {
			return j - at, false
		}
		j++
		if c == ' ' {
			for j < len(b) && folded[b[j]] == ' ' {
				j++
			}
		}
	}
	cost = j - at
	j = at - 1
	for k := n.rare - 1; k >= 0; k-- {
		c := n.text[k]
		if j < 0 || folded[b[j]] != c {
			return cost + at - j, false
		}
		j--
		if c == ' ' {
			for j >= 0 && folded[b[j]] == ' ' {
				j--
			}
		}
	}
	return cost + at - j, true
}
