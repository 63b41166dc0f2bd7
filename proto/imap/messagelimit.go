package imap

import (
	"iter"
	"slices"
	"strconv"
)

// DefaultMessageLimit is how many messages imapd lets one command have.
const DefaultMessageLimit = 1_000_000

// limited gives those of the chosen messages that a command may have: the last
// ones. That there were more is told with its answer (RFC 9738 §3.1).
func (s *Session) limited(p *parser, chosen numSet) numSet {
	over := chosen.count() - s.MessageLimit
	if s.MessageLimit == 0 || over <= 0 {
		return chosen
	}
	chosen = chosen.slice(over, over+s.MessageLimit)
	p.lowest = s.lowest(chosen)
	return chosen
}

// lowest is the UID of the first of some messages.
func (s *Session) lowest(chosen numSet) uint32 {
	m, _ := s.view.at(int(chosen[0].lo))
	return m.UID
}

// limitCode is the response code MESSAGELIMIT; uid is the last that was
// processed, or 0 (RFC 9738 §5).
func (s *Session) limitCode(uid uint32) string {
	code := "MESSAGELIMIT " + strconv.Itoa(s.MessageLimit)
	if uid > 0 {
		code += " " + strconv.FormatUint(uint64(uid), 10)
	}
	return code
}

// refusedLimit is the answer to a command that has to do all or nothing.
func (s *Session) refusedLimit(uid uint32) reply {
	return no(s.limitCode(uid), "too many messages at once")
}

// tellLimit says with the answer to a command that it had more messages than it
// may have: in a response of its own where there is something else to say (RFC
// 9738 §3.1).
func (s *Session) tellLimit(p *parser, r *reply) {
	switch {
	case p.lowest == 0 || r.status == "BAD":
	case r.status == "OK" && r.code == "":
		r.code, r.text = s.limitCode(p.lowest), "done with the last ones"
	default:
		s.untagged("NO [%s] done with the last ones", s.limitCode(p.lowest))
	}
}

// down gives the numbers in a set that in returned, from the last to the first.
func (set numSet) down() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, s := range slices.Backward(set) {
			for n := int(s.hi); n >= int(s.lo); n-- {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// searched are the messages that a program is asked of: those which its outermost
// keys name by number or UID, and of these not more than a command may have.
func (s *Session) searched(p *parser, k key) numSet {
	v := s.view
	all := v.every()
	if s.MessageLimit == 0 || all.count() <= s.MessageLimit {
		return all
	}
	keys, ok := k.(and)
	if !ok {
		keys = and{k}
	}
	for _, k := range keys {
		switch k := k.(type) {
		case seqs:
			all = all.and(v.resolve(numSet(k), false).in(uint32(v.len())))
		case uids:
			all = all.and(v.numbers(v.resolve(numSet(k), true).in(v.lastUID())))
		}
	}
	return s.limited(p, all)
}
