package powercut

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A State is what the disk holds after a cut.
type State struct {
	Cut   int    // calls and marks before it
	Posix bool   // by the semantics that allow most
	How   string // for people: the semantics, and what was kept
	nodes []*node
}

// Sum is the same for states that hold the same.
func (s *State) Sum() [32]byte {
	h := sha256.New()
	s.walk(1, ".", func(path string, id int) {
		n := s.nodes[id]
		fmt.Fprintf(h, "%q %d %v %q\n", path, id, n.mtime, n.data)
	})
	return [32]byte(h.Sum(nil))
}

// walk goes through all that can be reached, directories before what is in them.
func (s *State) walk(id int, path string, each func(path string, id int)) {
	each(path, id)
	n := s.nodes[id]
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		s.walk(n.names[name], path+"/"+name, each)
	}
}

// Print lists what there is.
func (s *State) Print(w io.Writer) {
	fmt.Fprintf(w, "cut %d, %s\n", s.Cut, s.How)
	s.walk(1, ".", func(path string, id int) {
		if n := s.nodes[id]; n.dir {
			fmt.Fprintf(w, "%s/\n", path)
		} else {
			fmt.Fprintf(w, "%s %d %.300q\n", path, len(n.data), n.data)
		}
	})
}

// Build makes the state in the directory at path, which must not be there: names, hard links, contents and
// modification times. change, when it is not nil, may give a file other contents. inode tells which number of an inode each new one
// had before the cut.
func (s *State) Build(path string, change func(name string, data []byte) []byte) (inode map[uint64]uint64, err error) {
	inode = map[uint64]uint64{}
	made := map[int]string{}
	var dirs []int
	s.walk(1, path, func(path string, id int) {
		n := s.nodes[id]
		if err != nil {
			return
		}
		if n.dir {
			dirs = append(dirs, id)
			made[id] = path
			err = os.Mkdir(path, 0o700)
			return
		}
		if first := made[id]; first != "" {
			err = os.Link(first, path)
			return
		}
		made[id] = path
		data := n.data
		if change != nil {
			data = change(filepath.Base(path), data)
		}
		if err = os.WriteFile(path, data, os.FileMode(n.mode)); err == nil {
			err = touch(path, n.mtime)
		}
	})
	for _, id := range slices.Backward(dirs) {
		if err == nil {
			err = touch(made[id], s.nodes[id].mtime)
		}
	}
	for id, at := range made {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(at, &st)
		}
		inode[st.Ino] = s.nodes[id].ino
	}
	return inode, err
}

func touch(path string, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_NOW}, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// A choice says which of the changes that are not sure have reached the disk.
type choice struct {
	how  string
	kept func(i int) verdict      // of the call i, one that has changed an entry and is not sure
	data func(id int) dataVerdict // of a file with contents that are not sure
}

// A verdict on a change of entries.
type verdict byte

const (
	drop verdict = iota
	keep
	firstSide // of a rename: the new name is there, and the old one too
)

// A dataVerdict on the contents of a file: of the octets that were written since its sync so many have reached the disk, and
// the file is as long as it would be with all of them when holes is set. ^0 is all of them.
type dataVerdict struct {
	octets uint64
	holes  bool
}

var (
	noData  = dataVerdict{}
	allData = dataVerdict{octets: ^uint64(0)}
)

// build computes the state after a cut by a choice. sure tells of each call before the cut whether its entries are.
func (l *Log) build(cut int, sure []certainty, c choice) *State {
	s := &State{Cut: cut, How: c.how, nodes: make([]*node, len(l.base), len(l.nodes))}
	for i, n := range l.base {
		if n != nil {
			s.nodes[i] = n.clone()
		}
	}
	for i := len(l.base); i < len(l.nodes); i++ {
		n := &node{dir: l.nodes[i].dir, ino: l.nodes[i].ino, mode: l.nodes[i].mode, mtime: l.nodes[i].mtime}
		if n.dir {
			n.names = map[string]int{}
		}
		s.nodes = append(s.nodes, n)
	}
	for i := range l.ops[:cut] {
		o := &l.ops[i]
		if o.kind == "" {
			continue
		}
		v := keep
		if len(o.sides) > 0 && !sure[i].whole {
			if v = c.kept(i); v == drop && sure[i].first {
				v = firstSide
			}
		}
		for k, side := range o.sides {
			if v == keep || v == firstSide && k == 0 {
				set(s.nodes[side.dir], side.name, side.node)
				s.nodes[side.dir].mtime = side.mtime
			}
		}
	}
	l.contents(s, cut, c)
	return s
}

// contents gives the files of a state what they hold.
func (l *Log) contents(s *State, cut int, c choice) {
	synced := make([]int, len(l.nodes)) // how many calls there were when a file was synced last
	for i, o := range l.ops[:cut] {
		if (o.kind == "sync" || o.kind == "datasync") && o.node != 0 {
			synced[o.node] = i + 1
		}
	}
	left := map[int]uint64{}
	holes := map[int]bool{}
	for i, o := range l.ops[:cut] {
		n := s.node(o.node)
		if n == nil || n.dir {
			continue
		}
		switch o.kind {
		case "create", "times", "chmod":
			if o.mtime != (unix.Timespec{}) {
				n.mtime = o.mtime
			}
		case "write", "truncate":
			piece := o.data
			if i >= synced[o.node] {
				if _, asked := left[o.node]; !asked {
					v := c.data(o.node)
					left[o.node], holes[o.node] = v.octets, v.holes
				}
				if o.kind == "truncate" && left[o.node] == 0 {
					continue
				}
				rest := min(left[o.node], uint64(len(piece)))
				if piece = piece[:rest]; left[o.node] != ^uint64(0) {
					left[o.node] -= rest
				}
				if len(piece) < len(o.data) && holes[o.node] {
					n.data = put(n.data, piece, o.offset)
					if end := o.offset + int64(len(o.data)); end > int64(len(n.data)) {
						n.data = put(n.data, nil, end)
					}
					n.mtime = o.mtime
					continue
				}
				if len(piece) == 0 && o.kind == "write" {
					continue
				}
			}
			if o.kind == "truncate" {
				n.data = put(n.data[:min(int64(len(n.data)), o.offset)], nil, o.offset)
			} else {
				n.data = put(n.data, piece, o.offset)
			}
			n.mtime = o.mtime
		}
	}
}

func (s *State) node(id int) *node {
	if id == 0 {
		return nil
	}
	return s.nodes[id]
}
