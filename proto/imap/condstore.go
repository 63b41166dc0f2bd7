package imap

import (
	"slices"
	"strings"

	"pennypost/maildir"
)

// wantModSeq is what a CONDSTORE enabling command does: from now on each FETCH of
// flags has a MODSEQ. The first one with a mailbox selected hears how far that
// is (RFC 7162 §3.1).
func (s *Session) wantModSeq() {
	if s.has(condstore) {
		return
	}
	s.enabled |= condstore
	if s.view != nil {
		s.untagged("OK [HIGHESTMODSEQ %d] every change so far", s.view.modSeq())
	}
}

// modSeq is the HIGHESTMODSEQ of the mailbox as the client knows it: everything
// up to it has been told, so that who comes back with it misses nothing (RFC
// 7162 §3.2).
func (v *view) modSeq() uint64 {
	if v.lags() {
		return max(v.floor, 1)
	}
	return max(v.state.HighestModSeq, 1) // 0 is none
}

// advance lets the HIGHESTMODSEQ of a mailbox grow with a change of it that no
// message shows (RFC 7162 §3.2). The change stands in any case.
func (s *Session) advance(mailbox string) {
	folder, err := s.target(mailbox)
	if err != nil {
		return
	}
	defer s.release(folder)
	if err := folder.Advance(); err != nil {
		s.Log.Warn("count a change", "user", s.name(), "folder", mailbox, "err", err)
	}
}

// lags tells whether something of v.state has not been told yet.
func (v *view) lags() bool { return len(v.gone)+len(v.late) > 0 }

// tellModSeq says, with the answer to a command, up to where the client knows
// everything: when messages have been told to be gone, for that has no MODSEQ
// of its own, and when a MODSEQ was told while that has to wait (RFC 7162 §3.2,
// §6).
func (s *Session) tellModSeq(r *reply) {
	if s.view == nil || !s.modSeqDue && !(s.modSeqTold && s.view.lags()) {
		return
	}
	s.modSeqDue, s.modSeqTold = false, false
	code := codef("HIGHESTMODSEQ %d", s.view.modSeq())
	if r.status == "OK" && r.code == "" {
		r.code = code
		return
	}
	s.untagged("OK [%s] every change so far", code)
}

// storeModifier = "UNCHANGEDSINCE" SP mod-sequence-valzer   (RFC 7162 §7)
func (p *parser) storeModifier(name string, since *int64) {
	if name != "UNCHANGEDSINCE" || *since >= 0 {
		p.fail("no such modifier")
		return
	}
	p.sp()
	*since = p.number64()
}

// modSeqValue = 1*DIGIT, from 1 to 2^63-1   (RFC 7162 §7)
func (p *parser) modSeqValue() uint64 {
	n := p.number64()
	if n == 0 && p.err == nil {
		p.fail("zero is no such number")
	}
	return uint64(n)
}

// storeUnless changes the flags of those messages that have not changed since a
// MODSEQ, and returns the UIDs of the others (RFC 7162 §3.1.3).
func (v *view) storeUnless(msgs []maildir.Message, c maildir.Change, since uint64) (refused []uint32, err error) {
	if since > 0 {
		first := c
		first.UnchangedSince = since
		if refused, err = v.folder.Store(msgs, first); err != nil || len(refused) == 0 {
			return refused, err
		}
	}
	// A message of which only other flags have changed passes (§3.1.12), and
	// so does one without the keyword that nobody may have set (since 0).
	now, err := v.look()
	if err != nil || now.UIDValidity != v.state.UIDValidity {
		return refused, err
	}
	var again []maildir.Message
	var failed []uint32
	slices.Sort(refused)
	for _, m := range msgs {
		if _, is := slices.BinarySearch(refused, m.UID); since > 0 && !is {
			continue
		}
		i, there := now.Find(m.UID)
		switch {
		case !there:
		case unaffected(m, now.At(i), c, since):
			again = append(again, m)
		default:
			failed = append(failed, m.UID)
		}
	}
	if len(again) == 0 {
		return failed, nil
	}
	c.UnchangedSince = max(now.HighestModSeq, 1)
	refused, err = v.folder.Store(again, c)
	failed = append(failed, refused...)
	slices.Sort(failed)
	return failed, err
}

// unaffected tells whether what c changes is in a message now as it was when
// the client knew it, which was at a MODSEQ of since.
func unaffected(was, now maildir.Message, c maildir.Change, since uint64) bool {
	flags := c.Add | c.Remove
	keywords := append(slices.Clone(c.AddKeywords), c.RemoveKeywords...)
	switch {
	case c.Replace:
		return false
	case since == 0: // a flag is always there, a keyword only when it is set
		return flags == 0 && !slices.ContainsFunc(keywords, now.HasKeyword)
	case was.ModSeq > since: // the client knows an older one than we do
		return false
	}
	return was.Flags&flags == now.Flags&flags &&
		!slices.ContainsFunc(keywords, func(k string) bool { return was.HasKeyword(k) != now.HasKeyword(k) })
}

// fetchModifier = "CHANGEDSINCE" SP mod-sequence-value / "VANISHED"
// (RFC 7162 §7)
func (m *fetchModifiers) read(p *parser, name string) {
	switch {
	case name == "CHANGEDSINCE" && m.since == 0:
		p.sp()
		m.since = p.modSeqValue()
	case name == "VANISHED" && !m.vanished:
		m.vanished = true
	case name == "PARTIAL" && m.partial == nil && p.byUID: // RFC 9394 §3.3
		p.sp()
		m.partial = p.partialRange()
	default:
		p.fail("no such modifier")
	}
}

// fetchModifiers are what stands behind the items of a FETCH (RFC 4466 §2.4).
type fetchModifiers struct {
	since    uint64 // only messages that have changed since; 0: all
	vanished bool   // and which are gone since
	partial  *partial
}

// changed are those of set that have changed since a MODSEQ.
func (v *view) changed(set numSet, since uint64) (out numSet) {
	for n, m := range v.each(set) {
		if m.ModSeq > since {
			out = out.add(uint32(n))
		}
	}
	return out
}

// searchModSeq = "MODSEQ" [SP entry-name SP entry-type-req] SP
// mod-sequence-valzer   (RFC 7162 §7). A message has one MODSEQ for all of its
// flags, so which of them does not matter (§3.1.5).
func (p *parser) searchModSeq() key {
	if strings.HasPrefix(p.rest, `"`) {
		entry := p.quoted()
		if p.err == nil && !strings.HasPrefix(strings.ToLower(entry), "/flags/") {
			p.fail("no such entry")
		}
		p.sp()
		if !p.word("PRIV") && !p.word("SHARED") && !p.word("ALL") {
			p.want("priv, shared or all")
		}
		p.sp()
	}
	return atModSeq(p.number64())
}

// atModSeq matches messages that have changed at this MODSEQ or later.
type atModSeq uint64

func (atModSeq) cost() cost                         { return free }
func (k atModSeq) match(c *candidate) (bool, error) { return c.m.ModSeq >= uint64(k), nil }

// highestOf is the highest MODSEQ of messages (RFC 7162 §3.1.5).
func (v *view) highestOf(numbers []int) (most uint64) {
	for _, n := range numbers {
		m, _ := v.at(n)
		most = max(most, m.ModSeq)
	}
	return max(most, 1)
}
