package imap

import (
	"fmt"

	"pennypost/maildir"
)

func codef(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// close (RFC 9051 §6.4.1) removes what is marked \Deleted, without a word.
func (s *Session) closeBox(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	v := s.view
	var err error
	if !v.readOnly && v.rights&maildir.RightExpunge != 0 { // RFC 4314 §4
		if now, e := v.look(); e == nil && now.UIDValidity == v.state.UIDValidity {
			v.merge(now)
			v.arrived()
		}
		err = v.folder.Expunge(v.deleted(v.every()))
	}
	s.leaves(v)
	v.close()
	s.view, s.state = nil, authenticated
	if err != nil {
		return s.failed(err)
	}
	return ok("closed")
}

// unselect is close that removes nothing (RFC 9051 §6.4.2).
func (s *Session) unselect(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.leaves(s.view)
	s.view.close()
	s.view, s.state = nil, authenticated
	return ok("closed")
}

// deleted are the messages marked \Deleted, as far as the view knows, among
// those with the given numbers.
func (v *view) deleted(set numSet) (msgs []maildir.Message) {
	for n := range set.all() {
		if m, gone := v.at(n); !gone && m.Flags&maildir.Trashed != 0 {
			msgs = append(msgs, m)
		}
	}
	return msgs
}

// every is the set of all message numbers.
func (v *view) every() numSet {
	if v.len() == 0 {
		return nil
	}
	return numSet{{1, uint32(v.len())}}
}

func readOnly() reply { return no("READ-ONLY", "selected read-only") }

// expunge = "EXPUNGE" / "UID" SP "EXPUNGE" SP sequence-set   (RFC 9051 §6.4.3,
// §6.4.9). The responses come with the news behind every command.
func (s *Session) expunge(p *parser) reply {
	var uids numSet
	if p.byUID {
		p.sp()
		uids = p.numSet()
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if s.view.readOnly {
		return readOnly()
	}
	if s.view.rights&maildir.RightExpunge == 0 {
		return s.failed(errRights)
	}
	s.news(true) // what others have marked goes, too
	if s.state == logout {
		return no("NONEXISTENT", "the mailbox is gone")
	}
	set := s.view.every()
	if p.byUID {
		set, _ = s.view.choose(uids, true)
	}
	msgs := s.view.deleted(set)
	if over := len(msgs) - s.MessageLimit; p.byUID && s.MessageLimit > 0 && over > 0 {
		msgs = msgs[over:] // RFC 9738 §3.1; EXPUNGE has all
		p.lowest = msgs[0].UID
	}
	if err := s.view.folder.Expunge(msgs); err != nil {
		return s.failed(err)
	}
	s.view.removes(msgs)
	return ok("done")
}

// copy = "COPY" SP sequence-set SP mailbox   (RFC 9051 §6.4.7)
func (s *Session) copy(p *parser) reply { return s.transfer(p, false) }

// move = "MOVE" SP sequence-set SP mailbox   (RFC 9051 §6.4.8)
func (s *Session) move(p *parser) reply { return s.transfer(p, true) }

func (s *Session) transfer(p *parser, away bool) reply {
	p.sp()
	set := p.numSet()
	p.sp()
	name := p.mailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	v := s.view
	chosen, err := v.choose(set, p.byUID)
	if err != nil {
		return bad(err)
	}
	if away && v.readOnly {
		return readOnly()
	}
	chosen = s.limited(p, chosen)
	if p.lowest > 0 && !away { // a COPY is done whole, or not at all
		lowest := p.lowest
		p.lowest = 0
		return s.refusedLimit(lowest)
	}
	to, err := s.target(name)
	if err != nil {
		return s.failedTo(err)
	}
	defer s.release(to)
	if _, err := to.Sync(maildir.SyncOptions{}); err != nil {
		return s.failedTo(err)
	}
	msgs := v.messages(chosen)
	if len(msgs) == 0 {
		if len(chosen) > 0 && !p.byUID { // RFC 9051 §6.4.9: a UID that is not there is no mistake
			return no("EXPUNGEISSUED", "these messages are gone")
		}
		return ok("nothing to do")
	}
	do := v.folder.Copy
	if away {
		do = v.folder.Move
	}
	pairs, err := do(msgs, to)
	v.folder.CopyEntries(msgs, pairs, to, entries)
	for _, p := range pairs {
		s.caused(name, p.To)
	}
	if away {
		v.removes(msgs)
	}
	code := copyUID(to.UIDValidity(), pairs)
	switch {
	case err != nil && !(away && len(pairs) > 0):
		return s.failed(err)
	case len(pairs) == 0 && p.byUID:
		return ok("nothing to do")
	case len(pairs) == 0:
		return no("EXPUNGEISSUED", "these messages are gone")
	case away:
		// RFC 6851 §4.3: before the EXPUNGEs, which the news will bring.
		s.untagged("OK [%s] moved", code)
		if err != nil {
			return s.failed(err) // some of them; the client has heard which
		}
		return ok("done")
	}
	return reply{"OK", code, "copied"}
}
