package imap

import (
	"slices"
	"strings"

	"pennypost/maildir"
)

// maxKeywords is how many keywords a mailbox has letters for (a to z).
const maxKeywords = 26

// store = "STORE" SP sequence-set SP ["+" / "-"] "FLAGS" [".SILENT"] SP
// (flag-list / (flag *(SP flag)))   (RFC 9051 §6.4.6)
func (s *Session) storeFlag(p *parser) reply {
	p.sp()
	set := p.numSet()
	p.sp()
	var sign byte
	if p.take("+") {
		sign = '+'
	} else if p.take("-") {
		sign = '-'
	}
	item := p.keyword()
	silent := strings.HasSuffix(item, ".SILENT")
	if strings.TrimSuffix(item, ".SILENT") != "FLAGS" && p.err == nil {
		p.fail("no such item")
	}
	p.sp()
	var names []string
	if strings.HasPrefix(p.rest, "(") {
		names = p.flagList()
	} else {
		names = p.addFlag(nil)
		for p.err == nil && p.take(" ") {
			names = p.addFlag(names)
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	v := s.view
	at, err := v.choose(set, p.byUID)
	if err != nil {
		return bad(err)
	}
	if v.readOnly {
		return readOnly()
	}
	change := newChange(sign, names)
	msgs := v.messages(at)
	if len(msgs) > 0 {
		if err := v.folder.Store(msgs, change); err != nil {
			return s.failed(err)
		}
	}
	return s.stored(p, at, msgs, change, silent)
}

func newChange(sign byte, names []string) maildir.Change {
	flags, keywords := letters(names)
	switch sign {
	case '-':
		return maildir.Change{Remove: flags, RemoveKeywords: keywords}
	case '+':
		return maildir.Change{Add: flags, AddKeywords: keywords}
	}
	return maildir.Change{Add: flags, AddKeywords: keywords, Replace: true}
}

// stored tells the flags that the messages have now: all of them, or with
// silent only those that differ from what this change alone would have made.
func (s *Session) stored(p *parser, at []int, msgs []*maildir.Message, change maildir.Change, silent bool) reply {
	v := s.view
	quiet := make(map[uint32]string, len(msgs))
	for _, m := range msgs {
		quiet[m.UID] = expected(m, change)
	}
	chosen := make([]uint32, len(at))
	for k, i := range at {
		chosen[k] = v.msgs[i].UID
	}
	if !silent {
		// All of them are told below, whether or not they changed.
		before := v.msgs
		v.msgs = slices.Clone(v.msgs)
		now, err := v.look()
		if err != nil {
			v.msgs = before
			return s.failed(err)
		}
		if now.UIDValidity == v.state.UIDValidity {
			changed := v.merge(now)
			s.tellKeywords()
			for _, uid := range changed {
				if _, ok := quiet[uid]; !ok {
					s.tellOne(uid, p.byUID)
				}
			}
			for _, uid := range chosen {
				s.tellOne(uid, p.byUID)
			}
		}
	} else {
		s.tell(p.byUID, quiet)
	}
	for _, uid := range chosen {
		if _, there := v.at(uid); !there || v.gone[uid] {
			return no("EXPUNGEISSUED", "some of the messages are gone")
		}
	}
	return ok("done")
}

func (s *Session) tellOne(uid uint32, byUID bool) {
	v := s.view
	i, ok := v.at(uid)
	if !ok || v.gone[uid] {
		return
	}
	if byUID {
		s.untagged("%d FETCH (UID %d FLAGS (%s))", i+1, uid, v.flags(v.msgs[i]))
		return
	}
	s.untagged("%d FETCH (FLAGS (%s))", i+1, v.flags(v.msgs[i]))
}

// expected are the flags that m has after change, if nobody else touches it.
func expected(m *maildir.Message, c maildir.Change) string {
	flags, keywords := m.Flags, slices.Clone(m.Keywords())
	if c.Replace {
		flags, keywords = 0, nil
	}
	flags = flags&^c.Remove | c.Add
	keywords = slices.DeleteFunc(keywords, func(k string) bool { return hasFold(c.RemoveKeywords, k) })
	for _, k := range c.AddKeywords {
		if !hasFold(keywords, k) {
			keywords = append(keywords, k)
		}
	}
	return flagKey(flags, keywords)
}

// flagKey is a set of flags in a form that can be compared.
func flagKey(flags maildir.Flags, keywords []string) string {
	keywords = slices.Clone(keywords)
	for i, k := range keywords {
		keywords[i] = strings.ToLower(k)
	}
	slices.Sort(keywords)
	return flagString(flags, keywords, false)
}

func hasFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(t string) bool { return strings.EqualFold(s, t) })
}
