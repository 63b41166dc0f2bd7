package imap

import (
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"pennypost/maildir"
)

// A listing is a LIST command, taken apart (RFC 5258 §3).
type listing struct {
	extended   bool
	reference  string
	patterns   []string
	subscribed bool // only those
	special    bool // only those with a special use
	recursive  bool // and those that have some of them below
	tellSubs   bool
	tellRights bool     // RFC 8440
	status     []string // RFC 5819
	entries    []string // RFC 9590
}

// maxPatterns bounds the patterns in one LIST.
const maxPatterns = 100

// list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
// (RFC 9051 §6.3.9, RFC 5258 §6)
func (s *Session) list(p *parser) reply {
	var l listing
	p.sp()
	if strings.HasPrefix(p.rest, "(") {
		l.extended = true
		p.list(func() { l.selectOption(p) })
		p.sp()
		if p.err == nil && l.recursive && l.criteria() == "" {
			p.fail("RECURSIVEMATCH needs something to match")
		}
	}
	l.reference = p.listMailbox() // some clients send it with wildcards
	p.sp()
	if strings.HasPrefix(p.rest, "(") {
		l.extended = true
		p.list(func() { l.pattern(p) })
		if p.err == nil && len(l.patterns) == 0 {
			p.fail("pattern missing")
		}
	} else {
		l.pattern(p)
	}
	if p.take(" ") {
		l.extended = true
		if !p.word("RETURN") {
			p.want("RETURN")
		}
		p.sp()
		p.list(func() { l.returnOption(p) })
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	return s.listNames(l)
}

func (l *listing) pattern(p *parser) {
	if len(l.patterns) == maxPatterns {
		p.fail("too many patterns")
		return
	}
	l.patterns = append(l.patterns, p.listMailbox())
}

func (l *listing) selectOption(p *parser) {
	switch p.keyword() {
	case "SUBSCRIBED":
		l.subscribed, l.tellSubs = true, true
	case "REMOTE": // there are none
	case "RECURSIVEMATCH":
		l.recursive = true
	case "SPECIAL-USE":
		l.special = true
	default:
		p.fail("no such selection option")
	}
}

func (l *listing) returnOption(p *parser) {
	switch p.keyword() {
	case "SUBSCRIBED":
		l.tellSubs = true
	case "CHILDREN", "SPECIAL-USE": // told in any case
	case "MYRIGHTS":
		l.tellRights = true
	case "STATUS":
		p.sp()
		l.status = p.statusAtts()
	case "METADATA":
		p.sp()
		l.entries = p.entries()
	default:
		p.fail("no such return option")
	}
}

// criteria are the selection options that a mailbox may meet, as CHILDINFO has
// them (RFC 5258 §3.5).
func (l *listing) criteria() string {
	switch {
	case l.subscribed && l.special:
		return `"SUBSCRIBED" "SPECIAL-USE"`
	case l.subscribed:
		return `"SUBSCRIBED"`
	case l.special:
		return `"SPECIAL-USE"`
	}
	return ""
}

// meets tells whether a name satisfies the selection options: without any, all
// that exists does.
func (l *listing) meets(n *name) bool {
	return (!l.subscribed || n.subscribed) && (!l.special || n.use != "") && (l.subscribed || n.exists)
}

func (s *Session) listNames(l listing) reply {
	if !l.extended && l.patterns[0] == "" {
		// RFC 9051 §6.3.9: an empty name asks for the separator.
		s.untagged(`LIST (\Noselect) "%s" ""`, separator)
		return ok("done")
	}
	names, err := s.names(l.tellSubs)
	if err != nil {
		return s.failed(err)
	}
	var patterns []pattern
	for _, t := range l.patterns {
		if t != "" { // RFC 5258 §3: it matches nothing here
			patterns = append(patterns, newPattern(l.reference+t))
		}
	}
	matched := make([]bool, len(names)) // by a pattern
	below := make([]bool, len(names))   // names that meet the criteria lie below
	hidden := make([]bool, len(names))  // some of them are matched by no pattern
	index := make(map[string]int, len(names))
	for i, n := range names {
		matched[i] = slices.ContainsFunc(patterns, func(p pattern) bool { return p.matches(n) })
		index[n.text] = i
	}
	for i, n := range names {
		if !l.meets(n) {
			continue
		}
		for up := range parents(n.text) {
			if k, ok := index[up]; ok {
				below[k] = true
				hidden[k] = hidden[k] || !matched[i]
			}
		}
	}
	var lines []listLine
	for i, n := range names {
		meets := l.meets(n)
		switch {
		case !matched[i]:
		case meets, l.recursive && hidden[i]:
			lines = append(lines, listLine{name: n, meets: meets, below: l.recursive && below[i]})
		case l.criteria() == "" && below[i] && (hidden[i] || !l.extended):
			// RFC 3501 §6.3.8: a level of the hierarchy, which is no mailbox.
			lines = append(lines, listLine{name: n})
		}
	}
	for some := range slices.Chunk(lines, countAhead) {
		s.countAll(some, l.status)
		for i := range some {
			s.listName(&some[i], &l)
		}
	}
	return ok("done")
}

// A listLine is a name that LIST tells of.
type listLine struct {
	*name
	meets  bool   // the criteria
	below  bool   // and so do names below it
	counts string // its STATUS response
	err    error
}

// countAhead is how many mailboxes are counted before LIST tells of them.
const countAhead = 64

// countAll makes the STATUS responses of mailboxes, on all cores.
func (s *Session) countAll(lines []listLine, items []string) {
	if len(items) == 0 {
		return
	}
	if slices.Contains(items, "HIGHESTMODSEQ") {
		s.wantModSeq() // by one of us only
	}
	var next atomic.Int32
	work := func() {
		for i := int(next.Add(1)) - 1; i < len(lines); i = int(next.Add(1)) - 1 {
			if n := &lines[i]; n.meets && n.exists {
				n.counts, n.err = s.counts(n.text, items)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(lines)) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

// listName tells of one name, and what else is asked of mailboxes that meet the
// criteria themselves (RFC 5819 §2, RFC 9590 §3).
func (s *Session) listName(n *listLine, l *listing) {
	if errors.Is(n.err, fs.ErrNotExist) || errors.Is(n.err, maildir.ErrGone) {
		n.exists, n.meets = false, false // RFC 5819 §2: it has just become no mailbox
	} else if errors.Is(n.err, errRights) {
		n.noSelect = true // RFC 5819 §2
	} else if n.err != nil {
		s.failed(n.err) // left out
	}
	info := ""
	if n.below {
		info = ` ("CHILDINFO" (` + l.criteria() + `))`
	}
	s.tellName(n.name, l.extended, l.tellSubs, info)
	if n.meets && n.exists && l.tellRights {
		if r, err := s.rights(n.text); err == nil {
			s.tellMyRights(n.text, r)
		}
	}
	s.Conn.WriteString(n.counts)
	if n.meets && n.exists && len(l.entries) > 0 {
		if err := s.tellEntries(n.name, l.entries); err != nil {
			s.failed(err)
		}
	}
}

// tellName is one LIST response (RFC 9051 §7.3.1).
func (s *Session) tellName(n *name, extended, subs bool, info string) {
	var attrs []string
	if !n.exists {
		if extended || s.has(rev2) {
			attrs = append(attrs, `\NonExistent`)
		}
		attrs = append(attrs, `\Noselect`)
	}
	if n.exists && n.noSelect {
		attrs = append(attrs, `\Noselect`)
	}
	if n.barred {
		attrs = append(attrs, `\NoAccess`)
	}
	if subs && n.subscribed {
		attrs = append(attrs, `\Subscribed`)
	}
	if n.level {
		attrs = append(attrs, `\HasChildren`)
	} else {
		attrs = append(attrs, `\HasNoChildren`)
	}
	if n.use != "" {
		attrs = append(attrs, n.use)
	}
	s.untagged(`LIST (%s) "%s" %s%s`, strings.Join(attrs, " "), separator, s.mailboxName(n.text), info)
}
