package imap

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func (n needle) inFolded(b []byte) bool { return bytes.Contains(b, n) }

// fold appends text in UTF-8 as i;unicode-casemap compares it: each character
// as its title case, and that decomposed (RFC 5051 §2); what comes out of a
// ligature too. Line ends and other
// blanks in a row count as one space, so that a phrase is found where a
// paragraph was broken into lines.
func fold(b, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case 'a' <= c && c <= 'z':
				c -= 'a' - 'A'
			case c == '\n' || c == '\r' || c == '\t' || c == ' ':
				if n := len(b); n > 0 && b[n-1] == ' ' {
					continue
				}
				c = ' '
			}
			b = append(b, c)
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		i += n
		if r == utf8.RuneError {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, r := range norm.NFKD.String(string(unicode.ToTitle(r))) {
			b = utf8.AppendRune(b, unicode.ToTitle(r))
		}
	}
	return b
}
