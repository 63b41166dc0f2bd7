package imap

import (
	"errors"
	"io/fs"
	"strconv"

	"pennypost/maildir"
)

// quotaRoot is the name of the one root there is: the Maildir with all its
// mailboxes (RFC 9208 §3.2).
const quotaRoot = ""

// quotaUnit is what STORAGE counts in (RFC 9208 §5.1).
const quotaUnit = 1024

// getQuota = "GETQUOTA" SP quota-root-name   (RFC 9208 §4.1.1)
func (s *Session) getQuota(p *parser) reply {
	p.sp()
	root := p.astring()
	if err := p.end(); err != nil {
		return bad(err)
	}
	u, err := s.user.Store.Quota()
	switch {
	case err != nil:
		return s.failed(err)
	case root != quotaRoot || u.Limits == (maildir.Limits{}):
		return no("NONEXISTENT", "no such quota root")
	}
	s.tellQuota(u)
	return ok("done")
}

// getQuotaRoot = "GETQUOTAROOT" SP mailbox   (RFC 9208 §4.1.2). There need be
// no such mailbox. Where there are no limits there is no root.
func (s *Session) getQuotaRoot(p *parser) reply {
	p.sp()
	name := p.mailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	if err := s.may(name, maildir.RightRead); err != nil && !errors.Is(err, fs.ErrNotExist) { // RFC 9208 §6
		return s.failed(err)
	}
	u, err := s.user.Store.Quota()
	switch {
	case err != nil:
		return s.failed(err)
	case u.Limits == (maildir.Limits{}):
		s.untagged("QUOTAROOT %s", s.mailboxName(name))
		return ok("there are no limits")
	}
	s.untagged("QUOTAROOT %s %s", s.mailboxName(name), astring(quotaRoot))
	s.tellQuota(u)
	return ok("done")
}

// setQuota = "SETQUOTA" SP quota-root-name SP "(" [resource *(SP resource)] ")"
// (RFC 9208 §4.1.3). It is for the administrator to say, and not here; who
// knows only RFC 2087 may ask all the same.
func (s *Session) setQuota(p *parser) reply {
	p.sp()
	root := p.astring()
	p.sp()
	p.list(func() {
		p.atom()
		p.sp()
		p.number64()
	})
	if err := p.end(); err != nil {
		return bad(err)
	}
	if root != quotaRoot {
		return no("NONEXISTENT", "no such quota root")
	}
	return no("NOPERM", "the administrator sets the limits")
}

// tellQuota is the QUOTA response: what has no limit is not named (RFC 9208
// §4.2.1).
func (s *Session) tellQuota(u maildir.Usage) {
	b := []byte("* QUOTA " + astring(quotaRoot) + " (")
	if l := u.Limits.Octets; l > 0 {
		b = append(b, "STORAGE "...)
		b = strconv.AppendInt(b, units(u.Octets), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, units(l), 10)
	}
	if l := u.Limits.Messages; l > 0 {
		if u.Limits.Octets > 0 {
			b = append(b, ' ')
		}
		b = append(b, "MESSAGE "...)
		b = strconv.AppendInt(b, u.Messages, 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, l, 10)
	}
	s.Conn.WriteString(string(append(b, ")\r\n"...)))
}

func units(octets int64) int64 { return (octets + quotaUnit - 1) / quotaUnit }

// tellOverQuota says once that the mailbox holds more than it may: other
// programs have put mail there, or the limits have become smaller (RFC 9208
// §4.3.1).
func (s *Session) tellOverQuota() {
	u, err := s.user.Store.Quota()
	if err != nil {
		return // what the client asked for is done all the same
	}
	over := u.Over()
	if over && !s.overQuota {
		s.untagged("NO [OVERQUOTA] the mailbox holds more than it may")
	}
	s.overQuota = over
}
