package imap

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/text/unicode/norm"

	"pennypost/maildir"
)

// A mentioned name is how a command has named a mailbox, and which it means.
type mentioned struct{ given, meant string }

// normal gives the name that is meant by one: names are kept in the form NFC
// (RFC 9051 §5.1), but one that another program has made stays as it is.
func (p *parser) normal(name string) string {
	meant := name
	if !norm.NFC.IsNormalString(name) && (p.exists == nil || !p.exists(name)) {
		meant = norm.NFC.String(name)
	}
	return meant
}

// mention notes a name as the client has written it.
func (p *parser) mention(given, meant string) string {
	if len(p.names) < 2 { // more only RENAME has
		p.names = append(p.names, mentioned{given, meant})
	}
	return meant
}

// affects are the mailboxes that a command gives other names, or subscriptions.
func (p *parser) affects() []mentioned {
	switch p.name {
	case "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE":
		return p.names
	}
	return nil
}

// exists tells whether there is a mailbox of just this name.
func (s *Session) exists(name string) bool {
	if s.user == nil {
		return false
	}
	f, err := s.user.Store.OpenFolder(name)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, maildir.ErrName)
	}
	f.Close()
	return true
}

// tellNormal tells an IMAP4rev2 client of the mailbox it has selected, and
// what name those have that it has given another one (RFC 9051 §6.3.2,
// §6.3.9.7).
func (s *Session) tellNormal(p *parser, r reply) {
	if !s.has(rev2) || r.status != "OK" || len(p.names) == 0 {
		return
	}
	was, is := p.names[0], p.names[0]
	always := false
	switch p.name {
	case "SELECT", "EXAMINE":
		always = true
	case "RENAME":
		is = p.names[len(p.names)-1]
	case "CREATE", "DELETE", "APPEND":
	default:
		return
	}
	is.meant = strings.TrimSuffix(is.meant, separator)
	n := s.newName(is.meant)
	if p.name != "DELETE" {
		names, err := s.names(true)
		if err != nil {
			return // it is done all the same
		}
		for _, other := range names {
			if other.text == is.meant {
				n = other
			}
		}
	}
	info := ""
	if was.given != was.meant || is.given != is.meant {
		info = ` ("OLDNAME" (` + s.mailboxName(was.given) + `))`
	} else if !always {
		return
	}
	s.tellName(n, true, true, info)
}
