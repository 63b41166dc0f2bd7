package imap

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pennypost/maildir"
)

// A parser takes a command apart from left to right, one method to a rule of
// the grammar (RFC 3501 §9, RFC 9051 §9). After the first mistake every
// method returns nothing, and end reports the mistake; a handler checks once.
//
// A literal is read when the grammar comes to it, so a synchronizing one is
// never asked for by a command that is wrong already (RFC 9051 §4.3).
type parser struct {
	line    string // the current line, whole
	rest    string // what is left of it
	err     error  // the first mistake
	fatal   error  // the connection is lost: nothing more can be said
	depth   int    // of parentheses
	byUID   bool   // the command came behind UID (RFC 9051 §6.4.9)
	name    string // of the command, in capitals
	tagged  string // its tag
	uidOnly bool   // there are no message numbers (RFC 9586)
	utf8    bool   // names are UTF-8 as they stand (RFC 9051 §5.1, RFC 6855 §3)
	holds   bool   // it has message numbers, which may not change while it runs

	lowest uint32 // the UID up to which the command had its messages, from the last on; 0: it had all (RFC 9738)

	names  []mentioned            // of mailboxes
	exists func(name string) bool // whether there is such a mailbox; nil: who knows

	// more reads the announced literal and the line behind it. Nil refuses
	// every literal.
	more func(l announced) (text, line string, err error)
}

// announced is a literal of which only the length is here yet.
type announced struct {
	size int64 // octets
	sync bool  // the client waits to be asked for it
}

// maxDepth bounds parentheses, NOT and OR in one command.
const maxDepth = 100

var errLiteral = errors.New("literal not taken here")

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
	p.rest = ""
}

func (p *parser) want(what string) {
	if p.rest == "" {
		p.fail("%s missing", what)
		return
	}
	p.fail("want %s at %s", what, strconv.QuoteToASCII(p.rest[:min(len(p.rest), 20)]))
}

// end reports the first mistake; more text behind the command is one.
func (p *parser) end() error {
	if p.err == nil && p.rest != "" {
		p.want("end of command")
	}
	return p.err
}

func (p *parser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

// word takes prefix in any case, if what follows it cannot belong to the same
// atom.
func (p *parser) word(w string) bool {
	if len(p.rest) < len(w) || !strings.EqualFold(p.rest[:len(w)], w) {
		return false
	}
	if len(p.rest) > len(w) && isAtom(p.rest[len(w)]) {
		return false
	}
	p.rest = p.rest[len(w):]
	return true
}

func (p *parser) run(what string, in func(byte) bool) string {
	i := 0
	for i < len(p.rest) && in(p.rest[i]) {
		i++
	}
	if i == 0 {
		p.want(what)
		return ""
	}
	word := p.rest[:i]
	p.rest = p.rest[i:]
	return word
}

func (p *parser) sp() {
	if !p.take(" ") {
		p.want("space")
	}
}

// down and up go into and out of one nesting.
func (p *parser) down() bool {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested too deeply")
		return false
	}
	return p.err == nil
}

func (p *parser) up() { p.depth-- }

func isAtom(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`(){%*"\]`, c) < 0
}

func isAString(c byte) bool { return c == ']' || isAtom(c) }

func isTag(c byte) bool { return c != '+' && isAString(c) }

func isList(c byte) bool { return c == '%' || c == '*' || isAString(c) }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// maxTag bounds a tag: it is echoed in every answer.
const maxTag = 256

func (p *parser) tag() string {
	tag := p.run("tag", isTag)
	if len(tag) > maxTag {
		p.fail("tag too long")
		return ""
	}
	return tag
}

func (p *parser) atom() string { return p.run("atom", isAtom) }

// keyword is an atom in capitals, for comparison.
func (p *parser) keyword() string { return strings.ToUpper(p.atom()) }

// astring = 1*ASTRING-CHAR / string
func (p *parser) astring() string {
	if p.startsString() {
		return p.str()
	}
	return p.run("astring", isAString)
}

func (p *parser) startsString() bool {
	return p.rest != "" && (p.rest[0] == '"' || p.rest[0] == '{')
}

// str is the rule string = quoted / literal.
func (p *parser) str() string {
	switch {
	case p.rest == "":
	case p.rest[0] == '"':
		return p.quoted()
	case p.rest[0] == '{':
		return p.literal()
	}
	p.want("string")
	return ""
}

// quoted = DQUOTE *QUOTED-CHAR DQUOTE; octets over 127 are taken as they are.
func (p *parser) quoted() string {
	if !p.take(`"`) {
		p.want("quoted string")
		return ""
	}
	end := strings.IndexAny(p.rest, `"\`)
	if end >= 0 && p.rest[end] == '"' {
		s := p.rest[:end]
		p.rest = p.rest[end+1:]
		return p.quotedText(s)
	}
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			return p.quotedText(b.String())
		case '\\':
			i++
			if i == len(p.rest) || p.rest[i] != '"' && p.rest[i] != '\\' {
				p.fail(`only " and \ may follow \ in a quoted string`)
				return ""
			}
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	p.fail("quoted string without end")
	return ""
}

// quotedText is text that has to be UTF-8 when the client says that it writes
// that (RFC 6855 §3).
func (p *parser) quotedText(s string) string {
	if p.utf8 && !utf8.ValidString(s) {
		p.fail("a quoted string that is not UTF-8")
		return ""
	}
	return p.text(s)
}

// text refuses what RFC 3501 §9 allows nowhere: NUL.
func (p *parser) text(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		p.fail("NUL in a string")
		return ""
	}
	return s
}

// announcement = "{" number ["+"] "}" CRLF   (RFC 7888 §4)
func announcement(line string) (l announced, ok bool) {
	s, ok := strings.CutPrefix(line, "{")
	if !ok {
		return l, false
	}
	if s, ok = strings.CutSuffix(s, "}"); !ok {
		return l, false
	}
	s, plus := strings.CutSuffix(s, "+")
	l.sync = !plus
	if s == "" || len(s) > 18 {
		return l, false
	}
	for _, c := range []byte(s) {
		if !isDigit(c) {
			return l, false
		}
		l.size = 10*l.size + int64(c-'0')
	}
	return l, true
}

// pending is the literal announced at the end of a line, whatever stands
// before it.
func pending(line string) (announced, bool) {
	i := strings.LastIndexByte(line, '{')
	if i < 0 {
		return announced{}, false
	}
	return announcement(line[i:])
}

func (p *parser) literal() string { return p.text(p.literal8()) }

// literal8 is a literal behind "~", which may hold NUL (RFC 4466 §6).
func (p *parser) literal8() string {
	l, ok := announcement(p.rest)
	if !ok {
		p.want("literal")
		return ""
	}
	if p.more == nil {
		p.fail("%w", errLiteral)
		return ""
	}
	text, line, err := p.more(l)
	if err != nil {
		p.fail("%w", err)
		return ""
	}
	p.rest = line
	return text
}

// number = 1*DIGIT, below 2^32
func (p *parser) number() uint32 {
	s := p.run("number", isDigit)
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil && p.err == nil {
		p.fail("number too large")
	}
	return uint32(n)
}

// number64 is the number of RFC 9051 §9: sizes have 63 bits.
func (p *parser) number64() int64 {
	s := p.run("number", isDigit)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && p.err == nil {
		p.fail("number too large")
	}
	return n
}

func (p *parser) nzNumber() uint32 {
	n := p.number()
	if n == 0 && p.err == nil {
		p.fail("zero is no such number")
	}
	return n
}

// list = "(" [item *(SP item)] ")"
func (p *parser) list(item func()) {
	if !p.take("(") {
		p.want("(")
		return
	}
	if !p.down() {
		return
	}
	defer p.up()
	for n := 0; p.err == nil && !p.take(")"); n++ {
		if n > 0 {
			p.sp()
		}
		item()
	}
}

// maxModifiers bounds the modifiers of one command.
const maxModifiers = 20

// modifiers = "(" name [SP value] *(SP name [SP value]) ")" are those of SELECT,
// FETCH and STORE (RFC 4466 §6). one takes the name, in capitals, and reads the
// value that belongs to it.
func (p *parser) modifiers(one func(name string)) {
	n := 0
	p.list(func() {
		if n++; n > maxModifiers {
			p.fail("too many modifiers")
			return
		}
		one(p.keyword())
	})
	if p.err == nil && n == 0 {
		p.fail("modifier missing")
	}
}

// listOf = "(" item *(SP item) ")". many is the mistake of more items than most,
// missing that of none.
func listOf[T any](p *parser, most int, many, missing string, item func() T) (list []T) {
	p.list(func() {
		if len(list) == most {
			p.fail("%s", many)
			return
		}
		list = append(list, item())
	})
	if p.err == nil && len(list) == 0 {
		p.fail("%s", missing)
	}
	return list
}

// maxName bounds a mailbox name in octets; longer ones cannot be a file name.
const maxName = 1000

// mailbox = "INBOX" / astring. The name is returned in UTF-8, decoded from
// modified UTF-7 (RFC 3501 §5.1.3) unless the client writes UTF-8.
func (p *parser) mailbox() string {
	s := p.astring()
	if p.err != nil {
		return ""
	}
	return p.name8(s)
}

func (p *parser) name8(s string) string {
	if strings.EqualFold(s, inbox) {
		return p.mention(s, inbox)
	}
	if len(s) > maxName {
		p.fail("mailbox name too long")
		return ""
	}
	if p.utf8 {
		if !utf8.ValidString(s) {
			p.fail("mailbox name is not UTF-8")
			return ""
		}
		return p.mention(s, p.normal(belowInbox(s)))
	}
	name, ok := maildir.DecodeUTF7(s)
	if !ok {
		p.fail("mailbox name is not modified UTF-7")
		return ""
	}
	return p.mention(name, p.normal(belowInbox(name)))
}

// listMailbox = 1*list-char / string; it stays as it is on the wire.
func (p *parser) listMailbox() string {
	if p.startsString() {
		return p.str()
	}
	return p.run("mailbox pattern", isList)
}

var systemFlags = map[string]bool{`\ANSWERED`: true, `\FLAGGED`: true, `\DELETED`: true, `\SEEN`: true, `\DRAFT`: true}

// maxKeyword bounds the length of a keyword in octets.
const maxKeyword = 128

// flag = "\Answered" / … / flag-keyword / flag-extension. \Recent, which some
// clients send back as they got it, is dropped without a word: what says "" is
// no flag.
func (p *parser) flag() string {
	if p.take(`\`) {
		name := `\` + strings.ToUpper(p.atom())
		switch {
		case p.err != nil || name == `\RECENT`:
			return ""
		case !systemFlags[name]:
			p.fail("no such system flag")
			return ""
		}
		return name
	}
	// ] is against the grammar of an atom, but in use.
	k := p.run("flag", isAString)
	if len(k) > maxKeyword {
		p.fail("keyword too long")
		return ""
	}
	return k
}

// maxFlags bounds the flags in one command.
const maxFlags = 100

// flagList = "(" [flag *(SP flag)] ")"
func (p *parser) flagList() (flags []string) {
	p.list(func() { flags = p.addFlag(flags) })
	return flags
}

func (p *parser) addFlag(flags []string) []string {
	f := p.flag()
	if f == "" {
		return flags
	}
	if len(flags) == maxFlags {
		p.fail("too many flags")
		return nil
	}
	return append(flags, f)
}

// date = date-text / DQUOTE date-text DQUOTE; the day begins at 0 h UTC.
func (p *parser) date() time.Time {
	var s string
	if p.startsString() {
		s = p.str()
	} else {
		s = p.atom()
	}
	if p.err != nil {
		return time.Time{}
	}
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		p.fail("want a date such as 1-Feb-1994")
	}
	return t
}

// dateTime = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
func (p *parser) dateTime() time.Time {
	s := p.quoted()
	if p.err != nil {
		return time.Time{}
	}
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimPrefix(s, " "))
	if err != nil {
		p.fail(`want a date and time such as "17-Jul-1996 02:44:25 -0700"`)
	}
	return t
}
