package smtp

import (
	"errors"
	"net/netip"
	"strings"
)

// Limits of RFC 5321 §4.5.3.1.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 256 // with its brackets
	maxLabel  = 63  // RFC 1035 §2.3.4
)

var (
	errPath     = errors.New("malformed address")
	errBrackets = errors.New("an address stands in <angle brackets>")
	errLong     = errors.New("address too long")
	errUTF8     = errors.New("address is not ASCII")
)

// path reads the address behind FROM: or TO: and returns it with no more
// quoting than it needs, and what follows it. A blank before it is tolerated,
// as every server does; from who is trusted so are missing brackets, and a
// missing domain.
//
//	Reverse-path = Path / "<>"
//	Forward-path = Path
//	Path         = "<" [ A-d-l ":" ] Mailbox ">"
//	MAIL FROM: ("<>" / Reverse-path)
//	RCPT TO: ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
func (s *Session) path(arg string, reverse bool) (addr, rest string, err error) {
	arg = strings.TrimLeft(arg, " ")
	if strings.ContainsFunc(arg, func(r rune) bool { return r > '~' }) {
		return "", "", errUTF8
	}
	p := pathParser{in: arg, short: s.Trusted}
	bare := !strings.HasPrefix(arg, "<")
	if bare && !s.Trusted && s.user == "" {
		return "", "", errBrackets
	}
	if bare {
		addr = p.mailbox()
	} else {
		addr = p.path(reverse)
	}
	rest = p.in[p.at:]
	switch {
	case p.err != nil:
		return "", "", p.err
	case rest != "" && rest[0] != ' ':
		return "", "", errPath
	case p.at > maxPath || !reverse && p.local > maxLocal:
		// A sender's local part may be longer: it is often made by a program
		// that hides another address in it, and refusing it helps nobody.
		return "", "", errLong
	}
	return addr, rest, nil
}

// A pathParser reads RFC 5321 §4.1.2. It remembers the first mistake.
type pathParser struct {
	in    string
	at    int
	local int  // octets of the local part as it was written
	short bool // the domain may be missing
	err   error
}

func (p *pathParser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// peek is the next octet, 0 at the end or after a mistake.
func (p *pathParser) peek() byte {
	if p.at < len(p.in) && p.err == nil {
		return p.in[p.at]
	}
	return 0
}

// take takes c if it comes next.
func (p *pathParser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

func (p *pathParser) want(c byte) {
	if !p.take(c) {
		p.fail(errPath)
	}
}

func (p *pathParser) path(reverse bool) (addr string) {
	p.want('<')
	if reverse && p.take('>') {
		return ""
	}
	if p.peek() == '@' {
		p.route()
	}
	const name = "postmaster"
	if end := p.at + len(name); !reverse && len(p.in) > end && p.in[end] == '>' && strings.EqualFold(p.in[p.at:end], name) {
		p.at = end
		addr = name
	} else {
		addr = p.mailbox()
	}
	p.want('>')
	return addr
}

// route reads a source route, which is ignored (RFC 5321 §C):
//
//	A-d-l     = At-domain *( "," At-domain )
//	At-domain = "@" Domain
func (p *pathParser) route() {
	for {
		p.want('@')
		p.domain()
		if !p.take(',') {
			break
		}
	}
	p.want(':')
}

// mailbox = Local-part "@" ( Domain / address-literal )
func (p *pathParser) mailbox() string {
	start := p.at
	local := p.localPart()
	p.local = p.at - start
	if p.short && p.err == nil && p.peek() != '@' && !strings.Contains(local, "@") {
		return local
	}
	p.want('@')
	return local + "@" + p.domain()
}

// localPart = Dot-string / Quoted-string
func (p *pathParser) localPart() string {
	if p.peek() == '"' {
		return p.quotedString()
	}
	start := p.at
	p.run(atext)
	for p.take('.') {
		p.run(atext)
	}
	return p.in[start:p.at]
}

// run takes at least one octet that fits.
func (p *pathParser) run(fits func(byte) bool) {
	start := p.at
	for p.peek() != 0 && fits(p.in[p.at]) {
		p.at++
	}
	if p.at == start {
		p.fail(errPath)
	}
}

// quotedString = DQUOTE *QcontentSMTP DQUOTE
//
// All quoted forms mean the same; the one with the least quoting is returned.
// An empty one, though the grammar has it, is nobody's name.
func (p *pathParser) quotedString() string {
	var text strings.Builder
	p.want('"')
	for p.err == nil && !p.take('"') {
		p.take('\\')
		c := p.peek()
		if c < ' ' || c > '~' {
			p.fail(errPath)
			break
		}
		text.WriteByte(c)
		p.at++
	}
	if p.err != nil || text.Len() == 0 {
		p.fail(errPath)
		return ""
	}
	return quote(text.String())
}

// quote writes a local part as a Dot-string if it can be one.
func quote(local string) string {
	p := pathParser{in: local}
	if local[0] != '"' && p.localPart() == local && p.err == nil {
		return local
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(local) + `"`
}

// domain reads a Domain or an address-literal:
//
//	Domain     = sub-domain *("." sub-domain)
//	sub-domain = Let-dig [Ldh-str]
func (p *pathParser) domain() string {
	start := p.at
	if p.peek() == '[' {
		p.literal()
	} else {
		p.label()
		for p.take('.') {
			p.label()
		}
	}
	if p.at-start > maxDomain {
		p.fail(errLong)
	}
	return p.in[start:p.at]
}

func (p *pathParser) label() {
	start := p.at
	p.run(func(c byte) bool { return alnum(c) || c == '-' })
	if text := p.in[start:p.at]; strings.HasPrefix(text, "-") || strings.HasSuffix(text, "-") || len(text) > maxLabel {
		p.fail(errPath)
	}
}

// literal reads RFC 5321 §4.1.3:
//
//	address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"
func (p *pathParser) literal() {
	p.want('[')
	start := p.at
	for c := p.peek(); c > ' ' && c <= '~' && c != '[' && c != '\\' && c != ']'; c = p.peek() {
		p.at++
	}
	if !isLiteral(p.in[start:p.at]) {
		p.fail(errPath)
	}
	p.want(']')
}

// isLiteral looks at what stands between the brackets.
func isLiteral(text string) bool {
	tag, value, tagged := strings.Cut(text, ":")
	if !tagged {
		a, err := netip.ParseAddr(text)
		return err == nil && a.Is4()
	}
	if strings.EqualFold(tag, "IPv6") {
		a, err := netip.ParseAddr(value)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	return false // no other tag is registered
}

// isDomain says whether text is a Domain or an address-literal.
func isDomain(text string) bool {
	p := pathParser{in: text}
	return p.domain() == text && p.err == nil
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// atext is what an atom is made of (RFC 5322 §3.2.3).
func atext(c byte) bool { return alnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0 }

// cutFold cuts the prefix off, in upper or lower case.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
