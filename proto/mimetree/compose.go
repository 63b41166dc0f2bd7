package mimetree

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// maxFold is the longest line of a header that is written (RFC 5322 §2.1.1).
const maxFold = 76

// ErrHeader is in the errors about text that cannot stand in a header: line ends and NUL above all,
// with which a value could make fields of its own.
var ErrHeader = errors.New("not allowed in a header field")

// CheckValue reports an ErrHeader for a value with a line end, a NUL or octets that are no UTF-8.
func CheckValue(v string) error {
	switch {
	case strings.ContainsAny(v, "\r\n\x00"):
		return fmt.Errorf("%q: a line end is %w", v, ErrHeader)
	case !utf8.ValidString(v):
		return fmt.Errorf("%q: what is not UTF-8 is %w", v, ErrHeader)
	}
	return nil
}

// CheckName reports an ErrHeader for what cannot be the name of a field (RFC 5322 §3.6.8).
func CheckName(name string) error {
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) >= 0 {
		return fmt.Errorf("field name %q: %w", name, ErrHeader)
	}
	return nil
}

// FoldText writes a field of free text: what is not ASCII as encoded words (RFC 2047), folded. The
// result ends in LF.
func FoldText(name, value string) string {
	f := folder{}
	f.word(name + ":")
	for _, w := range encodeText(value, false) {
		f.word(w)
	}
	return f.end()
}

// FoldRaw writes a field whose value stands as it is, folded at blanks. The result ends in LF.
func FoldRaw(name, value string) string {
	f := folder{}
	f.word(name + ":")
	for w := range strings.FieldsSeq(value) {
		f.word(w)
	}
	return f.end()
}

// FoldAddresses writes a field with an address list (RFC 5322 §3.4). Display names may be any
// UTF-8. An address that cannot be sent to is an error: nothing between the commas, no UTF-8
// before the @ (RFC 6531 is not asked of the way), a domain that is none.
func FoldAddresses(name string, list []Address) (string, error) {
	f := folder{}
	f.word(name + ":")
	inGroup, first := false, true
	for i, a := range list {
		comma := ""
		if i+1 < len(list) && list[i+1].Kind != GroupEnd {
			comma = ","
		}
		switch a.Kind {
		case GroupStart:
			f.words(encodePhrase(DecodeWords(a.Local)))
			f.glue(":")
			inGroup = true
		case GroupEnd:
			if !inGroup {
				continue
			}
			f.glue(";" + comma)
			inGroup = false
		default:
			addr, err := addrSpec(a)
			if err != nil {
				return "", err
			}
			if name := strings.Trim(DecodeWords(a.Name), " "); name == "" {
				f.word(addr + comma)
			} else {
				f.words(encodePhrase(name))
				f.word("<" + addr + ">" + comma)
			}
		}
		first = false
	}
	if first {
		return "", fmt.Errorf("an empty list of addresses is %w", ErrHeader)
	}
	return f.end(), nil
}

// addrSpec checks an address and gives it its form on the wire.
func addrSpec(a Address) (string, error) {
	for _, r := range a.Local {
		if r < ' ' || r >= 0x7f {
			return "", fmt.Errorf("address %q: %w", a.Addr(), ErrHeader)
		}
	}
	if a.Local == "" {
		return "", fmt.Errorf("an address without a name is %w", ErrHeader)
	}
	if a.Domain == "" {
		if strings.ContainsAny(a.Local, " \t") {
			return "", fmt.Errorf("address %q: blanks in an address are %w", a.Local, ErrHeader)
		}
		return a.Addr(), nil
	}
	if a.Domain[0] == '[' {
		if !domainLiteral(a.Domain) {
			return "", fmt.Errorf("domain %q: %w", a.Domain, ErrHeader)
		}
		return a.Addr(), nil
	}
	domain, err := a.Domain, error(nil)
	if !isASCII(domain) {
		domain, err = idna.Lookup.ToASCII(domain)
	}
	if err != nil || !isASCII(domain) || strings.ContainsAny(domain, " ()<>@,;:\\\"[]") {
		return "", fmt.Errorf("domain %q: %w", a.Domain, ErrHeader)
	}
	a.Domain = domain
	return a.Addr(), nil
}

// domainLiteral tells whether a text is "[" *dtext "]" without blanks (RFC 5321 §4.1.3, RFC 5322 §3.4.1).
func domainLiteral(s string) bool {
	inside, ok := strings.CutSuffix(s[1:], "]")
	for i := range len(inside) {
		if c := inside[i]; c <= ' ' || c >= 0x7f || c == '[' || c == ']' || c == '\\' {
			return false
		}
	}
	return ok
}

// FoldParams writes a field with parameters (RFC 2045 §5.1). A value that is not ASCII, or long,
// is written by RFC 2231. The result ends in LF.
func FoldParams(name, value string, params Params) string {
	f := folder{}
	f.word(name + ":")
	f.word(value)
	for _, p := range params {
		if isASCII(p.Value) && len(p.Value) < 200 {
			f.glue(";")
			f.word(p.Name + "=" + quoteParam(p.Value))
			continue
		}
		for _, piece := range extended(p) {
			f.glue(";")
			f.word(piece)
		}
	}
	return f.end()
}

// extended writes a parameter by RFC 2231, in pieces where it is long.
func extended(p Param) []string {
	const most = 60
	var pieces []string
	b := []byte("utf-8''")
	for _, r := range p.Value {
		var c []byte
		for _, o := range utf8.AppendRune(nil, r) {
			if o > ' ' && o < 0x7f && strings.IndexByte("*'%()<>@,;:\\\"/[]?=", o) < 0 {
				c = append(c, o)
			} else {
				c = append(c, '%', upperHex[o>>4], upperHex[o&15])
			}
		}
		if len(b)+len(c) > most {
			pieces = append(pieces, string(b))
			b = nil
		}
		b = append(b, c...)
	}
	pieces = append(pieces, string(b))
	if len(pieces) == 1 {
		return []string{p.Name + "*=" + pieces[0]}
	}
	for i := range pieces {
		pieces[i] = fmt.Sprintf("%s*%d*=%s", p.Name, i, pieces[i])
	}
	return pieces
}

// ASCIIName is a file's name as near as ASCII comes, for readers that know nothing of RFC 2231: letters
// without their marks, underlines for others, at most 100 octets.
func ASCIIName(s string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(s) {
		switch {
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		case r >= 0x300 && r < 0x370: // a mark above or below a letter
		default:
			b.WriteByte('_')
		}
	}
	v := b.String()
	if len(v) > 100 {
		ext := ""
		if i := strings.LastIndexByte(v, '.'); i >= len(v)-20 {
			ext = v[i:]
		}
		v = v[:100-len(ext)] + ext
	}
	return v
}

func quoteParam(v string) string {
	if v != "" && strings.IndexFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?=*'%", r) }) < 0 {
		return v
	}
	return quote(v)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 || s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// encodePhrase is a display name as words for a header: an atom, a quoted string or encoded words.
func encodePhrase(s string) []string {
	if isASCII(s) && !strings.Contains(s, "=?") && len(s) < 200 {
		if strings.ContainsAny(s, "()<>@,;:\\\".[]") || strings.Contains(s, "  ") || strings.Trim(s, " ") != s || s == "" {
			return []string{quote(s)}
		}
		return strings.Fields(s)
	}
	return encodeText(s, true)
}

// encodeText is text as words for a header. In a phrase all becomes encoded words, since quotes and
// commas mean something there; in free text only what has to.
func encodeText(s string, phrase bool) []string {
	var out []string
	words := strings.Split(s, " ")
	for i := 0; i < len(words); {
		if !phrase && plainWord(words[i]) {
			out = append(out, words[i])
			i++
			continue
		}
		// Words that must be encoded go together, with the blanks between them, as readers drop
		// blanks between encoded words.
		j := i + 1
		for j < len(words) && (phrase || !plainWord(words[j]) || words[j] == "") {
			j++
		}
		run := strings.Join(words[i:j], " ")
		if j == len(words) && i > 0 && strings.Trim(run, " ") == "" {
			break // blanks at the end
		}
		out = append(out, encodeWords(run)...)
		i = j
	}
	return out
}

// plainWord reports whether a word can stand in a header as it is. An empty one, between two blanks,
// cannot: folding would eat it.
func plainWord(w string) bool {
	return w != "" && isASCII(w) && !strings.Contains(w, "=?") && len(w) < 200
}

// encodeWords writes text as encoded words of at most 75 characters, cut between characters.
func encodeWords(s string) []string {
	const overhead = len("=?utf-8?q??=")
	const room = 75 - overhead
	quoted := 0
	for i := range len(s) {
		if !qSafe(s[i]) && s[i] != ' ' {
			quoted += 3
		} else {
			quoted++
		}
	}
	var out []string
	var b strings.Builder
	if quoted <= (len(s)+2)/3*4 {
		for _, r := range s {
			var enc []byte
			for _, o := range utf8.AppendRune(nil, r) {
				switch {
				case o == ' ':
					enc = append(enc, '_')
				case qSafe(o):
					enc = append(enc, o)
				default:
					enc = append(enc, '=', upperHex[o>>4], upperHex[o&15])
				}
			}
			if b.Len()+len(enc) > room {
				out = append(out, "=?utf-8?q?"+b.String()+"?=")
				b.Reset()
			}
			b.Write(enc)
		}
		return append(out, "=?utf-8?q?"+b.String()+"?=")
	}
	for _, r := range s {
		if b.Len()+utf8.RuneLen(r) > room/4*3 {
			out = append(out, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(b.String()))+"?=")
			b.Reset()
		}
		b.WriteRune(r)
	}
	return append(out, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(b.String()))+"?=")
}

// qSafe are the characters that may stand in an encoded word anywhere (RFC 2047 §5 (3)).
func qSafe(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!*+-/", c) >= 0
}

// A folder lays words out in lines.
type folder struct {
	b   strings.Builder
	col int
}

func (f *folder) words(ws []string) {
	for _, w := range ws {
		f.word(w)
	}
}

// word adds a word behind a blank, on a new line when this one is full.
func (f *folder) word(w string) {
	switch {
	case f.col == 0:
	case f.col+1+len(w) > maxFold:
		f.b.WriteString("\n ")
		f.col = 1
	default:
		f.b.WriteByte(' ')
		f.col++
	}
	f.b.WriteString(w)
	f.col += len(w)
}

// glue adds what stands directly behind the last word.
func (f *folder) glue(s string) {
	f.b.WriteString(s)
	f.col += len(s)
}

func (f *folder) end() string { return f.b.String() + "\n" }
