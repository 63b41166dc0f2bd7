package maildir

import "slices"

// A UIDRange is the UIDs from First to Last, both included.
type UIDRange struct{ First, Last uint32 }

// A uidSet is a set of UIDs as ranges: rising, apart from each other. The zero value is the empty set.
type uidSet []UIDRange

// find gives the place of the range that holds uid, or where it would stand and false.
func (s uidSet) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(s, uid, func(r UIDRange, uid uint32) int {
		switch {
		case r.Last < uid:
			return -1
		case r.First > uid:
			return 1
		}
		return 0
	})
}

func (s uidSet) has(uid uint32) bool {
	_, ok := s.find(uid)
	return ok
}

// add takes in one UID.
func (s *uidSet) add(uid uint32) {
	set := *s
	i, ok := set.find(uid)
	if ok {
		return
	}
	before := i > 0 && set[i-1].Last+1 == uid
	after := i < len(set) && set[i].First == uid+1
	switch {
	case before && after:
		set[i-1].Last = set[i].Last
		set = slices.Delete(set, i, i+1)
	case before:
		set[i-1].Last = uid
	case after:
		set[i].First = uid
	default:
		set = slices.Insert(set, i, UIDRange{uid, uid})
	}
	*s = set
}

// addAll takes in a range.
func (s *uidSet) addAll(u UIDRange) { *s = joined(append(*s, u)) }

// remove takes out one UID.
func (s *uidSet) remove(uid uint32) {
	set := *s
	i, ok := set.find(uid)
	if !ok {
		return
	}
	switch r := set[i]; {
	case r.First == r.Last:
		set = slices.Delete(set, i, i+1)
	case r.First == uid:
		set[i].First++
	case r.Last == uid:
		set[i].Last--
	default:
		set = slices.Insert(set, i+1, UIDRange{uid + 1, r.Last})
		set[i].Last = uid - 1
	}
	*s = set
}

// list gives the UIDs, rising.
func (s uidSet) list() (uids []uint32) {
	for _, r := range s {
		for uid := r.First; ; uid++ {
			if uids = append(uids, uid); uid == r.Last {
				break
			}
		}
	}
	return uids
}
