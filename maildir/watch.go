package maildir

import (
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
// instance; where there is none to be had, the folder is looked at once a second.
func (f *Folder) Watch() (<-chan struct{}, func()) {
	w := &watcher{c: make(chan struct{}, 1)}
	if !pollOnly.Load() {
		if stop := watches.add(w, f); stop != nil {
			return w.c, stop
		}
	}
	done := make(chan struct{})
	go f.poll(w, done)
	return w.c, sync.OnceFunc(func() { close(done) })
}

// A watcher is one that waits for changes of a folder.
type watcher struct {
	c     chan struct{}
	wds   []int32
	later *time.Timer
}

func (w *watcher) wake() {
	select {
	case w.c <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// poll looks at the four things that change.
func (f *Folder) poll(w *watcher, done <-chan struct{}) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last, quiet := f.glance(), true
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		// A change in the same instant as the one before does not show: once more when all is quiet again.
		now := f.glance()
		if now != last || !quiet {
			w.wake()
		}
		last, quiet = now, now == last
	}
}

func (f *Folder) glance() (g [4]stamp) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return g
	}
	for i, name := range []string{"new", "cur", listName, keywordsName} {
		g[i], _ = f.dir.stamp(name)
	}
	return g
}

// A notifier is the process's inotify instance, there as long as somebody watches.
type notifier struct {
	mu   sync.Mutex
	file *os.File
	fd   int
	by   map[int32]map[*watcher]bool // watch descriptor: one for each directory, however many wait for it
}

var watches notifier

const watchMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// add watches new and cur of a folder; nil when inotify cannot.
func (n *notifier) add(w *watcher, f *Folder) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil
		}
		n.fd, n.file, n.by = fd, os.NewFile(uintptr(fd), "inotify"), map[int32]map[*watcher]bool{}
		go n.run(n.file)
	}
	for _, name := range []string{"new", "cur"} {
		wd, err := unix.InotifyAddWatch(n.fd, "/proc/self/fd/"+strconv.Itoa(f.dir.fd)+"/"+name, watchMask)
		if err != nil {
			n.drop(w)
			return nil
		}
		id := int32(wd)
		if n.by[id] == nil {
			n.by[id] = map[*watcher]bool{}
		}
		n.by[id][w] = true
		w.wds = append(w.wds, id)
	}
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.drop(w)
	})
}

// drop ends one watch; with the last one the instance goes.
func (n *notifier) drop(w *watcher) {
	if w.later != nil {
		w.later.Stop()
	}
	for _, id := range w.wds {
		if delete(n.by[id], w); len(n.by[id]) == 0 && n.by[id] != nil {
			delete(n.by, id)
			unix.InotifyRmWatch(n.fd, uint32(id))
		}
	}
	w.wds = nil
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
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		buf = buf[min(size, len(buf)):]
		if mask&unix.IN_Q_OVERFLOW != 0 { // whose it was is lost
			for _, set := range n.by {
				n.tell(set)
			}
			continue
		}
		n.tell(n.by[id])
	}
}

// tell wakes the watchers of a directory: at once, and again when changes of the same instant can no longer
// hide behind its time.
func (n *notifier) tell(set map[*watcher]bool) {
	for w := range set {
		w.wake()
		if w.later == nil {
			w.later = time.AfterFunc(aftermath, w.wake)
		} else {
			w.later.Reset(aftermath)
		}
	}
}
