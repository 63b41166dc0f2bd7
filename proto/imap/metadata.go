package imap

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// Entries that are not kept with the others.
const (
	specialUseEntry = "/private/specialuse" // of a mailbox: what it is for (RFC 6154 §4)
	adminEntry      = "/shared/admin"       // of the server: whom to ask (RFC 5464 §3.2.1.1)
)

// maxEntries bounds the entries in one command.
const maxEntries = maildir.MaxAnnotations

// A metadataQuery is a GETMETADATA, taken apart.
type metadataQuery struct {
	entries []string
	maxSize int64 // octets of a value
	depth   int   // levels below the entries
}

// getMetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries
// (RFC 5464 §5). The options may also stand where the examples have them,
// behind the mailbox, and several entries without parentheses.
func (s *Session) getMetadata(p *parser) reply {
	q := metadataQuery{maxSize: math.MaxInt64}
	p.sp()
	if strings.HasPrefix(p.rest, "(") {
		p.modifiers(func(name string) { q.option(p, name) })
		p.sp()
	}
	mailbox := p.metadataMailbox()
	p.sp()
	if strings.HasPrefix(p.rest, "(") && !strings.HasPrefix(p.rest, "(/") && !strings.HasPrefix(p.rest, `("`) && !strings.HasPrefix(p.rest, "({") {
		p.modifiers(func(name string) { q.option(p, name) })
		p.sp()
	}
	q.entries = p.entries()
	for p.err == nil && p.take(" ") {
		q.entries = append(q.entries, p.entries()...)
		if len(q.entries) > maxEntries {
			p.fail("too many entries")
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	all, err := s.annotations(mailbox, q.entries, func() (string, error) { return s.useOf(mailbox) })
	if err != nil {
		return s.failed(err)
	}
	longest := s.tellValues(mailbox, all, q)
	if longest > 0 {
		return reply{"OK", codef("METADATA LONGENTRIES %d", longest), "done"} // RFC 5464 §4.2.1
	}
	return ok("done")
}

// option = "MAXSIZE" SP number / "DEPTH" SP ("0" / "1" / "infinity")   (RFC 5464
// §5)
func (q *metadataQuery) option(p *parser, name string) {
	p.sp()
	switch name {
	case "MAXSIZE":
		q.maxSize = int64(p.number())
	case "DEPTH":
		switch depth := p.keyword(); depth {
		case "0", "1":
			q.depth = int(depth[0] - '0')
		case "INFINITY":
			q.depth = math.MaxInt
		default:
			p.fail("the depth is 0, 1 or infinity")
		}
	default:
		p.fail("no such option")
	}
}

// metadataMailbox is a mailbox, or "" for the server.
func (p *parser) metadataMailbox() string {
	if p.take(`""`) {
		return ""
	}
	return p.mailbox()
}

// entries = entry / "(" entry *(SP entry) ")"   (RFC 5464 §5)
func (p *parser) entries() []string {
	if !strings.HasPrefix(p.rest, "(") {
		return []string{p.entry()}
	}
	return listOf(p, maxEntries, "too many entries", "entry missing", p.entry)
}

// entry = astring, a path in small letters: case does not count (RFC 5464
// §3.2). What is asked for may be the top of a tree of entries.
func (p *parser) entry() string {
	e := strings.ToLower(p.astring())
	if p.err == nil && !isPath(e) {
		p.fail("no name of an entry")
	}
	return e
}

// maxEntry bounds the name of an entry in octets.
const maxEntry = 256

func isPath(e string) bool {
	first, rest, below := strings.Cut(strings.TrimPrefix(e, "/"), "/")
	return strings.HasPrefix(e, "/") && len(e) <= maxEntry && (first == "private" || first == "shared") &&
		!(below && slices.Contains(strings.Split(rest, "/"), "")) &&
		strings.IndexFunc(e, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == '%' }) < 0
}

// isEntry tells whether a path can have a value: it has two components, or four
// in the name space of vendors (RFC 5464 §3.2).
func isEntry(path string) bool {
	components := strings.Split(path, "/")[1:]
	return len(components) >= 2 && (components[1] != "vendor" || len(components) >= 4)
}

// annotations are those of a mailbox, or of the server: what is kept, and as
// far as entries ask for it what follows from something else. use tells the
// special uses of the mailbox.
func (s *Session) annotations(mailbox string, entries []string, use func() (string, error)) (maildir.Annotations, error) {
	all, err := s.user.Store.Metadata(mailbox)
	if err == nil {
		err = s.mayAnnotate(mailbox)
	}
	if err != nil {
		return nil, err
	}
	asked := func(entry string) bool {
		return slices.ContainsFunc(entries, func(e string) bool { return e == entry || strings.HasPrefix(entry, e+"/") })
	}
	if mailbox == "" {
		delete(all, adminEntry)
		if s.Admin != "" {
			all[adminEntry] = s.Admin
		}
		return all, nil
	}
	delete(all, specialUseEntry)
	if asked(specialUseEntry) {
		uses, err := use()
		if err != nil {
			return nil, err
		}
		if uses != "" {
			all[specialUseEntry] = uses
		}
	}
	return all, nil
}

// useOf gives the special uses of a mailbox, as LIST has them.
func (s *Session) useOf(mailbox string) (string, error) {
	names, err := s.names(false)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if n.text == mailbox {
			return n.use, nil
		}
	}
	return "", nil
}

// tellValues is the METADATA response (RFC 5464 §4.4.1). What was asked for by
// name and is not there is NIL. longest is the largest of those values that
// the client does not want, 0 if there is none.
func (s *Session) tellValues(mailbox string, all maildir.Annotations, q metadataQuery) (longest int64) {
	var tell []string
	for _, entry := range q.entries {
		found := false
		for _, name := range slices.Sorted(maps.Keys(all)) {
			rest, ok := strings.CutPrefix(name, entry)
			if !ok || rest != "" && rest[0] != '/' || strings.Count(rest, "/") > q.depth {
				continue
			}
			found = true
			if size := int64(len(all[name])); size > q.maxSize {
				longest = max(longest, size)
			} else if !slices.Contains(tell, name) {
				tell = append(tell, name)
			}
		}
		if !found && !slices.Contains(tell, entry) {
			tell = append(tell, entry)
		}
	}
	if len(tell) == 0 {
		return longest
	}
	b := []byte("* METADATA " + s.metadataName(mailbox) + " (")
	for i, name := range tell {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, astring(name)...), ' ')
		value, there := all[name]
		b = appendValue(b, value, there)
	}
	s.Conn.WriteString(string(append(b, ")\r\n"...)))
	return longest
}

// appendValue appends a value = nstring / literal8.
func appendValue(b []byte, value string, there bool) []byte {
	if !strings.Contains(value, "\x00") {
		return appendNString(b, value, there)
	}
	b = append(b, "~{"...)
	b = strconv.AppendInt(b, int64(len(value)), 10)
	return append(append(b, "}\r\n"...), value...)
}

func (s *Session) metadataName(mailbox string) string {
	if mailbox == "" {
		return `""`
	}
	return s.mailboxName(mailbox)
}

// tellEntries is what LIST tells of the annotations of a mailbox (RFC 9590 §3).
func (s *Session) tellEntries(n *name, entries []string) error {
	all, err := s.annotations(n.text, entries, func() (string, error) { return n.use, nil })
	if err != nil {
		return err
	}
	s.tellValues(n.text, all, metadataQuery{entries: entries, maxSize: math.MaxInt64})
	return nil
}

// errTooLong says that a value has more octets than we keep.
var errTooLong = errors.New("value too long")

// setMetadata = "SETMETADATA" SP mailbox SP "(" entry SP value *(SP entry SP
// value) ")"   (RFC 5464 §5). All of it is done, or nothing.
func (s *Session) setMetadata(p *parser) reply {
	p.sp()
	mailbox := p.metadataMailbox()
	p.sp()
	changes := map[string]*string{}
	p.list(func() {
		entry := p.entry()
		if p.err == nil && !isEntry(entry) {
			p.fail("no entry can be called so")
		}
		p.sp()
		value := p.value()
		if len(changes) == maxEntries {
			p.fail("too many entries")
			return
		}
		changes[entry] = value
	})
	if p.err == nil && len(changes) == 0 {
		p.fail("entry missing")
	}
	switch err := p.end(); {
	case errors.Is(err, errTooLong):
		return no(codef("METADATA MAXSIZE %d", maildir.MaxAnnotation), "the value is too long")
	case err != nil:
		return bad(err)
	}
	if _, there := changes[adminEntry]; there && mailbox == "" {
		return no("NOPERM", "the administrator sets that")
	}
	if mailbox == "" && badFilters(changes) {
		return no("CANNOT", "a filter holds a whole search program") // RFC 5466 §3.2
	}
	return s.annotate(mailbox, changes)
}

func (s *Session) annotate(mailbox string, changes map[string]*string) reply {
	uses, forUse := changes[specialUseEntry]
	forUse = forUse && mailbox != ""
	kept := maps.Clone(changes)
	var words []string
	if forUse {
		delete(kept, specialUseEntry)
		if uses != nil {
			words = strings.Fields(*uses)
		}
		if why := canBeFor(mailbox, words); why != "" {
			return no("USEATTR", why)
		}
	}
	err := s.mayAnnotate(mailbox)
	if err == nil && len(kept) > 0 {
		err = s.user.Store.SetMetadata(mailbox, kept)
	}
	if err == nil && forUse {
		if uses = nil; len(words) > 0 {
			uses = &words[0]
		}
		changes[specialUseEntry] = uses
		_, err = s.user.Store.SetUses(mailbox, words...)
	}
	switch {
	case errors.Is(err, maildir.ErrAnnotations):
		return no("METADATA TOOMANY", "no room for so many")
	case err != nil:
		return s.failed(err)
	}
	if mailbox != "" {
		s.advance(mailbox)
	}
	s.annotated(mailbox, changes)
	return ok("done")
}

// value = nstring / literal8; nil is NIL.
func (p *parser) value() *string {
	if p.word("NIL") {
		return nil
	}
	octets := p.take("~")
	if l, ok := announcement(p.rest); ok && l.size > maildir.MaxAnnotation {
		p.fail("%w", errTooLong) // it is not asked for
		return nil
	}
	var value string
	if octets {
		value = p.literal8()
	} else {
		value = p.str()
	}
	if len(value) > maildir.MaxAnnotation {
		p.fail("%w", errTooLong)
	}
	return &value
}
