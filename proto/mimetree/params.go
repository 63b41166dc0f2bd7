package mimetree

import (
	"slices"
	"strconv"
	"strings"
)

const (
	maxParam  = 16 << 10 // octets of a parameter's value
	maxParams = 256      // parameters of one field
)

// Params are the parameters of a Content-Type or Content-Disposition in their order, each as it
// stands but for quoting: "filename*0*" is a name of its own here.
type Params []Param

// A Param is one parameter. Name is in lower case; Value is without quotes, not decoded.
type Param struct{ Name, Value string }

// ParseParams reads a field of the form "value; name=value; …" (RFC 2045 §5.1, RFC 2183 §2). The value
// comes in lower case, without comments; what is missing or malformed is passed over, as mail has
// it: parameters without a value, missing semicolons, values with blanks that are not quoted, quotes
// that are not closed. A value longer than 16 KiB is cut.
func ParseParams(field string) (value string, params Params) {
	p := paramParser{s: field}
	value = p.value()
	for p.more() && len(params) < maxParams {
		if q, ok := p.param(); ok {
			params = append(params, q)
		}
	}
	return value, params
}

type paramParser struct {
	s string
	i int
}

// value = what stands before the first parameter, blanks and comments taken out around it
func (p *paramParser) value() string {
	var b strings.Builder
	p.space()
	end := len(p.s)
	if n := strings.IndexAny(p.s[p.i:], "; \t\r\n("); n >= 0 {
		end = p.i + n
	}
	if v := p.s[p.i:end]; len(v) <= maxParam && (end == len(p.s) || p.s[end] == ';') { // mostly it is one word
		p.i = end
		return strings.ToLower(v)
	}
	for p.i < len(p.s) && p.s[p.i] != ';' {
		c := p.s[p.i]
		switch {
		case isSpace(c) || c == '(':
			p.space()
			// "text / plain" is one, and what goes on without a slash is not part of it.
			if p.i < len(p.s) && p.s[p.i] != '/' && !strings.HasSuffix(b.String(), "/") {
				return strings.ToLower(b.String())
			}
		default:
			b.WriteByte(c)
			p.i++
			if b.Len() > maxParam {
				p.i = len(p.s)
			}
		}
	}
	return strings.ToLower(b.String())
}

// more skips to the next parameter.
func (p *paramParser) more() bool {
	for p.i < len(p.s) {
		if c := p.s[p.i]; c == ';' || c == ',' || c == '=' || c == '"' {
			p.i++
		} else if isSpace(c) || c == '(' {
			p.space()
		} else {
			return true
		}
	}
	return false
}

// param = attribute "=" value
func (p *paramParser) param() (Param, bool) {
	start := p.i
	for p.i < len(p.s) && !isSpace(p.s[p.i]) && strings.IndexByte("=;(\"", p.s[p.i]) < 0 {
		p.i++
	}
	name := strings.ToLower(p.s[start:p.i])
	p.space()
	if p.i == len(p.s) || p.s[p.i] != '=' || name == "" {
		if p.i == start {
			p.i++
		}
		return Param{}, false // a word that has no value
	}
	p.i++
	p.space()
	var v string
	if p.i < len(p.s) && p.s[p.i] == '"' {
		v = p.quoted()
	} else {
		v = p.plain()
	}
	name, v = name[:min(len(name), 256)], v[:min(len(v), maxParam)]
	if len(p.s) > 512 { // not to hold what is left of it
		name, v = strings.Clone(name), strings.Clone(v)
	}
	return Param{name, v}, true
}

// quoted reads a quoted-string. A backslash quotes only a quote or a backslash: in others it is
// more likely to be of a Windows path. A quote that is never closed holds up to the end.
func (p *paramParser) quoted() string {
	p.i++
	start, plain := p.i, true
	for ; p.i < len(p.s) && p.s[p.i] != '"'; p.i++ {
		switch c := p.s[p.i]; {
		case c == '\\' && p.i+1 < len(p.s) && (p.s[p.i+1] == '"' || p.s[p.i+1] == '\\'):
			plain = false
			p.i++
		case c == '\r' || c == '\n':
			plain = false
		}
	}
	v := p.s[start:min(p.i, len(p.s))]
	p.i++
	if plain {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\r' || c == '\n':
		case c == '\\' && i+1 < len(v) && (v[i+1] == '"' || v[i+1] == '\\'):
			i++
			b.WriteByte(v[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// plain reads a value without quotes: up to a semicolon, and past blanks unless what follows them is
// a comment or the next parameter.
func (p *paramParser) plain() string {
	start, end := p.i, p.i
	comments := true // looked for once only, to stay linear
	for p.i < len(p.s) && p.s[p.i] != ';' {
		if !isSpace(p.s[p.i]) {
			p.i++
			end = p.i
			continue
		}
		for p.i < len(p.s) && isSpace(p.s[p.i]) {
			p.i++
		}
		if p.i == len(p.s) || p.s[p.i] == ';' {
			break
		}
		if p.s[p.i] == '(' && comments {
			at := p.i
			p.space()
			if p.i == len(p.s) || p.s[p.i] == ';' {
				break // a comment; otherwise it is of the name: my (1).pdf
			}
			comments = false
			p.i = at + 1
			end = p.i
			continue
		}
		// A word and an equals sign are the next parameter, whose semicolon is missing.
		j := p.i
		for j < len(p.s) && j-p.i < 64 && (p.s[j] >= 'a' && p.s[j] <= 'z' || p.s[j] >= 'A' && p.s[j] <= 'Z' || p.s[j] == '-' || p.s[j] == '*' || p.s[j] >= '0' && p.s[j] <= '9') {
			j++
		}
		if j > p.i && j < len(p.s) && p.s[j] == '=' {
			break
		}
	}
	v := p.s[start:end]
	if strings.ContainsAny(v, "\r\n") {
		v = Unfold([]byte(v))
	}
	return v
}

// space skips blanks, line ends and comments, which nest. A comment that is not closed is none: its
// parenthesis alone is skipped, and the parser does not look for its end again.
func (p *paramParser) space() {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case isSpace(c):
			p.i++
		case c == '(':
			p.i = skipComment(p.s, p.i)
		default:
			return
		}
	}
}

// skipComment returns the index behind the comment at i; a comment that is not closed ends with s.
func skipComment(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// Get returns a parameter's value decoded to UTF-8, "" when it is absent: that of RFC 2231, pieces put
// together, when there is one, else the plain one with its encoded words (RFC 2047) decoded,
// which no standard allows there and many senders write. Of several the first counts.
func (p Params) Get(name string) string {
	v, _ := p.Lookup(name)
	return v
}

// Lookup is Get, and reports whether the parameter is there at all.
func (p Params) Lookup(name string) (string, bool) {
	raw, extended, ok := p.Raw(name)
	switch {
	case !ok:
		return "", false
	case !extended:
		if strings.Contains(raw, "=?") {
			return DecodeWords(raw), true
		}
		return toUTF8(raw), true
	}
	charset, rest, ok := strings.Cut(raw, "'")
	if ok {
		if _, text, ok := strings.Cut(rest, "'"); ok {
			return decodeCharset(charset, unpercent(text)), true
		}
	}
	return toUTF8(unpercent(raw)), true // without charset and language
}

// Raw returns a parameter's value not decoded, with the pieces of RFC 2231 §3 put together. extended
// says that it has the form charset'language'text, percent-encoded (RFC 2231 §4): IMAP's
// BODYSTRUCTURE has it as "name*".
func (p Params) Raw(name string) (value string, extended, ok bool) {
	plain, found := "", false
	var whole *string
	var pieces []piece
	for i := range p {
		rest, is := strings.CutPrefix(p[i].Name, name)
		switch {
		case !is:
		case rest == "":
			if !found {
				plain, found = p[i].Value, true
			}
		case rest == "*":
			if whole == nil {
				whole = &p[i].Value
			}
		case rest[0] == '*':
			number, ext := strings.CutSuffix(rest[1:], "*")
			if n, err := strconv.ParseUint(number, 10, 16); err == nil {
				pieces = append(pieces, piece{int(n), ext, p[i].Value})
			}
		}
	}
	switch {
	case whole != nil:
		return *whole, true, true
	case len(pieces) > 0:
		v, ext := joinPieces(pieces)
		return v, ext, true
	}
	return plain, false, found
}

// A piece is one section of a parameter, "filename*2*".
type piece struct {
	n        int
	extended bool
	value    string
}

// joinPieces puts sections in order. When any is percent-encoded, the result is, and the
// percent signs of the others are encoded.
func joinPieces(pieces []piece) (string, bool) {
	slices.SortStableFunc(pieces, func(a, b piece) int { return a.n - b.n })
	extended := slices.ContainsFunc(pieces, func(q piece) bool { return q.extended })
	var b strings.Builder
	if extended && !pieces[0].extended {
		b.WriteString("''")
	}
	for i, q := range pieces {
		switch {
		case i > 0 && q.n == pieces[i-1].n:
		case extended && !q.extended:
			b.WriteString(strings.ReplaceAll(q.value, "%", "%25"))
		default:
			b.WriteString(q.value)
		}
		if b.Len() > maxParam {
			break
		}
	}
	return b.String(), extended
}

// Joined returns the parameters as IMAP's BODYSTRUCTURE gives them: continuations put together, those
// in the extended form named "name*", nothing decoded, each name once.
func (p Params) Joined() Params {
	if !slices.ContainsFunc(p, func(q Param) bool { return strings.Contains(q.Name, "*") }) && !p.doubled() {
		return p
	}
	var out Params
	for i := range p {
		base, _, _ := strings.Cut(p[i].Name, "*")
		if slices.ContainsFunc(out, func(q Param) bool { return strings.TrimSuffix(q.Name, "*") == base }) {
			continue
		}
		if v, extended, ok := p.Raw(base); !ok {
			out = append(out, p[i])
		} else if extended {
			out = append(out, Param{base + "*", v})
		} else {
			out = append(out, Param{base, v})
		}
	}
	return out
}

// doubled tells whether a name stands twice, as far as that is cheap to see.
func (p Params) doubled() bool {
	if len(p) > 8 {
		return true
	}
	for i := range p {
		for j := range i {
			if p[i].Name == p[j].Name {
				return true
			}
		}
	}
	return false
}

// unpercent decodes %XX (RFC 2231 §4); a percent sign before anything else is itself.
func unpercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && unhex[s[i+1]] < 16 && unhex[s[i+2]] < 16 {
			b = append(b, unhex[s[i+1]]<<4|unhex[s[i+2]])
			i += 2
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}
