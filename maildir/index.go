package maildir

import "hash/maphash"

// An index finds the line of a base name: a hash table of places in the lines, which hold the names themselves.
type index struct {
	slots []uint32 // place + 1
	used  int
	seed  maphash.Seed
}

// build takes in all lines, with room for more up to the number of hint.
func (x *index) build(lines []*Message, hint int) {
	size := 64
	for size < max(len(lines), hint)*3/2 {
		size *= 2
	}
	*x = index{slots: make([]uint32, size), seed: maphash.MakeSeed()}
	for i, m := range lines {
		if m.base != "" {
			x.insert(m.base, i)
		}
	}
}

func (x *index) insert(base string, at int) {
	mask := uint64(len(x.slots) - 1)
	for i := maphash.String(x.seed, base) & mask; ; i = (i + 1) & mask {
		if x.slots[i] == 0 {
			x.slots[i] = uint32(at) + 1
			x.used++
			return
		}
	}
}

// move lets a base name that is there stand for another place.
func (x *index) move(base string, from, to int) {
	mask := uint64(len(x.slots) - 1)
	for i := maphash.String(x.seed, base) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if x.slots[i] == uint32(from)+1 {
			x.slots[i] = uint32(to) + 1
			return
		}
	}
}

// add takes in the last line.
func (x *index) add(lines []*Message) {
	if x.slots == nil || (x.used+1)*4 > len(x.slots)*3 {
		x.build(lines, 0)
		return
	}
	x.insert(lines[len(lines)-1].base, len(lines)-1)
}

// find gives the place of a base name in the lines.
func (x *index) find(lines []*Message, base []byte) (int, bool) {
	// The string lives for the length of the call only, and base does not change meanwhile.
	return x.findString(lines, asString(base))
}

func (x *index) findString(lines []*Message, base string) (int, bool) {
	if x.slots == nil {
		return 0, false
	}
	mask := uint64(len(x.slots) - 1)
	for i := maphash.String(x.seed, base) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if at := int(x.slots[i] - 1); lines[at].base == base {
			return at, true
		}
	}
	return 0, false
}
