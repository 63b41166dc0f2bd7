package imap

import (
	"slices"
	"strings"
)

// A scope is the rule filter-mailboxes: which mailboxes something is about
// (RFC 5465 §6, RFC 7377 §2.2).
type scope struct {
	kind  string // in lower case
	names []string
}

// Bounds of the scopes of one command, and of the names in one of them.
const maxScopes, maxScopeNames = 100, 1000

// scope = "selected" / "selected-delayed" / "inboxes" / "personal" / "subscribed" /
// ("subtree" / "subtree-one" / "mailboxes") SP one-or-more-mailbox
func (p *parser) scope() scope {
	c := scope{kind: strings.ToLower(p.atom())}
	switch c.kind {
	case "selected", "selected-delayed", "inboxes", "personal", "subscribed":
	case "subtree", "subtree-one", "mailboxes":
		p.sp()
		c.names = p.someMailboxes()
	default:
		p.fail("no such mailbox specifier")
	}
	return c
}

// someMailboxes = mailbox / "(" mailbox *(SP mailbox) ")"   (RFC 5465 §8,
// one-or-more-mailbox)
func (p *parser) someMailboxes() []string {
	if !strings.HasPrefix(p.rest, "(") {
		return []string{p.mailbox()}
	}
	return listOf(p, maxScopeNames, "too many mailboxes", "mailbox missing", p.mailbox)
}

// has says whether a mailbox that exists is in the scope. Which ones mail comes
// into only those know who deliver it, so that "inboxes" are all of them
// (RFC 5465 §6.3).
func (c scope) has(mailbox string, subscribed bool) bool {
	switch c.kind {
	case "personal", "inboxes":
		return true
	case "subscribed":
		return subscribed
	case "mailboxes":
		return slices.Contains(c.names, mailbox)
	case "subtree":
		return slices.ContainsFunc(c.names, func(top string) bool { return top == mailbox || strings.HasPrefix(mailbox, top+separator) })
	case "subtree-one":
		return slices.ContainsFunc(c.names, func(top string) bool {
			below, ok := strings.CutPrefix(mailbox, top+separator)
			return top == mailbox || ok && !strings.Contains(below, separator)
		})
	}
	return false
}
