package imap

import (
	"bytes"
	"strconv"
)

// appendBody appends BODY, made from a BODYSTRUCTURE as appendStructure writes
// it: the same without the extension data (RFC 9051 §7.5.2).
func appendBody(b, structure []byte) []byte {
	b, _ = cutBody(b, structure)
	return b
}

// cutBody appends the body that s begins with, and returns what follows it.
func cutBody(b, s []byte) (_, rest []byte) {
	b = append(b, '(')
	s = s[1:]
	kept := 7 // type, subtype, parameters, id, description, encoding, octets
	if s[0] == '(' {
		for s[0] == '(' {
			b, s = cutBody(b, s)
		}
		b = append(b, ' ')
		s, kept = s[1:], 1 // subtype
	}
	text := bytes.HasPrefix(s, []byte(`"text" `))
	message := bytes.HasPrefix(s, []byte(`"message" "rfc822" `))
	for i := range kept {
		n := valueLen(s)
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, s[:n]...)
		if s = s[n:]; s[0] == ' ' {
			s = s[1:]
		}
	}
	copied := func() {
		n := valueLen(s)
		b = append(append(b, ' '), s[:n]...)
		if s = s[n:]; s[0] == ' ' {
			s = s[1:]
		}
	}
	switch {
	case kept == 1:
	case message:
		copied() // envelope
		b = append(b, ' ')
		b, s = cutBody(b, s)
		s = s[1:]
		copied() // lines
	case text:
		copied() // lines
	}
	for s[0] != ')' {
		if s = s[valueLen(s):]; s[0] == ' ' {
			s = s[1:]
		}
	}
	return append(b, ')'), s[1:]
}

// valueLen is the length of the string, number, NIL or list that s begins with.
func valueLen(s []byte) int {
	depth := 0
	for i := 0; ; {
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
			for i++; s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			i++
		case '{':
			end := i + bytes.IndexByte(s[i:], '}')
			n, _ := strconv.Atoi(string(s[i+1 : end]))
			i = end + len("}\r\n") + n
		default:
			for s[i] != ' ' && s[i] != ')' {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}
