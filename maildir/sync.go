package maildir

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// SyncOptions say how to look.
type SyncOptions struct {
	Claim bool // move what is in new to cur: SELECT does, EXAMINE, STATUS and POP3 do not
}

// How long a directory's time may hide a change that came after a scan: a tick of the kernel's clock on file systems
// that keep fractions of a second, a second or two on others. By our clock, after we first saw that time.
const (
	fineGrain   = 25 * time.Millisecond
	coarseGrain = 2100 * time.Millisecond
)

// Our own changes do not make us read cur at once. Somebody else's change may hide behind them, so it is read after a
// while: a second, or longer where reading takes so long that it would cost more than a fiftieth of the time.
const (
	ownRescan    = time.Second
	ownRescanMax = 10 * time.Second
	rescanShare  = 50
)

// A dirView is what we knew of new or cur when we last read it.
type dirView struct {
	stamp stamp
	since time.Time // when we first saw this stamp
	read  time.Time // when the last reading began
	own   time.Time // our first change after it; zero: none
	cost  time.Duration
	ours  bool // it was read with this stamp before, which our own change has given it
}

// settled tells whether at the time t no change can hide behind the stamp any more.
func (v *dirView) settled(t time.Time) bool {
	grain := fineGrain
	if v.stamp.nsec == 0 {
		grain = coarseGrain
	}
	return v.stamp.age(t) > coarseGrain || t.Sub(v.since) > grain
}

// due tells whether the directory has to be read: it changed, or it may have changed without showing.
func (v *dirView) due(now stamp, t time.Time) bool {
	switch {
	case v.read.IsZero() || now != v.stamp || t.Before(v.read): // a clock was set back since
		return true
	case !v.own.IsZero():
		return t.Sub(v.own) >= min(max(ownRescan, v.cost*rescanShare), ownRescanMax)
	case v.settled(v.read):
		return false
	}
	return v.settled(t)
}

// known tells whether a reading has found all that was there under the stamp, but for what may hide behind our own changes.
func (v *dirView) known() bool {
	return !v.read.IsZero() && (v.settled(v.read) || v.ours || !v.own.IsZero())
}

// changed notes the stamp after a change of our own.
func (v *dirView) changed(now stamp) {
	t := time.Now()
	v.stamp, v.since = now, t
	if v.own.IsZero() {
		v.own = t
	}
}

// saw notes a stamp taken just before a reading.
func (v *dirView) saw(now stamp, t time.Time) {
	v.ours = now == v.stamp && (v.ours || !v.own.IsZero())
	if now != v.stamp || v.since.IsZero() || t.Before(v.since) {
		v.stamp, v.since = now, t
	}
	v.read, v.own = t, time.Time{}
}

// A doubt is about a message that was not found while its directory was changing all the time.
type doubt struct {
	looks int
	since time.Time
}

// Beyond this we stop doubting: so many readings in a row, over so long a time, cannot all have missed it.
const (
	maxDoubts = 10
	minDoubt  = 2 * time.Second
)

// Sync looks what has changed since the last time, and gives the folder as it is now: the same *State when nothing
// changed. New files get their UIDs in the order of their delivery; files that were renamed keep
// theirs; a message is taken for gone only when that is sure.
func (f *Folder) Sync(o SyncOptions) (*State, error) {
	b, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer b.leave()
	st, err := b.sync(f, o.Claim)
	if err != nil {
		return nil, fmt.Errorf("sync folder %q: %w", f.name, err)
	}
	return st, nil
}

// sync is Sync for the session by.
func (b *box) sync(by *Folder, claim bool) (*State, error) {
	b.mu.Lock()
	p, more, err := b.look(claim)
	if more && err == nil {
		// The lock comes before the mutex: who waits for another program shall hold up nobody.
		b.mu.Unlock()
		lk, lerr := b.dir.lock()
		b.mu.Lock()
		if lerr == nil {
			err = b.lookLocked(by, p, claim, lk)
			lk.release()
		} else if err = b.unlocked(p, lerr); err == nil {
			b.commit(nil, false)
		}
	}
	defer b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if by != nil {
		by.meet(b)
	}
	return b.picture(), nil
}

// unlocked makes do with what can be known without the lock, when that cannot be had: what has a UID is shown.
func (b *box) unlocked(p *pass, err error) error {
	newsOnly := p != nil && len(p.unknown) == 0 && p.missing == 0
	if b.head.validity == 0 || b.distrust || !noRoom(err) && !readOnly(err) && !(errors.Is(err, ErrLocked) && newsOnly) {
		return err
	}
	if b.past {
		b.retell()
	}
	if p == nil || p.version != b.version {
		readCur, readNew, err := b.due()
		if err != nil || !readNew {
			return err
		}
		if p, err = b.pass(readCur); err != nil {
			return err
		}
	}
	b.apply(p, false)
	if p.stable {
		b.bury(p, true)
	}
	if readOnly(err) { // there is nothing more to be done
		b.seenTo(p)
	}
	return nil
}

// refresh brings the journal, the UID list and the keywords up to the disk.
func (b *box) refresh() error {
	if b.dir == nil {
		return fs.ErrClosed
	}
	for range 3 {
		before := b.head.validity
		if err := b.readJournal(); err != nil {
			return err
		}
		if err := b.readList(); err != nil {
			return err
		}
		if before == 0 || before == b.head.validity {
			break
		}
		// The list is another one, and so may be the journal.
	}
	return nil
}

// look brings everything up to the disk, as far as that can be without the lock; more tells that there is something to do
// with it. p is the reading that says so, if any.
func (b *box) look(claim bool) (p *pass, more bool, err error) {
	if err := b.refresh(); err != nil {
		return nil, false, err
	}
	readCur, readNew, err := b.due()
	if err != nil {
		return nil, false, err
	}
	claim = claim && len(b.inNew) > 0
	if b.head.validity == 0 || b.rewrite || b.past || b.known > 0 && b.known < b.head.next {
		return nil, true, nil
	}
	if !readNew {
		return nil, claim || b.log.messages(), nil
	}
	if p, err = b.pass(readCur); err != nil {
		return nil, false, err
	}
	if p.news() || b.log.messages() || claim {
		return p, true, nil
	}
	b.apply(p, false)
	b.noteViews()
	return nil, false, nil
}

// due tells what has to be read.
func (b *box) due() (readCur, readNew bool, err error) {
	t := time.Now()
	newStamp, curStamp, err := b.stamps()
	readCur = b.unseen > 0 || len(b.absent) > 0 || b.fresh || b.cur.due(curStamp, t)
	readNew = readCur || b.new.due(newStamp, t) || !b.new.known()
	return readCur, readNew, err
}

// noteViews writes to the journal what a reading has found unchanged, so that nobody has to read it again. It does so only
// when the lock is free.
func (b *box) noteViews() {
	t := time.Now()
	worth := func(v, told *dirView) bool {
		return !v.due(v.stamp, t) && v.settled(v.read) && (told == nil || told.due(v.stamp, t) || !told.settled(told.read))
	}
	if !b.usable || !worth(&b.new, b.told.new) && !worth(&b.cur, b.told.cur) {
		return
	}
	lk := b.dir.lockNow()
	if lk == nil {
		return
	}
	defer lk.release()
	before := b.version
	if b.readJournal() == nil && b.version == before && b.usable {
		b.log.looked = true
		b.commit(lk, false)
	}
}

// lookLocked does what may give UIDs or take messages for gone, and what the journal has to be told, under the lock. p is
// the reading without the lock, if any; it stands as long as nothing has changed since.
func (b *box) lookLocked(by *Folder, p *pass, claim bool, lk *lock) (err error) {
	if err := b.refresh(); err != nil {
		return err
	}
	defer func() {
		if cerr := b.commit(lk, false); cerr != nil {
			b.commit(nil, false)
		}
	}()
	if b.head.validity == 0 {
		if err := b.beginList(); err != nil {
			return err
		}
	}
	if b.past {
		// What the journal takes for gone may be there again: it has its UID on the list.
		b.judged = 0
		if err := b.readWholeList(); err != nil {
			return err
		}
		b.retell()
	}
	looks := 0
	if p != nil && p.readCur {
		looks = 1
	}
	if p, err = b.sureOf(p, looks, lk); err != nil {
		return err
	}
	onDisk := b.listEnd > 0
	fresh, err := b.adopt(by, p, lk)
	if err != nil {
		return err
	}
	if b.head.next > fresh || b.rewrite {
		if err := b.writeList(fresh); err != nil {
			b.unadopt(fresh)
			if onDisk && !b.distrust && (noRoom(err) || readOnly(err)) {
				return nil
			}
			return err
		}
	}
	b.seenTo(p)
	if by != nil {
		by.meet(b)
	}
	b.addBeyond()
	if claim {
		b.claim(lk)
	}
	return nil
}

// sureOf reads until it is known what is gone, or that it cannot be known now.
func (b *box) sureOf(p *pass, looks int, lk *lock) (_ *pass, err error) {
	readCur, readNew, err := b.due()
	if err != nil {
		return nil, err
	}
	kept := p != nil && p.version == b.version && p.newStamp == b.new.stamp && (!p.readCur || p.curStamp == b.cur.stamp)
	if kept {
		n, c, err := b.stamps()
		kept = err == nil && n == p.newStamp && c == p.curStamp
	} else if p == nil && !readNew {
		return &pass{}, nil
	}
	for try := 0; ; try++ {
		if !kept {
			if p, err = b.pass(readCur || try > 0); err != nil {
				return nil, err
			}
			if p.readCur {
				looks++
			}
		}
		kept = false
		b.apply(p, true)
		lk.touch()
		sure := p.stable || p.whole && b.dir.steady() && looks >= 2
		if p.missing == 0 || sure || try == 3 {
			b.bury(p, sure)
			return p, nil
		}
		time.Sleep(fineGrain / 2)
	}
}

// beginList begins a UID list under a new UIDVALIDITY, or with what Courier has left.
func (b *box) beginList() error {
	took, beyond, err := b.dir.takeCourier(b.root)
	if err != nil {
		return err
	}
	if took {
		b.beyond = beyond
		if err = b.readList(); err == nil {
			err = b.readKeywords()
		}
		if err != nil || b.head.validity != 0 {
			return err
		}
	}
	v, err := nextValidity(b.root)
	if err != nil {
		return err
	}
	b.head.validity, b.head.next = v, max(b.head.next, 1)
	if b.head.field('G') == "" {
		b.head.fields = append(b.head.fields, newGUID())
	}
	b.rewrite, b.extsKnown, b.state = true, true, nil
	return nil
}

// newGUID is the field with a folder's identity.
func newGUID() string {
	var id [16]byte
	rand.Read(id[:])
	return "G" + hex.EncodeToString(id[:])
}

// adopt gives UIDs to files that have none, in the order of their delivery, and returns the first of them. The list is
// not written yet.
func (b *box) adopt(by *Folder, p *pass, lk *lock) (uint32, error) {
	if len(p.unknown) == 0 {
		return b.head.next, nil
	}
	b.inOrder(p.unknown)
	if uint64(b.head.next)+uint64(len(p.unknown)) > maxUID {
		if err := b.renumber(); err != nil {
			return 0, err
		}
	}
	fresh, now := b.head.next, uint32(time.Now().Unix())
	var first []uint32
	var others []sighting // of the base name at hand, in other places
	for i := 0; i < len(p.unknown); i++ {
		s := p.unknown[i]
		lk.touch()
		if i+1 < len(p.unknown) && p.unknown[i+1].base == s.base {
			others = append(others, s)
			continue // seen in two places: the later one counts, cur before new
		}
		same := others
		others = nil
		if !listable(s.base) {
			in, clean := b.info(s.mark), uniqueName()
			if renameNew(b.dir.fd, b.pathOf(s), b.dir.fd, sub(in.dir)+clean+in.text) != nil {
				continue
			}
			s.base = clean
		}
		if _, _, ok := b.lookup(s.base); ok {
			continue
		}
		if b.died(s.base) {
			b.rewrite = true
		}
		first = append(first, b.head.next)
		b.add(b.head.next, s.mark, now, s.base)
		for _, o := range same {
			if twin, ok := b.twin(b.pathOf(s), o); ok {
				p.unknown = append(p.unknown, twin)
			}
		}
	}
	if by != nil {
		by.first(b.head.validity, first...)
	}
	return fresh, nil
}

// inOrder sorts files by their delivery, the places of one base name with cur behind new.
func (b *box) inOrder(list []sighting) {
	type key struct {
		sec, usec uint64
		sighting
	}
	keys := make([]key, len(list))
	for i, s := range list {
		keys[i].sighting = s
		keys[i].sec, keys[i].usec = deliveryTime(s.base)
	}
	slices.SortFunc(keys, func(x, y key) int {
		if x.sec != y.sec {
			return cmp.Compare(x.sec, y.sec)
		}
		if x.usec != y.usec {
			return cmp.Compare(x.usec, y.usec)
		}
		return cmp.Or(cmp.Compare(x.base, y.base), cmp.Compare(b.info(x.mark).dir, b.info(y.mark).dir))
	})
	for i, k := range keys {
		list[i] = k.sighting
	}
}

// unadopt takes back UIDs from fresh on, which could not be written. Nobody has heard of them.
func (b *box) unadopt(fresh uint32) {
	b.takeBack(fresh)
	b.new.read, b.cur.read = time.Time{}, time.Time{}
	b.list, b.listEnd, b.listTail = stamp{}, 0, "" // read it again: it may have taken some of them
}

// takeBack takes back UIDs from fresh on, which nobody has tried to write yet.
func (b *box) takeBack(fresh uint32) {
	for _, uid := range b.rows.within(UIDRange{fresh, maxUID}) {
		b.vanish(uid)
		b.log.gone.remove(uid)
	}
	late := func(id ident) bool { return id.uid >= fresh }
	b.log.ids, b.ids = slices.DeleteFunc(b.log.ids, late), slices.DeleteFunc(b.ids, late)
	b.head.next = fresh
	b.state = nil
}

// longestBase leaves room behind a base name for ":2,", all flags and all keywords, within the 255 octets of a file name.
const longestBase = 255 - 3 - len(flagLetters) - maxLetters - 1

// listable tells whether a base name can stand in a line of the UID list, and the flags of its message behind it.
func listable(base string) bool {
	if len(base) > longestBase {
		return false
	}
	for i := range len(base) {
		if base[i] < ' ' || base[i] == 0x7f {
			return false
		}
	}
	return validBase(base)
}

// renumber begins anew when the UIDs are used up.
func (b *box) renumber() error {
	b.head.validity = 0
	if err := b.beginList(); err != nil {
		return err
	}
	var kept builder
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			r := bl.row(i)
			r.uid = uint32(kept.n) + 1
			kept.add(r)
		}
	}
	b.rows.take(&kept)
	b.absent, b.exts, b.sizes, b.doubt, b.index, b.ids = nil, nil, nil, nil, index{}, nil
	b.log, b.grave, b.usable, b.known = changes{}, graveyard{}, false, 0
	b.head.next = uint32(kept.n) + 1
	b.inNew = nil
	for _, uid := range b.rows.uids(func(m uint32) bool { return b.info(m).dir == inNew }) {
		b.inNew.add(uid)
	}
	b.version++
	b.state = nil
	return nil
}

// claim moves what is in new to cur. A file that is gone meanwhile is left to the next look.
func (b *box) claim(lk *lock) {
	if len(b.inNew) == 0 {
		return
	}
	defer b.ownChange()()
	for _, uid := range b.inNew.list() {
		lk.touch()
		r, ok := b.rows.get(uid)
		if !ok {
			continue
		}
		in := b.info(r.mark)
		text := in.text
		if len(text) < 3 || text[:3] != ":2," {
			text = ":2,"
		}
		if renameNew(b.dir.fd, b.path(r), b.dir.fd, "cur/"+r.base+text) == nil {
			b.put(uid, b.mark(inCur, octets(text), in.more))
		}
	}
}

// ownChange is called before we rename or remove files in cur, and what it returns after: if nobody else had changed
// cur before, we know what is in it, and need not read it on account of our own change.
func (b *box) ownChange() func() { return b.ownChangeIn("cur", &b.cur) }

// ownArrival is ownChange for files that we bring into new.
func (b *box) ownArrival() func() { return b.ownChangeIn("new", &b.new) }

func (b *box) ownChangeIn(dir string, v *dirView) func() {
	before, err := b.dir.stamp(dir)
	clean := err == nil && before == v.stamp && !v.read.IsZero()
	return func() {
		if after, err := b.dir.stamp(dir); clean && err == nil && after != before {
			v.changed(after)
		}
	}
}

// find looks for files that are not under their known names, without giving UIDs.
func (b *box) find() (*pass, error) {
	if err := b.refresh(); err != nil {
		return nil, err
	}
	p, err := b.pass(true)
	if err != nil {
		return nil, err
	}
	b.apply(p, false)
	if p.stable {
		b.bury(p, true)
	}
	return p, nil // the next Sync sees to what is unknown or missing
}
