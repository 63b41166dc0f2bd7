package imap

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// collate appends text in UTF-8 so that comparing octets compares it by
// i;unicode-casemap: each character as its title case, and that decomposed
// (RFC 5051 §2). SORT and THREAD order texts so (RFC 5256 §7, RFC 5255 §4.2);
// nothing fails to be converted, since what is in no known charset is read as
// windows-1252 (RFC 5255 §4.6).
func collate(b, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		i += n
		var one, out [utf8.UTFMax * 18]byte // what one character decomposes to
		b = append(b, norm.NFKD.Append(out[:0], utf8.AppendRune(one[:0], unicode.ToTitle(r))...)...)
	}
	return b
}
