package maildir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// AppendOptions say how a message is added to a folder.
type AppendOptions struct {
	Flags    Flags
	Keywords []string
	Date     time.Time // INTERNALDATE; zero is now
	Limit    int64     // octets at most, as read; more is ErrTooBig. 0: no limit
}

// Append adds the message that r holds, and gives it its UID. CRLF becomes LF. When it returns nil the message and its
// UID are on disk; when it does not, nothing of it is left. ErrKeywords when a keyword can get no letter, ErrQuota when
// there is no room for it.
func (f *Folder) Append(o AppendOptions, r io.Reader) (uid uint32, err error) {
	f.mu.Lock()
	if f.dir == nil {
		f.mu.Unlock()
		return 0, fs.ErrClosed
	}
	t, err := newTarget(f.dir.hold())
	if err == nil {
		t.root = f.root.hold()
	}
	f.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("append to folder %q: %w", f.name, err)
	}
	defer t.close()

	// The client may be slow: nothing is held while it sends.
	var file spool
	if err := file.open(t, o.Limit); err != nil {
		return 0, fmt.Errorf("append to folder %q: %w", f.name, err)
	}
	defer file.discard()
	if _, err = io.Copy(&file, r); err == nil {
		err = file.finish(o.Date)
	}
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		uid, err = f.append(&file, o)
	}
	if err != nil {
		return 0, fmt.Errorf("append to folder %q: %w", f.name, err)
	}
	return uid, nil
}

// append gives a finished file its name and UID.
func (f *Folder) append(file *spool, o AppendOptions) (uid uint32, err error) {
	lk, err := f.lockToAdd(1)
	if err != nil {
		return 0, err
	}
	defer func() { lk.release() }()
	letters, err := f.letters(o.Keywords, true)
	if err != nil {
		return 0, err
	}
	dir, text := inNew, ""
	if o.Flags != 0 || letters != 0 {
		dir, text = inCur, infoText(o.Flags, letters, "", "")
	}
	done := func() {}
	if dir == inCur {
		done = f.ownChange()
	}
	count, err := file.to.root.claim(file.s, 1)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			file.to.root.uncount(file.s, 1)
		}
	}()
	base, err := file.place(file.to.tmp, file.name, f.dir.fd, sub(dir), text)
	count.close()
	if err != nil {
		return 0, err
	}
	file.name = ""
	done()
	fresh := f.head.next
	uid = f.addSeen(base, dir, text)
	if err := f.writeList(fresh); err != nil {
		f.unadopt(fresh)
		f.dir.unlink(sub(dir) + base + text)
		return 0, err
	}
	// Who sees the message now sees it under its UID: the lock is not needed for the rest.
	lk.release()
	lk = nil
	if err := f.dir.sync(sub(dir)[:3]); err != nil {
		f.dir.unlink(sub(dir) + base + text)
		if i, ok := findUID(f.lines, uid); ok {
			f.mark(i, gone)
		}
		return 0, err
	}
	return uid, nil
}

// lockToAdd takes the lock, for adding n messages: list and keywords are up to date, and there are UIDs enough.
func (f *Folder) lockToAdd(n int) (*lock, error) {
	if f.dir == nil {
		return nil, fs.ErrClosed
	}
	lk, err := f.dir.lock()
	if err != nil {
		return nil, err
	}
	if _, _, err = f.stamps(); err == nil {
		err = f.readList()
	}
	if err == nil {
		err = f.readKeywords()
	}
	if err == nil && f.head.validity == 0 {
		err = f.beginList()
	}
	if err == nil && uint64(f.head.next)+uint64(n) > maxUID {
		err = f.renumber()
	}
	if err != nil {
		lk.release()
		return nil, err
	}
	return lk, nil
}

// addSeen takes in a file that we have just put there under a name of ours. The list is not written yet.
func (f *Folder) addSeen(base string, dir byte, text string) uint32 {
	f.addLine(f.head.next, "", base)
	m := f.lines[len(f.lines)-1]
	m.dir, m.info = dir, f.info([]byte(text))
	f.recent.add(m.UID)
	m.Flags = m.info.flags
	f.unseen--
	if dir == inNew {
		f.inNew++
	}
	f.changed = true
	return m.UID
}

// A Pair says which UID a message had, and which it has in the other folder.
type Pair struct {
	From, To uint32
}

// Copy puts messages into another folder, with flags, keywords and dates: as further links to their files, or as copies
// where that cannot be. Messages that are gone are left out. When it returns nil all of it is on
// disk; when it does not, no copy is left. ErrQuota when there is no room for all. The pairs are in the order of msgs.
func (f *Folder) Copy(msgs []Message, to *Folder) ([]Pair, error) {
	return f.transfer(msgs, to, false)
}

// Move is Copy and Expunge in one: each message by one rename, so that it is never in both folders, nor in none. Where
// that cannot be (another file system) it is copied, synced, and removed here. After an error some
// messages may have moved, as the pairs tell.
func (f *Folder) Move(msgs []Message, to *Folder) ([]Pair, error) {
	return f.transfer(msgs, to, true)
}

func (f *Folder) transfer(msgs []Message, to *Folder, move bool) ([]Pair, error) {
	verb := "copy"
	if move {
		verb = "move"
	}
	unlock, err := lockBoth(f, to)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if len(msgs) == 0 {
		return nil, nil
	}
	t := &transfer{from: f, to: to, move: move}
	if err := t.run(msgs); err != nil {
		return t.pairs, fmt.Errorf("%s from folder %q to %q: %w", verb, f.name, to.name, err)
	}
	return t.pairs, nil
}

// lockBoth takes the mutexes of two folders, always in the same order.
func lockBoth(a, b *Folder) (unlock func(), err error) {
	if a == b {
		a.mu.Lock()
		unlock = a.mu.Unlock
	} else {
		first, second := a, b
		if b.serial < a.serial {
			first, second = b, a
		}
		first.mu.Lock()
		second.mu.Lock()
		unlock = func() { second.mu.Unlock(); first.mu.Unlock() }
	}
	if a.dir == nil || b.dir == nil {
		unlock()
		return nil, fs.ErrClosed
	}
	return unlock, nil
}

type transfer struct {
	from, to *Folder
	move     bool
	pairs    []Pair
	made     []string // paths in the target, in the order of pairs
	lk       *lock

	octets, messages int64 // that have come into the target
}

// count claims room for messages; a move within one Maildir changes nothing there. What it returns is to be called when
// all of them have come.
func (t *transfer) count(msgs []Message) (done func(), err error) {
	source, target := t.from.root, t.to.root
	if t.move && source.dev == target.dev && source.ino == target.ino {
		return func() {}, nil
	}
	octets, err := t.from.octets(target, msgs)
	if err != nil {
		return nil, err
	}
	count, err := target.claim(octets, int64(len(msgs)))
	if err != nil {
		return nil, err
	}
	var left *tally
	if t.move {
		left = source.leaving()
	}
	return func() {
		count.note(t.octets-octets, t.messages-int64(len(msgs)))
		count.close()
		left.note(-t.octets, -t.messages)
		left.close()
	}, nil
}

// octets sums up what messages will count in a Maildir, where anybody counts.
func (f *Folder) octets(where *place, msgs []Message) (sum int64, err error) {
	if !where.counts() {
		return 0, nil
	}
	for _, m := range msgs {
		if s, _ := sizes(m.base); s >= 0 {
			sum += s
		} else if st, err := f.stat(m); err == nil {
			sum += st.Size
		} else if !errors.Is(err, ErrGone) {
			return 0, err
		}
	}
	return sum, nil
}

func (t *transfer) run(msgs []Message) (err error) {
	// Only the lock of the target is held: a rename out of the source is seen there as any other program's.
	if t.lk, err = t.to.lockToAdd(len(msgs)); err != nil {
		return err
	}
	defer func() { t.lk.release() }()
	counted, err := t.count(msgs)
	if err != nil {
		return err
	}
	fresh := t.to.head.next
	target, source := t.to.ownChange(), func() {}
	if t.move && t.from != t.to {
		source = t.from.ownChange()
	}
	for _, m := range msgs {
		t.lk.touch()
		if err = t.one(m); err != nil && !errors.Is(err, ErrGone) {
			break
		}
		err = nil
	}
	target()
	source()
	counted()
	if err != nil && !t.move {
		return t.undo(fresh, err)
	}
	if len(t.pairs) == 0 {
		return err
	}
	if werr := t.to.writeList(fresh); werr != nil {
		if t.move { // they are there, and get their UIDs when the list can be written
			t.to.unadopt(fresh)
			t.pairs = nil
			return werr
		}
		return t.undo(fresh, werr)
	}
	serr := t.to.dir.sync("cur")
	if serr == nil && t.move {
		serr = t.from.dir.sync("cur")
		if serr == nil {
			serr = t.from.dir.sync("new")
		}
	}
	if serr != nil && !t.move {
		return t.undo(fresh, serr)
	}
	if err == nil {
		err = serr
	}
	return err
}

// one brings one message over.
func (t *transfer) one(m Message) error {
	return t.from.with(m, func(i int, path string) error {
		now := t.from.lines[i]
		letters, err := t.to.letters(now.info.keywords, true)
		if err != nil {
			return err
		}
		text := infoText(now.info.flags, letters, now.info.other, now.info.extra)
		base, err := t.name(*now, path)
		if err != nil {
			return err
		}
		name := "cur/" + base + text
		if t.move {
			err = renameNew(t.from.dir.fd, path, t.to.dir.fd, name)
		} else {
			err = linkat(t.from.dir.fd, path, t.to.dir.fd, name)
		}
		switch err {
		case unix.EXDEV, unix.EMLINK, unix.EPERM, unix.ENOTSUP:
			if err = t.byCopy(m, name); err == nil && t.move {
				err = t.from.dir.unlink(t.from.lines[i].path())
			}
		}
		if err != nil {
			return err
		}
		if t.move {
			t.from.mark(i, gone)
		}
		uid := t.to.addSeen(base, inCur, text)
		t.pairs = append(t.pairs, Pair{now.UID, uid})
		t.made = append(t.made, name)
		s, _ := sizes(base)
		t.octets, t.messages = t.octets+s, t.messages+1
		return nil
	})
}

// name makes the base name in the target: a new one, with sizes that are right.
func (t *transfer) name(m Message, path string) (string, error) {
	var st unix.Stat_t
	err := statat(t.from.dir.fd, path, &st)
	if err != nil {
		return "", err
	}
	c, ok := t.from.sizes[m.UID]
	if !ok {
		if w := t.from.namedSize(m, st.Size); w >= 0 {
			c = counted{st.Size, w, lackingByName(m.base)}
		} else if c, err = t.from.measure(m); err != nil {
			return "", err
		}
	}
	return sized(uniqueName(), c.stored, c.octets, c.lacks), nil
}

// byCopy copies where there can be no link.
func (t *transfer) byCopy(m Message, name string) error {
	file, err := t.from.open(m)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	to, err := newTarget(t.to.dir.hold())
	if err != nil {
		return err
	}
	defer to.close()
	tmp, err := copyInto(to, file, st.ModTime())
	if err != nil {
		return err
	}
	if err := renameNew(to.tmp, tmp, t.to.dir.fd, name); err != nil {
		unlinkat(to.tmp, tmp)
		return err
	}
	if t.move { // it is removed over there next
		return t.to.dir.sync("cur")
	}
	return nil
}

// undo takes back the copies that were made.
func (t *transfer) undo(fresh uint32, err error) error {
	for _, name := range t.made {
		t.to.dir.unlink(name)
	}
	t.to.unadopt(fresh)
	t.to.root.uncount(t.octets, t.messages)
	t.pairs, t.made = nil, nil
	return err
}
