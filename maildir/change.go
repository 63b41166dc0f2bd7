package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// A Change says what becomes of a message's flags and keywords.
type Change struct {
	Add, Remove                 Flags
	AddKeywords, RemoveKeywords []string
	Replace                     bool   // all flags and keywords but those to add are removed
	UnchangedSince              uint64 // messages with a later ModSeq are left alone (RFC 7162 §3.1.3); 0: none are
}

// Store changes the flags of messages: each by one rename, so that nobody sees half a change and none of two changes at
// once is lost. A message that is gone is passed over. ErrKeywords when a keyword can get no letter; then no
// message was changed. After another error some may be changed; Sync tells. refused are the UIDs of those that
// UnchangedSince has kept from being changed.
//
// Like every server's, the change survives us at once, and a power cut after a few seconds.
func (f *Folder) Store(msgs []Message, c Change) (refused []uint32, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return nil, fs.ErrClosed
	}
	if len(msgs) == 0 {
		return nil, nil
	}
	if refused, err = f.change(msgs, c); err != nil {
		err = fmt.Errorf("change flags in folder %q: %w", f.name, err)
	}
	return refused, err
}

func (f *Folder) change(msgs []Message, c Change) (refused []uint32, err error) {
	lk, err := f.lockAnyway()
	if err != nil {
		return nil, err
	}
	defer lk.release()
	if err := f.readKeywords(); err != nil {
		return nil, err
	}
	add, err := f.letters(c.AddKeywords, true)
	if err != nil {
		return nil, err
	}
	remove, err := f.letters(c.RemoveKeywords, false)
	if err != nil {
		return nil, err
	}
	defer f.ownChange()()
	var trouble error
	for _, m := range msgs {
		lk.touch()
		err := f.with(m, func(i int, path string) error {
			now := f.lines[i]
			if c.UnchangedSince > 0 && now.ModSeq > c.UnchangedSince {
				refused = append(refused, now.UID)
				return nil
			}
			flags, letters := now.info.flags&^c.Remove|c.Add, now.info.letters&^remove|add
			if c.Replace {
				flags, letters = c.Add, add
			}
			if flags == now.info.flags && letters == now.info.letters {
				return nil
			}
			text := infoText(flags, letters, now.info.other, now.info.extra)
			if err := renameNew(f.dir.fd, path, f.dir.fd, "cur/"+now.base+text); err != nil {
				return err
			}
			if now.dir == inNew {
				f.inNew--
			}
			f.seenAt(i, inCur, f.info([]byte(text)))
			return nil
		})
		if errors.Is(err, unix.ENAMETOOLONG) { // somebody's name leaves no room: that harms no other message
			trouble = err
		} else if err != nil && !errors.Is(err, ErrGone) {
			return refused, err
		}
	}
	return refused, trouble
}

// lockAnyway takes the lock; when there is no room for it, it goes on without: to change flags and to
// remove mail has to work on a full disk. The lock may be nil.
func (f *Folder) lockAnyway() (*lock, error) {
	lk, err := f.dir.lock()
	if err != nil && noRoom(err) {
		return nil, nil
	}
	return lk, err
}

// Expunge removes messages. One that is gone already is no error. It returns when the removal is on disk.
func (f *Folder) Expunge(msgs []Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return fs.ErrClosed
	}
	if len(msgs) == 0 {
		return nil
	}
	if err := f.expunge(msgs); err != nil {
		return fmt.Errorf("expunge in folder %q: %w", f.name, err)
	}
	return nil
}

func (f *Folder) expunge(msgs []Message) error {
	lk, err := f.lockAnyway()
	if err != nil {
		return err
	}
	defer lk.release()
	count := f.root.leaving()
	defer count.close()
	octets, messages := int64(0), int64(0)
	touched := [gone]bool{}
	err = func() error {
		defer f.ownChange()()
		for _, m := range msgs {
			lk.touch()
			err := f.with(m, func(i int, path string) error {
				n := int64(0)
				if count != nil {
					n, _ = f.dir.octets(path, m.base)
				}
				if err := f.dir.unlink(path); err != nil {
					return err
				}
				octets, messages = octets+n, messages+1
				touched[f.lines[i].dir] = true
				f.mark(i, gone)
				return nil
			})
			if err != nil && !errors.Is(err, ErrGone) {
				return err
			}
		}
		return nil
	}()
	count.note(-octets, -messages)
	for dir, yes := range touched {
		if yes {
			if serr := f.dir.sync(sub(byte(dir))[:3]); err == nil {
				err = serr
			}
		}
	}
	return err
}

// twins deals with base names that stand for two different files at once: somebody copied one under its own name. The
// later sighting becomes a message of its own under a new name.
func (f *Folder) twins(p *pass) {
	for _, s := range p.moved {
		if p.seen[s.line] < 2 {
			continue
		}
		if twin, ok := f.twin(f.lines[s.line], s); ok {
			p.unknown = append(p.unknown, twin)
		}
	}
}

// linkedLong is how long after its last change a file with two names is let alone.
var linkedLong = 30 * time.Second

// twin gives the file at s a new name when it is not the one that its base name stands for.
func (f *Folder) twin(m *Message, s sighting) (sighting, bool) {
	path := sub(s.dir) + s.base + s.info.text
	var a, b unix.Stat_t
	if path == m.path() || statat(f.dir.fd, path, &b) != nil || statat(f.dir.fd, m.path(), &a) != nil {
		return s, false
	}
	if a.Ino == b.Ino {
		// On its way from one name to the other, by link and unlink; but not for so long. Whoever wanted to remove
		// the other name was killed, or somebody has renamed it under his hands.
		if time.Since(time.Unix(int64(b.Ctim.Sec), int64(b.Ctim.Nsec))) > linkedLong {
			f.dir.unlink(path)
		}
		return s, false
	}
	clean := uniqueName()
	if w := sizeByName(s.base, b.Size); w >= 0 {
		clean = sized(clean, b.Size, w, lackingByName(s.base))
	}
	if renameNew(f.dir.fd, path, f.dir.fd, sub(s.dir)+clean+s.info.text) != nil {
		return s, false
	}
	return sighting{-1, s.dir, clean, s.info}, true
}
