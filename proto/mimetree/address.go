package mimetree

import (
	"strings"
)

// An AddressKind says what an element of an address list is.
type AddressKind int

const (
	Mailbox    AddressKind = iota // somebody
	GroupStart                    // "Friends:"; Local is the name of the group
	GroupEnd                      // ";"
)

// An Address is an element of an address list (RFC 5322 §3.4) as IMAP's ENVELOPE has it.
type Address struct {
	Kind   AddressKind
	Name   string // display name, quotes opened, encoded words as they stand; a comment where there is none
	Route  string // "@a,@b" of obsolete syntax (RFC 5322 §4.4), mostly ""
	Local  string // before the @, quotes opened; all of it when there is no @
	Domain string // after the @, "" when there is none
}

// Display is the display name decoded to UTF-8.
func (a Address) Display() string { return DecodeWords(a.Name) }

// Addr is local@domain, with the local part quoted where it has to be (RFC 5321 §4.1.2); without the @
// when there is no domain.
func (a Address) Addr() string {
	local := a.Local
	if needsQuotes(local) {
		local = quote(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func needsQuotes(local string) bool {
	if local == "" {
		return false
	}
	return local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") ||
		strings.ContainsAny(local, " \t()<>@,;:\\\"[]")
}

const maxAddresses = 100_000 // of one list

// ParseAddresses reads an address list, unfolded or not, as IMAP and sendmail need it: nothing is
// refused. What has no angle brackets and more than one word is a name with an address behind
// it if one of the words has an @. Time is linear in the length of the list.
func ParseAddresses(list string) []Address {
	if strings.Trim(list, " \t\r\n") == "" {
		return nil
	}
	p := addressParser{s: list}
	p.words, p.quoted, p.joined = p.room.words[:0], p.room.quoted[:0], p.room.joined[:0]
	p.list()
	return p.out
}

type addressParser struct {
	s   string
	i   int
	out []Address

	words   []string // of the element being read, outside angle brackets, quotes opened
	quoted  []bool   // which of them were quoted strings
	joined  []bool   // which of them stand directly behind the one before
	comment string
	at      bool // one of them has an @
	angle   *Address
	inAngle Address // what angle points to
	group   bool
	room    struct {
		words          [8]string
		quoted, joined [8]bool
	}
}

// list = (address / group) *("," (address / group)), semicolons as commas
func (p *addressParser) list() {
	gap := false // a blank or comment stands before the next word
	word := func(w string, quoted bool) {
		p.words = append(p.words, w)
		p.quoted = append(p.quoted, quoted)
		p.at = p.at || !quoted && strings.Contains(w, "@")
		p.joined = append(p.joined, !gap && len(p.words) > 1)
		gap = false
	}
	for p.i < len(p.s) && len(p.out) < maxAddresses {
		switch c := p.s[p.i]; {
		case isSpace(c):
			p.i++
			gap = true
		case c == '(':
			end := skipComment(p.s, p.i)
			if text := unescape(strings.TrimSuffix(p.s[p.i+1:end], ")")); p.comment == "" || p.angle != nil {
				p.comment = strings.Trim(Unfold([]byte(text)), " \t")
			}
			p.i = end
			gap = true
		case c == '"':
			word(p.quotedString(), true)
		case c == '<':
			p.angleAddr()
			gap = true
		case c == ',':
			p.i++
			p.flush()
			gap = false
		case c == ';':
			p.i++
			p.flush()
			if p.group {
				p.out = append(p.out, Address{Kind: GroupEnd})
				p.group = false
			}
			gap = false
		case c == ':' && !p.group && p.angle == nil && !p.at:
			p.i++
			name := p.phrase(0, len(p.words))
			p.reset()
			p.group = true
			p.out = append(p.out, Address{Kind: GroupStart, Local: name})
			gap = false
		default:
			word(p.atom(), false)
		}
	}
	p.flush()
	if p.group {
		p.out = append(p.out, Address{Kind: GroupEnd})
	}
}

func (p *addressParser) reset() {
	p.words, p.quoted, p.joined = p.words[:0], p.quoted[:0], p.joined[:0]
	p.comment, p.angle, p.at = "", nil, false
}

// atom takes octets up to the next that means something to a list; an encoded word is taken whole.
func (p *addressParser) atom() string {
	start := p.i
	if _, n := cutWord(p.s[p.i:min(len(p.s), p.i+2048)], false); n > 0 {
		p.i += n
		return p.s[start:p.i]
	}
	if p.s[p.i] == '[' { // a domain literal
		if n := strings.IndexAny(p.s[p.i:min(len(p.s), p.i+256)], "] ,<>"); n > 0 && p.s[p.i+n] == ']' {
			p.i += n + 1
			return p.s[start:p.i]
		}
	}
	p.i++
	for p.i < len(p.s) {
		c := p.s[p.i]
		if isSpace(c) || strings.IndexByte(`("<,;:[`, c) >= 0 {
			break
		}
		p.i++
	}
	return p.s[start:p.i]
}

// quotedString takes a quoted string and opens it. One that is not closed ends with the list.
func (p *addressParser) quotedString() string {
	p.i++
	start := p.i
	for p.i < len(p.s) && p.s[p.i] != '"' {
		if p.s[p.i] == '\\' {
			p.i++
		}
		p.i++
	}
	v := p.s[start:min(p.i, len(p.s))]
	p.i = min(p.i+1, len(p.s))
	return unescape(v)
}

// unescape takes out the backslashes of quoted pairs and the line ends of folding.
func unescape(v string) string {
	if !strings.ContainsAny(v, "\\\r\n") {
		return v
	}
	b := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		if v[i] != '\r' && v[i] != '\n' {
			b = append(b, v[i])
		}
	}
	return string(b)
}

// angleAddr = "<" [route ":"] addr-spec ">"
func (p *addressParser) angleAddr() {
	p.i++
	start := p.i
	inQuotes := false
	for p.i < len(p.s) {
		c := p.s[p.i]
		if c == '\\' && inQuotes {
			p.i++
		} else if c == '"' {
			inQuotes = !inQuotes
		} else if c == '>' && !inQuotes {
			break
		}
		p.i++
	}
	v := p.s[start:min(p.i, len(p.s))]
	p.i = min(p.i+1, len(p.s))
	if p.angle != nil {
		return // a second one belongs to nobody
	}
	if strings.ContainsAny(v, "\r\n") {
		v = Unfold([]byte(v))
	}
	v = strings.Trim(uncomment(strings.Trim(v, " \t")), " \t<")
	a := &p.inAngle
	*a = Address{}
	if strings.HasPrefix(v, "@") {
		if before, after, ok := strings.Cut(v, ":"); ok {
			a.Route, v = before, after
		}
	}
	a.Local, a.Domain = SplitAddr(v)
	p.angle = a
}

// uncomment takes the comments out of an addr-spec (RFC 5322 §4.4).
func uncomment(v string) string {
	if strings.IndexByte(v, '(') < 0 {
		return v
	}
	b := make([]byte, 0, len(v))
	inQuotes := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\\' && inQuotes && i+1 < len(v):
			b = append(b, c)
			i++
		case c == '"':
			inQuotes = !inQuotes
		case c == '(' && !inQuotes:
			i = skipComment(v, i) - 1
			continue
		}
		b = append(b, v[i])
	}
	return string(b)
}

// SplitAddr cuts local@domain at the last @ that is not in quotes, and opens the quotes of the
// local part. Without an @ all is local.
func SplitAddr(s string) (local, domain string) {
	s = strings.Trim(s, " \t\r\n")
	at, end := -1, -1
	inQuotes, quoted := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && inQuotes:
			i++
		case c == '"':
			inQuotes = !inQuotes
			quoted = true
		case c == '@' && !inQuotes:
			at = i
		}
	}
	end = len(s)
	if at >= 0 {
		end = at
		domain = strings.Trim(s[at+1:], " \t\r\n")
	}
	local = strings.Trim(s[:end], " \t")
	if quoted && len(local) >= 2 && local[0] == '"' && local[len(local)-1] == '"' {
		local = unescape(local[1 : len(local)-1])
	}
	return local, domain
}

// phrase joins words as they stood, with one blank where there were some.
func (p *addressParser) phrase(from, to int) string {
	if to-from == 1 {
		return p.words[from]
	}
	var b strings.Builder
	octets := 0
	for _, w := range p.words[from:to] {
		octets += len(w) + 1
	}
	b.Grow(octets)
	for i := from; i < to; i++ {
		if i > from && !p.joined[i] {
			b.WriteByte(' ')
		}
		b.WriteString(p.words[i])
	}
	return b.String()
}

// flush ends an element of the list.
func (p *addressParser) flush() {
	defer p.reset()
	var a Address
	switch {
	case p.angle != nil:
		a = *p.angle
		a.Name = p.phrase(0, len(p.words))
	case len(p.words) == 0:
		return
	default:
		a = p.bare()
	}
	if a.Name == "" {
		a.Name = p.comment
	}
	if a.Name == "" && a.Local == "" && a.Domain == "" && a.Route == "" && p.angle == nil {
		return
	}
	p.out = append(p.out, a)
}

// bare reads an element without angle brackets: an addr-spec, blanks around its @ and dots allowed (RFC
// 5322 §4.4), or a name with an addr-spec behind it.
func (p *addressParser) bare() (a Address) {
	at := -1 // the word with the last @
	for i, w := range p.words {
		if !p.quoted[i] && strings.Contains(w, "@") {
			at = i
		}
	}
	if at < 0 {
		a.Local = p.phrase(0, len(p.words))
		return a
	}
	from, to := at, at+1
	for from > 0 && (p.joined[from] || strings.HasPrefix(p.words[from], "@") || strings.HasPrefix(p.words[from], ".")) {
		from--
	}
	for to < len(p.words) && (p.joined[to] || strings.HasSuffix(p.words[to-1], "@") || strings.HasPrefix(p.words[to], ".") || strings.HasSuffix(p.words[to-1], ".")) {
		to++
	}
	var b strings.Builder
	for i := from; i < to; i++ {
		if p.quoted[i] {
			b.WriteString(quote(p.words[i]))
		} else {
			b.WriteString(p.words[i])
		}
	}
	a.Local, a.Domain = SplitAddr(b.String())
	if from > 0 {
		a.Name = p.phrase(0, from)
	} else if to < len(p.words) {
		a.Name = p.phrase(to, len(p.words))
	}
	return a
}
