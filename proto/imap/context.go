package imap

import (
	"cmp"
	"errors"
	"slices"
)

// An update is a search whose result a client follows, as messages come, change
// and go (RFC 5267 §4.3).
type update struct {
	tag   string
	byUID bool
	g     *program
	by    []criterion // of a SORT; nil: the order of the mailbox
	items []fetchItem // what is told of new messages that match (RFC 5465 §7)
	uids  []uint32    // the result, in its order
}

// following are the updates of a view, and what they have not heard of.
type following struct {
	updates []*update
	touched []uint32 // UIDs of messages that may match now and did not, or the other way round
	top     uint32   // later ones were not asked for yet
}

// maxUpdates bounds the updates of a session, maxFollowed the messages in their
// results; one update there may always be (RFC 5267 §4.3.1).
const maxUpdates, maxFollowed = 20, 1 << 20

// of finds the update with a tag.
func (f *following) of(tag string) int {
	return slices.IndexFunc(f.updates, func(u *update) bool { return u.tag == tag })
}

// touch notes messages whose flags have changed, or that are back.
func (f *following) touch(uids ...uint32) {
	if len(f.updates) > 0 {
		f.touched = append(f.touched, uids...)
	}
}

// due says whether there is something that the updates have not heard of.
func (v *view) due() bool {
	f := &v.following
	return len(f.updates) > 0 && (len(f.touched) > 0 || len(v.gone) > 0 || f.top < v.top)
}

// follow begins to update what a search has found, or says that it will not
// (RFC 5267 §4.3.1).
func (s *Session) follow(p *parser, g *program, r *returns, by []criterion, found []int) {
	v := s.view
	f := &v.following
	key, steady := v.steady(g.key)
	held := len(found)
	for _, u := range f.updates {
		held += len(u.uids)
	}
	switch {
	case !steady, slices.ContainsFunc(by, func(c criterion) bool { return c.key == sortRelevancy }):
		s.untagged("NO [NOUPDATE %s] what matches changes by itself", appendString(nil, p.tagged))
		return
	case len(f.updates) == maxUpdates, len(f.updates) > 0 && held > maxFollowed:
		s.untagged("NO [NOUPDATE %s] too many contexts", appendString(nil, p.tagged))
		return
	}
	fixed := *g
	fixed.key, fixed.progress = key, nil // its command is over
	u := &update{tag: p.tagged, byUID: p.byUID, g: &fixed, by: by, items: r.items}
	for _, n := range found {
		m, _ := v.at(n)
		u.uids = append(u.uids, m.UID)
	}
	if len(f.updates) == 0 {
		f.touched, f.top = nil, v.top
	}
	f.updates = append(f.updates, u)
}

// steady gives a key that matches the same messages as k does now, as long as
// they stay as they are: message numbers and "$" are those of now (RFC 5267
// §4.3). false: there is none.
func (v *view) steady(k key) (key, bool) {
	switch k := k.(type) {
	case and:
		all := make(and, len(k))
		for i := range k {
			var ok bool
			if all[i], ok = v.steady(k[i]); !ok {
				return nil, false
			}
		}
		return all, true
	case or2:
		a, ok := v.steady(k.a)
		b, ok2 := v.steady(k.b)
		return or2{a, b}, ok && ok2
	case not:
		x, ok := v.steady(k.key)
		return not{x}, ok
	case seqs:
		set := v.resolve(numSet(k), false).in(uint32(v.len())).and(v.every())
		return uids(v.uidSet(slices.Collect(set.all()))), true
	case uids:
		set := slices.Clone(v.resolve(numSet(k), true))
		for i, r := range set {
			r = span{min(r.lo, r.hi), max(r.lo, r.hi)}
			if r.lo == star || r.hi == star && r.lo > v.lastUID() {
				return nil, false // what "*" is changes
			}
			if r.hi == star {
				r.hi-- // all that are to come
			}
			set[i] = r
		}
		return uids(set), true
	case age, atModSeq:
		return nil, false
	}
	return k, true
}

// cancelUpdate = "CANCELUPDATE" 1*(SP quoted)   (RFC 5267 §4.3.5)
func (s *Session) cancelUpdate(p *parser) reply {
	var tags []string
	for {
		p.sp()
		tags = append(tags, p.quoted())
		if p.err != nil || p.rest == "" {
			break
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	f := &s.view.following
	for _, tag := range tags {
		if f.of(tag) < 0 {
			return bad(errors.New("no update has this tag"))
		}
	}
	for _, tag := range tags {
		if i := f.of(tag); i >= 0 { // it may be named twice
			f.updates = slices.Delete(f.updates, i, i+1)
		}
	}
	return ok("no further updates")
}

// tellLeft says which messages, of some, are no longer in the results since they
// are gone. Their numbers are still those that the client knows (RFC 5267 §4.3.4).
func (s *Session) tellLeft(of func(uid uint32) bool) {
	v := s.view
	if len(v.gone) == 0 {
		return
	}
	for _, u := range v.following.updates {
		s.tellUpdate(u, func(uid uint32) bool {
			_, gone := slices.BinarySearchFunc(v.gone, uid, func(m missing, uid uint32) int { return cmp.Compare(m.UID, uid) })
			return gone && of(uid)
		}, nil)
	}
}

// tellUpdates says what has come into the results and left them, since messages
// came and flags changed.
func (s *Session) tellUpdates() {
	v := s.view
	f := &v.following
	if len(f.updates) == 0 || len(f.touched) == 0 && f.top == v.top {
		return
	}
	slices.Sort(f.touched)
	var set numSet
	var asked []uint32
	for _, uid := range slices.Compact(f.touched) {
		n, known := v.number(uid)
		if !known || uid > f.top {
			continue
		}
		if _, gone := v.at(n); !gone {
			set, asked = set.add(uint32(n)), append(asked, uid)
		}
	}
	old := len(asked)
	for n, _ := v.number(f.top + 1); n <= v.len(); n++ {
		if m, gone := v.at(n); !gone {
			set, asked = set.add(uint32(n)), append(asked, m.UID)
		}
	}
	for _, u := range f.updates {
		found, err := u.g.among(s.ctx, v, set)
		if err == nil {
			err = s.tellChange(u, asked, old, found)
		}
		if err != nil {
			s.Log.Error("update a search", "user", s.name(), "folder", v.name, "err", err)
			return // it is tried again with the next change
		}
	}
	f.touched, f.top = nil, v.top
}

// tellChange takes in the answer of an update: of the messages with the UIDs in
// asked, of which those from old on are new, the found ones match.
func (s *Session) tellChange(u *update, asked []uint32, old int, found []int) error {
	v := s.view
	match := make(map[uint32]bool, len(found))
	for _, n := range found {
		m, _ := v.at(n)
		match[m.UID] = true
	}
	leave, add := map[uint32]bool{}, map[uint32]bool{}
	for _, uid := range asked {
		if match[uid] {
			add[uid] = true
		} else {
			leave[uid] = true
		}
	}
	for _, uid := range u.uids { // those it has already are not added
		delete(add, uid)
	}
	var news numSet
	var more []uint32
	for i, uid := range asked {
		if !add[uid] {
			continue
		}
		more = append(more, uid)
		if n, _ := v.number(uid); i >= old {
			news = news.add(uint32(n))
		}
	}
	more, err := s.merged(u, leave, more)
	if err != nil {
		return err
	}
	if len(u.items) > 0 && len(news) > 0 {
		p := &parser{byUID: u.byUID}
		if s.plan(u.items, u.byUID).run(p, news); p.fatal != nil {
			s.state = logout // nobody can tell any more where anything ends
		}
	}
	s.tellUpdate(u, func(uid uint32) bool { return leave[uid] }, more)
	return nil
}

// merged is the result without those that leave it, and with more messages, in
// its order; nil when there are no more.
func (s *Session) merged(u *update, leave map[uint32]bool, more []uint32) ([]uint32, error) {
	if len(more) == 0 {
		return nil, nil
	}
	stay := make([]uint32, 0, len(u.uids)+len(more))
	for _, uid := range u.uids {
		if !leave[uid] {
			stay = append(stay, uid)
		}
	}
	if u.by == nil {
		stay = append(stay, more...)
		slices.Sort(stay)
		return stay, nil
	}
	return s.view.insert(s.ctx, u.by, stay, more)
}

// tellUpdate says which messages leave the result of an update, and which are
// in it now; nil: only those that leave are new to the client (RFC 5267 §4.3.3,
// §4.3.4). In the order of the mailbox the client finds the places itself.
func (s *Session) tellUpdate(u *update, leave func(uid uint32) bool, now []uint32) {
	number := func(uid uint32) uint32 {
		if u.byUID {
			return uid
		}
		n, _ := s.view.number(uid)
		return uint32(n)
	}
	var removed, added []placed
	stay := make([]uint32, 0, len(u.uids))
	for i, uid := range u.uids {
		if leave(uid) {
			removed = place(removed, u, i, number(uid))
		} else {
			stay = append(stay, uid)
		}
	}
	slices.Reverse(removed) // from the last on, no place changes meanwhile
	if now != nil {
		k := 0
		for i, uid := range now {
			if k < len(stay) && stay[k] == uid {
				k++
			} else {
				added = place(added, u, i, number(uid))
			}
		}
		stay = now
	}
	u.uids = stay
	if len(removed) == 0 && len(added) == 0 {
		return
	}
	b := append(appendString([]byte("* ESEARCH (TAG "), u.tag), ')')
	if u.byUID {
		b = append(b, " UID"...)
	}
	b = appendPlaced(b, " REMOVEFROM (", removed)
	b = appendPlaced(b, " ADDTO (", added)
	s.Conn.Write(append(b, "\r\n"...))
}

// A placed is some messages one behind the other, and the place of the first in
// the result: from 1 on, or 0 for wherever it is in the order of the mailbox.
type placed struct {
	at, next int
	set      numSet
}

func place(all []placed, u *update, i int, number uint32) []placed {
	if u.by == nil {
		if len(all) == 0 {
			all = append(all, placed{})
		}
		all[0].set = all[0].set.add(number)
		return all
	}
	if k := len(all) - 1; k < 0 || all[k].next != i {
		all = append(all, placed{at: i + 1})
	}
	k := len(all) - 1
	all[k].next, all[k].set = i+1, all[k].set.add(number)
	return all
}

// appendPlaced = 1*(context-position SP sequence-set)   (RFC 5267 §5)
func appendPlaced(b []byte, name string, all []placed) []byte {
	if len(all) == 0 {
		return b
	}
	b = append(b, name...)
	for i, p := range all {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendSeq(b, uint32(p.at))
		b = append(append(b, ' '), p.set.String()...)
	}
	return append(b, ')')
}
