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
