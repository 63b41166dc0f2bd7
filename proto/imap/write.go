package imap

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"pennypost/maildir"
)

// maxQuoted is the longest string that is sent quoted; longer ones go as
// literals, since clients have bounds for a line (RFC 9051 §4.3).
const maxQuoted = 1000

// appendString appends s as a quoted string if it may be one, else as a
// literal. NUL, which a literal may not hold, becomes "?".
func appendString(b []byte, s string) []byte {
	plain := len(s) <= maxQuoted
	escapes := false
	for i := 0; plain && i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' && c != '\t' || c >= 0x7f:
			plain = false
		case c == '"' || c == '\\':
			escapes = true
		}
	}
	if !plain {
		b = append(b, '{')
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, "}\r\n"...)
		at := len(b)
		b = append(b, s...)
		for i := at; i < len(b); i++ {
			if b[i] == 0 {
				b[i] = '?'
			}
		}
		return b
	}
	b = append(b, '"')
	if !escapes {
		b = append(b, s...)
		return append(b, '"')
	}
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// appendNString appends s, or NIL if there is none.
func appendNString(b []byte, s string, there bool) []byte {
	if !there {
		return append(b, "NIL"...)
	}
	return appendString(b, s)
}

// astring is s as an atom if it may be one, else as a string.
func astring(s string) string {
	if s == "" || strings.EqualFold(s, "NIL") {
		return string(appendString(nil, s))
	}
	for i := range len(s) {
		if !isAString(s[i]) {
			return string(appendString(nil, s))
		}
	}
	return s
}

// mailboxName is a mailbox name as it goes over the wire, an astring.
func (s *Session) mailboxName(name string) string {
	if !s.has(rev2 | utf8Accept) {
		return astring(maildir.EncodeUTF7(name))
	}
	name = strings.ToValidUTF8(name, "\uFFFD")
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) && len(name) <= maxQuoted && !strings.ContainsFunc(name, unicode.IsControl) {
		return `"` + quoting.Replace(name) + `"`
	}
	return astring(name)
}

var quoting = strings.NewReplacer(`"`, `\"`, `\`, `\\`)

// wireName is a mailbox name as a client matches patterns with it (RFC 9051
// §6.3.9).
func (s *Session) wireName(name string) string {
	if s.has(rev2 | utf8Accept) {
		return name
	}
	return maildir.EncodeUTF7(name)
}

// appendDateTime appends t as INTERNALDATE has it (RFC 9051 §9, date-time).
func appendDateTime(b []byte, t time.Time) []byte {
	if y := t.Year(); y < 0 || y > 9999 {
		t = time.Unix(0, 0).UTC()
	}
	return t.AppendFormat(b, `"_2-Jan-2006 15:04:05 -0700"`)
}

// printable is s with everything but printable ASCII taken out, for texts of
// replies, which are one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
