package imap

import (
	"cmp"
	"slices"

	"pennypost/maildir"
)

// A resync is what a client that comes back knows of a mailbox (RFC 7162
// §3.2.5).
type resync struct {
	validity uint32
	since    uint64 // everything up to this MODSEQ
	known    numSet // UIDs; nil: all
	numbers  numSet // these message numbers …
	uids     numSet // … had these UIDs
}

// qresyncParam = "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP
// known-uids] [SP "(" known-sequence-set SP known-uid-set ")"] ")"   (RFC 7162
// §7)
func (p *parser) qresyncParam() *resync {
	var r resync
	p.sp()
	if !p.take("(") {
		p.want("(")
	}
	r.validity = p.nzNumber()
	p.sp()
	r.since = p.modSeqValue()
	if p.err == nil && p.rest != "" && p.rest[0] == ' ' && (len(p.rest) < 2 || p.rest[1] != '(') {
		p.sp()
		r.known = p.knownSet()
	}
	if p.take(" ") {
		if p.uidOnly {
			p.fail("%w", errUIDRequired)
		}
		if !p.take("(") {
			p.want("(")
		}
		r.numbers = p.knownSet()
		p.sp()
		r.uids = p.knownSet()
		if !p.take(")") {
			p.want(")")
		}
	}
	if !p.take(")") {
		p.want(")")
	}
	return &r
}

// knownSet = sequence-set without "*" and "$", sorted here.
func (p *parser) knownSet() numSet {
	set := p.numSet()
	if slices.ContainsFunc(set, func(r span) bool { return r == dollar || r.lo == star || r.hi == star }) {
		p.fail("only numbers here")
	}
	return set.in(0)
}

// catchUp tells what has changed in the mailbox just selected since the client
// knew it (RFC 7162 §3.2.5.1).
func (s *Session) catchUp(r *resync) {
	v := s.view
	if r.validity != v.state.UIDValidity {
		return
	}
	if r.since > v.state.HighestModSeq {
		r.since = 0 // that is no number of ours: nothing is known to be the same
	}
	known := r.known
	if known == nil {
		known = numSet{{1, star - 1}}
	}
	s.tellVanished(known, r.since, v.matched(r))
	for n, m := range v.each(v.numbers(slices.Clone(known))) {
		if m.ModSeq > r.since {
			s.tellMessage(n, m.Message, true)
		}
	}
}

// matched is the largest UID that has the message number that the client
// remembers: up to there it knows all that is gone (RFC 7162 §3.2.5.2).
func (v *view) matched(r *resync) (uid uint32) {
	uids := r.uids
	for _, s := range r.numbers {
		for n := s.lo; n <= s.hi && n <= uint32(v.len()) && len(uids) > 0; n++ {
			if m, _ := v.at(int(n)); m.UID == uids[0].lo {
				uid = m.UID
			}
			if uids[0].lo++; uids[0].lo > uids[0].hi {
				uids = uids[1:]
			}
		}
	}
	return uid
}

// tellVanished says which of the given UIDs, above one, were removed after a
// MODSEQ (RFC 7162 §3.2.10.1). Where that is not known any more it is all of
// them that are not there.
func (s *Session) tellVanished(uids numSet, since uint64, above uint32) {
	v := s.view
	ranges, whole := v.folder.Vanished(since)
	if !whole {
		ranges = []maildir.UIDRange{{First: 1, Last: v.state.UIDNext - 1}}
	}
	gone := make(numSet, 0, len(ranges))
	for _, r := range ranges {
		if lo := max(r.First, above+1); lo <= min(r.Last, v.state.UIDNext-1) {
			gone = append(gone, span{lo, min(r.Last, v.state.UIDNext-1)})
		}
	}
	s.tellSet("VANISHED (EARLIER)", v.without(gone.and(uids)))
}

// without are the UIDs of set that stand for no message, neither on disk nor as
// far as the client knows.
func (v *view) without(set numSet) (out numSet) {
	for _, r := range set {
		lo := r.lo
		cut := func(uid uint32) {
			if lo < uid {
				out = append(out, span{lo, uid - 1})
			}
			lo = uid + 1
		}
		i, _ := v.state.Find(r.lo)
		k, _ := slices.BinarySearchFunc(v.gone, r.lo, func(m missing, uid uint32) int { return cmp.Compare(m.UID, uid) })
		gone := v.gone[k:]
		for _, m := range v.state.From(i) {
			for ; len(gone) > 0 && gone[0].UID < min(m.UID, r.hi+1); gone = gone[1:] {
				cut(gone[0].UID)
			}
			if m.UID > r.hi {
				break
			}
			cut(m.UID)
		}
		for ; len(gone) > 0 && gone[0].UID <= r.hi; gone = gone[1:] {
			cut(gone[0].UID)
		}
		if lo <= r.hi {
			out = append(out, span{lo, r.hi})
		}
	}
	return out
}

// maxTold bounds the ranges in one line.
const maxTold = 1000

// tellSet says what stands before a set, as often as the set is too long for a
// line.
func (s *Session) tellSet(what string, set numSet) {
	for part := range slices.Chunk(set, maxTold) {
		s.untagged("%s %s", what, part)
	}
}
