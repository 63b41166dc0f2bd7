package imap

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// news tells what has changed on disk (RFC 9051 §5.2, §7.5): removed messages
// if expunge says that message numbers may change now, new messages, flags.
func (s *Session) news(expunge bool) { s.tell(expunge, nil) }

// tell is news; quiet, unless nil, knows the flags that the client gave with a
// command of its own (RFC 9051 §6.4.6).
func (s *Session) tell(expunge bool, quiet *own) {
	v := s.view
	now, err := v.look()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, maildir.ErrGone):
		s.bye("", "the mailbox is gone")
		return
	case err != nil:
		s.Log.Error("look into mailbox", "user", s.name(), "folder", v.name, "err", err)
		return // the client keeps its picture; there is another time
	case now.UIDValidity != v.state.UIDValidity:
		s.bye("", "the mailbox has become another one")
		return
	}
	if now == v.state && (len(v.gone) == 0 || !expunge) && !v.due() {
		return
	}
	changed := v.merge(now)
	s.tellKeywords()
	s.tellLeft()
	if expunge {
		s.tellExpunged()
	}
	if n := v.arrived(); n > 0 {
		s.tellCount()
		v.fill(s.ctx)
		s.tellOverQuota()
	}
	for _, uid := range changed {
		n, known := v.number(uid)
		if !known {
			continue
		}
		if m, _ := v.at(n); !quiet.made(m) {
			s.tellMessage(n, m, true)
		}
	}
	s.tellUpdates()
}

// tellCount says how many messages there are (RFC 9051 §7.4.1), and to those
// who still count so how many are \Recent (RFC 3501 §7.3.2).
func (s *Session) tellCount() {
	v := s.view
	s.untagged("%d EXISTS", v.len())
	if !s.has(rev2) {
		s.untagged("%d RECENT", v.recent())
	}
}

// tellExpunged says which messages are gone: from the first to the last, each
// number as it is after those before it (RFC 9051 §7.5.1), or by their UIDs
// (RFC 7162 §3.2.10, RFC 9586 §3.4).
func (s *Session) tellExpunged() {
	gone := s.view.gone
	s.view.gone = nil
	if len(gone) == 0 {
		return
	}
	s.modSeqDue = s.has(condstore)
	if !s.has(qresync | uidOnly) {
		for k, m := range gone {
			s.untagged("%d EXPUNGE", m.number-k)
		}
		return
	}
	var set numSet
	for _, m := range gone {
		set = set.add(m.UID)
	}
	s.tellSet("VANISHED", set)
}

// tellMessage is the untagged FETCH of a message's flags (RFC 9051 §7.5.2), with
// whatever else the client wants to hear of a change: its UID (RFC 7162
// §3.2.4), its MODSEQ (RFC 7162 §3.1).
func (s *Session) tellMessage(n int, m maildir.Message, withUID bool) {
	b := s.appendFetch(s.scratch[:0], n, m.UID)
	if (withUID || s.has(condstore)) && !s.has(uidOnly) {
		b = append(b, "UID "...)
		b = strconv.AppendUint(b, uint64(m.UID), 10)
		b = append(b, ' ')
	}
	b = append(b, "FLAGS "...)
	b = s.appendFlags(b, m)
	if s.has(condstore) {
		b = append(b, ' ')
		b = s.appendModSeq(b, m)
	}
	b = append(b, ")\r\n"...)
	s.Conn.Write(b)
	s.scratch = b
}

// tellNewModSeq is the untagged FETCH of a message whose flags the client knows
// (RFC 7162 §3.1.3).
func (s *Session) tellNewModSeq(n int, m maildir.Message) {
	b := s.appendFetch(s.scratch[:0], n, m.UID)
	if !s.has(uidOnly) {
		b = append(b, "UID "...)
		b = strconv.AppendUint(b, uint64(m.UID), 10)
		b = append(b, ' ')
	}
	b = s.appendModSeq(b, m)
	b = append(b, ")\r\n"...)
	s.Conn.Write(b)
	s.scratch = b
}

// appendFetch begins a FETCH response, or the UIDFETCH of RFC 9586 §3.3: up to
// the opening parenthesis.
func (s *Session) appendFetch(b []byte, n int, uid uint32) []byte {
	b = append(b, "* "...)
	if s.has(uidOnly) {
		b = strconv.AppendUint(b, uint64(uid), 10)
		return append(b, " UIDFETCH ("...)
	}
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, " FETCH ("...)
}

// appendModSeq appends fetch-mod-resp (RFC 7162 §7).
func (s *Session) appendModSeq(b []byte, m maildir.Message) []byte {
	s.modSeqTold = true
	b = append(b, "MODSEQ ("...)
	b = strconv.AppendUint(b, max(m.ModSeq, 1), 10) // 0 is none
	return append(b, ')')
}

// tellKeywords says which flags are in use, when there are new ones (RFC 9051
// §7.3.5).
func (s *Session) tellKeywords() {
	v := s.view
	if len(v.state.Keywords) == v.keywords {
		return
	}
	v.keywords = len(v.state.Keywords)
	s.tellFlags()
}

func (s *Session) tellFlags() {
	v := s.view
	all := append([]string{`\Answered \Flagged \Deleted \Seen \Draft`}, v.state.Keywords...)
	s.untagged("FLAGS (%s)", strings.Join(all, " "))
	// A ] would end the code for many a client. Such a keyword stays all the same.
	all = slices.DeleteFunc(all, func(k string) bool { return strings.Contains(k, "]") })
	permanent := strings.Join(all, " ")
	switch {
	case v.readOnly:
		s.untagged("OK [PERMANENTFLAGS ()] read-only")
	case v.rights&flagRights != flagRights:
		s.untagged("OK [PERMANENTFLAGS (%s)] as far as rights go", permittedFlags(v.rights, all[1:]))
	case len(v.state.Keywords) < maildir.MaxKeywords:
		s.untagged(`OK [PERMANENTFLAGS (%s \*)] flags stay`, permanent)
	default:
		s.untagged("OK [PERMANENTFLAGS (%s)] flags stay", permanent)
	}
}
