package imap

import (
	"errors"
	"strings"
)

// lsub = "LSUB" SP mailbox SP list-mailbox   (RFC 3501 §6.3.9)
func (s *Session) lsub(p *parser) reply {
	p.sp()
	reference := p.listMailbox()
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

// find = "FIND" SP ["ALL."] ("MAILBOXES" / "BBOARDS") SP list-mailbox
// (RFC 1730 §A.6.3.OBS, RFC 1176): what LIST and LSUB were before. There are
// no bulletin boards here.
func (s *Session) find(p *parser) reply {
	p.sp()
	what, all := strings.CutPrefix(p.keyword(), "ALL.")
	if p.err == nil && what != "MAILBOXES" && what != "BBOARDS" {
		p.fail("no such thing to find")
	}
	p.sp()
	pattern := newFind(p.listMailbox())
	if err := p.end(); err != nil {
		return bad(err)
	}
	if what == "BBOARDS" {
		return ok("there are none")
	}
	names, err := s.names(!all)
	if err != nil {
		return s.failed(err)
	}
	for _, n := range names {
		if (all && n.exists || !all && n.subscribed) && pattern.matches(n) {
			s.untagged("MAILBOX %s", s.mailboxName(n.text))
		}
	}
	return ok("done")
}

// bboard = "BBOARD" SP astring   (RFC 1176)
func (s *Session) bboard(p *parser) reply {
	p.sp()
	p.astring()
	if err := p.end(); err != nil {
		return bad(err)
	}
	return no("NONEXISTENT", errBoards.Error())
}

// errBoards refuses what is for bulletin boards.
var errBoards = errors.New("there are no bulletin boards")

// kind takes the word MAILBOX of the SUBSCRIBE of old, unless that is the
// name itself (RFC 1730 §A.6.3.OBS.3). BBOARD is the other one there was.
func (p *parser) kind() {
	word, rest, more := strings.Cut(p.rest, " ")
	switch {
	case !more || rest == "":
	case strings.EqualFold(word, "MAILBOX"):
		p.rest = rest
	case strings.EqualFold(word, "BBOARD"):
		p.fail("%w", errBoards)
	}
}
