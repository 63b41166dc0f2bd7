package maildir

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What an open folder costs: all sessions together, and each further one.
func TestMemory(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	s := filled(t, n)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, how := range []string{"read", "journal", "journal and index"} {
		before := heap()
		f := open(t, s, "INBOX")
		st := look(t, f, how == "read")
		if how == "journal and index" {
			deliver(t, s, "x\n")
			n++
			st = look(t, f, true)
		}
		if st.Len() != n {
			t.Fatal(st.Len())
		}
		one := heap()
		var others []*Folder
		var states []*State
		for range 10 {
			g := open(t, s, "INBOX")
			others, states = append(others, g), append(states, look(t, g, false))
		}
		all := heap()
		shared, each := float64(one-before)/float64(n), float64(all-one)/float64(n)/10
		t.Logf("%s: %.1f octets per message, %.2f for a further session", how, shared, each)
		if shared >= 100 || each >= 1 {
			t.Error("too much")
		}
		runtime.KeepAlive(st)
		runtime.KeepAlive(states)
		for _, g := range append(others, f) {
			g.Close()
		}
	}
}

// A table is what a list of rows would be, and what it has given away stays as it was.
func TestTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		var tab table
		want := map[uint32]row{}
		type picture struct {
			blocks blocks
			rows   []row
		}
		var given []picture
		all := func(bs blocks) (list []row) {
			for _, b := range bs {
				for i := range b.n {
					list = append(list, b.row(i))
				}
			}
			return list
		}
		expected := func() (list []row) {
			for _, w := range want {
				list = append(list, w)
			}
			slices.SortFunc(list, func(a, b row) int { return int(a.uid) - int(b.uid) })
			return list
		}
		next := uint32(1)
		for range r.IntN(3000) {
			switch op := r.IntN(20); {
			case op < 12:
				uid := next
				if next += 1 + r.Uint32N(3); op == 0 { // somewhere in between
					uid = 1 + r.Uint32N(next-1)
					if _, there := want[uid]; there {
						continue
					}
				}
				w := row{uid, r.Uint32N(9), uid, uint64(uid), strings.Repeat("n", 1+r.IntN(250)) + fmt.Sprint(uid)[:1]}
				want[uid] = w
				tab.add(w)
			case op < 16:
				uid := 1 + r.Uint32N(next)
				_, there := want[uid]
				if delete(want, uid); tab.remove(uid) != there {
					t.Fatal(uid, there)
				}
			case op < 18:
				uid := 1 + r.Uint32N(next)
				if w, ok := want[uid]; ok {
					w.modseq++
					want[uid] = w
					tab.renumber(uid, w.modseq)
				}
			case op == 18:
				tab.tidy()
			default:
				bs, ends := tab.freeze()
				if len(ends) > 0 && int(ends[len(ends)-1]) != tab.len {
					t.Fatal(ends, tab.len)
				}
				given = append(given, picture{bs, expected()})
			}
		}
		bs, _ := tab.freeze()
		size := 0
		for _, w := range want {
			size += len(w.base)
		}
		if tab.len != len(want) || tab.octets != size {
			t.Fatal(tab.len, len(want), tab.octets, size)
		}
		for _, p := range append(given, picture{bs, expected()}) {
			if got := all(p.blocks); !reflect.DeepEqual(got, p.rows) {
				t.Fatalf("%v\n%v", got, p.rows)
			}
		}
	}
}

// Since says what a comparison of all messages says.
func TestSince(t *testing.T) {
	s := newStore(t)
	for i := range 700 {
		put(t, s, fmt.Sprintf("cur/%d.a:2,", i), "x\n")
	}
	f := open(t, s, "INBOX")
	r := rand.New(rand.NewPCG(3, 4))
	states := []*State{look(t, f, false)}
	for range 60 {
		st := states[len(states)-1]
		i := r.IntN(st.Len())
		some := st.List()[i:min(i+1+r.IntN(9), st.Len())]
		var err error
		switch r.IntN(3) {
		case 0:
			err = f.Expunge(some)
		case 1:
			_, err = f.Store(some, Change{Add: Flags(r.IntN(8)), Remove: Flags(r.IntN(32)), AddKeywords: []string{fmt.Sprint("k", r.IntN(40))}})
		case 2:
			_, err = f.Append(AppendOptions{}, strings.NewReader("y\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, look(t, f, r.IntN(2) == 0))
	}
	for a, old := range states {
		for _, now := range states[a:] {
			var want Diff
			want.Fresh, _ = now.Find(old.UIDNext)
			for _, m := range old.All() {
				j, ok := now.Find(m.UID)
				if !ok {
					want.Gone = append(want.Gone, m.UID)
				} else if n := now.At(j); n.Flags != m.Flags || !slices.Equal(n.Keywords(), m.Keywords()) {
					want.Changed = append(want.Changed, m.UID)
				}
			}
			if got := now.Since(old); !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
	}
}

// Two processes: each learns from the journal what the other did, with the same MODSEQs, without reading cur.
func TestJournalTells(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		put(t, s, fmt.Sprintf("cur/%d.a:2,", i), "x\n")
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(s.Path(), "cur"), old, old)
	os.Chtimes(filepath.Join(s.Path(), "new"), old, old)
	f, g, box := open(t, s, "INBOX"), alone(t, s, "INBOX"), open(t, s, "Box")
	st := look(t, f, true)
	first := look(t, g, true)
	begun := g.box.cur.read
	same := func() {
		t.Helper()
		defer func() {
			if !g.box.cur.read.Equal(begun) {
				t.Error("cur was read again")
			}
		}()
		a, b := look(t, f, true), look(t, g, true)
		if a.HighestModSeq != b.HighestModSeq || a.UIDNext != b.UIDNext || a.Len() != b.Len() {
			t.Fatal(a.HighestModSeq, b.HighestModSeq, a.UIDNext, b.UIDNext, a.Len(), b.Len())
		}
		for i, m := range a.All() {
			n := b.At(i)
			if m.UID != n.UID || m.Flags != n.Flags || m.ModSeq != n.ModSeq || m.Key() != n.Key() || !slices.Equal(m.Keywords(), n.Keywords()) {
				t.Fatalf("%+v\n%+v", m, n)
			}
		}
	}
	same()
	if _, err := f.Store(st.List()[3:5], Change{Add: Seen, AddKeywords: []string{"Work"}}); err != nil {
		t.Fatal(err)
	}
	same()
	if err := g.Expunge(st.List()[:2]); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Append(AppendOptions{Flags: Seen}, strings.NewReader("y\n")); err != nil {
		t.Fatal(err)
	}
	same()
	if _, err := f.Move(st.List()[7:9], box); err != nil {
		t.Fatal(err)
	}
	same()
	for _, f := range []*Folder{f, g} {
		gone, whole := f.Vanished(first.HighestModSeq)
		if !whole || !slices.Equal(gone, []UIDRange{{1, 2}, {8, 9}}) {
			t.Error(gone, whole)
		}
		if _, whole := f.Vanished(5); whole {
			t.Error("it cannot know what was before")
		}
	}
	// What MODSEQ keeps from being changed.
	now := look(t, f, false)
	i, _ := now.Find(4)
	refused, err := g.Store(now.List(), Change{Add: Flagged, UnchangedSince: now.At(i).ModSeq - 1})
	if err != nil || !slices.Contains(refused, 4) || !slices.Contains(refused, 5) || slices.Contains(refused, 3) {
		t.Error(refused, err)
	}
	same()
	// A change that no message shows.
	now = look(t, f, false)
	if err := g.Advance(); err != nil {
		t.Fatal(err)
	}
	same()
	if later := look(t, f, false); later.HighestModSeq <= now.HighestModSeq || len(later.Since(now).Changed) > 0 {
		t.Error(later.HighestModSeq, later.Since(now))
	}
	// Copies keep their EMAILID.
	moved := look(t, box, false)
	if got, want := box.EmailID(moved.At(0)), f.EmailID(st.At(7)); got != want {
		t.Error(got, want)
	}
	if got, want := alone(t, s, "Box").EmailID(moved.At(0)), f.EmailID(st.At(7)); got == want {
		t.Error("a folder that was not looked at knows its messages")
	}
	other := alone(t, s, "Box")
	if got, want := other.EmailID(look(t, other, false).At(0)), f.EmailID(st.At(7)); got != want {
		t.Error(got, want)
	}
}

// Whatever lies there instead of the journal, no UID and no keyword with a letter is lost, and a new one is begun.
func TestJournalDamaged(t *testing.T) {
	whole := func(s *Store) []byte { return []byte(get(t, s, journalName)) }
	for name, harm := range map[string]func(s *Store) []byte{
		"missing": func(*Store) []byte { return nil },
		"empty":   func(*Store) []byte { return []byte{} },
		"foreign": func(*Store) []byte { return []byte("#!/bin/sh\nexit 0\n" + strings.Repeat("x", 5000)) },
		"cut":     func(s *Store) []byte { b := whole(s); return b[:len(b)/2] },
		"torn":    func(s *Store) []byte { b := whole(s); return b[:len(b)-3] },
		"flipped": func(s *Store) []byte { b := whole(s); b[60] ^= 1; return b },
		"version": func(s *Store) []byte { b := whole(s); b[8] = 99; return b },
		"other": func(*Store) []byte {
			o := newStore(t)
			put(t, o, "cur/9.other:2,T", "x\n")
			look(t, open(t, o, "INBOX"), true)
			return whole(o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			for i := range 5 {
				put(t, s, fmt.Sprintf("cur/%d.a:2,", i), "x\n")
			}
			f := open(t, s, "INBOX")
			st := look(t, f, true)
			if _, err := f.Store(st.List()[1:2], Change{Add: Seen, AddKeywords: []string{"Work"}}); err != nil {
				t.Fatal(err)
			}
			if err := f.Expunge(st.List()[:1]); err != nil {
				t.Fatal(err)
			}
			st = look(t, f, true)
			b := harm(s)
			f.Close()
			os.Remove(filepath.Join(s.Path(), journalName))
			if b != nil {
				put(t, s, journalName, string(b))
			}
			for range 2 {
				f := open(t, s, "INBOX")
				now := look(t, f, true)
				if !slices.Equal(keys(now), keys(st)) || now.UIDValidity != st.UIDValidity || now.UIDNext != st.UIDNext {
					t.Errorf("%v, was %v", keys(now), keys(st))
				}
				if now.At(0).Flags != Seen || !now.At(0).HasKeyword("work") || now.HighestModSeq < st.HighestModSeq {
					t.Errorf("%+v %d %d", now.At(0), now.HighestModSeq, st.HighestModSeq)
				}
				f.Close()
			}
			p := reopen(t, s.Path())
			var j journal
			if snap, _, err := j.read(p); err != nil || snap == nil {
				t.Error("no new journal", err)
			}
		})
	}
}

// Keywords beyond the letters come along with APPEND and COPY, and survive those who know nothing of them.
func TestManyKeywords(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	f, box := open(t, s, "INBOX"), open(t, s, "Box")
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("kw%02d", i))
	}
	if _, err := f.Append(AppendOptions{Keywords: names}, strings.NewReader("x\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Append(AppendOptions{Keywords: []string{"own", names[50]}}, strings.NewReader("x\n")); err != nil {
		t.Fatal(err)
	}
	st := look(t, f, true)
	if _, err := f.Copy(st.List(), box); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Path(), "cur", files(t, s, "cur")[0])
	if err := os.Rename(path, path+"T"); err != nil { // somebody's letters, in another order
		t.Fatal(err)
	}
	check := func(f *Folder, i int) {
		t.Helper()
		got := slices.Clone(look(t, f, true).At(i).Keywords())
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Errorf("%q", got)
		}
	}
	for range 2 {
		check(f, 0)
		check(box, 1)
		check(alone(t, s, "INBOX"), 0)
		check(alone(t, s, "Box"), 1)
	}
}

// Sessions that copy and move between two folders in both directions, and within one, do not wait for each other for ever.
func TestBothWays(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		deliver(t, s, "x\n")
	}
	var wg sync.WaitGroup
	end := time.Now().Add(700 * time.Millisecond)
	for i := range 4 {
		how := open
		if i%2 == 1 {
			how = alone
		}
		from, to := how(t, s, "INBOX"), how(t, s, "Box")
		if i > 1 {
			from, to = to, from
		}
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				st, err := from.Sync(SyncOptions{Claim: true})
				if err != nil {
					t.Error(err)
					return
				}
				list := st.List()[:min(3, st.Len())]
				switch n % 3 {
				case 0:
					_, err = from.Move(list, to)
				case 1:
					_, err = from.Copy(list[:min(1, len(list))], to)
				case 2:
					_, err = from.Move(list, from)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A State counts its flags, and the octets of its messages, once and right.
func TestStateCounts(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	for i := range 300 {
		if _, err := f.Append(AppendOptions{Flags: Flags(i % 32)}, strings.NewReader("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	st := look(t, f, true)
	for _, flag := range []Flags{Draft, Flagged, Replied, Seen, Trashed} {
		want := 0
		for _, m := range st.All() {
			if m.Flags&flag != 0 {
				want++
			}
		}
		if n := st.With(flag); n != want {
			t.Errorf("%d with %v, not %d", n, flag, want)
		}
	}
	for range 2 {
		if n, err := f.TotalSize(st); n != 900 || err != nil {
			t.Error(n, err)
		}
	}
}
