package imap

import (
	"cmp"
	"slices"
	"strings"

	"pennypost/maildir"
)

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
	chosen, err := v.choose(set, p.byUID)
	if err != nil {
		return bad(err)
	}
	if v.readOnly {
		return readOnly()
	}
	change := newChange(sign, names)
	msgs := v.messages(chosen)
	if len(msgs) > 0 {
		if _, err := v.folder.Store(msgs, change); err != nil {
			return s.failed(err)
		}
	}
	return s.stored(p, msgs, chosen.count(), change, silent)
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
// asked is how many the client named.
func (s *Session) stored(p *parser, msgs []maildir.Message, asked int, change maildir.Change, silent bool) reply {
	v := s.view
	if !silent {
		// All of them are told below, whether or not they changed.
		now, err := v.look()
		if err != nil {
			return s.failed(err)
		}
		if now.UIDValidity == v.state.UIDValidity {
			named := newOwn(msgs, change)
			changed := v.merge(now)
			s.tellKeywords()
			for _, uid := range changed {
				if !named.has(uid) {
					s.tellOne(uid, p.byUID)
				}
			}
			for _, m := range msgs {
				s.tellOne(m.UID, p.byUID)
			}
		}
	} else {
		s.tell(p.byUID, newOwn(msgs, change))
	}
	left := 0
	for _, m := range msgs {
		n, there := v.number(m.UID)
		if there {
			_, gone := v.at(n)
			there = !gone
		}
		if there {
			left++
		}
	}
	if left < asked {
		return no("EXPUNGEISSUED", "some of the messages are gone")
	}
	return ok("done")
}

func (s *Session) tellOne(uid uint32, byUID bool) {
	v := s.view
	n, ok := v.number(uid)
	if !ok {
		return
	}
	if m, gone := v.at(n); !gone {
		s.tellMessage(n, m, byUID)
	}
}

// own is a change of flags that the client made itself, of these messages as
// they were before.
type own struct {
	msgs   []maildir.Message // UIDs rising
	change maildir.Change
}

func newOwn(msgs []maildir.Message, c maildir.Change) *own { return &own{msgs, c} }

func (o *own) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(o.msgs, uid, func(m maildir.Message, uid uint32) int { return cmp.Compare(m.UID, uid) })
}

func (o *own) has(uid uint32) bool {
	_, ok := o.find(uid)
	return ok
}

// made says whether m has the flags that the change alone would have made: the
// client knows them. A nil own has made none.
func (o *own) made(m maildir.Message) bool {
	if o == nil {
		return false
	}
	i, ok := o.find(m.UID)
	return ok && expected(o.msgs[i], o.change) == flagKey(m.Flags, m.Keywords())
}

// expected are the flags that m has after change, if nobody else touches it.
func expected(m maildir.Message, c maildir.Change) string {
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
