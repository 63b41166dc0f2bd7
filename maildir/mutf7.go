package maildir

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Base64 as RFC 3501 §5.1.3 changes it: "," for "/", no padding.
var mutf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()

// EncodeUTF7 writes UTF-8 as IMAP's modified UTF-7 (RFC 3501 §5.1.3). Octets that are not UTF-8 become U+FFFD.
func EncodeUTF7(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) && s[n] >= 0x20 && s[n] < 0x7f && s[n] != '&' {
			n++
		}
		b.WriteString(s[:n])
		if s = s[n:]; s == "" {
			break
		}
		if s[0] == '&' {
			b.WriteString("&-")
			s = s[1:]
			continue
		}
		for n = 0; n < len(s) && (s[n] < 0x20 || s[n] >= 0x7f); {
			_, size := utf8.DecodeRuneInString(s[n:])
			n += size
		}
		var units []byte
		for _, u := range utf16.Encode([]rune(s[:n])) {
			units = append(units, byte(u>>8), byte(u))
		}
		b.WriteByte('&')
		b.WriteString(mutf7.EncodeToString(units))
		b.WriteByte('-')
		s = s[n:]
	}
	return b.String()
}

// DecodeUTF7 reads modified UTF-7. It is strict: only what EncodeUTF7 writes is accepted, so that no two texts
// stand for one name (RFC 3501 §5.1.3).
func DecodeUTF7(s string) (string, bool) {
	var b strings.Builder
	for rest := s; rest != ""; {
		c := rest[0]
		if c < 0x20 || c >= 0x7f {
			return "", false
		}
		if c != '&' {
			b.WriteByte(c)
			rest = rest[1:]
			continue
		}
		end := strings.IndexByte(rest, '-')
		if end < 0 {
			return "", false
		}
		code := rest[1:end]
		rest = rest[end+1:]
		if code == "" {
			b.WriteByte('&')
			continue
		}
		data, err := mutf7.DecodeString(code)
		if err != nil || len(data)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(data)/2)
		for i := range units {
			units[i] = uint16(data[2*i])<<8 | uint16(data[2*i+1])
		}
		b.WriteString(string(utf16.Decode(units)))
	}
	if out := b.String(); EncodeUTF7(out) == s {
		return out, true
	}
	return "", false
}
