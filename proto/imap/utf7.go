package imap

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// base64m is the BASE64 of modified UTF-7: "," for "/", and no padding
// (RFC 3501 §5.1.3).
var base64m = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

// encodeUTF7 writes a mailbox name in modified UTF-7.
func encodeUTF7(name string) string {
	if !needsUTF7(name) {
		return name
	}
	var b strings.Builder
	for name != "" {
		c := name[0]
		if c == '&' {
			b.WriteString("&-")
			name = name[1:]
			continue
		}
		if ' ' <= c && c <= '~' {
			b.WriteByte(c)
			name = name[1:]
			continue
		}
		end := strings.IndexFunc(name, func(r rune) bool { return ' ' <= r && r <= '~' })
		if end < 0 {
			end = len(name)
		}
		var octets []byte
		for _, u := range utf16.Encode([]rune(name[:end])) {
			octets = append(octets, byte(u>>8), byte(u))
		}
		b.WriteByte('&')
		b.WriteString(base64m.EncodeToString(octets))
		b.WriteByte('-')
		name = name[end:]
	}
	return b.String()
}

func needsUTF7(name string) bool {
	for i := range len(name) {
		if c := name[i]; c == '&' || c < ' ' || c > '~' {
			return true
		}
	}
	return false
}

// decodeUTF7 reads a mailbox name. Only the one right spelling is taken, so
// two names on the wire are never the same mailbox: nothing printable in
// BASE64, no shift that could have been left out, no half character.
func decodeUTF7(s string) (string, bool) {
	if !needsUTF7(s) {
		return s, true
	}
	var b strings.Builder
	for s != "" {
		if s[0] < ' ' || s[0] > '~' {
			return "", false
		}
		if s[0] != '&' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		shifted, rest, ended := strings.Cut(s[1:], "-")
		if !ended || strings.HasPrefix(rest, "&") && !strings.HasPrefix(rest, "&-") && shifted != "" {
			return "", false
		}
		s = rest
		if shifted == "" {
			b.WriteByte('&')
			continue
		}
		octets, err := base64m.DecodeString(shifted)
		if err != nil || len(octets)%2 != 0 || len(octets) == 0 {
			return "", false
		}
		units := make([]uint16, len(octets)/2)
		for i := range units {
			units[i] = uint16(octets[2*i])<<8 | uint16(octets[2*i+1])
		}
		text := string(utf16.Decode(units))
		if strings.ContainsFunc(text, func(r rune) bool { return ' ' <= r && r <= '~' || r == utf8.RuneError || r == 0 }) {
			return "", false
		}
		b.WriteString(text)
	}
	return b.String(), true
}
