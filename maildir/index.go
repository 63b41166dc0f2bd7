package maildir

import "hash/maphash"

// An index finds the UID of a base name: a hash table of UIDs, each with some bits of the hash, and the rows hold the
// names. It is made when it is first needed. UIDs that are no longer there stay in it until it is made anew.
type index struct {
	uids []uint32
	tags []byte // 0: free
	used int
	seed maphash.Seed
}

// build takes in all rows. When a base name stands there twice the later UID counts, and the earlier ones are given.
func (x *index) build(t *table) (doubled []uint32) {
	size := t.len*4/3 + 64
	*x = index{uids: make([]uint32, size), tags: make([]byte, size), seed: maphash.MakeSeed()}
	for _, b := range t.blocks {
		for i := range b.n {
			if old, ok := x.insert(t, b.base(i), b.uid[i]); ok {
				doubled = append(doubled, old)
			}
		}
	}
	return doubled
}

func (x *index) slot(base string) (at int, tag byte) {
	h := maphash.String(x.seed, base)
	return int(h >> 8 % uint64(len(x.uids))), byte(h) | 1
}

// insert puts a UID in the place of one that had the same base name, which it gives.
func (x *index) insert(t *table, base string, uid uint32) (old uint32, ok bool) {
	at, tag := x.slot(base)
	for ; x.tags[at] != 0; at++ {
		if x.tags[at] == tag {
			if k, i, found := t.blocks.find(x.uids[at]); found && t.blocks[k].base(i) == base {
				old, x.uids[at] = x.uids[at], uid
				return old, old != uid
			}
		}
		if at == len(x.uids)-1 {
			at = -1
		}
	}
	x.uids[at], x.tags[at] = uid, tag
	x.used++
	return 0, false
}

// add takes in a row that was added, if the index was made before.
func (x *index) add(t *table, base string, uid uint32) {
	if x.uids == nil {
		return
	}
	if x.used*8 >= len(x.uids)*7 {
		*x = index{}
		return
	}
	x.insert(t, base, uid)
}

// find gives the place of a base name in the rows. The index has to be there.
func (x *index) find(t *table, base string) (k, i int, ok bool) {
	at, tag := x.slot(base)
	for ; x.tags[at] != 0; at++ {
		if x.tags[at] == tag {
			if k, i, ok = t.blocks.find(x.uids[at]); ok && t.blocks[k].base(i) == base {
				return k, i, true
			}
		}
		if at == len(x.uids)-1 {
			at = -1
		}
	}
	return 0, 0, false
}
