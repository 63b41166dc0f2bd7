package imap

import "strconv"

// search = "SEARCH" [SP search-return-opts] SP search-program
// (RFC 9051 §6.4.4, RFC 4731 §3.1)
func (s *Session) search(p *parser) reply {
	p.sp()
	r := s.searchReturn(p)
	g := s.program(p)
	r.check(p, g)
	if err := p.end(); err != nil {
		return bad(err)
	}
	g.within(s.searched(p, g.key))
	return s.asked(p, g, r, "SEARCH", nil)
}

// asked answers SEARCH and SORT, as the response is named unless it is ESEARCH:
// with what is found, in the order of criteria, if there are any.
func (s *Session) asked(p *parser, g *program, r *returns, name string, by []criterion) reply {
	found, refused := s.ask(g, r, by)
	if refused != nil {
		return *refused
	}
	switch {
	case !r.extended:
		s.tellSearch(name, p.byUID, found, g.modSeq)
	case r.tells():
		s.Conn.Write(append(s.appendSearch(nil, p, r, found), "\r\n"...))
	}
	if r.update {
		s.follow(p, g, r, by, found)
	}
	return ok("done")
}

// ask asks a program of the selected mailbox, and saves the result if it is to
// be saved; in the order of criteria, if there are any. refused, unless nil, is
// the answer instead.
func (s *Session) ask(g *program, r *returns, by []criterion) (found []int, refused *reply) {
	v := s.view
	no, yes := g.refused()
	if r.modSeq = g.modSeq; g.modSeq {
		s.wantModSeq()
	}
	if !yes {
		var err error
		if found, err = g.find(s.ctx, v); err == nil && len(by) > 0 {
			found, err = v.inOrder(s.ctx, by, found)
		}
		if err != nil {
			no, yes = s.failed(err), true
		}
	}
	if r.relevancy && !yes {
		var err error
		if r.scores, err = g.scores(s.ctx, v, r.listed(found)); err != nil {
			no, yes = s.failed(err), true
		}
	}
	if r.save && no.status != "BAD" {
		v.saved = v.uidSet(r.chosen(found)) // of a search that has failed, nothing (RFC 5182 §2.1)
	}
	if yes {
		return nil, &no
	}
	return found, nil
}

// tellSearch is the response SEARCH, or SORT (RFC 3501 §7.2.5), with the highest
// MODSEQ if that is wanted (RFC 7162 §3.1.6).
func (s *Session) tellSearch(name string, byUID bool, found []int, modSeq bool) {
	b := append([]byte("* "), name...)
	for _, n := range found {
		if byUID {
			m, _ := s.view.at(n)
			n = int(m.UID)
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(n), 10)
	}
	if modSeq && len(found) > 0 {
		b = strconv.AppendUint(append(b, " (MODSEQ "...), s.view.highestOf(found), 10)
		b = append(b, ')')
	}
	s.Conn.Write(append(b, "\r\n"...))
}

// appendSearch appends the response ESEARCH of the selected mailbox, without its
// end (RFC 9051 §7.3.4).
func (s *Session) appendSearch(b []byte, p *parser, r *returns, found []int) []byte {
	b = append(appendString(append(b, "* ESEARCH (TAG "...), p.tagged), ')')
	if p.byUID {
		b = append(b, " UID"...)
	}
	return r.appendFound(b, s.view, found, p.byUID)
}
