package imap

import (
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// A name is what LIST can say about one mailbox name.
type name struct {
	text       string // UTF-8
	wire       string // as on the wire, for patterns
	exists     bool   // it is a mailbox; else only a level, or subscribed
	noSelect   bool   // there is no right to read it
	level      bool   // something that exists lies below
	subscribed bool
	barred     bool   // it may not be read, as NOTIFY tells (RFC 5465 §3.1)
	use        string // special uses with a space between, or ""
	told       bool   // use was told, be it that there is none
}

func (s *Session) newName(text string) *name {
	return &name{text: text, wire: norm.NFC.String(s.wireName(text))}
}

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
		n.exists, n.use, n.told = !i.NoSelect, i.Use, i.Told
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
		if !n.exists || n.told {
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
