package imap

import (
	"pennypost/maildir"
)

// replace = "REPLACE" SP seq-number SP mailbox append-message   (RFC 8508 §5).
// The new message comes first, and is taken back when the old one cannot be
// removed: at no time are both gone.
func (s *Session) replace(p *parser) reply {
	p.sp()
	n := p.seqNumber()
	p.sp()
	a := &appending{s: s, p: p, name: p.mailbox(), replaces: true}
	defer a.close()
	if p.err != nil {
		return bad(p.err)
	}
	v := s.view
	chosen, err := v.choose(numSet{{n, n}}, p.byUID)
	switch {
	case err != nil:
		return bad(err)
	case v.readOnly:
		return readOnly()
	case v.rights&maildir.RightTrash == 0 || v.rights&maildir.RightExpunge == 0: // RFC 8508 §4.1
		return s.failed(errRights)
	case len(chosen) == 0:
		return no("NONEXISTENT", "no such message")
	}
	old := v.messages(chosen)
	if len(old) == 0 {
		return no("EXPUNGEISSUED", "this message is gone")
	}
	if a.old, err = v.folder.Counted(old[0]); err != nil {
		return s.failed(err)
	}
	err = a.message()
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return a.failed(err)
	}
	code, err := a.commit()
	if err != nil {
		return a.failed(err)
	}
	if err := v.folder.Expunge(old); err != nil {
		a.undo()
		return s.failed(err)
	}
	v.removes(old)
	s.untagged("OK [%s] replaced", code) // RFC 8508 §4.3: before the EXPUNGE, which the news will bring
	return ok("done")
}

// undo removes again what was committed.
func (a *appending) undo() {
	now, err := a.folder.Sync(maildir.SyncOptions{})
	if err == nil {
		var msgs []maildir.Message
		for _, uid := range a.uids {
			if i, there := now.Find(uid); there {
				msgs = append(msgs, now.At(i))
			}
		}
		err = a.folder.Expunge(msgs)
	}
	if err != nil {
		a.s.Log.Error("replaced message stands twice", "user", a.s.name(), "folder", a.name, "err", err)
	}
}
