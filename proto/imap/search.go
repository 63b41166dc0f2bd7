package imap

import (
	"slices"
	"strconv"
)

// search = "SEARCH" [search-return-opts] SP search-program
// (RFC 9051 §6.4.4, RFC 4731 §3.1)
func (s *Session) search(p *parser) reply {
	var options []string
	extended := false
	p.sp()
	if p.word("RETURN") {
		extended = true
		p.sp()
		p.list(func() {
			o := p.keyword()
			if !slices.Contains([]string{"MIN", "MAX", "ALL", "COUNT"}, o) && p.err == nil {
				p.fail("no such return option")
			}
			options = append(options[:min(len(options), 10)], o)
		})
		p.sp()
		if len(options) == 0 {
			options = []string{"ALL"}
		}
	}
	g := s.program(p)
	if err := p.end(); err != nil {
		return bad(err)
	}
	if r, yes := g.refused(); yes {
		return r
	}
	found, err := g.find(s.ctx, s.view)
	if err != nil {
		return s.failed(err)
	}
	s.tellFound(p, found, extended, options)
	return ok("done")
}

// tellFound is SEARCH (RFC 3501 §7.2.5), or ESEARCH (RFC 9051 §7.3.4).
func (s *Session) tellFound(p *parser, found []int, extended bool, options []string) {
	number := func(n int) uint32 {
		if p.byUID {
			m, _ := s.view.at(n)
			return m.UID
		}
		return uint32(n)
	}
	if !extended {
		b := []byte("* SEARCH")
		for _, i := range found {
			b = append(b, ' ')
			b = strconv.AppendUint(b, uint64(number(i)), 10)
		}
		s.Conn.Write(append(b, "\r\n"...))
		return
	}
	b := append([]byte("* ESEARCH (TAG "), appendString(nil, p.tagged)...)
	b = append(b, ')')
	if p.byUID {
		b = append(b, " UID"...)
	}
	for _, o := range []string{"MIN", "MAX", "COUNT", "ALL"} {
		if !slices.Contains(options, o) || len(found) == 0 && o != "COUNT" {
			continue
		}
		b = append(append(append(b, ' '), o...), ' ')
		switch o {
		case "MIN":
			b = strconv.AppendUint(b, uint64(number(found[0])), 10)
		case "MAX":
			b = strconv.AppendUint(b, uint64(number(found[len(found)-1])), 10)
		case "COUNT":
			b = strconv.AppendInt(b, int64(len(found)), 10)
		case "ALL":
			var set numSet
			for _, i := range found {
				set = set.add(number(i))
			}
			b = append(b, set.String()...)
		}
	}
	s.Conn.Write(append(b, "\r\n"...))
}
