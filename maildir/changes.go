package maildir

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// changes are what is not in the journal yet. A change made without the folder's lock stays here until somebody has it.
type changes struct {
	added, changed []uint32 // UIDs; some may be gone again
	gone           uidSet
	keywords       int // further names for keywords, the last ones
	ids            []ident
	numbered       int // how many of them have the modseq seq
	seq            uint64
	looked         bool   // the views alone are worth a record
	by             string // who made the last of them
}

func (c *changes) messages() bool { return len(c.added)+len(c.changed)+len(c.gone)+len(c.ids) > 0 }

func (c *changes) empty() bool { return !c.messages() && c.keywords == 0 && !c.looked }

// nextModSeq takes a number for a change. It is later than all before it, whatever a power cut has taken from the
// journal, and than all that Dovecot can have given: these begin at 1.
func (b *box) nextModSeq() uint64 {
	b.modseq = max(b.modseq+1, uint64(max(time.Now().UnixMicro(), 0)))
	return b.modseq
}

// size counts them.
func (c *changes) size() int {
	n := len(c.added) + len(c.changed) + len(c.ids)
	for _, u := range c.gone {
		n += int(u.Last-u.First) + 1
	}
	return n
}

// retell makes all messages changed ones: they may be otherwise than clients were told last.
func (b *box) retell() {
	b.log.changed = append(b.log.changed, b.rows.uids(func(m uint32) bool { return m != 0 })...)
	b.past, b.usable = false, false
}

// commit gives the changes a modseq and writes them to the journal. Without the lock (nil), or when they cannot be written,
// they stay to be written later: what is shown then has a modseq all the same. An error says that the journal does not have
// them.
func (b *box) commit(lk *lock, durable bool) error {
	c := &b.log
	if lk != nil {
		b.noteGaps()
	}
	if c.empty() && (lk == nil || b.usable && !b.journal.wantsReplace()) {
		return nil
	}
	seq := uint64(0)
	if n := c.size(); n > 0 {
		if c.numbered != n || lk != nil && c.seq != b.modseq {
			c.seq = b.nextModSeq()
			b.number(c.seq)
			c.numbered = n
		}
		seq = c.seq
	}
	if lk == nil {
		return nil
	}
	err := b.write(seq, durable)
	switch {
	case err == nil:
		b.log = changes{}
	case noRoom(err), readOnly(err): // that was told to those who write mail
	default:
		b.usable = false // a new one is written with the next change
		slog.Warn("the journal cannot be written", "folder", b.journal.folder, "err", err)
	}
	return err
}

// noteGaps takes UIDs for gone that were given since the journal was written last and that nobody has any more: clients of
// somebody who could not write it, or of whom a power cut or an older copy has left nothing there, may know them.
func (b *box) noteGaps() {
	if b.known == 0 || b.known >= b.head.next {
		return
	}
	held := b.rows.within(UIDRange{b.known, maxUID})
	for _, r := range b.absent {
		held = append(held, r.uid)
	}
	slices.Sort(held)
	from := b.known
	for _, uid := range append(held, b.head.next) {
		if uid > from {
			b.log.gone.addAll(UIDRange{from, uid - 1})
		}
		from = max(from, uid+1)
	}
	b.known = b.head.next
}

// number gives the changed messages their modseq.
func (b *box) number(seq uint64) {
	for _, list := range [][]uint32{b.log.added, b.log.changed} {
		for _, uid := range list {
			b.rows.renumber(uid, seq)
		}
	}
	b.grave.add(b.log.gone, seq)
	b.ids.set(b.log.ids)
	b.state = nil
}

// write puts the changes behind the journal, or all that is known into a new one, for which there may be no room.
func (b *box) write(seq uint64, durable bool) error {
	goesOn := b.usable && b.journal.validity() == b.head.validity
	if goesOn && b.journal.wantsReplace() {
		if err := b.renew(durable); err == nil || !noRoom(err) || durable && b.journal.failed {
			return err
		}
	}
	if goesOn {
		r := b.entry(seq)
		err := b.journal.append(b.dir, r, durable)
		if err == nil {
			b.told, b.known = r.views, b.unsure()
			return nil
		}
		if !errors.Is(err, errJournalMoved) {
			return err
		}
	}
	return b.renew(durable)
}

// renew begins a new journal with all that is known.
func (b *box) renew(durable bool) error {
	before := b.journal.validity() != 0
	if b.journal.validity() != b.head.validity || b.grave.floor == 0 {
		b.begin()
	}
	s := b.snapshot()
	if err := b.journal.replace(b.dir, b.head.validity, s, before || durable); err != nil {
		return err
	}
	b.told, b.usable, b.known = s.views, true, b.unsure()
	return nil
}

// unsure gives the first UID of which it is not known yet whether there is a file, or UIDNEXT.
func (b *box) unsure() uint32 {
	first := b.head.next
	for _, r := range b.absent {
		first = min(first, r.uid)
	}
	if b.unseen > 0 {
		first = min(first, b.rows.uids(func(m uint32) bool { return m == 0 })[0])
	}
	return first
}

// begin is for the first journal of a folder: what was before is not known.
func (b *box) begin() {
	seq := b.nextModSeq()
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			if bl.modseq.at(i) == 0 {
				b.rows.renumber(bl.uid[i], seq)
			}
		}
	}
	if b.grave.floor == 0 {
		b.grave = graveyard{floor: seq}
	}
	b.state = nil
}

// views are what we know of the files beside the journal.
func (b *box) views() views {
	n, c, k := b.new, b.cur, b.kwStamp
	v := views{new: &n, cur: &c, letters: &k}
	if b.listWhole && b.listEnd > 0 && !b.rewrite && !b.distrust && b.unseen == 0 && len(b.absent) == 0 {
		v.list = &listView{stamp: b.list, end: b.listEnd, tail: b.listTail}
	}
	return v
}

func (b *box) where(mark uint32) where {
	in := b.info(mark)
	w := where{dir: in.dir, text: in.text}
	for k := range placesOf(in.more) {
		w.more = append(w.more, uint16(k))
	}
	return w
}

// entry is the changes as a record of the journal.
func (b *box) entry(seq uint64) *record {
	c := &b.log
	r := &record{time: time.Now(), modseq: seq, views: b.views(), vanished: c.gone, ids: c.ids, by: c.by}
	r.keywords = b.more[len(b.more)-c.keywords:]
	slices.Sort(c.added)
	c.added = slices.Compact(c.added)
	for _, uid := range c.added {
		if w, ok := b.rows.get(uid); ok && w.mark != 0 {
			r.added = append(r.added, addition{uid, w.saved, w.base, b.where(w.mark)})
		}
	}
	slices.Sort(c.changed)
	by := map[uint32][]uint32{}
	for _, uid := range slices.Compact(c.changed) {
		if k, i, ok := b.rows.blocks.find(uid); ok && b.rows.blocks[k].mark[i] != 0 {
			m := b.rows.blocks[k].mark[i]
			by[m] = append(by[m], uid)
		}
	}
	for m, uids := range by {
		r.changed = append(r.changed, shift{b.where(m), uids})
	}
	slices.SortFunc(r.changed, func(x, y shift) int { return cmp.Compare(x.uids[0], y.uids[0]) })
	return r
}

// snapshot is all that is known.
func (b *box) snapshot() *snapshot {
	n := b.rows.len
	b.grave.trim(time.Now())
	s := &snapshot{
		time: time.Now(), modseq: b.modseq, next: b.head.next, keywords: b.more, removed: b.grave, views: b.views(), by: b.log.by,
		uids: make([]uint32, 0, n), wheres: make([]uint32, 0, n), saved: make([]uint32, 0, n), modseqs: make([]uint64, 0, n),
	}
	var names []byte
	places := map[uint32]uint32{}
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			m := bl.mark[i]
			if m == 0 {
				continue
			}
			at, ok := places[m]
			if !ok {
				at = uint32(len(s.table))
				places[m] = at
				s.table = append(s.table, b.where(m))
			}
			s.uids, s.wheres = append(s.uids, bl.uid[i]), append(s.wheres, at)
			s.saved, s.modseqs = append(s.saved, bl.saved.at(i)), append(s.modseqs, bl.modseq.at(i))
			names = appendName(names, bl.base(i))
		}
	}
	s.names = asString(names)
	for _, id := range b.ids {
		if _, _, ok := b.rows.blocks.find(id.uid); ok {
			s.ids = append(s.ids, id)
		}
	}
	return s
}

// readJournal learns what other processes have changed. A journal that cannot be read is none. The names of keywords are
// read between reading it and believing it: a letter has its name before the journal has the message that carries it.
func (b *box) readJournal() error {
	first := b.journal.validity() == 0
	s, recs, err := b.journal.read(b.dir)
	unnamed := b.readKeywords() // what was read of the journal has to be taken over all the same
	if err != nil {
		if b.usable = false; !errors.Is(err, errNoJournal) {
			slog.Warn("the journal cannot be read", "folder", b.journal.folder, "err", err)
		}
		return unnamed
	}
	if s != nil && b.head.validity != 0 && b.journal.validity() != b.head.validity {
		b.usable = false // it is of another time; the list tells
		b.journal.lose(b.journal.stamp)
		return unnamed
	}
	if s == nil && len(recs) > 0 && b.log.keywords > 0 {
		// Somebody else has given further names to keywords, and ours could not be written: his count.
		b.journal.lose(stamp{})
		return b.readJournal()
	}
	var was *recollection
	if s != nil {
		was = b.memory()
		b.load(s)
	}
	for i := range recs {
		b.replay(&recs[i])
	}
	if was != nil {
		b.recall(was, max(s.modseq, latest(recs)))
	}
	if s != nil || len(recs) > 0 {
		b.usable = b.head.validity == b.journal.validity()
		if b.log.messages() { // seen by us alone, and maybe before what somebody else has read
			b.new.read, b.cur.read = time.Time{}, time.Time{}
		}
	}
	if s != nil && first {
		b.fresh = !b.cur.own.IsZero()
		if !b.new.own.IsZero() { // the same for new, which is read at once
			b.new.read = time.Time{}
		}
		b.age()
		if k := b.told.letters; k != nil && *k != b.kwStamp { // letters may have other names than clients were told
			b.log.changed = append(b.log.changed, b.rows.uids(func(m uint32) bool { return b.info(m).letters != 0 })...)
		}
	}
	return unnamed
}

// load takes over a snapshot.
func (b *box) load(s *snapshot) {
	head, keywords, gone := b.head, b.keywords, b.log.gone
	exts, known, sizes := b.exts, b.extsKnown, b.sizes
	b.clear()
	b.head, b.keywords = head, keywords
	b.exts, b.extsKnown, b.sizes = exts, known, sizes
	b.head.validity = b.journal.validity()
	b.head.next = max(b.head.next, s.next, 1)
	if b.head.version == 0 {
		b.head.version = 3
	}
	b.more, b.ids, b.grave = s.keywords, s.ids, s.removed
	b.modseq = max(b.modseq, s.modseq)
	marks := make([]uint32, len(s.table))
	for i, w := range s.table {
		marks[i] = b.mark(w.dir, octets(w.text), placesText(w.more))
	}
	b.rows.load(s, marks)
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			if b.infos[bl.mark[i]].dir == inNew {
				b.inNew.add(bl.uid[i])
			}
		}
	}
	// Lines that the snapshot does not know of are in the list alone.
	b.known = s.next
	b.list, b.listEnd, b.listTail, b.listWhole = stamp{}, 0, "", false
	b.adoptViews(&s.views)
	for _, u := range gone { // what we have seen going, or moved away, stays gone
		for _, uid := range b.rows.within(u) {
			b.vanish(uid)
		}
	}
}

// replay takes over a change that another process has made.
func (b *box) replay(r *record) {
	b.more = append(b.more[:len(b.more):len(b.more)], r.keywords...)
	mark := func(w where) uint32 {
		for _, k := range w.more {
			if int(k) >= len(b.more) {
				w.more = nil
				break
			}
		}
		return b.mark(w.dir, octets(w.text), placesText(w.more))
	}
	mine := b.log // what we have seen ourselves and not written yet
	b.log = changes{}
	for _, u := range r.vanished {
		for _, uid := range b.rows.within(u) {
			b.vanish(uid)
		}
	}
	// What we have seen going, or moved away, stays gone, whatever somebody has seen of it before.
	r.added = slices.DeleteFunc(r.added, func(a addition) bool { return mine.gone.has(a.uid) })
	for _, a := range r.added {
		delete(b.absent, a.base)
		if old, ok := b.rows.get(a.uid); ok && old.base != a.base {
			b.vanish(a.uid)
		}
		if b.index.uids != nil { // else making it finds names that stand for two UIDs
			if k, i, ok := b.lookup(a.base); ok && b.rows.blocks[k].uid[i] != a.uid {
				b.vanish(b.rows.blocks[k].uid[i])
			}
		}
		if _, ok := b.rows.get(a.uid); !ok {
			b.add(a.uid, 0, a.saved, a.base)
		}
		b.put(a.uid, mark(a.where))
	}
	for _, c := range r.changed {
		m := mark(c.where)
		for _, uid := range c.uids {
			b.put(uid, m)
		}
	}
	if r.modseq > 0 {
		for _, a := range r.added {
			b.rows.renumber(a.uid, r.modseq)
		}
		for _, c := range r.changed {
			for _, uid := range c.uids {
				b.rows.renumber(uid, r.modseq)
			}
		}
	}
	b.grave.add(r.vanished, r.modseq)
	b.ids.set(r.ids)
	b.log = mine
	b.heard(r)
	if r.modseq > 0 && r.modseq <= b.modseq { // clients were told a later one without this: it comes again
		b.log.late(r)
	}
	b.modseq = max(b.modseq, r.modseq)
	b.adoptViews(&r.views)
	b.state = nil
}

// adoptViews believes what was noted of the files beside the journal.
func (b *box) adoptViews(v *views) {
	if v.new != nil {
		b.new = *v.new
	}
	if v.cur != nil {
		b.cur = *v.cur
	}
	if l := v.list; l != nil && (b.list != l.stamp || b.listEnd != l.end) && !b.distrust {
		b.list, b.listEnd, b.listTail, b.listWhole = l.stamp, l.end, l.tail, l.end == l.stamp.size
		b.lastLine, b.extsKnown = b.rows.last(), false
		b.judged = b.known
	}
	b.told = *v
}
