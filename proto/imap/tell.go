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
	if now == v.state && (len(v.gone) == 0 || !expunge) && !v.due() && v.known == now.Len() && len(v.unheard) == 0 {
		return
	}
	want := s.ofSelected()
	changed := v.merge(now)
	if want.events&flagChange == 0 {
		changed, v.unheard = nil, union(v.unheard, changed)
	}
	if want.events == 0 { // but of what the client has done itself it has to hear
		if expunge {
			slices.Sort(v.removed)
			own := func(uid uint32) bool {
				_, own := slices.BinarySearch(v.removed, uid)
				return own
			}
			s.tellLeft(own)
			s.tellGone(own)
		}
		return
	}
	if want.events&flagChange != 0 {
		changed, v.unheard = union(v.unheard, changed), nil
	}
	s.tellKeywords()
	s.tellLeft(func(uint32) bool { return true })
	if expunge {
		s.tellExpunged()
	}
	n := v.arrived()
	if n > 0 {
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
	s.tellNew(n, want.items)
}

// union are the UIDs in a and b, rising.
func union(a, b []uint32) []uint32 {
	if len(a) == 0 {
		return b
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// tellNew is what NOTIFY wants to be told of new messages, the last n: not of
// those that the client has put there itself (RFC 5465 §5.2).
func (s *Session) tellNew(n int, items []fetchItem) {
	v := s.view
	var set numSet
	for k := v.len() - n + 1; k <= v.len() && len(items) > 0; k++ {
		if m, gone := v.at(k); !gone && len(v.mine.and(numSet{{m.UID, m.UID}})) == 0 {
			set = set.add(uint32(k))
		}
	}
	if n > 0 {
		v.mine = nil
	}
	if len(set) == 0 {
		return
	}
	p := &parser{}
	if s.plan(items, false).run(p, set); p.fatal != nil {
		s.state = logout // nobody can tell any more where anything ends
	}
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
	s.tellGone(func(uint32) bool { return true })
}

// tellGone is tellExpunged for some messages.
func (s *Session) tellGone(which func(uid uint32) bool) {
	v := s.view
	var set numSet
	var left []missing
	for k, m := range v.gone {
		m.number -= k - len(left)
		if !which(m.UID) {
			left = append(left, m)
			continue
		}
		set = set.add(m.UID)
		if !s.has(qresync | uidOnly) {
			s.untagged("%d EXPUNGE", m.number)
		}
	}
	v.gone, v.removed = left, nil
	if len(set) == 0 {
		return
	}
	s.modSeqDue = s.has(condstore)
	if s.has(qresync | uidOnly) {
		s.tellSet("VANISHED", set)
	}
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
