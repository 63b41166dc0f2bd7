package imap

import (
	"bytes"
	"strconv"
)

// appendBody appends BODY, made from a BODYSTRUCTURE as appendStructure writes
// it: the same without the extension data (RFC 9051 §7.5.2). What is none, in a
// cache that somebody has made up, gives a body of no kind.
func appendBody(b, structure []byte) []byte {
	c := bodyCutter{b: b, s: structure}
	if c.body(0); c.bad || len(c.s) > 0 {
		return appendNoBody(b, false)
	}
	return c.b
}

// A bodyCutter copies what belongs to BODY from s to b.
type bodyCutter struct {
	b, s []byte
	bad  bool
}

// next is the octet at hand, 0 at the end.
func (c *bodyCutter) next() byte {
	if len(c.s) == 0 {
		c.bad = true
		return 0
	}
	return c.s[0]
}

// take copies one octet that has to be there.
func (c *bodyCutter) take(octet byte) {
	if c.next() != octet {
		c.bad = true
		return
	}
	c.b, c.s = append(c.b, octet), c.s[1:]
}

func (c *bodyCutter) body(depth int) {
	if depth > maxNested {
		c.bad = true
	}
	c.take('(')
	if c.bad {
		return
	}
	if c.next() == '(' {
		for !c.bad && c.next() == '(' {
			c.body(depth + 1)
		}
		c.take(' ')
		c.copy() // subtype
	} else {
		text := bytes.HasPrefix(c.s, []byte(`"text" `))
		message := bytes.HasPrefix(c.s, []byte(`"message" "rfc822" `))
		c.copy()
		for range 6 { // subtype, parameters, id, description, encoding, octets
			c.take(' ')
			c.copy()
		}
		if message {
			c.take(' ')
			c.copy() // envelope
			c.take(' ')
			c.body(depth + 1)
		}
		if message || text {
			c.take(' ')
			c.copy() // lines
		}
	}
	for !c.bad && c.next() == ' ' { // the extension data
		c.s = c.s[1:]
		c.s = c.s[c.value():]
	}
	c.take(')')
}

// copy copies a value.
func (c *bodyCutter) copy() {
	n := c.value()
	c.b, c.s = append(c.b, c.s[:n]...), c.s[n:]
}

// value is the length of the string, number, NIL or list that s begins with.
func (c *bodyCutter) value() int {
	depth, s := 0, c.s
	for i := 0; i < len(s); {
		switch s[i] {
		case '(':
			depth++
			i++
		case ')':
			depth--
			i++
		case ' ':
			i++
		case '"':
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			i++
		case '{':
			digits, _, _ := bytes.Cut(s[i+1:min(i+12, len(s))], []byte("}"))
			n, err := strconv.ParseUint(string(digits), 10, 31)
			if err != nil {
				c.bad = true
				return 0
			}
			i += len(digits) + len("{}\r\n") + int(n)
		default:
			for i < len(s) && s[i] != ' ' && s[i] != ')' {
				i++
			}
		}
		switch {
		case depth < 0 || i > len(s):
			c.bad = true
			return 0
		case depth == 0:
			return i
		}
	}
	c.bad = true
	return 0
}
