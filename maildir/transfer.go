package maildir

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

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
	from, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer from.leave()
	target, err := to.enter()
	if err != nil {
		return nil, err
	}
	defer target.leave()
	if len(msgs) == 0 {
		return nil, nil
	}
	t := &transfer{from: from, to: target, move: move, by: f.by}
	if t.noFlags, err = to.may(RightInsert); err == nil && move {
		_, err = f.may(RightTrash | RightExpunge) // RFC 6851 §4.4
	}
	if err == nil {
		err = t.run(msgs)
	}
	if move && from != target && len(t.pairs) > 0 {
		from.record(f.by)
	}
	validity := to.UIDValidity()
	for _, p := range t.pairs {
		to.first(validity, p.To)
	}
	if err != nil {
		err = fmt.Errorf("%s from folder %q to %q: %w", verb, f.name, to.name, err)
	}
	return t.pairs, err
}

type transfer struct {
	from, to *box
	move     bool
	by       string
	noFlags  Rights // to change flags, which the user has not there
	pairs    []Pair
	made     []string // paths in the target, in the order of pairs
	more     bool     // some have keywords beyond the letters
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
func (b *box) octets(where *place, msgs []Message) (sum int64, err error) {
	if !where.counts() {
		return 0, nil
	}
	for _, m := range msgs {
		if s, _ := sizes(m.base); s >= 0 {
			sum += s
			continue
		}
		var st unix.Stat_t
		err := b.with(m, func(_ row, path string) error { return statat(b.dir.fd, path, &st) })
		if err != nil && !errors.Is(err, ErrGone) {
			return 0, err
		}
		sum += st.Size
	}
	return sum, nil
}

func (t *transfer) run(msgs []Message) (err error) {
	// Only the lock of the target is held: a rename out of the source is seen there as any other program's.
	if t.lk, err = t.to.dir.lock(); err != nil {
		return err
	}
	defer func() { t.lk.release() }()
	defer lockBoth(t.from, t.to)()
	if err = t.to.roomFor(len(msgs)); err != nil {
		return err
	}
	counted, err := t.count(msgs)
	if err != nil {
		return err
	}
	t.to.log.by = t.by
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
	// Synced, since the EMAILIDs of the copies stand nowhere else, and must never change (RFC 8474 §5.1).
	if cerr := t.to.commit(t.lk, true); cerr != nil {
		if t.more && !t.move { // their keywords would stand nowhere else
			return t.undo(fresh, cerr)
		}
		t.to.commit(nil, false)
		if t.more && serr == nil {
			serr = cerr
		}
	}
	if err == nil {
		err = serr
	}
	return err
}

// record writes what somebody changed without the lock to the journal.
func (b *box) record(by string) {
	lk, err := b.dir.lock()
	if err != nil {
		return // it is written with the next change
	}
	defer lk.release()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refresh() != nil {
		return
	}
	b.log.by = by
	if b.commit(lk, false) != nil {
		b.commit(nil, false)
	}
}

// one brings one message over.
func (t *transfer) one(m Message) error {
	return t.from.with(m, func(r row, path string) error {
		now := t.from.info(r.mark)
		flags, keywords := t.noFlags.without(now.flags, now.keywords)
		labels, err := t.to.labels(keywords, true)
		if err != nil {
			return err
		}
		text := infoText(flags, labels.letters, now.other, now.extra)
		base, err := t.name(m, path)
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
			if err = t.byCopy(path, name); err == nil && t.move {
				err = t.from.dir.unlink(path)
			}
		}
		if err != nil {
			return err
		}
		email := t.from.ids.of(r.uid, r.base)
		if t.move {
			t.from.vanish(r.uid)
		}
		uid := t.to.head.next
		t.to.add(uid, t.to.mark(inCur, octets(text), joinMore("", nil, labels.more)), uint32(time.Now().Unix()), base)
		t.to.log.ids = append(t.to.log.ids, ident{uid, email})
		t.more = t.more || len(labels.more) > 0
		t.pairs = append(t.pairs, Pair{r.uid, uid})
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
		} else {
			file, err := t.from.dir.openMessage(path)
			if err == nil {
				c, err = t.from.dir.measure(file, m)
			}
			if err != nil {
				return "", err
			}
		}
	}
	return sized(uniqueName(), c.stored, c.octets, c.lacks), nil
}

// byCopy copies where there can be no link.
func (t *transfer) byCopy(path, name string) error {
	file, err := t.from.dir.openMessage(path)
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
