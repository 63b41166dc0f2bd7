package maildir

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A Change says what becomes of a message's flags and keywords.
type Change struct {
	Add, Remove                 Flags
	AddKeywords, RemoveKeywords []string
	Replace                     bool   // all flags and keywords but those to add are removed
	UnchangedSince              uint64 // messages with a later ModSeq are left alone (RFC 7162 §3.1.3); 0: none are

	keep Rights // to change flags, which the user has not
}

// Store changes the flags of messages: each by one rename, so that nobody sees half a change and none of two changes at
// once is lost. A message that is gone is passed over. ErrKeywords when there would be too many keywords; then no
// message was changed. After another error some may be changed; Sync tells. refused are the UIDs of those that
// UnchangedSince has kept from being changed.
//
// Like every server's, the change survives us at once, and a power cut after a few seconds.
func (f *Folder) Store(msgs []Message, c Change) (refused []uint32, err error) {
	b, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer b.leave()
	if len(msgs) == 0 {
		return nil, nil
	}
	noFlags, _ := f.may(0)
	if err = c.limit(noFlags); err == nil {
		refused, err = b.change(f.by, msgs, c)
	}
	if err != nil {
		err = fmt.Errorf("change flags in folder %q: %w", f.name, err)
	}
	return refused, err
}

func (b *box) change(by string, msgs []Message, c Change) (refused []uint32, err error) {
	lk, err := b.lockAnyway()
	if err != nil {
		return nil, err
	}
	defer lk.release()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(); err != nil {
		return nil, err
	}
	b.log.by = by
	add, err := b.labels(c.AddKeywords, true)
	if err != nil {
		return nil, err
	}
	remove, err := b.labels(c.RemoveKeywords, false)
	if err != nil {
		return nil, err
	}
	if c.UnchangedSince > 0 && b.log.messages() { // what was seen before has to have its number
		if b.commit(lk, false) != nil {
			b.commit(nil, false)
		}
	}
	late, seen := map[uint32]bool{}, len(b.log.changed)
	done := b.ownChange()
	var trouble error
	for _, m := range msgs {
		lk.touch()
		err := b.with(m, func(r row, path string) error {
			for ; c.UnchangedSince > 0 && seen < len(b.log.changed); seen++ {
				late[b.log.changed[seen]] = true // found out on the way to a file: it has no number yet
			}
			if c.UnchangedSince > 0 && (r.modseq > c.UnchangedSince || late[r.uid]) {
				refused = append(refused, r.uid)
				return nil
			}
			now := b.info(r.mark)
			flags, letters, more := now.flags&^c.Remove|c.Add, now.letters&^remove.letters|add.letters, ""
			if c.Replace {
				flags, letters, more = c.Add|now.flags&c.keep.flagsOf(), add.letters, joinMore("", nil, add.more)
				if c.keep&RightWrite != 0 {
					letters, more = now.letters, now.more
				}
			} else {
				more = joinMore(now.more, remove.more, add.more)
			}
			if flags == now.flags && letters == now.letters && more == now.more {
				return nil
			}
			text, dir := now.text, now.dir
			if flags != now.flags || letters != now.letters {
				text, dir = infoText(flags, letters, now.other, now.extra), inCur
				err := renameNew(b.dir.fd, path, b.dir.fd, "cur/"+r.base+text)
				if err == unix.EEXIST {
					err = b.inTheWay(path, r.base, text)
				}
				if err != nil {
					return err
				}
			} else if !b.there(path) {
				return unix.ENOENT
			}
			b.put(r.uid, b.mark(dir, octets(text), more))
			return nil
		})
		if errors.Is(err, unix.ENAMETOOLONG) { // somebody's name leaves no room: that harms no other message
			trouble = err
		} else if err != nil && !errors.Is(err, ErrGone) {
			trouble = err
			break
		}
	}
	done()
	if err := b.commit(lk, false); err != nil {
		b.commit(nil, false)
		if len(add.more)+len(remove.more) > 0 || c.Replace && trouble == nil && b.moreUsed() {
			trouble = errors.Join(trouble, err) // they stand nowhere else
		}
	}
	return refused, trouble
}

// moreUsed tells whether there are keywords beyond the letters.
func (b *box) moreUsed() bool { return len(b.more) > 0 }

// lockAnyway takes the lock; when there is no room for it, it goes on without: to change flags and to
// remove mail has to work on a full disk. The lock may be nil.
func (b *box) lockAnyway() (*lock, error) {
	lk, err := b.dir.lock()
	if err != nil && noRoom(err) {
		return nil, nil
	}
	return lk, err
}

// Expunge removes messages. One that is gone already is no error. It returns when the removal is on disk.
func (f *Folder) Expunge(msgs []Message) error {
	b, err := f.enter()
	if err != nil {
		return err
	}
	defer b.leave()
	if len(msgs) == 0 {
		return nil
	}
	_, err = f.may(RightExpunge)
	if err == nil {
		err = b.expunge(f.by, msgs)
	}
	if err != nil {
		return fmt.Errorf("expunge in folder %q: %w", f.name, err)
	}
	return nil
}

func (b *box) expunge(by string, msgs []Message) error {
	lk, err := b.lockAnyway()
	if err != nil {
		return err
	}
	defer lk.release()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(); err != nil {
		return err
	}
	b.log.by = by
	count := b.root.leaving()
	defer count.close()
	octets, messages := int64(0), int64(0)
	touched := [gone]bool{}
	done := b.ownChange()
	for _, m := range msgs {
		lk.touch()
		err = b.with(m, func(r row, path string) error {
			n := int64(0)
			if count != nil {
				n, _ = b.dir.octets(path, m.base)
			}
			if err := b.dir.unlink(path); err != nil {
				return err
			}
			octets, messages = octets+n, messages+1
			touched[b.info(r.mark).dir] = true
			b.vanish(r.uid)
			return nil
		})
		if errors.Is(err, ErrGone) {
			err = nil
		}
		if err != nil {
			break
		}
	}
	done()
	count.note(-octets, -messages)
	if b.commit(lk, false) != nil {
		b.commit(nil, false)
	}
	for dir, yes := range touched {
		if yes {
			if serr := b.dir.sync(sub(byte(dir))[:3]); err == nil {
				err = serr
			}
		}
	}
	return err
}

// Advance gives the folder a later HighestModSeq, for a change of it that no message shows (RFC 7162 §3.2).
func (f *Folder) Advance() error {
	b, err := f.enter()
	if err != nil {
		return err
	}
	defer b.leave()
	if err := b.advance(f.by); err != nil {
		return fmt.Errorf("count a change of folder %q: %w", f.name, err)
	}
	return nil
}

func (b *box) advance(by string) error {
	lk, err := b.dir.lock()
	if err != nil {
		return err
	}
	defer lk.release()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(); err != nil {
		return err
	}
	b.log.by = by
	if err := b.commit(lk, false); err != nil {
		return err
	}
	return b.write(b.nextModSeq(), false)
}

// inTheWay is for a message at path whose next name is there already. When it is the same file, somebody is between link
// and unlink: it has its name, and the other one goes with him or after a while. A file that was copied under this name
// becomes a message of its own, and the caller looks again.
func (b *box) inTheWay(path, base, text string) error {
	if sameFile(b.dir.fd, path, b.dir.fd, "cur/"+base+text) {
		return nil
	}
	if _, ok := b.twin(path, sighting{mark: b.mark(inCur, octets(text), ""), base: base}); ok {
		b.cur.read = time.Time{} // the next look gives it its UID
	}
	return unix.ENOENT
}

// twins deals with base names that stand for two different files at once: somebody copied one under its own name. The
// later sighting becomes a message of its own under a new name.
func (b *box) twins(p *pass) {
	for _, s := range p.moved {
		if p.count(s.uid) < 2 {
			continue
		}
		if r, ok := b.rows.get(s.uid); ok {
			if twin, ok := b.twin(b.path(r), s); ok {
				p.unknown = append(p.unknown, twin)
			}
		}
	}
}

// linkedLong is how long after its last change a file with two names is let alone.
var linkedLong = 30 * time.Second

// twin gives the file at s a new name when it is not the one that its base name stands for, which lies at place.
func (b *box) twin(place string, s sighting) (sighting, bool) {
	path := b.pathOf(s)
	var x, y unix.Stat_t
	if path == place || statat(b.dir.fd, path, &y) != nil || statat(b.dir.fd, place, &x) != nil {
		return s, false
	}
	if x.Ino == y.Ino {
		// On its way from one name to the other, by link and unlink; but not for so long. Whoever wanted to remove
		// the other name was killed, or somebody has renamed it under his hands.
		if time.Since(time.Unix(int64(y.Ctim.Sec), int64(y.Ctim.Nsec))) > linkedLong {
			b.dir.unlink(path)
		}
		return s, false
	}
	clean, in := uniqueName(), b.info(s.mark)
	if w := sizeByName(s.base, y.Size); w >= 0 {
		clean = sized(clean, y.Size, w, lackingByName(s.base))
	}
	if renameNew(b.dir.fd, path, b.dir.fd, in.path(clean)) != nil {
		return s, false
	}
	return sighting{0, b.mark(in.dir, octets(in.text), ""), clean}, true
}
