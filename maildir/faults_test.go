package maildir

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A fault is how a disk fails: from some call on, or that call alone.
type fault struct {
	errno unix.Errno
	op    disk.Op
	nth   int  // the call of this kind that fails, 1 the first
	on    bool // and all after it, as on a full disk
}

func (f fault) String() string {
	and := ""
	if f.on {
		and = " and all after it"
	}
	return fmt.Sprintf("%s %d%s: %v", f.op, f.nth, and, f.errno)
}

// faults are the kinds of calls that may fail for a reason.
var faults = map[unix.Errno][]disk.Op{
	unix.EIO: {
		disk.Open, disk.Stat, disk.Create, disk.Write, disk.Truncate, disk.Link, disk.Unlink, disk.Rename, disk.Mkdir, disk.Rmdir, disk.Chmod, disk.Times, disk.Sync, disk.DataSync,
	},
	unix.ENOSPC: {disk.Create, disk.Write, disk.Link, disk.Rename, disk.Mkdir, disk.Sync, disk.DataSync},
	unix.EDQUOT: {disk.Create, disk.Write, disk.Link, disk.Rename, disk.Mkdir, disk.Sync, disk.DataSync},
	unix.EMFILE: {disk.Open, disk.Create},
	unix.ENOMEM: {disk.Open, disk.Create, disk.Write, disk.Link, disk.Unlink, disk.Rename, disk.Mkdir},
}

// A faulty disk fails as it is told, and watches that no sync is tried again.
type faulty struct {
	fault
	t       *testing.T
	several bool // sessions: one of them may sync what another has not been able to
	mu      sync.Mutex
	seen    map[disk.Op]int
	failed  map[uint64]bool // inodes of files whose sync has failed
	kept    []int           // descriptors of these, so that no other file gets their numbers
}

func (f *faulty) hook(c *disk.Call, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[c.Op]++
	var st unix.Stat_t
	sync := c.Op == disk.Sync || c.Op == disk.DataSync
	if sync && unix.Fstat(c.Fd, &st) == nil && f.failed[st.Ino] && !f.several {
		f.t.Errorf("%v: sync tried again", f.fault)
	}
	n := f.seen[c.Op]
	if c.Op != f.op || n != f.nth && (!f.on || n < f.nth) {
		if sync {
			return nil
		}
		return do()
	}
	switch {
	case sync && st.Mode&unix.S_IFMT == unix.S_IFREG:
		if keep, err := unix.Dup(c.Fd); err == nil {
			f.kept = append(f.kept, keep)
			f.failed[st.Ino] = true
		}
	case c.Op == disk.Write && f.errno == unix.ENOSPC && len(c.Data) > 1: // what there is room for is written
		if c.Data = c.Data[:len(c.Data)/2]; !f.on {
			f.nth++ // the rest fails
		}
		if n == f.nth || !f.on {
			return do()
		}
	}
	return f.errno
}

func descriptors() int {
	names, _ := os.ReadDir("/proc/self/fd")
	return len(names)
}

// Whatever call fails: what was acknowledged is there, what was refused is not, nothing is torn or left open, and
// the same folders go on as soon as the disk does.
func TestFaults(t *testing.T) {
	hush(t)
	// The runtime opens two descriptors of its own with the first file that can be waited for.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	seed := *powercutSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			counted := &faulty{t: t, seen: map[disk.Op]int{}}
			tryFault(t, counted, way.before, way.do)
			var list []fault
			for errno, ops := range faults {
				for _, op := range ops {
					for n := range counted.seen[op] {
						list = append(list, fault{errno, op, n + 1, false})
						if errno == unix.ENOSPC && op != disk.Rename || errno == unix.EMFILE {
							list = append(list, fault{errno, op, n + 1, true})
						}
					}
				}
			}
			slices.SortFunc(list, compareFaults)
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			all := len(list)
			list = list[:min(all, *powercutStates)]
			for _, f := range list {
				d := &faulty{fault: f, t: t, several: name == "four clients", seen: map[disk.Op]int{}, failed: map[uint64]bool{}}
				tryFault(t, d, way.before, way.do)
				if t.Failed() {
					break
				}
			}
			t.Logf("%d of %d faults, seed %d", len(list), all, seed)
		})
	}
}

func compareFaults(a, b fault) int {
	switch {
	case a.errno != b.errno:
		return int(a.errno) - int(b.errno)
	case a.op != b.op:
		return slices.Compare([]disk.Op{a.op}, []disk.Op{b.op})
	case a.nth != b.nth:
		return a.nth - b.nth
	case a.on == b.on:
		return 0
	case a.on:
		return 1
	}
	return -1
}

func tryFault(t *testing.T, f *faulty, before, do func(*scene)) {
	c := &scene{T: t, at: newDues()}
	c.at.folder(inbox)
	path := filepath.Join(quickDir(t), "Maildir")
	defer os.RemoveAll(path)
	var err error
	if c.s, err = Create(path, Options{}); err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(c)
	}
	c.close()
	fds := descriptors()
	disk.Hook = f.hook
	defer func() { disk.Hook = nil }()
	if f.errno != 0 {
		c.fault = f.errno
	}
	c.play(do)
	disk.Hook = nil
	c.fault = nil
	for _, fd := range f.kept {
		unix.Close(fd)
	}
	for _, f := range c.opened { // they go on
		if c.s.Holds(f) {
			c.tell(f, true)
			c.append(f, AppendOptions{})
		}
	}
	c.close()
	if n := descriptors(); n > fds {
		t.Errorf("%d descriptors more", n-fds)
	}
	c.s.Close()
	for _, w := range c.at.check(t, path) {
		t.Error(w)
	}
	if t.Failed() {
		t.Log(f.fault)
	}
}
