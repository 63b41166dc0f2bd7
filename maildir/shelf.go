package maildir

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The shelf has the boxes of the process: those in use, and, when Keep was called, those that were in use lately.
var shelf = struct {
	sync.Mutex
	of     map[[2]uint64]*box
	serial uint64

	keep   time.Duration
	most   int
	idle   []*box // boxes without users, those left longest ago first
	weight int64  // of these together
	timer  *time.Timer
}{of: map[[2]uint64]*box{}}

// What is kept is bounded whatever clients do: so many octets, and so many folders, each of which holds a descriptor or two.
const (
	keepWeight = 32 << 20
	keepMost   = 1000
	keepShare  = 4 // of the descriptors that the process may have, one in so many
)

// Keep lets the process remember for a while what it knows of a folder when nobody has it open any more: the next one to
// open it looks whether anything has changed, as who had it open all the time does, and reads nothing again. 0, as at first,
// is not at all; a disk cannot be unmounted while folders on it are kept. Each of them has a file in tmp, so that who has
// called Keep calls Keep(0) at the end.
func Keep(d time.Duration) {
	var limit unix.Rlimit
	most := keepMost
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		most = int(min(uint64(most), limit.Cur/keepShare))
	}
	shelf.Lock()
	if shelf.timer != nil {
		shelf.timer.Stop()
		shelf.timer = nil
	}
	shelf.keep, shelf.most = d, most
	gone := tidyShelf(time.Now())
	shelf.Unlock()
	closeAll(gone)
}

// keepBox puts a box that nobody uses on the shelf, and gives what has to go for it. The shelf is locked.
func keepBox(b *box) (gone []closing) {
	now := time.Now()
	unkeepBox(b)
	b.shared = nil // nobody knows how large it is
	if b.weight = b.size(); b.weight > keepWeight {
		delete(shelf.of, b.key)
		return []closing{b.end()}
	}
	b.kept, b.left = true, now
	shelf.idle = append(shelf.idle, b)
	shelf.weight += b.weight
	return tidyShelf(now)
}

// unkeepBox takes a box out of those that nobody uses.
func unkeepBox(b *box) {
	if b.kept {
		i := slices.Index(shelf.idle, b)
		shelf.idle = slices.Delete(shelf.idle, i, i+1)
		shelf.weight -= b.weight
		b.kept = false
	}
}

// takeBox gives a box that is on the shelf one more user.
func takeBox(b *box) {
	unkeepBox(b)
	b.users.Add(1)
}

// tidyShelf takes boxes away that were left too long ago, or are too many, and sees that it is called again while there are
// any.
func tidyShelf(now time.Time) (gone []closing) {
	for len(shelf.idle) > 0 {
		b := shelf.idle[0]
		if now.Sub(b.left) < shelf.keep && len(shelf.idle) <= shelf.most && shelf.weight <= keepWeight {
			break
		}
		gone = append(gone, discardBox(b))
	}
	if len(shelf.idle) > 0 && shelf.timer == nil {
		shelf.timer = time.AfterFunc(shelf.idle[0].left.Add(shelf.keep).Sub(now), func() {
			shelf.Lock()
			shelf.timer = nil
			gone := tidyShelf(time.Now())
			shelf.Unlock()
			closeAll(gone)
		})
	}
	return gone
}

// discardBox takes a kept box off the shelf.
func discardBox(b *box) closing {
	unkeepBox(b)
	delete(shelf.of, b.key)
	return b.end()
}

// A closing is what is left of a box that is no more.
type closing struct {
	dir, root *place
	cache     *cacheSlot
}

// end takes from a box what has to be closed, for whoever does so without the lock of the shelf.
func (b *box) end() closing {
	c := closing{b.dir, b.root, &b.cache}
	b.dir, b.root = nil, nil
	return c
}

func closeAll(gone []closing) {
	for _, c := range gone {
		c.cache.end()
		c.dir.close()
		c.root.close()
	}
}

// clearShelf frees what is kept, for a process that has no descriptors left. False when there was nothing.
func clearShelf() bool {
	var gone []closing
	shelf.Lock()
	for len(shelf.idle) > 0 {
		gone = append(gone, discardBox(shelf.idle[0]))
	}
	shelf.Unlock()
	closeAll(gone)
	return len(gone) > 0
}

// size is about what a box takes of the memory.
func (b *box) size() int64 {
	const each = 40 // of a message, beside its name
	return 16<<10 + int64(b.rows.octets) + each*int64(b.rows.len) + 5*int64(len(b.index.uids)) + b.cache.size()
}

// joinBox gives the box of a directory. It takes over both places. name is for the log.
func joinBox(p, root *place, name string) (b *box, first bool) {
	shelf.Lock()
	defer shelf.Unlock()
	key := [2]uint64{p.dev, p.ino}
	if b := shelf.of[key]; b != nil {
		takeBox(b)
		p.close()
		root.close()
		return b, false
	}
	b = newBox(p, root)
	b.journal.folder = name
	shelf.of[key] = b
	return b, true
}

// knownBox gives the box of a directory below root that the process has already, without opening it again: one stat. What
// somebody has left in tmp goes, as it does when a folder is opened, and what is missing is made, when it is missed. nil when
// there is none.
func knownBox(root *place, dir string) *box {
	var st unix.Stat_t
	if statat(root.fd, dir, &st) != nil {
		return nil
	}
	shelf.Lock()
	b := shelf.of[[2]uint64{st.Dev, st.Ino}]
	clean := false
	if b != nil {
		if b.kept {
			b.again.Store(true)
			now := time.Now()
			if clean = now.Sub(b.cleaned) > cleanKept; clean {
				b.cleaned = now
			}
		}
		takeBox(b)
	}
	shelf.Unlock()
	if clean {
		b.dir.clean()
	}
	return b
}

// cleanKept is how often a kept folder is cleaned at most.
const cleanKept = 2 * time.Second

func newBox(p, root *place) *box {
	b := &box{key: [2]uint64{p.dev, p.ino}, dir: p, root: root, cleaned: time.Now()}
	shelf.serial++
	b.serial = shelf.serial
	b.users.Store(1)
	return b
}

// leave ends one use; with the last one the box goes, or is kept for a while.
func (b *box) leave() {
	if b.users.Add(-1) > 0 {
		return
	}
	shelf.Lock()
	if b.users.Load() > 0 { // somebody has come in meanwhile
		shelf.Unlock()
		return
	}
	var gone []closing
	switch {
	case shelf.of[b.key] == b && shelf.keep > 0:
		gone = keepBox(b)
	case shelf.of[b.key] == b:
		delete(shelf.of, b.key)
		gone = []closing{b.end()}
	case b.dir != nil: // it never was on the shelf
		gone = []closing{b.end()}
	}
	shelf.Unlock()
	closeAll(gone)
}
