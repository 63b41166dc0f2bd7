package imap

import (
	"encoding/binary"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

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
			if c = folded[c]; c == ' ' {
				if n := len(b); n > 0 && b[n-1] == ' ' {
					continue
				}
			}
			b = append(b, c)
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		b = foldRune(b, r, text[i:i+n])
		i += n
	}
	return b
}

// foldRune appends a character that is not ASCII; octets are how it stands in
// the text.
func foldRune(b []byte, r rune, octets []byte) []byte {
	switch {
	case r == utf8.RuneError:
		return utf8.AppendRune(b, r)
	case int(r) < len(foldedRunes()):
		return append(b, foldedRunes()[r]...)
	case unicode.ToTitle(r) == r && norm.NFKD.IsNormal(octets):
		return append(b, octets...)
	}
	return appendFolded(b, r)
}

func appendFolded(b []byte, r rune) []byte {
	for _, r := range norm.NFKD.String(string(unicode.ToTitle(r))) {
		b = utf8.AppendRune(b, unicode.ToTitle(r))
	}
	return b
}

// folded is ASCII as fold has it.
var folded = func() (t [utf8.RuneSelf]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'a' <= i && i <= 'z' {
			t[i] -= 'a' - 'A'
		}
	}
	t['\n'], t['\r'], t['\t'] = ' ', ' ', ' '
	return t
}()

// foldedRunes are the alphabets of Europe as fold has them.
var foldedRunes = sync.OnceValue(func() *[0x600]string {
	var t [0x600]string
	for r := range t {
		t[r] = string(appendFolded(nil, rune(r)))
	}
	return &t
})

// isASCII says whether there is nothing else in b.
func isASCII(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 32; b = b[32:] {
		x := binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) | binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
		if x&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
