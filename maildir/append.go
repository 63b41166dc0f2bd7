package maildir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"
)

// AppendOptions say how a message is added to a folder.
type AppendOptions struct {
	Flags    Flags
	Keywords []string
	Date     time.Time // INTERNALDATE; zero is now
	Limit    int64     // octets at most, as read; more is ErrTooBig. 0: no limit
}

// Append adds the message that r holds, and gives it its UID. CRLF becomes LF. When it returns nil the message and its
// UID are on disk; when it does not, nothing of it is left. ErrKeywords when there would be too many keywords, ErrQuota when
// there is no room for it.
func (f *Folder) Append(o AppendOptions, r io.Reader) (uid uint32, err error) {
	a, err := f.Arrive()
	if err != nil {
		return 0, err
	}
	defer a.Abort()
	if err := a.Add(o, r); err != nil {
		return 0, err
	}
	uids, err := a.Commit()
	if err != nil {
		return 0, err
	}
	return uids[0], nil
}

// An Arrival is messages on their way into a folder: all of them come there, or none does. It is for one goroutine.
type Arrival struct {
	f     *Folder
	b     *box // nil when it has ended
	to    target
	files []*arriving
	old   Usage

	noFlags Rights // to change flags, which the user has not
}

// arriving is one of the messages.
type arriving struct {
	spool
	o    AppendOptions
	old  Usage // what it comes in the place of
	uid  uint32
	path string // its place in the folder; empty when it has none (any more)
}

// Arrive begins to add messages. The caller ends it with Commit or Abort.
func (f *Folder) Arrive() (*Arrival, error) {
	b, err := f.enter()
	if err != nil {
		return nil, err
	}
	noFlags, err := f.may(RightInsert)
	var t target
	if err == nil {
		t, err = newTarget(b.dir.hold())
		if errors.Is(err, fs.ErrNotExist) && b.dir.mend() { // somebody has removed tmp
			t, err = newTarget(b.dir.hold())
		}
	}
	if err != nil {
		b.leave()
		return nil, fmt.Errorf("append to folder %q: %w", f.name, err)
	}
	t.root = b.root.hold()
	return &Arrival{f: f, b: b, to: t, noFlags: noFlags}, nil
}

// Add takes in one more message, as Append does. When it returns nil the message is on disk, where nobody sees it. Nothing is
// locked while r is read: a client may be slow.
func (a *Arrival) Add(o AppendOptions, r io.Reader) error {
	if a.b == nil {
		return fs.ErrClosed
	}
	o.Flags, o.Keywords = a.noFlags.without(o.Flags, o.Keywords)
	file := &arriving{o: o, old: a.old}
	err := file.open(a.to, o.Limit)
	if err == nil {
		a.files = append(a.files, file)
		if _, err = io.Copy(file, r); err == nil {
			err = file.finish(o.Date)
		}
	}
	if err != nil {
		return fmt.Errorf("append to folder %q: %w", a.f.name, err)
	}
	return nil
}

// Instead says that one message comes in the place of another in the same Maildir, which is removed behind it: the room of
// that one counts as free (RFC 8508 §3.4). octets is what it counts.
func (a *Arrival) Instead(octets int64) { a.old = Usage{Octets: octets, Messages: 1} }

// Abort gives up what was not committed.
func (a *Arrival) Abort() {
	if a.b == nil {
		return
	}
	for _, file := range a.files {
		file.discard()
	}
	a.to.close()
	a.b.leave()
	a.b = nil
}

// Commit gives the messages their UIDs, in the order they were added. When it returns nil they are on disk with these; when it
// does not, none of them is there.
func (a *Arrival) Commit() (uids []uint32, err error) {
	if a.b == nil {
		return nil, fs.ErrClosed
	}
	defer a.Abort()
	if len(a.files) == 0 {
		return nil, nil
	}
	l := &landing{by: a.f.by, files: a.files, turn: make(chan bool, 1)}
	a.b.land(l)
	if !l.there {
		return nil, fmt.Errorf("append to folder %q: %w", a.f.name, cmp.Or(l.err, errLost))
	}
	for _, file := range a.files {
		uids = append(uids, file.uid)
	}
	a.f.first(a.f.UIDValidity(), uids...)
	return uids, nil
}

// A landing is what one client lets arrive at once.
type landing struct {
	by    string
	files []*arriving
	there bool      // the files have their names and UIDs
	err   error     // why not
	turn  chan bool // true: it is done. false: lead those who wait
}

// A pier is where landings of all the process's clients of a folder meet. One of them leads: it takes the lock, gives
// the files of all their names and UIDs, and syncs the list once for all of them. Who comes meanwhile waits and is
// taken along by the next one. So the lock is taken and the list synced once for many messages where many come, and as soon
// as ever where one comes.
type pier struct {
	mu      sync.Mutex
	led     bool
	waiting []*landing
}

// errLost is when the one who led did not come to an end.
var errLost = errors.New("the folder was left in the middle of a change")

// landTogether bounds how many messages are given their names under one lock.
const landTogether = 1000

// board gives those who go next.
func (p *pier) board() (group []*landing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := 0; len(p.waiting) > 0 && (n == 0 || n+len(p.waiting[0].files) <= landTogether); p.waiting = p.waiting[1:] {
		group = append(group, p.waiting[0])
		n += len(p.waiting[0].files)
	}
	return group
}

// hand lets another one lead.
func (p *pier) hand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.led = len(p.waiting) > 0; p.led {
		p.waiting[0].turn <- false
	}
}

// land brings finished files into the folder.
//
// Why it is durable: each file was synced before it came here, and only then gets its name. The line of the list is synced
// before the mutex is free, so nobody in this process can tell of the UID before; who reads it from the list in another
// process syncs the list himself before he tells. The directory is synced last: a line whose message a power cut
// has taken is of no harm, since the UID is never given again. Only then is the client told.
func (b *box) land(l *landing) {
	p := &b.pier
	p.mu.Lock()
	p.waiting = append(p.waiting, l)
	first := !p.led
	p.led = true
	p.mu.Unlock()
	if !first && <-l.turn {
		return
	}
	var group []*landing
	handed := false
	defer func() { // others wait for us, whatever becomes of us
		if !handed {
			p.hand()
		}
		for _, other := range group {
			if other != l {
				other.turn <- true
			}
		}
	}()
	lk, err := b.dir.lock()
	group = p.board()
	if err == nil {
		b.enroll(lk, group)
		lk.release()
	} else {
		for _, l := range group {
			l.err = err
		}
	}
	handed = true
	p.hand()
	// Who sees the messages now sees them under their UIDs: no lock is needed for the rest.
	for _, dir := range []byte{inNew, inCur} {
		b.settleIn(dir, group)
	}
}

// enroll gives files their names and UIDs, under the lock.
func (b *box) enroll(lk *lock, group []*landing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fail := func(err error) {
		for _, l := range group {
			if l.err == nil {
				l.fail(b, err)
			}
		}
	}
	n := 0
	for _, l := range group {
		n += len(l.files)
	}
	if err := b.roomFor(n); err != nil {
		fail(err)
		return
	}
	fresh := b.head.next
	changed, arrived := b.ownChange(), b.ownArrival()
	more := false
	for _, l := range group {
		lk.touch()
		further, err := l.enroll(b)
		if err != nil {
			b.takeBack(l.files[0].uid)
			l.fail(b, err)
		}
		more = more || further
	}
	changed()
	arrived()
	if b.head.next == fresh {
		return
	}
	err := b.writeList(fresh)
	if err == nil {
		if err = b.commit(lk, more); err != nil {
			b.commit(nil, false)
			if !more { // keywords beyond the letters would stand nowhere else
				err = nil
			}
		}
	}
	if err != nil {
		b.unadopt(fresh)
		fail(err)
	}
	for _, l := range group {
		l.there = l.err == nil
	}
}

// enroll gives the files of one landing their names, and adds them to the rows. more tells that some have keywords beyond the
// letters.
func (l *landing) enroll(b *box) (more bool, err error) {
	b.log.by = l.by
	for _, file := range l.files {
		file.uid = b.head.next
		further, err := file.enroll(b)
		if err != nil {
			return false, err
		}
		more = more || further
	}
	return more, nil
}

func (f *arriving) enroll(b *box) (more bool, err error) {
	labels, err := b.labels(f.o.Keywords, true)
	if err != nil {
		return false, err
	}
	dir, text := inNew, ""
	if f.o.Flags != 0 || labels.letters != 0 {
		dir, text = inCur, infoText(f.o.Flags, labels.letters, "", "")
	}
	count, err := f.to.root.claimFor(f.s, 1, f.old)
	if err != nil {
		return false, err
	}
	defer count.close()
	base, err := f.place(f.to.tmp, f.name, b.dir.fd, sub(dir), text)
	if err != nil {
		count.note(-f.s, -1)
		return false, err
	}
	f.name, f.path = "", sub(dir)+base+text
	b.add(f.uid, b.mark(dir, octets(text), joinMore("", nil, labels.more)), uint32(time.Now().Unix()), base)
	return len(labels.more) > 0, nil
}

// fail removes what has its name already.
func (l *landing) fail(b *box, err error) {
	l.there, l.err = false, err
	for _, file := range l.files {
		if file.path != "" {
			b.dir.unlink(file.path)
			file.to.root.uncount(file.s, 1)
			file.path = ""
		}
	}
}

// settleIn syncs the directory that files of a group have come into.
func (b *box) settleIn(dir byte, group []*landing) {
	var here []*landing
	for _, l := range group {
		for _, file := range l.files {
			if l.there && file.path[:4] == sub(dir) {
				here = append(here, l)
				break
			}
		}
	}
	if len(here) == 0 {
		return
	}
	err := b.dir.sync(sub(dir)[:3])
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range here {
		l.fail(b, err)
		for _, file := range l.files {
			b.vanish(file.uid)
		}
	}
}

// roomFor makes ready for n further messages.
func (b *box) roomFor(n int) error {
	if _, _, err := b.stamps(); err != nil {
		return err
	}
	if err := b.refresh(); err != nil {
		return err
	}
	if b.head.validity == 0 {
		if err := b.beginList(); err != nil {
			return err
		}
	}
	if uint64(b.head.next)+uint64(n) > maxUID {
		return b.renumber()
	}
	return nil
}
