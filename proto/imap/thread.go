package imap

// threadAlgorithms are the rules thread-alg (RFC 5256 §5).
var threadAlgorithms = map[string]func(leaves []leaf, ids, subjects int) *threads{
	"ORDEREDSUBJECT": orderedSubject,
	"REFERENCES":     references,
}

// thread = "THREAD" SP thread-alg SP search-criteria   (RFC 5256 §5)
func (s *Session) thread(p *parser) reply {
	p.sp()
	grow, known := threadAlgorithms[p.keyword()]
	if !known && p.err == nil {
		p.fail("no such threading algorithm")
	}
	p.sp()
	g := s.criteria(p)
	if err := p.end(); err != nil {
		return bad(err)
	}
	if no, yes := g.refused(); yes {
		return no
	}
	v := s.view
	if s.MessageLimit > 0 && v.len() > s.MessageLimit {
		return s.refusedLimit(0) // RFC 9738 §3.3
	}
	if g.modSeq {
		s.wantModSeq()
	}
	found, err := g.find(s.ctx, v)
	if err != nil {
		return s.failed(err)
	}
	msgs := v.those(found)
	all, rows, err := v.keys(s.ctx, threadLinks, msgs)
	if err != nil {
		return s.failed(err)
	}
	c := all.(*linkKeys)
	leaves := make([]leaf, len(msgs))
	for i := range leaves {
		leaves[i] = c.leaf(rows[i])
	}
	b := []byte("* THREAD")
	if len(leaves) > 0 {
		b = append(b, ' ')
	}
	b = grow(leaves, c.ids, c.subjects).append(b, func(i int32) uint32 {
		if p.byUID {
			return msgs[i].UID
		}
		return uint32(found[i])
	})
	s.Conn.Write(append(b, "\r\n"...))
	return ok("done")
}
