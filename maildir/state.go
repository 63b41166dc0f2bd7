package maildir

import (
	"iter"
	"slices"
)

// A State is one picture of a folder. It never changes once it was returned.
type State struct {
	UIDValidity   uint32
	UIDNext       uint32
	HighestModSeq uint64   // of all changes so far (RFC 7162 §3.1.1)
	Keywords      []string // the names known in this folder
	list          []*Message
}

// Len counts the messages.
func (s *State) Len() int { return len(s.list) }

// At gives the message at a place, from 0 to Len()-1. UIDs rise strictly.
func (s *State) At(i int) Message { return *s.list[i] }

// All gives each message with its place.
func (s *State) All() iter.Seq2[int, Message] { return s.From(0) }

// From gives the messages from place i on.
func (s *State) From(i int) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		for i := i; i < len(s.list); i++ {
			if !yield(i, *s.list[i]) {
				return
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
func (s *State) Find(uid uint32) (int, bool) { return findUID(s.list, uid) }

func findUID(list []*Message, uid uint32) (int, bool) {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if list[mid].UID < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(list) && list[lo].UID == uid
}

// A Diff says what is different in a State from an older one of the same UIDVALIDITY. The lists rise.
type Diff struct {
	Gone    []uint32 // UIDs that are no longer there
	Changed []uint32 // UIDs in both, with other flags or keywords
	Late    []uint32 // UIDs below the older UIDNext that the older State did not have: their files were not found until now
	Fresh   int      // where the messages begin whose UIDs are not below the older UIDNext
}

// Since tells what has changed since an older State.
func (s *State) Since(old *State) Diff {
	var d Diff
	d.Fresh, _ = s.Find(old.UIDNext)
	if s == old {
		return d
	}
	j := 0
	for _, m := range old.list {
		for ; j < d.Fresh && s.list[j].UID < m.UID; j++ {
			d.Late = append(d.Late, s.list[j].UID)
		}
		if j == d.Fresh || s.list[j].UID != m.UID {
			d.Gone = append(d.Gone, m.UID)
			continue
		}
		if n := s.list[j]; n != m && (n.Flags != m.Flags || !slices.Equal(n.Keywords(), m.Keywords())) {
			d.Changed = append(d.Changed, m.UID)
		}
		j++
	}
	for ; j < d.Fresh; j++ {
		d.Late = append(d.Late, s.list[j].UID)
	}
	return d
}
