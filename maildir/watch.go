package maildir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pollInterval = time.Second // how often a folder is looked at where the kernel does not tell us
	aftermath    = 1100 * time.Millisecond
)

// PollOnly makes every later Watch of this process look by itself instead of asking inotify: for hundreds of processes
// of one user, who has 128 inotify instances, and for tests with a clock of their own.
func PollOnly(on bool) { pollOnly.Store(on) }

var pollOnly atomic.Bool

// Watch gives a channel that gets a value when the folder may have changed, and a function that ends the watch.
// Who gets one calls Sync to learn what it was; it may be nothing. All watches of a process share one inotify
// instance, and those on one folder what it tells of it; where there is none to be had, the folder is looked at once a second.
func (f *Folder) Watch() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	b, err := f.enter()
	if err != nil {
		return c, func() {}
	}
	if !pollOnly.Load() && watches.add(b, c) {
		return c, sync.OnceFunc(func() {
			watches.remove(b, c)
			b.leave()
		})
	}
	done := make(chan struct{})
	go b.poll(c, done)
	return c, sync.OnceFunc(func() { close(done) })
}

// watched is the watch of a box: one for all who wait. The notifier guards it.
type watched struct {
	waiting map[chan struct{}]bool
	wds     [3]int32 // of new, cur, and the folder itself
	later   *time.Timer
}

func (w *watched) wake() {
	for c := range w.waiting {
		wake(c)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// poll looks at the things that change. It ends a use of the box.
func (b *box) poll(c chan struct{}, done <-chan struct{}) {
	defer b.leave()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last, quiet := b.glance(), true
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		// A change in the same instant as the one before does not show: once more when all is quiet again.
		now := b.glance()
		if now != last || !quiet {
			wake(c)
		}
		last, quiet = now, now == last
	}
}

func (b *box) glance() (g [5]stamp) {
	for i, name := range []string{"new", "cur", listName, keywordsName, journalName} {
		g[i], _ = b.dir.stamp(name)
	}
	return g
}

// A notifier is the process's inotify instance, there as long as somebody watches.
type notifier struct {
	mu   sync.Mutex
	file *os.File
	fd   int
	by   map[int32]*box // by watch descriptor
}

var watches notifier

const watchMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// In the folder itself it is the journal that counts, for what stands nowhere else, and the names of keywords.
const folderMask = unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_ONLYDIR

// add lets c hear of changes in a folder; false when inotify cannot.
func (n *notifier) add(b *box, c chan struct{}) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &b.watch
	if len(w.waiting) > 0 {
		w.waiting[c] = true
		return true
	}
	if n.file == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return false
		}
		n.fd, n.file, n.by = fd, os.NewFile(uintptr(fd), "inotify"), map[int32]*box{}
		go n.run(n.file)
	}
	for i, name := range []string{"new", "cur", "."} {
		mask := uint32(watchMask)
		if name == "." {
			mask = folderMask
		}
		wd, err := unix.InotifyAddWatch(n.fd, "/proc/self/fd/"+strconv.Itoa(b.dir.fd)+"/"+name, mask)
		if err != nil {
			n.drop(b, i)
			return false
		}
		w.wds[i] = int32(wd)
		n.by[int32(wd)] = b
	}
	w.waiting = map[chan struct{}]bool{c: true}
	return true
}

// remove ends what add began; with the last one the watch goes.
func (n *notifier) remove(b *box, c chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if delete(b.watch.waiting, c); len(b.watch.waiting) == 0 {
		n.drop(b, len(b.watch.wds))
	}
}

// drop ends the first k watches of a box; with the last one of all the instance goes.
func (n *notifier) drop(b *box, k int) {
	w := &b.watch
	if w.later != nil {
		w.later.Stop()
	}
	for _, id := range w.wds[:k] {
		if n.by[id] == b {
			delete(n.by, id)
			unix.InotifyRmWatch(n.fd, uint32(id))
		}
	}
	*w = watched{}
	if len(n.by) == 0 && n.file != nil {
		n.file.Close()
		n.file, n.by = nil, nil
	}
}

// run wakes those whose directories changed, until the instance is closed.
func (n *notifier) run(file *os.File) {
	buf := make([]byte, 16<<10)
	for {
		k, err := file.Read(buf)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		n.events(file, buf[:k])
	}
}

func (n *notifier) events(file *os.File, buf []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file != file {
		return
	}
	for len(buf) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		size := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(buf[12:])), len(buf))
		name := string(bytes.TrimRight(buf[unix.SizeofInotifyEvent:size], "\x00"))
		buf = buf[size:]
		if mask&unix.IN_Q_OVERFLOW != 0 { // whose it was is lost
			for _, b := range n.by {
				n.tell(b)
			}
			continue
		}
		switch b := n.by[id]; {
		case b == nil:
		case id != b.watch.wds[2]:
			n.tell(b)
		case name == journalName || name == keywordsName:
			b.watch.wake()
		}
	}
}

// tell wakes those who wait for a folder: at once, and again when changes of the same instant can no longer
// hide behind its time.
func (n *notifier) tell(b *box) {
	w := &b.watch
	w.wake()
	if w.later != nil {
		w.later.Reset(aftermath)
		return
	}
	w.later = time.AfterFunc(aftermath, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		b.watch.wake()
	})
}
