package imap

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"iter"
	"strconv"
	"sync/atomic"
	"time"

	"pennypost/maildir"
)

// maxWatched bounds the mailboxes of whose messages one session hears.
const maxWatched = 1000

// An attention is what a client wants to hear since NOTIFY, and what it has heard
// (RFC 5465 §3.1). After NOTIFY NONE there is one that wants nothing.
type attention struct {
	groups  []*eventGroup
	folders map[string]*attended // whose messages count, but those of the selected mailbox
	stirred atomic.Bool          // one of them

	names   map[string]*known // as they were told; nil: nobody asks
	renamed atomic.Bool       // names may have changed
	stop    func()            // ends the watch of names; nil: there is none
	moves   []movement        // the last ones

	view     *view // that is watched
	stopView func()
}

// An attended folder is one of whose messages the client wants to hear.
type attended struct {
	name    string
	events  event
	stirred atomic.Bool // it may have changed
	stop    func()
	told    counts
	own     uint32 // messages that the client itself has put there since
}

// counts are what a STATUS response of RFC 5465 §5 may tell.
type counts struct {
	validity, next, messages, unseen uint32
	modSeq                           uint64
	flags                            uint64 // a sum of those of all messages
}

// known is what the client knows of a name.
type known struct {
	exists, subscribed bool
	id                 string // of the mailbox, whatever it is called; "": not known
}

// wants are the events of a mailbox that is not selected, or of a name.
func (a *attention) wants(name string, subscribed bool) (e event) {
	for _, g := range a.groups {
		if g.has(name, subscribed) {
			e |= g.events
		}
	}
	return e
}

// all are the events that are wanted of any mailbox at all.
func (a *attention) all() (e event) {
	for _, g := range a.groups {
		if !g.ofSelected() {
			e |= g.events
		}
	}
	return e
}

// ofSelected gives what is wanted of the selected mailbox: everything and
// whenever a command allows it, as long as there was no NOTIFY.
func (s *Session) ofSelected() *eventGroup {
	if s.attention == nil {
		return &eventGroup{scope: scope{kind: "selected-delayed"}, events: ofMessages}
	}
	for _, g := range s.attention.groups {
		if g.ofSelected() {
			return g
		}
	}
	return &eventGroup{}
}

// heedsMetadata says whether changes of the annotations of a mailbox are wanted,
// or with "" those of the server.
func (s *Session) heedsMetadata(mailbox string) bool {
	a := s.attention
	switch {
	case a == nil:
		return true
	case mailbox == "":
		return a.all()&serverMetadata != 0
	}
	k := a.names[mailbox]
	return a.wants(mailbox, k != nil && k.subscribed)&mailboxMetadata != 0 && s.may(mailbox, maildir.RightRead) == nil
}

// attend does what NOTIFY asks for. It is also a NOOP (RFC 5465 §3.1).
func (s *Session) attend(groups []*eventGroup, tellStatus bool) reply {
	before := s.attention
	a := &attention{groups: groups, folders: map[string]*attended{}}
	var err error
	if a.all() != 0 {
		err = s.watchNames(a)
	}
	if err == nil {
		err = s.watchFolders(a, a.names)
	}
	if err != nil {
		a.end()
		if errors.Is(err, errTooMany) {
			return no("NOTIFICATIONOVERFLOW", "too many mailboxes")
		}
		return s.failed(err)
	}
	if s.view != nil {
		s.attention = nil
		s.news(true)
	}
	if s.attention = a; before != nil {
		before.end()
	}
	if a.all()&(mailboxMetadata|serverMetadata) != 0 {
		s.heed()
	}
	barred := s.tellBarred(a)
	for _, name := range sortedNames(a.folders) {
		if f := a.folders[name]; tellStatus && !barred[name] && !s.isSelected(name) {
			s.tellStatus(name, f.told, f.events.first())
		}
	}
	return ok("done")
}

// tellBarred says of which mailboxes nothing can be heard, since the client may not
// read them (RFC 5465 §3.1).
func (s *Session) tellBarred(a *attention) map[string]bool {
	barred := map[string]bool{}
	for _, name := range sortedNames(a.names) {
		k := a.names[name]
		if k.exists && a.wants(name, k.subscribed) != 0 && errors.Is(s.may(name, maildir.RightRead), errRights) {
			barred[name] = true
		}
	}
	if len(barred) == 0 {
		return nil
	}
	list, err := s.names(true)
	if err != nil {
		s.Log.Error("look at names", "user", s.name(), "err", err)
	}
	for _, n := range list {
		if n.barred = barred[n.text]; n.barred {
			s.tellName(n, true, true, "")
		}
	}
	return barred
}

// end ends every watch.
func (a *attention) end() {
	if a == nil {
		return
	}
	if a.stop != nil {
		a.stop()
	}
	for _, f := range a.folders {
		f.stop()
	}
	if a.stopView != nil {
		a.stopView()
	}
	a.groups, a.names, a.stop, a.moves, a.view, a.stopView = nil, nil, nil, nil, nil, nil
	clear(a.folders)
}

// watchNames begins to watch names, and learns what they are now.
func (s *Session) watchNames(a *attention) (err error) {
	conn := s.Conn
	a.stop, err = s.user.Store.WatchNames(func() {
		a.renamed.Store(true)
		conn.Wake()
	})
	if err != nil {
		return err
	}
	a.names, _, err = s.knownNames(a)
	return err
}

// knownNames looks what names there are.
func (s *Session) knownNames(a *attention) (map[string]*known, map[string]*name, error) {
	list, err := s.names(true)
	if err != nil {
		return nil, nil, err
	}
	now, by := make(map[string]*known, len(list)), make(map[string]*name, len(list))
	for _, n := range list {
		k := &known{exists: n.exists, subscribed: n.subscribed}
		if old := a.names[n.text]; old != nil && old.exists && old.id != "" {
			k.id = old.id
		} else if n.exists && n.text != inbox && a.all()&nameChange != 0 {
			k.id = s.idOf(n.text)
		}
		now[n.text], by[n.text] = k, n
	}
	return now, by, nil
}

// idOf is what stays the same when a mailbox gets another name (RFC 8474 §4.1).
func (s *Session) idOf(name string) string {
	f, err := s.user.Store.OpenFolder(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	id, err := f.ID()
	if err != nil {
		return ""
	}
	return id
}

// watchFolders begins to watch the folders of whose messages something is wanted,
// and ends that of others. Of mailboxes that there were before, what is in them
// counts as told.
func (s *Session) watchFolders(a *attention, before map[string]*known) error {
	wanted := map[string]event{}
	for name, k := range a.names {
		if e := a.wants(name, k.subscribed) & ofMessages; e != 0 && k.exists {
			wanted[name] = e
		}
	}
	if len(wanted) > maxWatched {
		return errTooMany
	}
	for name, f := range a.folders {
		if wanted[name] == 0 {
			f.stop()
			delete(a.folders, name)
		}
	}
	for _, name := range sortedNames(wanted) {
		e := wanted[name]
		if f := a.folders[name]; f != nil {
			f.events = e
			continue
		}
		f := &attended{name: name, events: e}
		if err := s.watchFolder(a, f); err != nil {
			continue // it has gone meanwhile
		}
		a.folders[name] = f
		if k := before[name]; k != nil && k.exists {
			f.told, _ = s.countsOf(name)
		} else { // its messages are new, too
			f.stir(a)
		}
	}
	return nil
}

func (s *Session) watchFolder(a *attention, f *attended) (err error) {
	conn := s.Conn
	f.stop, err = s.user.Store.Watch(f.name, func() {
		f.stir(a)
		conn.Wake()
	})
	return err
}

// stir notes that a folder may have changed.
func (f *attended) stir(a *attention) {
	f.stirred.Store(true)
	a.stirred.Store(true)
}

// countsOf counts a mailbox.
func (s *Session) countsOf(name string) (c counts, err error) {
	f, err := s.openToRead(name)
	if err != nil {
		return c, err
	}
	defer f.Close()
	st, err := f.Sync(maildir.SyncOptions{})
	if err != nil {
		return c, err
	}
	c = counts{validity: st.UIDValidity, next: st.UIDNext, messages: uint32(st.Len()), modSeq: max(st.HighestModSeq, 1)}
	c.sum(st.All())
	return c, nil
}

// sum looks at the flags of messages.
func (c *counts) sum(msgs iter.Seq2[int, maildir.Message]) {
	var h maphash.Hash
	h.SetSeed(flagSeed)
	for _, m := range msgs {
		if m.Flags&maildir.Seen == 0 {
			c.unseen++
		}
		h.Reset()
		maphash.WriteComparable(&h, [2]uint32{m.UID, uint32(m.Flags)})
		for _, k := range m.Keywords() {
			h.WriteString(k)
			h.WriteByte(0)
		}
		c.flags += h.Sum64()
	}
}

var flagSeed = maphash.MakeSeed()

// A statusItem is a thing of counts to tell.
type statusItem uint8

const (
	tellValidity statusItem = 1 << iota
	tellNext
	tellMessages
	tellUnseen
	tellHighest
)

// first are the items that the client hears of in the beginning (RFC 5465 §3.1).
func (e event) first() (items statusItem) {
	if e&messageNew != 0 {
		items |= tellMessages | tellNext | tellValidity
	}
	if e&messageExpunge != 0 {
		items |= tellMessages
	}
	if e&flagChange != 0 {
		items |= tellValidity | tellHighest
	}
	return items
}

// tellStatus is a STATUS response of RFC 5465. It does not enable CONDSTORE.
func (s *Session) tellStatus(name string, c counts, items statusItem) {
	b := []byte("* STATUS " + s.mailboxName(name) + " (")
	first := true
	for i, item := range []struct {
		name  string
		value uint64
	}{
		{"UIDVALIDITY ", uint64(c.validity)},
		{"UIDNEXT ", uint64(c.next)},
		{"MESSAGES ", uint64(c.messages)},
		{"UNSEEN ", uint64(c.unseen)},
		{"HIGHESTMODSEQ ", c.modSeq},
	} {
		if items&(1<<i) == 0 {
			continue
		}
		if !first {
			b = append(b, ' ')
		}
		first = false
		b = strconv.AppendUint(append(b, item.name...), item.value, 10)
	}
	s.Conn.Write(append(b, ")\r\n"...))
}

// tellFolder says what is new in a mailbox that is not selected (RFC 5465 §5.1 to
// §5.3).
func (s *Session) tellFolder(f *attended) {
	now, err := s.countsOf(f.name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, maildir.ErrGone) && !errors.Is(err, errRights) {
			s.Log.Error("look into mailbox", "user", s.name(), "folder", f.name, "err", err)
		}
		return // that it has gone is told with the names; what may not be read now may be later (RFC 5465 §5.9)
	}
	old := f.told
	if s.isSelected(f.name) { // there the client hears of each message, or wants to hear of none
		f.told, f.own = now, 0
		return
	}
	if f.own > 0 && now.messages == old.messages+f.own && now.next == old.next+f.own { // §5: it knows
		old = now
	}
	f.told, f.own = now, 0
	var items statusItem
	another := now.validity != old.validity && old.validity != 0
	if f.events&(messageNew|messageExpunge) != 0 && (now.next != old.next || now.messages != old.messages || another) {
		items |= tellNext | tellMessages
		if s.has(condstore) {
			items |= tellHighest
		}
	}
	if f.events&flagChange != 0 {
		if now.flags != old.flags && s.has(condstore) {
			items |= tellHighest | tellValidity
		}
		if now.unseen != old.unseen {
			items |= tellUnseen
		}
	}
	if another {
		items |= tellValidity
	}
	if empty := now.messages == 0 && now.next == 1; items != 0 && !empty || another {
		s.tellStatus(f.name, now, items)
	}
}

// tellAround says what is new outside the selected mailbox. given are the names
// of mailboxes that a command of the client itself has just changed: of those
// it need not hear.
func (s *Session) tellAround(given ...mentioned) {
	a := s.attention
	if a == nil || s.state&mailboxes == 0 {
		return
	}
	if a.renamed.Swap(false) || len(given) > 0 && a.names != nil {
		if err := s.tellNames(given); errors.Is(err, errTooMany) {
			s.untagged("OK [NOTIFICATIONOVERFLOW] too many mailboxes") // RFC 5465 §5.8
			a.end()
			return
		} else if err != nil {
			s.Log.Error("look at names", "user", s.name(), "err", err)
			a.renamed.Store(true)
		}
	}
	if !a.stirred.Swap(false) {
		return
	}
	for _, name := range sortedNames(a.folders) {
		if f := a.folders[name]; f.stirred.Swap(false) {
			s.tellFolder(f)
		}
	}
}

// caused notes messages that the client itself has put into a mailbox: of those it
// need not hear (RFC 5465 §5).
func (s *Session) caused(name string, uids ...uint32) {
	if s.attention == nil {
		return
	}
	if f := s.attention.folders[name]; f != nil {
		f.own += uint32(len(uids))
	}
	if v := s.view; v != nil && v.name == name {
		for _, uid := range uids {
			v.mine = v.mine.add(uid)
		}
	}
}

// leaves takes what the client knows of the selected mailbox for told, when it is
// no longer selected.
func (s *Session) leaves(v *view) {
	a := s.attention
	if a == nil {
		return
	}
	if a.view == v && a.stopView != nil {
		a.stopView()
		a.view, a.stopView = nil, nil
	}
	if f := a.folders[v.name]; f != nil {
		f.told = counts{validity: v.state.UIDValidity, next: max(v.top+1, f.told.next), messages: uint32(v.len()), modSeq: v.modSeq()}
		f.told.sum(v.all())
		f.stir(a)
	}
}

// watchSelected watches the selected mailbox when something of it is wanted.
func (s *Session) watchSelected() {
	a := s.attention
	if a.view == s.view || s.view == nil || s.ofSelected().events == 0 {
		return
	}
	a.view, a.stopView = s.view, s.view.folder.Watch(s.Conn.Wake)
	s.Conn.Wake() // what came before that counts, too
}

// await waits for the next command, and says meanwhile what the client wants to
// hear (RFC 5465 §3.1).
func (s *Session) await() error {
	if s.attention == nil || len(s.attention.groups) == 0 {
		return nil
	}
	began := time.Now()
	for s.state != logout {
		s.watchSelected()
		spoke, err := s.Conn.Await(s.Idle - time.Since(began))
		if spoke || err != nil {
			return err
		}
		if time.Since(began) >= s.Idle {
			s.bye("", "logged out for inactivity")
			return nil
		}
		if s.view != nil {
			s.news(s.ofSelected().kind == "selected")
		}
		s.tellAround()
		s.tellAnnotated()
	}
	return nil
}
