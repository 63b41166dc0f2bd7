package mimetree

import (
	"strings"
)

// DecodeWords decodes the encoded words of a header value to UTF-8 (RFC 2047). It takes words as mail
// has them: joined to other text, with blanks inside, with a character cut in two between words,
// base64 without padding. What is no encoded word stays; octets that are no UTF-8 are read as
// windows-1252. Time is linear.
func DecodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return toUTF8(s)
	}
	var out strings.Builder
	var pending []byte // decoded octets of the words just before, in one charset
	charset := ""
	flush := func() {
		if pending != nil {
			out.WriteString(decodeCharset(charset, string(pending)))
			pending = nil
		}
	}
	last := 0 // s[:last] is in out or pending
	for i := 0; i < len(s); {
		j := strings.Index(s[i:], "=?")
		if j < 0 {
			break
		}
		i += j
		w, n := cutWord(s[i:], true)
		if n == 0 {
			i += 2
			continue
		}
		between := s[last:i]
		if pending == nil || strings.Trim(between, " \t\r\n") != "" {
			flush()
			out.WriteString(toUTF8(between))
		}
		if pending != nil && !strings.EqualFold(charset, w.charset) {
			flush()
		}
		charset = w.charset
		if pending == nil {
			pending = []byte{}
		}
		pending = w.decode(pending)
		i += n
		last = i
	}
	flush()
	out.WriteString(toUTF8(s[last:]))
	return out.String()
}

// A word is an encoded word: =?charset?encoding?text?=
type word struct {
	charset  string
	encoding byte // 'b' or 'q'
	text     string
}

// cutWord reads the encoded word at the beginning of s, and returns how long it is; 0 if there is none.
// It stops at the second question mark that does not fit, so that looking at every "=?" of a
// string stays linear.
func cutWord(s string, blanks bool) (w word, n int) {
	if !strings.HasPrefix(s, "=?") {
		return word{}, 0
	}
	i := 2
	for i < len(s) && s[i] != '?' {
		if s[i] <= ' ' || i > 64 {
			return word{}, 0
		}
		i++
	}
	if i == 2 || i+3 >= len(s) || s[i+2] != '?' {
		return word{}, 0
	}
	w.charset, _, _ = strings.Cut(s[2:i], "*") // RFC 2231 §5: a language may follow
	switch s[i+1] {
	case 'b', 'B':
		w.encoding = 'b'
	case 'q', 'Q':
		w.encoding = 'q'
	default:
		return word{}, 0
	}
	i += 3
	start := i
	for {
		j := strings.IndexByte(s[i:], '?')
		if j < 0 {
			return word{}, 0
		}
		i += j
		if i+1 < len(s) && s[i+1] == '=' {
			break
		}
		if w.encoding == 'b' || i+1 == len(s) || i-start > 256 {
			return word{}, 0
		}
		i++ // a question mark that should have been encoded
	}
	w.text = s[start:i]
	if !blanks && strings.ContainsAny(w.text, " \t\r\n") {
		return word{}, 0
	}
	return w, i + 2
}

// decode appends the octets of the word.
func (w word) decode(to []byte) []byte {
	if w.encoding == 'b' {
		d := base64Decoder{}
		to = d.append(to, []byte(w.text))
		return d.finish(to)
	}
	for i := 0; i < len(w.text); i++ {
		switch c := w.text[i]; {
		case c == '_':
			to = append(to, ' ')
		case c == '=' && i+2 < len(w.text) && unhex[w.text[i+1]] < 16 && unhex[w.text[i+2]] < 16:
			to = append(to, unhex[w.text[i+1]]<<4|unhex[w.text[i+2]])
			i += 2
		case c == '\r' || c == '\n':
		default:
			to = append(to, c)
		}
	}
	return to
}

// unhex is the value of a hexadecimal digit, 0xff for what is none.
var unhex = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range 10 {
		t['0'+i] = byte(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = byte(10+i), byte(10+i)
	}
	return t
}()
