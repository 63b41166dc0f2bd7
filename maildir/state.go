package maildir

import (
	"errors"
	"iter"
	"sort"
	"sync"
	"sync/atomic"
)

// A State is one picture of a folder. It never changes once it was returned, and all sessions of a process share it.
type State struct {
	UIDValidity   uint32
	UIDNext       uint32
	HighestModSeq uint64   // of all changes so far (RFC 7162 §3.1.1)
	Keywords      []string // the names known in this folder
	blocks        blocks
	ends          []int32 // messages up to the end of each block
	infos         []*info // by mark; all older States of the same box begin alike

	counting sync.Once
	flagged  [len(flagLetters)]int // messages with each flag, once they are counted
	octets   atomic.Int64          // of all messages as they are sent, and one more; 0: nobody has asked yet
}

// Len counts the messages.
func (s *State) Len() int {
	if len(s.ends) == 0 {
		return 0
	}
	return int(s.ends[len(s.ends)-1])
}

// With counts the messages that have one flag.
func (s *State) With(flag Flags) int {
	s.counting.Do(func() {
		many := make([]int, len(s.infos))
		for _, b := range s.blocks {
			for _, mark := range b.mark[:b.n] {
				many[mark]++
			}
		}
		for mark, n := range many {
			for i := range s.flagged {
				if n > 0 && s.infos[mark].flags&(1<<i) != 0 {
					s.flagged[i] += n
				}
			}
		}
	})
	for i, n := range s.flagged {
		if flag == 1<<i {
			return n
		}
	}
	return 0
}

// TotalSize adds up the sizes of all messages of a State. Who is gone meanwhile has none.
func (f *Folder) TotalSize(s *State) (int64, error) {
	if n := s.octets.Load(); n > 0 {
		return n - 1, nil
	}
	sum := int64(0)
	for _, m := range s.All() {
		n, err := f.Size(m)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += n
	}
	s.octets.Store(sum + 1)
	return sum, nil
}

// At gives the message at a place, from 0 to Len()-1. UIDs rise strictly.
func (s *State) At(i int) Message {
	k := sort.Search(len(s.ends), func(k int) bool { return int(s.ends[k]) > i })
	return s.message(s.blocks[k], i-int(s.ends[k])+s.blocks[k].n)
}

func (s *State) message(b *block, i int) Message {
	in := s.infos[b.mark[i]]
	return Message{UID: b.uid[i], Flags: in.flags, ModSeq: b.modseq.at(i), base: b.base(i), info: in}
}

// All gives each message with its place.
func (s *State) All() iter.Seq2[int, Message] { return s.From(0) }

// From gives the messages from place i on.
func (s *State) From(i int) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		at := i
		k := sort.Search(len(s.ends), func(k int) bool { return int(s.ends[k]) > at })
		for ; k < len(s.blocks); k++ {
			b := s.blocks[k]
			for j := at - int(s.ends[k]) + b.n; j < b.n; j++ {
				if !yield(at, s.message(b, j)) {
					return
				}
				at++
			}
		}
	}
}

// List gives all messages.
func (s *State) List() []Message {
	list := make([]Message, 0, s.Len())
	for _, m := range s.All() {
		list = append(list, m)
	}
	return list
}

// Find gives the place of the message with this UID, or where it would stand and false.
func (s *State) Find(uid uint32) (int, bool) {
	k, i, ok := s.blocks.find(uid)
	if k == len(s.blocks) {
		return s.Len(), false
	}
	return int(s.ends[k]) - s.blocks[k].n + i, ok
}

// A Diff says what is different in a State from an older one of the same UIDVALIDITY. The lists rise.
type Diff struct {
	Gone    []uint32 // UIDs that are no longer there
	Changed []uint32 // UIDs in both, with other flags or keywords
	Late    []uint32 // UIDs below the older UIDNext that the older State did not have: their files were not found until now
	Fresh   int      // where the messages begin whose UIDs are not below the older UIDNext
}

// A cursor walks over blocks.
type cursor struct {
	s    *State
	k, i int
}

func (c *cursor) more() bool  { return c.k < len(c.s.blocks) }
func (c *cursor) uid() uint32 { return c.s.blocks[c.k].uid[c.i] }

func (c *cursor) next() {
	if c.i++; c.i == c.s.blocks[c.k].n {
		c.k, c.i = c.k+1, 0
	}
}

// Since tells what has changed since an older State. It costs as much as has changed: blocks that both have are passed over.
func (s *State) Since(old *State) Diff {
	var d Diff
	d.Fresh, _ = s.Find(old.UIDNext)
	a, b := cursor{s: old}, cursor{s: s}
	for a.more() || b.more() {
		if a.i == 0 && b.i == 0 && a.more() && b.more() && old.blocks[a.k] == s.blocks[b.k] {
			a.k++
			b.k++
			continue
		}
		switch {
		case !b.more() || a.more() && a.uid() < b.uid():
			d.Gone = append(d.Gone, a.uid())
			a.next()
		case !a.more() || b.uid() < a.uid():
			if b.uid() < old.UIDNext {
				d.Late = append(d.Late, b.uid())
			}
			b.next()
		default:
			if !old.infos[old.blocks[a.k].mark[a.i]].same(s.infos[s.blocks[b.k].mark[b.i]]) {
				d.Changed = append(d.Changed, b.uid())
			}
			a.next()
			b.next()
		}
	}
	return d
}
