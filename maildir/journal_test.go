package maildir

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newPlace makes an empty Maildir, and opens its directory. What is logged until the end of the test is not shown.
func newPlace(t testing.TB) (*place, string) {
	t.Helper()
	hush(t)
	path := t.TempDir()
	if err := os.Mkdir(filepath.Join(path, "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	return reopen(t, path), path
}

func reopen(t testing.TB, path string) *place {
	t.Helper()
	p, err := openPlace(unix.AT_FDCWD, path, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// someSnapshot makes a folder of n messages, with something of everything.
func someSnapshot(n int) *snapshot {
	s := &snapshot{
		time: time.UnixMicro(1763900000123456), modseq: 1763900000000000 + uint64(n), next: uint32(3*n + 4),
		table:    []where{{inNew, "", nil}, {inCur, ":2,", nil}, {inCur, ":2,FSab", []uint16{0, 1}}},
		keywords: []string{"$Over", "zwölf"},
		ids:      idents{{1, emailIDOf("a")}, {3, emailIDOf("b")}},
		removed:  graveyard{[]vanishing{{UIDRange{5, 9}, 17}, {UIDRange{1, 1}, 17}, {UIDRange{20, 20}, 1763900000000000}}, 12},
		by:       "penny",
	}
	day := time.Unix(1763900000, 5)
	s.views = views{
		new:     &dirView{stamp: stamp{ino: 1, sec: 2, nsec: 3}, since: day, read: day.Add(1), cost: time.Second},
		cur:     &dirView{stamp: stamp{ino: 1 << 63, sec: -2}, since: day, read: day.Add(1), own: day.Add(2)},
		list:    &listView{stamp: stamp{4, 5, 6, 700}, end: 650, tail: "3 :last\n"},
		letters: &stamp{7, 8, 9, 10},
	}
	var names []byte
	for i := range n {
		s.uids = append(s.uids, uint32(3*i+1))
		s.offsets = append(s.offsets, uint32(len(names)))
		names = appendName(names, fmt.Sprintf("%d.M%06dP4711Q%dR%08x.mail.example,S=%d,W=%d", 1700000000+i, i%1e6, i, i*77, 4000+i%999, 4100+i%999))
		s.wheres = append(s.wheres, uint32(i%3))
		s.saved = append(s.saved, uint32(1700000000+i))
		s.modseqs = append(s.modseqs, 1763900000000000+uint64(i))
	}
	s.names = string(names)
	return s
}

func someRecord(i int) *record {
	day := time.UnixMicro(1763900001000000 + int64(i))
	r := &record{time: day, modseq: uint64(day.UnixMicro()), by: "penny"}
	switch i % 5 {
	case 0:
		r.added = []addition{
			{uint32(i + 100), 5, "17.x", where{inNew, "", nil}},
			{uint32(i + 101), 5, "17.y,S=1", where{inNew, "", nil}},
			{uint32(i + 102), 5, "17.z", where{inCur, ":2,S", nil}},
		}
	case 1:
		r.changed = []shift{{where{inCur, ":2,ST", []uint16{3}}, []uint32{1, 5, 4}}, {where{inCur, ":2,", nil}, []uint32{9}}}
		r.keywords = []string{fmt.Sprint("k", i)}
	case 2:
		r.vanished = []UIDRange{{4, 9}, {1, 1}}
	case 3:
		r.ids = []ident{{3, emailIDOf("a")}}
		r.views = someSnapshot(0).views
	case 4:
		r.modseq = 0
		r.views.cur = &dirView{stamp: stamp{ino: 5, sec: int64(i)}}
	}
	return r
}

func TestJournal(t *testing.T) {
	p, path := newPlace(t)
	var w journal
	if _, _, err := w.read(p); !errors.Is(err, errNoJournal) {
		t.Fatal(err)
	}
	if err := w.append(p, someRecord(0), false); !errors.Is(err, errNoJournal) {
		t.Fatal(err)
	}
	s := someSnapshot(50)
	if err := w.replace(p, 77, s, true); err != nil {
		t.Fatal(err)
	}
	var r journal
	got, recs, err := r.read(p)
	if err != nil || len(recs) > 0 || !reflect.DeepEqual(got, s) || r.validity() != 77 {
		t.Fatalf("%v, %v\n%+v\n%+v", err, recs, got, s)
	}
	var all []record
	for i := range 40 {
		rec := someRecord(i)
		all = append(all, *rec)
		if err := w.append(p, rec, i%7 == 0); err != nil {
			t.Fatal(err)
		}
		if got, recs, err := w.read(p); got != nil || recs != nil || err != nil {
			t.Fatal("the writer reads its own", got, recs, err)
		}
		if i%3 == 0 {
			got, recs, err := r.read(p)
			if err != nil || got != nil || !reflect.DeepEqual(recs, all[len(all)-len(recs):]) || i > 0 && len(recs) != 3 {
				t.Fatalf("%v %v %+v", err, got, recs)
			}
		}
	}
	if r != w {
		t.Fatal(r, w)
	}
	var fresh journal
	if got, recs, err := fresh.read(p); err != nil || !reflect.DeepEqual(got, s) || !reflect.DeepEqual(recs, all) {
		t.Fatal(err, got, recs)
	}

	// Who has not read all may not write.
	if err := w.append(p, someRecord(1), false); err != nil {
		t.Fatal(err)
	}
	if err := r.append(p, someRecord(1), false); !errors.Is(err, errJournalMoved) {
		t.Fatal(err)
	}
	// Another generation is seen whole.
	s = someSnapshot(3)
	if err := fresh.replace(p, 78, s, false); err != nil {
		t.Fatal(err)
	}
	if got, recs, err := r.read(p); err != nil || len(recs) > 0 || !reflect.DeepEqual(got, s) || r.validity() != 78 {
		t.Fatal(err, got)
	}
	if err := w.append(p, someRecord(1), false); !errors.Is(err, errJournalMoved) {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(path, journalName))
	if err := r.append(p, someRecord(1), false); !errors.Is(err, errJournalMoved) {
		t.Fatal(err)
	}
	if _, _, err := r.read(p); !errors.Is(err, errNoJournal) || r.validity() != 0 {
		t.Fatal(err)
	}
	if left := must(filepath.Glob(filepath.Join(path, "pennypost*")))(t); len(left) > 0 {
		t.Fatal(left)
	}
}

// lay puts a new file there: to write over one waits for the disk.
func lay(t *testing.T, file string, data []byte) {
	t.Helper()
	os.Remove(file)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A journal that is cut at any octet is read up to the last record that is whole, and goes on from there.
func TestJournalTorn(t *testing.T) {
	p, path := newPlace(t)
	file := filepath.Join(path, journalName)
	var w journal
	if err := w.replace(p, 1, someSnapshot(3), false); err != nil {
		t.Fatal(err)
	}
	ends := []int64{w.end}
	for i := range 6 {
		if err := w.append(p, someRecord(i), false); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, w.end)
	}
	data := must(os.ReadFile(file))(t)
	for cut := range len(data) + 1 {
		for _, rest := range []int{0, 40} { // and with zeros behind, as a power cut leaves them
			lay(t, file, append(slices.Clone(data[:cut]), make([]byte, rest)...))
			want := -1
			for want+1 < len(ends) && int64(cut) >= ends[want+1] {
				want++
			}
			var j journal
			s, recs, err := j.read(p)
			if want < 0 {
				if !errors.Is(err, errNoJournal) {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				continue
			}
			if err != nil || len(s.uids) != 3 || len(recs) != want {
				t.Fatalf("cut at %d: %v, %d records, not %d", cut, err, len(recs), want)
			}
			if err := j.append(p, someRecord(7), false); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			var again journal
			if _, more, err := again.read(p); err != nil || len(more) != want+1 || !reflect.DeepEqual(more[want], *someRecord(7)) {
				t.Fatalf("cut at %d: %v, %d records", cut, err, len(more))
			}
		}
	}
}

// An octet that is not as it was written ends the journal before its record, or all of it.
func TestJournalFlipped(t *testing.T) {
	p, path := newPlace(t)
	file := filepath.Join(path, journalName)
	var w journal
	if err := w.replace(p, 1, someSnapshot(3), false); err != nil {
		t.Fatal(err)
	}
	start := w.end
	var ends []int64
	for i := range 6 {
		if err := w.append(p, someRecord(i), false); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, w.end)
	}
	data := must(os.ReadFile(file))(t)
	for at := range data {
		broken := slices.Clone(data)
		broken[at] ^= 1 << rand.N(8)
		lay(t, file, broken)
		var j journal
		_, recs, err := j.read(p)
		if int64(at) < start {
			if !errors.Is(err, errNoJournal) {
				t.Fatalf("octet %d: %v", at, err)
			}
			continue
		}
		want := 0
		for int64(at) >= ends[want] {
			want++
		}
		if err != nil || len(recs) != want {
			t.Fatalf("octet %d: %v, %d records, not %d", at, err, len(recs), want)
		}
	}
}

// A journal that came from a backup has the generation we know, and another end.
func TestJournalRestored(t *testing.T) {
	p, path := newPlace(t)
	file := filepath.Join(path, journalName)
	var a journal
	if err := a.replace(p, 1, someSnapshot(3), false); err != nil {
		t.Fatal(err)
	}
	backup := must(os.ReadFile(file))(t)
	for i := range 3 {
		if err := a.append(p, someRecord(i), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, backup, 0o600); err != nil { // the same inode
		t.Fatal(err)
	}
	var b journal
	if _, _, err := b.read(p); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := b.append(p, someRecord(i+3), false); err != nil {
			t.Fatal(err)
		}
	}
	s, recs, err := a.read(p)
	if err != nil || s == nil || len(recs) != 10 || a != b {
		t.Fatal(err, s, len(recs))
	}
}

func TestJournalForeign(t *testing.T) {
	p, path := newPlace(t)
	file := filepath.Join(path, journalName)
	var good journal
	if err := good.replace(p, 1, someSnapshot(3), false); err != nil {
		t.Fatal(err)
	}
	data := must(os.ReadFile(file))(t)
	other := slices.Clone(data)
	other[8] = 2
	h := journalHead{validity: 1}
	headOnly := h.encode()
	for name, make := range map[string]func() error{
		"empty":     func() error { return os.WriteFile(file, nil, 0o600) },
		"text":      func() error { return os.WriteFile(file, []byte(strings.Repeat("Hello\n", 1000)), 0o600) },
		"version":   func() error { return os.WriteFile(file, other, 0o600) },
		"head":      func() error { return os.WriteFile(file, headOnly, 0o600) },
		"huge":      func() error { return os.Truncate(file, 5<<30) },
		"directory": func() error { return os.Mkdir(file, 0o700) },
		"link":      func() error { return os.Symlink("cur", file) },
		"dangling":  func() error { return os.Symlink("nowhere", file) },
		"fifo":      func() error { return unix.Mkfifo(file, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(file)
			if name == "huge" {
				os.WriteFile(file, data, 0o600)
			}
			if err := make(); err != nil {
				t.Fatal(err)
			}
			var j journal
			for range 2 {
				if _, _, err := j.read(p); !errors.Is(err, errNoJournal) {
					t.Fatal(err)
				}
			}
			err := j.replace(p, 5, someSnapshot(1), false)
			if name == "directory" {
				if err == nil {
					t.Fatal("a directory was replaced")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := new(journal).read(p); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestJournalWantsReplace(t *testing.T) {
	p, _ := newPlace(t)
	var j journal
	if err := j.replace(p, 1, someSnapshot(10), false); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; !j.wantsReplace(); n++ {
		if err := j.append(p, someRecord(1), false); err != nil {
			t.Fatal(err)
		}
	}
	if n < 200 || n > 2000 {
		t.Errorf("wants to be replaced after %d changes", n)
	}
}

// A failing disk leaves the journal as it was. Only another file is trusted then, since a second sync of the same one
// may succeed and mean nothing.
func TestJournalFault(t *testing.T) {
	p, _ := newPlace(t)
	var j journal
	if err := j.replace(p, 1, someSnapshot(10), false); err != nil {
		t.Fatal(err)
	}
	before := j
	syncFault = func(int) error { return unix.EIO }
	err := j.replace(p, 1, someSnapshot(11), true)
	aerr := j.append(p, someRecord(1), true)
	syncFault = nil
	if !errors.Is(err, unix.EIO) || !errors.Is(aerr, unix.EIO) {
		t.Fatal(err, aerr)
	}
	if before.failed = true; j != before || !j.wantsReplace() {
		t.Fatalf("%+v, not %+v", j, before)
	}
	// The record may be there or not; whoever reads finds out.
	if _, _, err := j.read(p); err != nil {
		t.Fatal(err)
	}
	if err := j.replace(p, 1, someSnapshot(12), true); err != nil || j.failed {
		t.Fatal(err, j.failed)
	}
	if err := j.append(p, someRecord(2), true); err != nil {
		t.Fatal(err)
	}
}

func FuzzJournal(f *testing.F) {
	for _, n := range []int{0, 1, 5} {
		h := journalHead{validity: 9}
		data := h.encode()
		b, names, crc := someSnapshot(n).encode(crcOf(data))
		data = append(append(data, b...), names...)
		f.Add(data[headSize+recordHead:len(data)-len(names)], names, []byte{})
		for i := range 5 {
			b, crc = someRecord(i).encode(crc)
			f.Add([]byte{}, []byte{}, b[recordHead:])
		}
	}
	f.Fuzz(func(t *testing.T, body, names, change []byte) {
		// Whatever passes the checks is used, and comes out of the file again as it went in.
		j := journal{}
		h := journalHead{validity: 1}
		file := h.encode()
		var s, again snapshot
		if s.decode(slices.Clone(body), string(names)) != nil {
			s = *someSnapshot(2)
		}
		b, text, crc := s.encode(crcOf(file))
		file = append(append(file, b...), text...)
		var r record
		known := r.decode(slices.Clone(change)) == nil
		if known {
			b, _ = r.encode(crc)
			file = append(file, b...)
		}
		j.stamp.size = int64(len(file))
		got, recs, err := j.decode(memory(file))
		if err != nil {
			t.Fatal(err)
		}
		if again = *got; !reflect.DeepEqual(again, s) && len(s.uids) > 0 {
			t.Fatalf("%+v became %+v", s, again)
		}
		for i := range again.uids {
			if !validBase(nameAt(again.names, again.offsets[i])) {
				t.Fatalf("%q is no name", nameAt(again.names, again.offsets[i]))
			}
		}
		if known && (len(recs) != 1 || !reflect.DeepEqual(recs[0], r)) {
			t.Fatalf("%+v became %+v", r, recs)
		}
		if j.end != int64(len(file)) {
			t.Fatal(j.end, len(file))
		}
	})
}

// What stands in a journal file may be anything.
func FuzzJournalFile(f *testing.F) {
	h := journalHead{validity: 9}
	data := h.encode()
	b, names, crc := someSnapshot(2).encode(crcOf(data))
	data = append(append(data, b...), names...)
	for i := range 5 {
		b, crc = someRecord(i).encode(crc)
		data = append(data, b...)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var j journal
		j.stamp.size = int64(len(data))
		if _, _, err := j.decode(memory(data)); err != nil && !errors.Is(err, errNoJournal) {
			t.Fatal(err)
		}
	})
}

// memory is a source for tests.
type memory []byte

func (m memory) read(at, n int64) ([]byte, error) { return slices.Clone(m[at : at+n]), nil }

func BenchmarkJournalRead(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, _ := newPlace(b)
			var w journal
			if err := w.replace(p, 1, someSnapshot(n), false); err != nil {
				b.Fatal(err)
			}
			var keep *snapshot
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for b.Loop() {
				var j journal
				s, _, err := j.read(p)
				if err != nil {
					b.Fatal(err)
				}
				keep = s
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "octets/message")
			b.ReportMetric(float64(len(keep.names))/float64(n), "of-names/message")
			runtime.KeepAlive(keep)
		})
	}
}

func BenchmarkJournalAppend(b *testing.B) {
	p, _ := newPlace(b)
	var w journal
	if err := w.replace(p, 1, someSnapshot(1000), false); err != nil {
		b.Fatal(err)
	}
	r := someRecord(1)
	r.views.cur = &dirView{}
	for b.Loop() {
		if err := w.append(p, r, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJournalReplace(b *testing.B) {
	p, _ := newPlace(b)
	s := someSnapshot(100_000)
	var w journal
	for b.Loop() {
		if err := w.replace(p, 1, s, false); err != nil {
			b.Fatal(err)
		}
	}
}

func TestGraveyard(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) uint64 { return uint64(now.Add(d).UnixMicro()) }
	var g graveyard
	g.add([]UIDRange{{7, 7}, {1, 3}}, at(-2*vanishedAge))
	g.add([]UIDRange{{20, 20}}, at(-vanishedAge-time.Hour))
	g.add([]UIDRange{{9, 9}, {12, 14}}, at(-time.Hour))
	g.add([]UIDRange{{8, 8}, {10, 11}}, at(-time.Minute))
	for _, c := range []struct {
		since uint64
		want  string
	}{{0, "1:3,7:14,20"}, {at(-2 * vanishedAge), "8:14,20"}, {at(-time.Hour), "8,10:11"}, {at(0), ""}, {1<<64 - 1, ""}} {
		if got, whole := g.since(c.since); !whole || ranges(got) != c.want {
			t.Errorf("since %d: %s, %v, not %s", c.since, ranges(got), whole, c.want)
		}
	}
	g.trim(now)
	if g.floor != at(-vanishedAge-time.Hour) || len(g.list) != 4 {
		t.Error(g.floor, g.list)
	}
	if _, whole := g.since(g.floor - 1); whole {
		t.Error("it knows what it has forgotten")
	}
	if got, whole := g.since(g.floor); !whole || ranges(got) != "8:14" {
		t.Error(ranges(got), whole)
	}
	for i := range 2 * maxVanished {
		g.add([]UIDRange{{uint32(100 + 3*i), uint32(101 + 3*i)}}, at(0)+uint64(i/3))
	}
	g.trim(now)
	if n := len(g.list); n > maxVanished || n < maxVanished-3 || g.list[0].modseq <= g.floor {
		t.Error(n, g.floor)
	}
	one := graveyard{}
	for i := range 2 * maxVanished {
		one.add([]UIDRange{{uint32(1 + 2*i), uint32(1 + 2*i)}}, at(0))
	}
	one.trim(now)
	if got, whole := one.since(at(-time.Second)); !whole || len(got) != 2*maxVanished {
		t.Error(len(got), whole)
	}
}

func TestEmailID(t *testing.T) {
	if id := emailIDOf("1700000000.M1P2.host").String(); len(id) != 21 || id != emailIDOf("1700000000.M1P2.host").String() {
		t.Error(id)
	}
	var l idents
	l.set([]ident{{9, emailIDOf("x")}, {3, emailIDOf("y")}, {9, emailIDOf("z")}})
	if l.of(3, "a") != emailIDOf("y") || l.of(9, "a") != emailIDOf("z") || l.of(4, "a") != emailIDOf("a") || len(l) != 2 {
		t.Error(l)
	}
}
