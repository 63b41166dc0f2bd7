package imap

import (
	"cmp"
	"slices"
	"strings"

	"pennypost/maildir"
)

// store = "STORE" SP sequence-set SP [store-modifiers SP] ["+" / "-"] "FLAGS"
// [".SILENT"] SP (flag-list / (flag *(SP flag)))   (RFC 9051 §6.4.6, RFC 4466
// §2.5)
func (s *Session) storeFlag(p *parser) reply {
	p.sp()
	set := p.numSet()
	p.sp()
	since := int64(-1)
	if strings.HasPrefix(p.rest, "(") {
		p.modifiers(func(name string) { p.storeModifier(name, &since) })
		p.sp()
	}
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
	chosen = s.limited(p, chosen)
	st := storing{own: own{v.messages(chosen), newChange(sign, names)}, silent: silent}
	if since >= 0 {
		s.wantModSeq()
		st.refused, err = v.storeUnless(st.msgs, st.change, uint64(since))
	} else if len(st.msgs) > 0 {
		_, err = v.folder.Store(st.msgs, st.change)
	}
	if err != nil {
		return s.failed(err)
	}
	return s.stored(p, st, chosen.count())
}

// A storing is a STORE that has been done.
type storing struct {
	own
	silent  bool
	refused []uint32 // UIDs of messages that have changed in the meantime, rising
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

// stored tells the flags that the messages have now: all of them, or with silent
// only those that differ from what this change alone would have made; and to who
// knows MODSEQs the new ones in any case (RFC 7162 §3.1.3). asked is how many
// the client named.
func (s *Session) stored(p *parser, st storing, asked int) reply {
	v := s.view
	now, err := v.look()
	if err != nil {
		return s.failed(err)
	}
	left := 0
	var modified numSet
	if now.UIDValidity == v.state.UIDValidity {
		changed := v.merge(now)
		s.tellKeywords()
		for _, uid := range changed {
			if n, ok := v.number(uid); ok && !st.has(uid) {
				m, _ := v.at(n)
				s.tellMessage(n, m, true)
			}
		}
		for _, was := range st.msgs {
			n, there := v.number(was.UID)
			if !there {
				continue
			}
			m, gone := v.at(n)
			if gone {
				continue
			}
			left++
			_, refused := slices.BinarySearch(st.refused, m.UID)
			switch {
			case refused && p.byUID:
				modified = modified.add(m.UID)
			case refused:
				modified = modified.add(uint32(n))
			}
			switch {
			case refused, !st.silent, (m.ModSeq != was.ModSeq || m.Flags != was.Flags) && !st.made(m):
				s.tellMessage(n, m, p.byUID || refused || st.silent)
			case s.has(condstore):
				s.tellNewModSeq(n, m)
			}
		}
	}
	r := ok("done")
	if left < asked && !p.byUID { // RFC 9051 §6.4.9: a UID that is not there is no mistake
		r = no("EXPUNGEISSUED", "some of the messages are gone")
	}
	if len(modified) > 0 {
		r.code = codef("MODIFIED %s", modified)
		if r.status == "OK" {
			r.text = "some of the messages have changed in the meantime"
		}
	}
	return r
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
