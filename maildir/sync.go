package maildir

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
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
	case v.read.IsZero() || now != v.stamp:
		return true
	case !v.own.IsZero():
		return t.Sub(v.own) >= min(max(ownRescan, v.cost*rescanShare), ownRescanMax)
	case v.settled(v.read):
		return false
	}
	return v.settled(t)
}

// saw notes a stamp taken just before a reading.
func (v *dirView) saw(now stamp, t time.Time) {
	if now != v.stamp || v.since.IsZero() {
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
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return nil, fs.ErrClosed
	}
	if err := f.look(o.Claim); err != nil {
		return nil, fmt.Errorf("sync folder %q: %w", f.name, err)
	}
	if len(f.beyond) > 0 {
		f.addBeyond()
	}
	return f.picture(), nil
}

// picture gives the present State.
func (f *Folder) picture() *State {
	if f.state != nil && !f.changed && len(f.touched) == 0 && f.state.UIDNext == f.head.next {
		return f.state
	}
	var list []*Message
	if f.state != nil && !f.changed {
		list = slices.Clone(f.state.list)
		for _, m := range f.touched {
			if i, ok := findUID(list, m.UID); ok {
				list[i] = m
			}
		}
	} else {
		list = make([]*Message, 0, len(f.lines))
		for _, m := range f.lines {
			if m.dir == inNew || m.dir == inCur {
				list = append(list, m)
			}
		}
	}
	f.touched = nil
	f.state = &State{UIDValidity: f.head.validity, UIDNext: f.head.next, list: list, Keywords: f.keywords.all()}
	f.changed = false
	return f.state
}

// look brings everything up to the disk.
func (f *Folder) look(claim bool) error {
	if err := f.readList(); err != nil {
		return err
	}
	if err := f.readKeywords(); err != nil {
		return err
	}
	t := time.Now()
	newStamp, curStamp, err := f.stamps()
	if err != nil {
		return err
	}
	readCur := f.unseen > 0 || f.cur.due(curStamp, t)
	readNew := readCur || f.new.read.IsZero() || newStamp != f.new.stamp || !f.new.settled(f.new.read)
	known := f.head.validity != 0 && !f.rewrite
	if known && !readNew && !(claim && f.inNew > 0) {
		return nil
	}
	var p *pass
	if known {
		if p, err = f.pass(readCur); err != nil {
			return err
		}
		f.apply(p, false)
		if p.stable {
			f.bury(p, true)
		}
		if len(p.unknown) == 0 && p.missing == 0 && !p.twice && !(claim && f.inNew > 0) {
			return nil
		}
	}
	return f.lookLocked(p, claim)
}

// stamps looks at new and cur. Without them the folder is no more.
func (f *Folder) stamps() (n, c stamp, err error) {
	if n, err = f.dir.stamp("new"); err == nil {
		c, err = f.dir.stamp("cur")
	}
	if err == nil && (n == stamp{} || c == stamp{}) {
		err = ErrGone
	}
	return n, c, err
}

// lookLocked does what may give UIDs or take messages for gone, under the lock. p is the reading without the lock, if any.
func (f *Folder) lookLocked(p *pass, claim bool) error {
	lk, err := f.dir.lock()
	if err != nil {
		if f.head.validity != 0 && !f.distrust && (noRoom(err) || readOnly(err)) {
			return nil // nothing can be written: what has a UID is shown
		}
		return err
	}
	defer lk.release()
	if err := f.readList(); err != nil {
		return err
	}
	if err := f.readKeywords(); err != nil {
		return err
	}
	if f.head.validity == 0 {
		if err := f.beginList(); err != nil {
			return err
		}
	}
	looks, readCur := 0, p == nil || p.readCur || f.unseen > 0
	if p != nil && p.readCur {
		looks = 1
	}
	for try := 0; ; try++ {
		if p, err = f.pass(readCur || try > 0); err != nil {
			return err
		}
		f.apply(p, true)
		if p.readCur {
			looks++
		}
		lk.touch()
		sure := p.stable || p.whole && f.dir.steady() && looks >= 2
		if p.missing == 0 || sure || try == 3 {
			f.bury(p, sure)
			break
		}
		time.Sleep(fineGrain / 2)
	}
	onDisk := f.listEnd > 0
	fresh, err := f.adopt(p, lk)
	if err != nil {
		return err
	}
	if f.head.next > fresh || f.rewrite || f.doubled {
		if err := f.writeList(fresh); err != nil {
			f.unadopt(fresh)
			if onDisk && !f.distrust && (noRoom(err) || readOnly(err)) {
				return nil
			}
			return err
		}
	}
	if claim {
		f.claim(lk)
	}
	return nil
}

// beginList begins a UID list under a new UIDVALIDITY, or with what Courier has left.
func (f *Folder) beginList() error {
	took, beyond, err := f.dir.takeCourier(f.root)
	if err != nil {
		return err
	}
	if took {
		f.beyond = beyond
		if err = f.readList(); err == nil {
			err = f.readKeywords()
		}
		if err != nil || f.head.validity != 0 {
			return err
		}
	}
	v, err := nextValidity(f.root)
	if err != nil {
		return err
	}
	f.head.validity, f.head.next = v, max(f.head.next, 1)
	if f.head.field('G') == "" {
		f.head.fields = append(f.head.fields, newGUID())
	}
	f.rewrite = true
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
func (f *Folder) adopt(p *pass, lk *lock) (uint32, error) {
	if len(p.unknown) == 0 {
		return f.head.next, nil
	}
	slices.SortStableFunc(p.unknown, func(a, b sighting) int {
		return cmp.Or(byDelivery(a.base, b.base), cmp.Compare(a.dir, b.dir))
	})
	if uint64(f.head.next)+uint64(len(p.unknown)) > maxUID {
		if err := f.renumber(); err != nil {
			return 0, err
		}
	}
	fresh := f.head.next
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
			clean := uniqueName()
			if renameNew(f.dir.fd, sub(s.dir)+s.base+s.info.text, f.dir.fd, sub(s.dir)+clean+s.info.text) != nil {
				continue
			}
			s.base = clean
		}
		if at, ok := f.index.findString(f.lines, s.base); ok && f.lines[at].dir != gone {
			continue
		}
		f.addLine(f.head.next, "", s.base)
		m := f.lines[len(f.lines)-1]
		m.dir, m.info = s.dir, s.info
		m.Flags = m.info.flags
		f.recent.add(m.UID)
		f.unseen--
		if s.dir == inNew {
			f.inNew++
		}
		f.changed = true
		for _, o := range same {
			if twin, ok := f.twin(m, o); ok {
				p.unknown = append(p.unknown, twin)
			}
		}
	}
	return fresh, nil
}

// unadopt takes back UIDs from fresh on, which could not be written. Nobody has heard of them.
func (f *Folder) unadopt(fresh uint32) {
	at, _ := findUID(f.lines, fresh)
	for _, m := range f.lines[at:] {
		if m.dir == inNew {
			f.inNew--
		}
	}
	f.lines = f.lines[:at:at]
	f.head.next = fresh
	f.index.build(f.lines, 0)
	f.new.read, f.cur.read = time.Time{}, time.Time{}
	f.list, f.listEnd, f.listTail = stamp{}, 0, "" // read it again: it may have taken some of them
}

// longestBase leaves room behind a base name for ":2,", all flags and all keywords, within the 255 octets of a file name.
const longestBase = 255 - 3 - len(flagLetters) - maxKeywords - 1

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
func (f *Folder) renumber() error {
	f.head.validity = 0
	if err := f.beginList(); err != nil {
		return err
	}
	kept := f.lines[:0:0]
	for _, m := range f.lines {
		if m.dir != gone {
			c := *m
			c.UID = uint32(len(kept)) + 1
			kept = append(kept, &c)
		}
	}
	f.lines, f.exts, f.sizes, f.doubt = kept, nil, nil, nil
	f.head.next = uint32(len(kept)) + 1
	f.index.build(f.lines, 0)
	f.changed = true
	return nil
}

// claim moves what is in new to cur. A file that is gone meanwhile is left to the next look.
func (f *Folder) claim(lk *lock) {
	if f.inNew == 0 {
		return
	}
	defer f.ownChange()()
	for i, m := range f.lines {
		if m.dir != inNew {
			continue
		}
		lk.touch()
		text := m.info.text
		if len(text) < 3 || text[:3] != ":2," {
			text = ":2,"
		}
		err := renameNew(f.dir.fd, m.path(), f.dir.fd, "cur/"+m.base+text)
		if err == nil {
			f.seenAt(i, inCur, f.info([]byte(text)))
			f.inNew--
		}
	}
}

// ownChange is called before we rename or remove files in cur, and what it returns after: if nobody else had changed
// cur before, we know what is in it, and need not read it on account of our own change.
func (f *Folder) ownChange() func() {
	before, err := f.dir.stamp("cur")
	clean := err == nil && before == f.cur.stamp && !f.cur.read.IsZero()
	return func() {
		after, err := f.dir.stamp("cur")
		if !clean || err != nil || after == before {
			return
		}
		now := time.Now()
		f.cur.stamp, f.cur.since = after, now
		if f.cur.own.IsZero() {
			f.cur.own = now
		}
	}
}

// find looks for files that are not under their known names, without giving UIDs.
func (f *Folder) find() (*pass, error) {
	if err := f.readList(); err != nil {
		return nil, err
	}
	p, err := f.pass(true)
	if err != nil {
		return nil, err
	}
	f.apply(p, false)
	if p.stable {
		f.bury(p, true)
	}
	if len(p.unknown) > 0 || p.missing > 0 {
		f.new.read, f.cur.read = time.Time{}, time.Time{} // the next Sync sees to them
	}
	return p, nil
}
