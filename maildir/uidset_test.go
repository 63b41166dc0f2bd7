package maildir

import (
	"math/rand/v2"
	"testing"
)

func TestUIDSet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var set uidSet
		want := map[uint32]bool{}
		for range r.IntN(100) {
			uid := 1 + r.Uint32N(50)
			if r.IntN(3) > 0 {
				set.add(uid)
				want[uid] = true
			} else {
				set.remove(uid)
				delete(want, uid)
			}
		}
		n := 0
		for i, span := range set {
			if span.First > span.Last || i > 0 && set[i-1].Last+1 >= span.First {
				t.Fatalf("%v", set)
			}
			n += int(span.Last - span.First + 1)
		}
		for uid := range uint32(60) {
			if set.has(uid) != want[uid] {
				t.Fatalf("%d: %v in %v", uid, set.has(uid), set)
			}
		}
		if n != len(want) || len(set.list()) != n {
			t.Fatalf("%d UIDs in %v", n, set)
		}
	}
}
