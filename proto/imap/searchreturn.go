package imap

import (
	"slices"
	"strconv"
	"strings"
)

// returns is the rule search-return-opts: what a search is to tell of what it
// has found (RFC 9051 §6.4.4, RFC 4731 §3.1).
type returns struct {
	extended bool // the answer is ESEARCH
	modSeq   bool // … with a MODSEQ, since one was searched for (RFC 7162 §3.1.10)

	min, max, all, count bool
	save                 bool     // for "$" (RFC 5182 §2.1)
	partial              *partial // RFC 9394 §3.1

	relevancy bool  // RFC 6203 §4
	scores    []int // of the results that are listed, once they are found

	update bool        // the result is to be followed (RFC 5267 §4.3)
	items  []fetchItem // … with these of new messages (RFC 5465 §7)
}

// A partial is the rule partial-range: results by their place, from 1 on, or
// with last by their place from the end.
type partial struct {
	last   bool
	lo, hi uint32
}

// searchReturn = "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")" SP,
// or nothing, which IMAP4rev2 takes for (ALL).
func (s *Session) searchReturn(p *parser) *returns {
	r := &returns{extended: s.has(rev2)}
	if !p.word("RETURN") {
		r.all = r.extended
		return r
	}
	p.sp()
	r.extended = true
	n := 0
	p.list(func() {
		n++
		r.option(p)
	})
	p.sp()
	if n == 0 {
		r.all = true
	}
	if r.all && r.partial != nil && p.err == nil {
		p.fail("either ALL or PARTIAL") // RFC 9394 §3.1
	}
	if r.update && s.view != nil && s.view.following.of(p.tagged) >= 0 {
		p.fail("this tag is in use") // RFC 5267 §4.3
	}
	return r
}

// check refuses what cannot be returned of a program.
func (r *returns) check(p *parser, g *program) {
	if r.relevancy && len(g.fuzzy) == 0 && p.err == nil {
		p.fail("RELEVANCY without FUZZY") // RFC 6203 §4
	}
}

func (r *returns) option(p *parser) {
	switch o := p.keyword(); o {
	case "MIN":
		r.min = true
	case "MAX":
		r.max = true
	case "ALL":
		r.all = true
	case "COUNT":
		r.count = true
	case "SAVE":
		r.save = true
	case "PARTIAL":
		p.sp()
		if r.partial != nil {
			p.fail("more than one PARTIAL")
		}
		r.partial = p.partialRange()
	case "RELEVANCY":
		r.relevancy = true
	case "CONTEXT": // what was asked for is remembered anyway (RFC 5267 §4.2)
	case "UPDATE":
		r.update = true
		if strings.HasPrefix(p.rest, " (") {
			p.sp()
			r.items = p.fetchItems()
		}
		for i := range r.items {
			r.items[i].peek = true // nobody reads them now
		}
	default:
		p.fail("no such return option")
	}
}

// partialRange = nz-number ":" nz-number / "-" nz-number ":" "-" nz-number
// (RFC 9394 §4)
func (p *parser) partialRange() *partial {
	r := &partial{}
	number := func() uint32 {
		if r.last && !p.take("-") {
			p.want("-")
		}
		return p.nzNumber()
	}
	r.last = p.rest != "" && p.rest[0] == '-'
	r.lo = number()
	if !p.take(":") {
		p.want(":")
	}
	r.hi = number()
	return r
}

// of gives those of some results that are in the range.
func (r *partial) of(found []int) []int {
	lo, hi := r.bounds(len(found))
	return found[lo:hi]
}

// bounds are where the range begins and ends among n results.
func (r *partial) bounds(n int) (from, to int) {
	lo, hi := int64(min(r.lo, r.hi)), int64(max(r.lo, r.hi))
	if r.last {
		lo, hi = int64(n)+1-hi, int64(n)+1-lo
	}
	lo, hi = max(lo, 1), min(hi, int64(n))
	if lo > hi {
		return 0, 0
	}
	return int(lo - 1), int(hi)
}

// size is how many results the range may have.
func (r *partial) size() int { return int(max(r.lo, r.hi)-min(r.lo, r.hi)) + 1 }

// append prints the range as the client has written it.
func (r *partial) append(b []byte) []byte {
	for i, n := range []uint32{r.lo, r.hi} {
		if i > 0 {
			b = append(b, ':')
		}
		if r.last {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return b
}

// chosen are those of what was found that the options other than COUNT name,
// all of it if one of them does: what SAVE saves (RFC 5182 §2.4, RFC 9394
// §3.2), and whose highest MODSEQ is told (RFC 4731 §3.2).
func (r *returns) chosen(found []int) []int {
	if len(found) == 0 || r.all || r.count || !r.min && !r.max && r.partial == nil {
		return found
	}
	var some []int
	if r.partial != nil {
		some = slices.Clone(r.partial.of(found))
	}
	if r.min {
		some = append(some, found[0])
	}
	if r.max {
		some = append(some, found[len(found)-1])
	}
	slices.Sort(some)
	return slices.Compact(some)
}

// uidSet are the UIDs of messages.
func (v *view) uidSet(numbers []int) (set numSet) {
	if !slices.IsSorted(numbers) {
		numbers = slices.Clone(numbers)
		slices.Sort(numbers)
	}
	for _, n := range numbers {
		m, _ := v.at(n)
		set = set.add(m.UID)
	}
	return set
}

// appendFound appends " MIN n" and so on: what the options name of messages
// that were found, in their order, as UIDs or as numbers.
func (r *returns) appendFound(b []byte, v *view, found []int, byUID bool) []byte {
	number := func(n int) uint32 {
		if byUID {
			m, _ := v.at(n)
			return m.UID
		}
		return uint32(n)
	}
	set := func(b []byte, found []int) []byte {
		var set numSet
		for _, n := range found {
			set = set.add(number(n))
		}
		return append(b, set.String()...)
	}
	if r.min && len(found) > 0 {
		b = strconv.AppendUint(append(b, " MIN "...), uint64(number(found[0])), 10)
	}
	if r.max && len(found) > 0 {
		b = strconv.AppendUint(append(b, " MAX "...), uint64(number(found[len(found)-1])), 10)
	}
	if r.count {
		b = strconv.AppendInt(append(b, " COUNT "...), int64(len(found)), 10)
	}
	if r.all && len(found) > 0 {
		b = set(append(b, " ALL "...), found)
	}
	if r.partial != nil {
		b = append(r.partial.append(append(b, " PARTIAL ("...)), ' ')
		if some := r.partial.of(found); len(some) > 0 {
			b = set(b, some)
		} else {
			b = append(b, "NIL"...)
		}
		b = append(b, ')')
	}
	if r.relevancy {
		b = append(b, " RELEVANCY ("...)
		for i, score := range r.scores {
			if i > 0 {
				b = append(b, ' ')
			}
			b = strconv.AppendInt(b, int64(score), 10)
		}
		b = append(b, ')')
	}
	if r.modSeq && len(found) > 0 {
		b = strconv.AppendUint(append(b, " MODSEQ "...), v.highestOf(r.chosen(found)), 10)
	}
	return b
}

// listed are those results whose scores are told: with PARTIAL those of it.
func (r *returns) listed(found []int) []int {
	if r.partial != nil {
		return r.partial.of(found)
	}
	return found
}

// tells says whether there is an answer at all: not for SAVE alone (RFC 5182
// §1).
func (r *returns) tells() bool {
	return r.min || r.max || r.all || r.count || r.partial != nil || r.relevancy || !r.save
}
