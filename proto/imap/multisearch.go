package imap

import (
	"errors"
	"slices"
	"strconv"

	"pennypost/maildir"
)

var errNoneSelected = errors.New("select a mailbox first")

// esearch = "ESEARCH" [SP esearch-source-opts] [SP search-return-opts] SP search-program
// (RFC 7377 §4)
func (s *Session) esearch(p *parser) reply {
	p.sp()
	scopes := []scope{{kind: "selected"}}
	if p.word("IN") {
		p.sp()
		scopes = p.sources()
		p.sp()
	}
	r := s.searchReturn(p)
	if !r.extended {
		r.extended, r.all = true, true
	}
	g := s.program(p)
	r.check(p, g)
	if err := p.end(); err != nil {
		return bad(err)
	}
	ofSelected := slices.ContainsFunc(scopes, func(c scope) bool { return c.kind == "selected" })
	switch {
	case ofSelected && s.view == nil:
		return bad(errNoneSelected)
	case r.save && (!ofSelected || len(scopes) > 1):
		return bad(errors.New("SAVE is for the selected mailbox alone"))
	case r.update && s.view == nil:
		return bad(errNoneSelected)
	}
	p.byUID = true
	if ofSelected && len(scopes) == 1 {
		found, refused := s.ask(g, r, nil)
		if refused != nil {
			return *refused
		}
		s.tellFoundIn(p, r, s.view, found)
		if r.update {
			s.follow(p, g, r, nil, found)
		}
		return ok("done")
	}
	if no, yes := g.refused(); yes {
		return no
	}
	r.modSeq, g.several = g.modSeq, true
	names, err := s.within(scopes)
	if err != nil {
		return s.failed(err)
	}
	for _, name := range names {
		if err := s.searchIn(p, g, r, name); err != nil && !isGone(err) && !errors.Is(err, errRights) { // RFC 7377 §2.2
			return s.failed(err)
		}
	}
	return ok("done")
}

// sources = "(" source-mbox [SP "(" scope-options ")"] ")"   (RFC 7377 §4). There
// are no options yet.
func (p *parser) sources() (scopes []scope) {
	p.list(func() {
		if len(scopes) == maxScopes {
			p.fail("too many mailbox specifiers")
			return
		}
		scopes = append(scopes, p.scope())
		if p.err == nil && scopes[len(scopes)-1].kind == "selected-delayed" {
			p.fail("no such mailbox specifier")
		}
	})
	if p.err == nil && len(scopes) == 0 {
		p.fail("mailbox specifier missing")
	}
	return scopes
}

// within gives the names of the mailboxes in one of the scopes, each once.
func (s *Session) within(scopes []scope) ([]string, error) {
	infos, err := s.user.Store.List()
	if err != nil {
		return nil, err
	}
	subscribed := map[string]bool{}
	if slices.ContainsFunc(scopes, func(c scope) bool { return c.kind == "subscribed" }) {
		list, err := s.user.Store.Subscriptions()
		if err != nil {
			return nil, err
		}
		for _, name := range list {
			subscribed[name] = true
		}
	}
	in := map[string]bool{}
	for _, i := range infos {
		if !i.NoSelect && slices.ContainsFunc(scopes, func(c scope) bool {
			return c.kind == "selected" && s.isSelected(i.Name) || c.has(i.Name, subscribed[i.Name])
		}) {
			in[i.Name] = true
		}
	}
	return sortedNames(in), nil
}

// searchIn asks a program of a mailbox, and tells what it has found. The
// selected one is searched as the client knows it.
func (s *Session) searchIn(p *parser, g *program, r *returns, name string) error {
	v := s.view
	if !s.isSelected(name) {
		folder, err := s.openToRead(name)
		if err != nil {
			return err
		}
		v = &view{name: name, folder: folder, readOnly: true}
		defer v.close()
		if v.state, err = folder.Sync(maildir.SyncOptions{}); err != nil {
			return err
		}
		v.arrived()
	}
	found, err := g.find(s.ctx, v)
	if err == nil && r.relevancy {
		r.scores, err = g.scores(s.ctx, v, r.listed(found))
	}
	if err != nil {
		return err
	}
	s.tellFoundIn(p, r, v, found)
	if r.update && v == s.view { // it is for the selected mailbox alone (RFC 7377 §2.2)
		s.follow(p, g, r, nil, found)
	}
	return nil
}

// tellFoundIn is the response ESEARCH of one of several mailboxes: none where
// nothing was found (RFC 7377 §2.1).
func (s *Session) tellFoundIn(p *parser, r *returns, v *view, found []int) {
	if len(found) == 0 || !r.tells() {
		return
	}
	b := appendString([]byte("* ESEARCH (TAG "), p.tagged)
	b = append(append(b, " MAILBOX "...), s.mailboxName(v.name)...)
	b = strconv.AppendUint(append(b, " UIDVALIDITY "...), uint64(v.state.UIDValidity), 10)
	b = r.appendFound(append(b, ") UID"...), v, found, true)
	s.Conn.Write(append(b, "\r\n"...))
}
