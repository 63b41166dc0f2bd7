package imap

import (
	"iter"
	"slices"
	"strconv"
)

// A span is the numbers from lo to hi, both included.
type span struct{ lo, hi uint32 }

// star stands for "*" until the largest number in use is known. It is no
// valid UID: RFC 9051 §2.3.1.1 leaves 2^32-1 out of use here as Dovecot does.
const star = ^uint32(0)

// dollar stands for "$", the messages that the last search has saved, until
// view.resolve puts them in its place (RFC 5182 §2.1).
var dollar = span{}

// A numSet is the rule sequence-set: message numbers or UIDs.
type numSet []span

// maxSpans bounds one set; the length of the line bounds it as well.
const maxSpans = 20000

// numSet = (seq-number / seq-range / "$") *("," sequence-set)   (RFC 9051 §9).
func (p *parser) numSet() numSet {
	var set numSet
	for p.err == nil {
		s := dollar
		if !p.take("$") {
			s.lo = p.seqNumber()
			s.hi = s.lo
			if p.take(":") {
				s.hi = p.seqNumber()
			}
		}
		if len(set) == maxSpans {
			p.fail("sequence set too long")
		}
		set = append(set, s)
		if !p.take(",") {
			break
		}
	}
	if p.err != nil {
		return nil
	}
	return set
}

// seqNumber = nz-number / "*"
func (p *parser) seqNumber() uint32 {
	if p.take("*") {
		return star
	}
	return p.nzNumber()
}

// in returns the set with top in the place of "*": sorted, without overlaps.
func (set numSet) in(top uint32) numSet {
	out := make(numSet, len(set))
	for i, s := range set {
		if s.lo == star {
			s.lo = top
		}
		if s.hi == star {
			s.hi = top
		}
		out[i] = span{min(s.lo, s.hi), max(s.lo, s.hi)}
	}
	slices.SortFunc(out, func(a, b span) int {
		if a.lo < b.lo {
			return -1
		} else if a.lo > b.lo {
			return 1
		}
		return 0
	})
	n := 0
	for _, s := range out {
		if n > 0 && uint64(s.lo) <= uint64(out[n-1].hi)+1 {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			continue
		}
		out[n] = s
		n++
	}
	return out[:n]
}

// and are the numbers in both of two sets that in returned.
func (set numSet) and(other numSet) (out numSet) {
	for i, j := 0, 0; i < len(set) && j < len(other); {
		a, b := set[i], other[j]
		if lo, hi := max(a.lo, b.lo), min(a.hi, b.hi); lo <= hi {
			out = append(out, span{lo, hi})
		}
		if a.hi < b.hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// has says whether n is in a set that in returned.
func (set numSet) has(n uint32) bool {
	_, found := slices.BinarySearchFunc(set, n, func(s span, n uint32) int {
		switch {
		case s.hi < n:
			return -1
		case s.lo > n:
			return 1
		}
		return 0
	})
	return found
}

// all gives the numbers in a set that in returned.
func (set numSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, s := range set {
			for n := int(s.lo); n <= int(s.hi); n++ {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// count is how many they are.
func (set numSet) count() (n int) {
	for _, s := range set {
		n += int(s.hi-s.lo) + 1
	}
	return n
}

// slice gives those of the numbers that stand at the places from and up to to.
func (set numSet) slice(from, to int) (out numSet) {
	for _, s := range set {
		n := int(s.hi-s.lo) + 1
		if lo, hi := max(from, 0), min(to, n); lo < hi {
			out = append(out, span{s.lo + uint32(lo), s.lo + uint32(hi) - 1})
		}
		from, to = from-n, to-n
	}
	return out
}

// add appends n, which is at least as large as all before it.
func (set numSet) add(n uint32) numSet {
	if k := len(set); k > 0 && set[k-1].hi+1 == n {
		set[k-1].hi = n
		return set
	}
	return append(set, span{n, n})
}

// String is the set as it goes over the wire.
func (set numSet) String() string {
	var b []byte
	for i, s := range set {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSeq(b, s.lo)
		if s.hi != s.lo {
			b = append(b, ':')
			b = appendSeq(b, s.hi)
		}
	}
	return string(b)
}

func appendSeq(b []byte, n uint32) []byte {
	if n == star {
		return append(b, '*')
	}
	return strconv.AppendUint(b, uint64(n), 10)
}
