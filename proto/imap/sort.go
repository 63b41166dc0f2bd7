package imap

import "strings"

// sortKeys are the rules sort-key of RFC 5256 §5, RFC 5957 §5 and RFC 6203 §7.
var sortKeys = map[string]sortKey{
	"ARRIVAL": sortArrival, "CC": sortCc, "DATE": sortDate, "FROM": sortFrom,
	"SIZE": sortSize, "SUBJECT": sortSubject, "TO": sortTo,
	"DISPLAYFROM": sortDisplayFrom, "DISPLAYTO": sortDisplayTo,
	"RELEVANCY": sortRelevancy, // RFC 6203 §7
}

// sort = "SORT" [SP search-return-opts] SP sort-criteria SP search-criteria
// (RFC 5256 §5, RFC 5267 §5)
func (s *Session) sort(p *parser) reply {
	p.sp()
	r := &returns{} // without RETURN the answer is SORT (RFC 5267 §3)
	if !strings.HasPrefix(p.rest, "(") {
		r = s.searchReturn(p)
	}
	by := p.sortCriteria()
	p.sp()
	g := s.criteria(p)
	r.check(p, g)
	for i := range by {
		if by[i].g = g; by[i].key == sortRelevancy && len(g.fuzzy) == 0 {
			p.fail("RELEVANCY without FUZZY") // RFC 6203 §6
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	return s.asked(p, g, r, "SORT", by)
}

// sortCriteria = "(" sort-criterion *(SP sort-criterion) ")"
// sort-criterion = ["REVERSE" SP] sort-key
func (p *parser) sortCriteria() (by []criterion) {
	var seen [sortKeyCount]bool
	p.list(func() {
		c := criterion{}
		if p.word("REVERSE") {
			c.reverse = true
			p.sp()
		}
		name := p.keyword()
		key, known := sortKeys[name]
		if !known && p.err == nil {
			p.fail("no such sort key")
		}
		c.key = key
		if !seen[key] { // what was sorted by already is alike
			seen[key] = true
			by = append(by, c)
		}
	})
	if len(by) == 0 && p.err == nil {
		p.fail("sort key missing")
	}
	return by
}
