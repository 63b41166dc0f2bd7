package imap

import (
	"slices"
	"strings"
)

// A name is what LIST can say about one mailbox name.
type name struct {
	text       string // UTF-8
	wire       string // as on the wire, for patterns
	exists     bool   // it is a mailbox; else only a level, or subscribed
	noSelect   bool
	level      bool // something that exists lies below
	subscribed bool
	use        string // special uses with a space between, or ""
}

// listing is a LIST command, taken apart (RFC 5258 §3).
type listing struct {
	extended   bool
	reference  string
	patterns   []string
	subscribed bool // only those
	recursive  bool // and those that have some of them below
	special    bool // only those with a special use
	tellSubs   bool
	status     []string // RFC 5819
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
		if p.err == nil && l.recursive && !l.subscribed && !l.special {
			p.fail("RECURSIVEMATCH needs something to match")
		}
	}
	l.reference = p.astringOrList()
	p.sp()
	if strings.HasPrefix(p.rest, "(") {
		l.extended = true
		p.list(func() {
			if len(l.patterns) == maxPatterns {
				p.fail("too many patterns")
				return
			}
			l.patterns = append(l.patterns, p.listMailbox())
		})
		if p.err == nil && len(l.patterns) == 0 {
			p.fail("pattern missing")
		}
	} else {
		l.patterns = []string{p.listMailbox()}
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

// astringOrList is the reference: clients send it with wildcards, too.
func (p *parser) astringOrList() string { return p.listMailbox() }

func (l *listing) selectOption(p *parser) {
	switch o := p.keyword(); o {
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
	switch o := p.keyword(); o {
	case "SUBSCRIBED":
		l.tellSubs = true
	case "CHILDREN", "SPECIAL-USE": // told in any case
	case "STATUS":
		p.sp()
		l.status = p.statusAtts()
	default:
		p.fail("no such return option")
	}
}

func (s *Session) listNames(l listing) reply {
	if !l.extended && l.patterns[0] == "" {
		// RFC 9051 §6.3.9: an empty name asks for the separator.
		s.untagged(`LIST (\Noselect) "%s" ""`, separator)
		return ok("done")
	}
	names, err := s.names(l.tellSubs || l.subscribed)
	if err != nil {
		return s.failed(err)
	}
	var patterns []pattern
	for _, t := range l.patterns {
		patterns = append(patterns, newPattern(l.reference+t))
	}
	chosen := func(n *name) bool {
		return (!l.subscribed || n.subscribed) && (!l.special || n.use != "") &&
			(l.subscribed || n.exists || n.level)
	}
	matched := make([]bool, len(names)) // by a pattern
	below := make([]bool, len(names))   // chosen names lie below
	hidden := make([]bool, len(names))  // some of them are matched by no pattern
	index := make(map[string]int, len(names))
	for i, n := range names {
		matched[i] = slices.ContainsFunc(patterns, func(p pattern) bool { return p.matches(n) })
		index[n.text] = i
	}
	if l.recursive {
		for i, n := range names {
			if !chosen(n) {
				continue
			}
			for up := range parents(n.text) {
				if k, ok := index[up]; ok {
					below[k] = true
					hidden[k] = hidden[k] || !matched[i]
				}
			}
		}
	}
	for i, n := range names {
		if !matched[i] || !chosen(n) && !hidden[i] {
			continue
		}
		s.tellName(n, l, below[i])
		if len(l.status) > 0 && n.exists && !n.noSelect {
			line, err := s.counts(n.text, l.status)
			if err != nil { // RFC 5819 §2: left out if it cannot be had
				s.failed(err)
			}
			s.Conn.WriteString(line)
		}
	}
	return ok("done")
}

// tellName is one LIST response (RFC 9051 §7.3.1).
func (s *Session) tellName(n *name, l listing, below bool) {
	var attrs []string
	if !n.exists {
		if l.extended {
			attrs = append(attrs, `\NonExistent`)
		}
		attrs = append(attrs, `\Noselect`)
	} else if n.noSelect {
		attrs = append(attrs, `\Noselect`)
	}
	if l.tellSubs && n.subscribed {
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
	info := ""
	if below && l.subscribed {
		info = ` ("CHILDINFO" ("SUBSCRIBED"))`
	} else if below {
		info = ` ("CHILDINFO" ("SPECIAL-USE"))`
	}
	s.untagged(`LIST (%s) "%s" %s%s`, strings.Join(attrs, " "), separator, s.mailboxName(n.text), info)
}

// lsub = "LSUB" SP mailbox SP list-mailbox   (RFC 3501 §6.3.9)
func (s *Session) lsub(p *parser) reply {
	p.sp()
	reference := p.astringOrList()
	p.sp()
	text := p.listMailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	if text == "" {
		s.untagged(`LSUB (\Noselect) "%s" ""`, separator)
		return ok("done")
	}
	names, err := s.names(true)
	if err != nil {
		return s.failed(err)
	}
	pattern := newPattern(reference + text)
	told := map[string]bool{}
	for _, n := range names {
		if !n.subscribed {
			continue
		}
		if pattern.matches(n) {
			told[n.text] = true
			continue
		}
		// "%" matches foo when foo.bar is subscribed, and foo is not.
		for up := range parents(n.text) {
			if _, there := told[up]; !there && pattern.matches(s.newName(up)) {
				told[up] = false
			}
		}
	}
	for _, t := range sortedNames(told) {
		attrs := ""
		if !told[t] {
			attrs = `\Noselect`
		}
		s.untagged(`LSUB (%s) "%s" %s`, attrs, separator, s.mailboxName(t))
	}
	return ok("done")
}

func (s *Session) newName(text string) *name { return &name{text: text, wire: s.wireName(text)} }

// parents yields the names above text, the nearest first.
func parents(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			i := strings.LastIndex(text, separator)
			if i <= 0 {
				return
			}
			text = text[:i]
			if !yield(text) {
				return
			}
		}
	}
}

func sortedNames[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for t := range m {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b string) int {
		if (a == inbox) != (b == inbox) {
			if a == inbox {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return all
}

// names returns every name there is something to say about, INBOX first:
// mailboxes, the levels above them, and with subs the subscribed ones.
func (s *Session) names(subs bool) ([]*name, error) {
	infos, err := s.user.Store.List()
	if err != nil {
		return nil, err
	}
	all := map[string]*name{}
	get := func(text string) *name {
		n := all[text]
		if n == nil {
			n = s.newName(text)
			all[text] = n
		}
		return n
	}
	for _, i := range infos {
		n := get(i.Name)
		n.exists, n.noSelect, n.use = true, i.NoSelect, i.Use
		for up := range parents(i.Name) {
			get(up).level = true
		}
	}
	markSpecial(all)
	if subs {
		list, err := s.user.Store.Subscriptions()
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			get(t).subscribed = true
			for up := range parents(t) {
				get(up) // for RECURSIVEMATCH; it is told only if it is a level
			}
		}
	}
	out := make([]*name, 0, len(all))
	for _, t := range sortedNames(all) {
		out = append(out, all[t])
	}
	return out, nil
}

// A specialUse is what a mailbox may be for, and the names, best first, that
// clients give to such mailboxes (RFC 6154 §2).
type specialUse struct {
	use   string
	names []string
}

var specialUses = []specialUse{
	{`\Drafts`, []string{"drafts", "draft"}},
	{`\Sent`, []string{"sent", "sent messages", "sent items", "sent mail", "sent-mail"}},
	{`\Trash`, []string{"trash", "deleted messages", "deleted items", "deleted"}},
	{`\Junk`, []string{"junk", "spam", "junk e-mail", "junk mail"}},
	{`\Archive`, []string{"archive", "archives"}},
}

// markSpecial gives each use that no mailbox was made for to one by its name.
func markSpecial(all map[string]*name) {
	byLower := map[string]*name{}
	taken := map[string]bool{}
	for _, t := range sortedNames(all) {
		n := all[t]
		for use := range strings.FieldsSeq(n.use) {
			taken[use] = true
		}
		if !n.exists || n.noSelect || n.use != "" {
			continue
		}
		lower := strings.TrimPrefix(strings.ToLower(t), "inbox.")
		if byLower[lower] == nil {
			byLower[lower] = n
		}
	}
	for _, u := range specialUses {
		for _, t := range u.names {
			if n := byLower[t]; n != nil && !taken[u.use] {
				n.use = u.use
				break
			}
		}
	}
}
