// Package powercut tells what a disk may hold after a power cut. It records the calls that a program makes through
// package disk, and computes from the record the states that a file system may legally be in when the power fails after
// any of them. It is for tests.
package powercut

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A node is a file or directory: an inode, under a number of its own, since the disk gives an inode's number again.
type node struct {
	dir   bool
	ino   uint64
	mode  uint32
	mtime unix.Timespec
	data  []byte         // of a file
	names map[string]int // of a directory: the nodes by their names
}

func (n *node) clone() *node {
	c := *n
	c.data = slices.Clone(n.data)
	if n.dir {
		c.names = make(map[string]int, len(n.names))
		maps.Copy(c.names, n.names)
	}
	return &c
}

// A side is one entry of a directory and what it becomes; node 0 is: removed.
type side struct {
	dir   int
	name  string
	node  int
	mtime unix.Timespec // of the directory, afterwards
}

// An op is a call that has changed something, or has made sure that it stays. One with a mark changes nothing.
type op struct {
	kind   disk.Op
	node   int           // what is written, truncated, synced or given a time
	sides  []side        // entries that change, the one that goes away last
	data   []byte        // of Write
	offset int64         // of Write and Truncate
	mtime  unix.Timespec // of node, afterwards
	mark   func()
}

// A Log is a record of what was done below one directory.
type Log struct {
	root  string
	mu    sync.Mutex
	nodes []*node // as they are now; 1 is the root
	inos  map[[2]uint64]int
	base  []*node // as they were at the beginning: all that is on the disk
	ops   []op
}

// Record begins a record of what happens below the directory root, which counts as synced. It takes the hook of package
// disk until Stop. Syncs are only recorded.
func Record(root string) (*Log, error) {
	l := &Log{root: root, nodes: []*node{nil}, inos: map[[2]uint64]int{}}
	if _, err := l.load(root); err != nil {
		return nil, err
	}
	for _, n := range l.nodes {
		if n != nil {
			n = n.clone()
		}
		l.base = append(l.base, n)
	}
	disk.Hook = l.hook
	return l, nil
}

// load takes in what is at path.
func (l *Log) load(path string) (int, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, err
	}
	if id, ok := l.inos[[2]uint64{st.Dev, st.Ino}]; ok {
		return id, nil
	}
	id := l.add(&st)
	n := l.nodes[id]
	if !n.dir {
		data, err := os.ReadFile(path)
		n.data = data
		return id, err
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		child, cerr := l.load(filepath.Join(path, e.Name()))
		if cerr != nil {
			return 0, cerr
		}
		n.names[e.Name()] = child
	}
	return id, err
}

func (l *Log) add(st *unix.Stat_t) int {
	n := &node{dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, ino: st.Ino, mode: st.Mode & 0o7777, mtime: st.Mtim}
	if n.dir {
		n.names = map[string]int{}
	}
	l.nodes = append(l.nodes, n)
	l.inos[[2]uint64{st.Dev, st.Ino}] = len(l.nodes) - 1
	return len(l.nodes) - 1
}

// Stop ends the record. The error tells that the disk is not as the calls have made it: one was not seen.
func (l *Log) Stop() error {
	disk.Hook = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	real := &Log{nodes: []*node{nil}, inos: map[[2]uint64]int{}}
	if _, err := real.load(l.root); err != nil {
		return err
	}
	return same(l.nodes, 1, real.nodes, 1, ".")
}

func same(a []*node, i int, b []*node, j int, path string) error {
	x, y := a[i], b[j]
	if x.dir != y.dir || string(x.data) != string(y.data) || len(x.names) != len(y.names) {
		return fmt.Errorf("%s: recorded %q %v, is %q %v", path, x.data, x.names, y.data, y.names)
	}
	for name := range x.names {
		if y.names[name] == 0 {
			return fmt.Errorf("%s/%s: recorded, is not there", path, name)
		}
		if err := same(a, x.names[name], b, y.names[name], path+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// Mark notes that something has happened, or been told, by here: Replay calls do for every cut that comes later.
func (l *Log) Mark(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, op{mark: do})
}

// Len is the number of calls and marks.
func (l *Log) Len() int { return len(l.ops) }

// Print lists the calls from one to another.
func (l *Log) Print(w io.Writer, from, to int) {
	for i := max(from, 0); i < min(to, len(l.ops)); i++ {
		o := &l.ops[i]
		if o.mark != nil {
			fmt.Fprintf(w, "%d mark\n", i)
			continue
		}
		fmt.Fprintf(w, "%d %s %d", i, o.kind, o.node)
		for _, s := range o.sides {
			fmt.Fprintf(w, " %d/%s=%d", s.dir, s.name, s.node)
		}
		fmt.Fprintf(w, " %d %.80q\n", o.offset, o.data)
	}
}

// Replay calls the marks that stand before a cut, in their order.
func (l *Log) Replay(cut int) {
	for _, o := range l.ops[:cut] {
		if o.mark != nil {
			o.mark()
		}
	}
}

func (l *Log) hook(c *disk.Call, do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var o op
	switch c.Op {
	case disk.Open, disk.Stat, disk.Chown, disk.Allocate:
		return do()
	case disk.Sync, disk.DataSync:
		if id := l.file(c.Fd); id != 0 {
			l.ops = append(l.ops, op{kind: c.Op, node: id})
		}
		return nil
	case disk.Create:
		if dir, name := l.parent(c.Fd, c.Name); dir != 0 && l.nodes[dir].names[name] != 0 && c.Flags&unix.O_EXCL == 0 {
			return l.open(c, l.nodes[dir].names[name], do)
		}
	case disk.Write:
		// A write at the end of a file stands where the file ends.
		if o.offset = c.Offset; c.Offset < 0 {
			o.offset, _ = unix.Seek(c.Fd, 0, 1)
			if flags, err := unix.FcntlInt(uintptr(c.Fd), unix.F_GETFL, 0); err == nil && flags&unix.O_APPEND != 0 {
				o.offset, _ = unix.Seek(c.Fd, 0, 2)
			}
		}
	}
	if err := do(); err != nil {
		return err
	}
	if o.kind = c.Op; l.fill(&o, c) {
		l.ops = append(l.ops, o)
	}
	return nil
}

// open is when Create finds the file there.
func (l *Log) open(c *disk.Call, id int, do func() error) error {
	if err := do(); err != nil || c.Flags&unix.O_TRUNC == 0 {
		return err
	}
	o := op{kind: disk.Truncate, node: id}
	l.nodes[id].data = nil
	l.stat(c.Got, "", id, &o.mtime)
	l.ops = append(l.ops, o)
	return nil
}

// fill completes an op by what the call has done, and does it to the nodes; false when it was elsewhere.
func (l *Log) fill(o *op, c *disk.Call) bool {
	switch c.Op {
	case disk.Write, disk.Truncate, disk.Chmod:
		if o.node = l.file(c.Fd); o.node == 0 {
			return false
		}
		n := l.nodes[o.node]
		switch c.Op {
		case disk.Write:
			o.data = slices.Clone(c.Data[:c.Got])
			n.data = put(n.data, o.data, o.offset)
		case disk.Truncate:
			o.offset = c.Offset
			n.data = put(n.data[:min(int64(len(n.data)), o.offset)], nil, o.offset)
		}
		l.stat(c.Fd, "", o.node, &o.mtime)
		return true
	}
	dir, name := l.parent(c.Fd, c.Name)
	if c.Op == disk.Times {
		if dir == 0 {
			return false
		}
		o.node = l.nodes[dir].names[name]
		l.stat(c.Fd, c.Name, o.node, &o.mtime)
		return o.node != 0
	}
	switch c.Op {
	case disk.Create, disk.Mkdir:
		if dir == 0 {
			return false
		}
		var st unix.Stat_t
		if err := unix.Fstatat(c.Fd, c.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			panic(err)
		}
		o.node = l.add(&st)
		o.sides = []side{{dir: dir, name: name, node: o.node}}
	case disk.Unlink, disk.Rmdir:
		if dir == 0 {
			return false
		}
		o.sides = []side{{dir: dir, name: name}}
	case disk.Link, disk.Rename:
		to, toName := l.parent(c.ToFd, c.ToName)
		if dir == 0 || to == 0 {
			if dir != to {
				panic("powercut: " + string(c.Op) + " into or out of " + l.root)
			}
			return false
		}
		id := l.nodes[dir].names[name]
		o.sides = []side{{dir: to, name: toName, node: id}}
		if c.Op == disk.Rename && l.nodes[to].names[toName] != id { // two names of one file both stay
			o.sides = append(o.sides, side{dir: dir, name: name})
		}
	}
	for i := range o.sides {
		s := &o.sides[i]
		set(l.nodes[s.dir], s.name, s.node)
		if l.dirTime(c, s) != nil {
			panic("powercut: no directory for " + s.name)
		}
	}
	return true
}

func set(dir *node, name string, id int) {
	if id == 0 {
		delete(dir.names, name)
	} else {
		dir.names[name] = id
	}
}

// put writes into a file.
func put(data, piece []byte, at int64) []byte {
	if end := int(at) + len(piece); end > len(data) {
		data = append(data, make([]byte, end-len(data))...)
	}
	copy(data[at:], piece)
	return data
}

// file finds the node of a descriptor, 0 when it is elsewhere.
func (l *Log) file(fd int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return l.inos[[2]uint64{st.Dev, st.Ino}]
}

// parent finds the directory that a name is in, 0 when it is elsewhere.
func (l *Log) parent(at int, name string) (dir int, base string) {
	var st unix.Stat_t
	if unix.Fstatat(at, filepath.Dir(name), &st, 0) != nil {
		return 0, ""
	}
	return l.inos[[2]uint64{st.Dev, st.Ino}], filepath.Base(name)
}

// stat notes a node's time and mode.
func (l *Log) stat(fd int, name string, id int, mtime *unix.Timespec) {
	var st unix.Stat_t
	if name == "" && unix.Fstat(fd, &st) != nil || name != "" && unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	n := l.nodes[id]
	*mtime, n.mtime, n.mode = st.Mtim, st.Mtim, st.Mode&0o7777
}

// dirTime notes the time of the directory of a side.
func (l *Log) dirTime(c *disk.Call, s *side) error {
	at, name := c.Fd, c.Name
	if (c.Op == disk.Link || c.Op == disk.Rename) && s.node != 0 {
		at, name = c.ToFd, c.ToName
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at, filepath.Dir(name), &st, 0); err != nil {
		return err
	}
	if l.inos[[2]uint64{st.Dev, st.Ino}] != s.dir {
		return fs.ErrNotExist
	}
	s.mtime, l.nodes[s.dir].mtime = st.Mtim, st.Mtim
	return nil
}
