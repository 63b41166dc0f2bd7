package maildir

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// anyRecord makes a record that is whole and need not make sense.
func anyRecord(r *rand.Rand) *record {
	uid := func() uint32 {
		if r.IntN(50) == 0 {
			return []uint32{1, maxUID, 1 << 31}[r.IntN(3)]
		}
		return 1 + uint32(r.IntN(700))
	}
	place := func() where {
		w := where{dir: inNew + byte(r.IntN(2)), text: []string{"", ":2,", ":2,S", ":1,x"}[r.IntN(4)]}
		for range r.IntN(3) {
			w.more = append(w.more, uint16(r.IntN(5)))
		}
		return w
	}
	rec := &record{modseq: uint64(r.IntN(1000))}
	for range r.IntN(3) {
		rec.added = append(rec.added, addition{uid(), 1, fmt.Sprint("n", r.IntN(900)), place()})
	}
	for range r.IntN(3) {
		rec.changed = append(rec.changed, shift{place(), []uint32{uid(), uid()}})
	}
	for range r.IntN(3) {
		a := uid()
		rec.vanished = append(rec.vanished, UIDRange{a, max(a, uid())})
	}
	for range r.IntN(2) {
		rec.keywords = append(rec.keywords, fmt.Sprint("k", r.IntN(9)))
		rec.ids = append(rec.ids, ident{uid(), emailID{}})
	}
	return rec
}

// Whatever whole records say, the table stays one: UIDs rise, each message has a name and a place.
func FuzzJournalReplay(f *testing.F) {
	f.Add(uint64(1), 3)
	f.Add(uint64(2), 40)
	f.Fuzz(func(t *testing.T, seed uint64, steps int) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := newBox(&place{}, nil)
		b.head.validity = 1
		b.load(someSnapshot(r.IntN(300)))
		for range min(max(steps, 0), 40) {
			var rec record
			data, _ := anyRecord(r).encode(0)
			if err := rec.decode(data[recordHead:]); err != nil {
				t.Fatal(err)
			}
			b.replay(&rec)
			b.indexed()
			last, n := uint32(0), 0
			for _, bl := range b.rows.blocks {
				for i := range bl.n {
					if bl.uid[i] <= last || bl.uid[i] >= b.head.next {
						t.Fatalf("UID %d after %d, next %d", bl.uid[i], last, b.head.next)
					}
					last = bl.uid[i]
					if !validBase(bl.base(i)) || b.info(bl.mark[i]).dir == nowhere {
						t.Fatalf("UID %d has no place: %q", last, bl.base(i))
					}
					if k, j, ok := b.lookup(bl.base(i)); !ok || b.rows.blocks[k].uid[j] != last {
						t.Fatalf("%q is not found as UID %d", bl.base(i), last)
					}
					n++
				}
			}
			if n != b.rows.len || b.picture().Len() != n {
				t.Fatal(n, b.rows.len, b.picture().Len())
			}
		}
	})
}
