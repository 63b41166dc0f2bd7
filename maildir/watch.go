package maildir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Variables for tests.
var (
	pollInterval = time.Second // how often a folder is looked at where the kernel does not tell us
	aftermath    = 1100 * time.Millisecond
)

// pollShare is the part of the time that looking may take.
const pollShare = 10

// PollOnly makes every later watch of this process look by itself instead of asking inotify: for hundreds of processes
// of one user, who has 128 inotify instances, and for tests with a clock of their own.
func PollOnly(on bool) { pollOnly.Store(on) }

var pollOnly atomic.Bool

// Watch has wake called when the folder may have changed, until stop is. Who is woken calls Sync to learn what it was; it
// may be nothing. wake must not wait for anything, nor begin or end a watch.
//
// All watches of a process share one inotify instance, and those on one folder what it tells of it; where there is none to
// be had, or where somebody on another host may change the folder, it is looked at once a second.
func (f *Folder) Watch(wake func()) (stop func()) {
	b, err := f.enter()
	if err != nil {
		return func() {}
	}
	defer b.leave()
	return watches.add(b.dir, ".", b.key, &waiter{wake: wake})
}

// Watch is Folder.Watch for a folder that is not kept open.
func (s *Store) Watch(name string, wake func()) (stop func(), err error) {
	name, err = cleanName(name)
	if err != nil {
		return nil, err
	}
	root, err := s.dir()
	if err != nil {
		return nil, err
	}
	defer root.close()
	dir := "."
	if name != inbox {
		if dir, err = folderDir(root, name); err != nil {
			return nil, err
		}
	}
	var st unix.Stat_t
	if err := statat(root.fd, dir, &st); err != nil {
		return nil, err
	}
	return watches.add(root, dir, [2]uint64{st.Dev, st.Ino}, &waiter{wake: wake}), nil
}

// WatchNames has wake called when folders may have come, gone or got other names, or when the list of subscriptions may be
// another one. For the rest it is as Watch.
func (s *Store) WatchNames(wake func()) (stop func(), err error) {
	root, err := s.dir()
	if err != nil {
		return nil, err
	}
	defer root.close()
	return watches.add(root, ".", [2]uint64{root.dev, root.ino}, &waiter{wake: wake, names: true}), nil
}

// A waiter is woken by changes of the messages of a folder, or by changes of the names that stand in a Maildir.
type waiter struct {
	wake  func()
	names bool
}

// A watch is on one Maildir directory: one for all who wait.
type watch struct {
	key     [2]uint64 // device and inode of the directory
	at      *place
	path    string // of the directory, from there
	waiting map[*waiter]struct{}
	wds     [3]int32 // of new, cur, and the directory itself; none: inotify does not tell of it
	told    bool     // inotify tells of it
	names   bool     // of the names in it, too
	later   *time.Timer
	due     [2]bool // what later tells of: messages, names

	looked bool // the process looks at it itself
	last   glance
	moving [2]bool // messages, names: they had changed the last time
}

func (w *watch) wake(names bool) {
	for r := range w.waiting {
		if r.names == names {
			r.wake()
		}
	}
}

// A glance is how the things looked that change: what messages there are, and what stands beside them.
type glance struct {
	messages [5]stamp
	names    [3]stamp
}

func glanceAt(p *place, path string) (g glance) {
	for i, name := range []string{"new", "cur", listName, keywordsName, journalName} {
		g.messages[i], _ = p.stamp(path + "/" + name)
	}
	if path == "." {
		for i, name := range []string{".", subscriptionsName, AccountName} {
			g.names[i], _ = p.stamp(name)
		}
	}
	return g
}

// A notifier is the process's inotify instance, there as long as somebody watches, and the goroutine that looks where that
// does not tell.
type notifier struct {
	mu   sync.Mutex
	all  map[[2]uint64]*watch
	file *os.File
	fd   int
	by   map[int32]*watch // by watch descriptor

	looked  map[*watch]bool
	endLook chan struct{}
}

var watches = notifier{all: map[[2]uint64]*watch{}, by: map[int32]*watch{}, looked: map[*watch]bool{}}

const watchMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// In the folder itself it is the journal that counts, for what stands nowhere else, and the names of keywords; who waits for
// names wants to hear of those of directories.
const (
	folderMask = unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	namesMask  = unix.IN_CREATE | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR | unix.IN_MASK_ADD
)

// add lets somebody hear of changes in a directory, until stop is called.
func (n *notifier) add(p *place, path string, key [2]uint64, r *waiter) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.all[key]
	if w == nil {
		w = &watch{key: key, at: p.hold(), path: path, waiting: map[*waiter]struct{}{}}
		n.all[key] = w
		w.told = !pollOnly.Load() && n.ask(w)
		if !w.told || changesElsewhere(p) {
			n.look(w)
		}
	} else if path == "." && w.path != "." { // this one stays true when the folder gets another name
		w.at.close()
		w.at, w.path = p.hold(), path
		w.last = glanceAt(p, path)
	}
	if r.names && w.told && !w.names {
		_, err := unix.InotifyAddWatch(n.fd, "/proc/self/fd/"+strconv.Itoa(p.fd)+"/.", namesMask)
		if w.names = err == nil; !w.names && !w.looked {
			n.look(w)
		}
	}
	w.waiting[r] = struct{}{}
	return sync.OnceFunc(func() { n.remove(w, r) })
}

// inotify makes an instance. It is a variable for tests.
var inotify = unix.InotifyInit1

// ask has inotify tell of a directory; false when it cannot.
func (n *notifier) ask(w *watch) bool {
	if n.file == nil {
		fd, err := inotify(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return false
		}
		n.fd, n.file = fd, os.NewFile(uintptr(fd), "inotify")
		go n.run(n.file)
	}
	for i, name := range []string{"new", "cur", "."} {
		mask := uint32(watchMask)
		if name == "." {
			mask = folderMask
		}
		wd, err := unix.InotifyAddWatch(n.fd, "/proc/self/fd/"+strconv.Itoa(w.at.fd)+"/"+w.path+"/"+name, mask)
		if err != nil {
			n.hush(w, i)
			return false
		}
		w.wds[i] = int32(wd)
		n.by[int32(wd)] = w
	}
	return true
}

// hush ends the first k watch descriptors of a directory; with the last one of all the instance goes.
func (n *notifier) hush(w *watch, k int) {
	for _, id := range w.wds[:k] {
		if n.by[id] == w {
			delete(n.by, id)
			unix.InotifyRmWatch(n.fd, uint32(id))
		}
	}
	if len(n.by) == 0 && n.file != nil {
		n.file.Close()
		n.file = nil
	}
}

// remove ends what add began; with the last one the watch goes.
func (n *notifier) remove(w *watch, r *waiter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if delete(w.waiting, r); len(w.waiting) > 0 {
		return
	}
	if w.later != nil {
		w.later.Stop()
	}
	if n.all[w.key] == w {
		delete(n.all, w.key)
	}
	if w.told {
		n.hush(w, len(w.wds))
	}
	if delete(n.looked, w); len(n.looked) == 0 && n.endLook != nil {
		close(n.endLook)
		n.endLook = nil
	}
	w.at.close()
}

// look has us look at a directory from time to time: one goroutine looks at all.
func (n *notifier) look(w *watch) {
	w.looked, w.last = true, glanceAt(w.at, w.path)
	n.looked[w] = true
	if n.endLook == nil {
		n.endLook = make(chan struct{})
		go n.poll(n.endLook, pollInterval)
	}
}

func (n *notifier) poll(end chan struct{}, every time.Duration) {
	next := time.NewTimer(every)
	defer next.Stop()
	type view struct {
		w    *watch
		at   *place
		path string
	}
	var list []view
	for {
		select {
		case <-end:
			return
		case <-next.C:
		}
		began := time.Now()
		list = list[:0]
		n.mu.Lock()
		for w := range n.looked {
			list = append(list, view{w, w.at.hold(), w.path})
		}
		n.mu.Unlock()
		for _, v := range list {
			now := glanceAt(v.at, v.path)
			v.at.close()
			n.compare(v.w, now)
		}
		clear(list)
		next.Reset(max(every, pollShare*time.Since(began))) // thousands of folders are no reason to do nothing else
	}
}

// compare wakes those who wait for what is different now.
func (n *notifier) compare(w *watch, now glance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// A change in the same instant as the one before does not show: once more when all is quiet again.
	moved := [2]bool{now.messages != w.last.messages, now.names != w.last.names}
	if moved[0] || w.moving[0] {
		w.wake(false)
	}
	if moved[1] || w.moving[1] {
		w.wake(true)
	}
	w.last, w.moving = now, moved
}

// changesElsewhere tells whether a directory may be changed by another host, of which inotify does not tell.
func changesElsewhere(p *place) bool {
	if distant != nil {
		return distant()
	}
	var st unix.Statfs_t
	if again(func() error { return unix.Fstatfs(p.fd, &st) }) != nil {
		return true
	}
	return !slices.Contains(localDisks, uint32(st.Type))
}

// distant says in tests that a file system is not this host's own.
var distant func() bool

// localDisks are the types of file systems that are this host's own.
var localDisks = []uint32{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC,
	unix.F2FS_SUPER_MAGIC, unix.REISERFS_SUPER_MAGIC, unix.NILFS_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC, unix.ECRYPTFS_SUPER_MAGIC,
	0x2fc12fc1 /* ZFS */, 0xca451a4e, /* bcachefs */
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
			for _, w := range n.all {
				n.tell(w, true, true)
			}
			continue
		}
		w := n.by[id]
		if w == nil {
			continue
		}
		if mask&unix.IN_IGNORED != 0 { // the directory is gone, and its number may be another's soon
			delete(n.by, id)
			if n.all[w.key] == w {
				delete(n.all, w.key)
			}
		}
		switch {
		case id != w.wds[2] || mask&(unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0:
			n.tell(w, true, false)
		case name == journalName || name == keywordsName:
			w.wake(false)
		case name == subscriptionsName, name == AccountName, strings.HasPrefix(name, ".") && !strings.HasPrefix(name, ".."):
			n.tell(w, false, true)
		}
	}
}

// tell wakes those who wait for messages, or names: at once, and again when changes of the same instant can no longer
// hide behind their time.
func (n *notifier) tell(w *watch, messages, names bool) {
	names = names && w.names
	w.due[0], w.due[1] = w.due[0] || messages, w.due[1] || names
	if messages {
		w.wake(false)
	}
	if names {
		w.wake(true)
	}
	if w.due == [2]bool{} {
		return
	}
	if w.later != nil {
		w.later.Reset(aftermath)
		return
	}
	w.later = time.AfterFunc(aftermath, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		due := w.due
		w.due = [2]bool{}
		if due[0] {
			w.wake(false)
		}
		if due[1] {
			w.wake(true)
		}
	})
}
