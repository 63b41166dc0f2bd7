package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A reader is a Maker that counts, and whose texts are what stands in the file.
type reader struct {
	Maker
	made atomic.Int32
}

func newReader() *reader {
	r := &reader{}
	r.Maker = Maker{Version: 1, Make: func(file io.ReaderAt, octets int64, level Level, e *Entry) error {
		r.made.Add(1)
		text, err := io.ReadAll(io.NewSectionReader(file, 0, math.MaxInt64))
		if int64(len(text)) != octets {
			err = fmt.Errorf("%d octets, said to be %d", len(text), octets)
		}
		e.Texts[TextEnvelope] = text
		return err
	}}
	return r
}

// tell asks for all messages, and compares what comes with the files.
func (r *reader) tell(t *testing.T, f *Folder, st *State, level Level) {
	t.Helper()
	e := f.Entries(level, &r.Maker)
	defer e.Close()
	msgs := st.List()
	n := 0
	for i, k := range e.All(msgs) {
		if i != n {
			t.Fatalf("%d after %d", i, n)
		}
		n++
		if k.Err != nil {
			t.Fatal(k.Err)
		}
		file, err := f.Reader(msgs[i])
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		if level > Sizes && !bytes.Equal(k.Texts[TextEnvelope], text) {
			t.Errorf("UID %d: %.30q, want %.30q", msgs[i].UID, k.Texts[TextEnvelope], text)
		}
		size, err := f.Size(msgs[i])
		date, derr := f.Date(msgs[i])
		if err != nil || derr != nil || k.Size != size || int64(k.Lacks) != f.Lacking(msgs[i]) || !k.Date().Equal(date) || k.Octets != int64(len(text)) {
			t.Errorf("UID %d: %+v, want %d of %v (%v)", msgs[i].UID, k.Entry, size, date, errors.Join(err, derr))
		}
	}
	if n != len(msgs) {
		t.Errorf("%d of %d messages", n, len(msgs))
	}
}

// made tells how many messages were read since it was asked last.
func (r *reader) since() int { return int(r.made.Swap(0)) }

// many puts n messages into a folder; some end without a line end, one is very long.
func many(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		text := fmt.Sprintf("Subject: %d\n\n%s%s", i, strings.Repeat("line\n", i%50), []string{"", "end", "end\r"}[i%3])
		if i == n/2 {
			text += strings.Repeat("very long\n", maxEntry/5)
		}
		path := filepath.Join(s.Path(), "cur", fmt.Sprintf("%d.M%dP1.host:2,", 1700000000+i, i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		day := time.Unix(1700000000+int64(i), int64(i))
		if err := os.Chtimes(path, day, day); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEntries(t *testing.T) {
	s := newStore(t)
	const n = 300
	many(t, s, n)
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	r := newReader()
	r.tell(t, f, st, Sizes)
	if k := r.since(); k != 0 {
		t.Errorf("%d messages read for their sizes", k)
	}
	r.tell(t, f, st, Header)
	if k := r.since(); k != n+1 { // the long one is read once more, by itself
		t.Errorf("%d messages read", k)
	}
	r.tell(t, f, st, Header)
	g := open(t, s, "INBOX")
	r.tell(t, g, look(t, g, false), Sizes)
	if k := r.since(); k != 1 {
		t.Errorf("%d messages read again", k)
	}
	// Many sessions at once read each message once each at most.
	os.Remove(filepath.Join(s.Path(), cacheName))
	var wg sync.WaitGroup
	for range 4 {
		f := open(t, s, "INBOX")
		st := look(t, f, false)
		wg.Go(func() { r.tell(t, f, st, Whole) })
	}
	wg.Wait()
	if k := r.since(); k < n || k > 4*(n+1) {
		t.Errorf("%d messages read", k)
	}
	r.tell(t, f, st, Whole)
	if k := r.since(); k != 1 {
		t.Errorf("%d messages read again", k)
	}
	// What is gone is told to be gone.
	one := st.At(7)
	if err := f.Expunge([]Message{one}); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(s.Path(), cacheName))
	e := f.Entries(Header, &r.Maker)
	defer e.Close()
	if k := e.One(one); !errors.Is(k.Err, ErrGone) || k.Entry != nil {
		t.Error(k)
	}
}

// A file that was changed is noticed when it is opened, and only then.
func TestEntriesOpen(t *testing.T) {
	s := newStore(t)
	many(t, s, 3)
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	r := newReader()
	r.tell(t, f, st, Header)
	r.since()
	m := st.At(1)
	if err := os.WriteFile(filepath.Join(s.Path(), m.path()), []byte("Subject: new\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := f.Entries(Header, &r.Maker)
	defer e.Close()
	for i, k := range e.All(st.List()) {
		file, err := e.Open(st.At(i), &k)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(file)
		file.Close()
		if !bytes.Equal(k.Texts[TextEnvelope], text) {
			t.Errorf("%q, want %q", k.Texts[TextEnvelope], text)
		}
	}
	f.Close() // it may know the sizes by heart
	f = open(t, s, "INBOX")
	r.tell(t, f, look(t, f, false), Header)
	if k := r.since(); k > 3 { // the second once, the long one that does not fit
		t.Errorf("%d messages read", k)
	}
}

// What clients ask for is made by the way; copies take their entries along.
func TestCacheFill(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	const n = 200
	many(t, s, n)
	f, box := open(t, s, "INBOX"), open(t, s, "Box")
	st := look(t, f, false)
	r := newReader()
	fill := func(st *State) {
		var wg sync.WaitGroup
		wg.Go(func() { f.FillCache(t.Context(), st, &r.Maker) })
		wg.Wait()
	}
	fill(st)
	if _, err := os.Stat(filepath.Join(s.Path(), cacheName)); err == nil || r.since() > 0 {
		t.Error("a cache that nobody asked for")
	}
	e := f.Entries(Whole, &r.Maker)
	for range e.All(st.List()[:2]) {
	}
	e.Close()
	r.since()
	fill(st)
	if k := r.since(); k != n-2 {
		t.Errorf("%d messages read", k)
	}
	fill(st)
	r.tell(t, f, st, Whole)
	if k := r.since(); k != 1 {
		t.Errorf("%d messages read again", k)
	}
	uid, err := f.Append(AppendOptions{}, strings.NewReader("Subject: appended\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	st = look(t, f, false)
	i, _ := st.Find(uid)
	f.Learn([]Message{st.At(i)}, &r.Maker)
	if k := r.since(); k != 1 {
		t.Errorf("%d messages learned", k)
	}
	look(t, box, false)
	some := st.List()[10:60]
	pairs, err := f.Copy(some, box)
	if err != nil {
		t.Fatal(err)
	}
	f.CopyEntries(some, pairs, box, &r.Maker)
	moved := st.List()[60:90]
	if pairs, err = f.Move(moved, box); err != nil {
		t.Fatal(err)
	}
	f.CopyEntries(moved, pairs, box, &r.Maker)
	r.tell(t, box, look(t, box, false), Whole)
	if k := r.since(); k != 0 {
		t.Errorf("%d copies read", k)
	}
	// When most are gone the file becomes short.
	before, err := os.Stat(filepath.Join(s.Path(), cacheName))
	if err != nil {
		t.Fatal(err)
	}
	for range 8 { // what is dead in it has to be worth it
		f.CopyEntries(some, slices.Collect(func(yield func(Pair) bool) {
			for _, m := range some {
				if !yield(Pair{m.UID, m.UID}) {
					return
				}
			}
		}), f, &r.Maker)
	}
	if err := f.Expunge(st.List()[:n-10]); err != nil {
		t.Fatal(err)
	}
	st = look(t, f, false)
	fill(st)
	after, err := os.Stat(filepath.Join(s.Path(), cacheName))
	if err != nil || after.Size() > before.Size()/2 {
		t.Error(before.Size(), after.Size(), err)
	}
	r.since()
	r.tell(t, f, st, Whole)
	if k := r.since(); k != 0 {
		t.Errorf("%d messages read", k)
	}
}

// An entry of a folder that was made anew, or of another maker, is not believed.
func TestCacheForeign(t *testing.T) {
	s := newStore(t)
	many(t, s, 5)
	f := open(t, s, "INBOX")
	r := newReader()
	r.tell(t, f, look(t, f, false), Whole)
	f.Close()
	r.since()
	r.Version = 2
	f = open(t, s, "INBOX")
	r.tell(t, f, look(t, f, false), Whole)
	if k := r.since(); k < 5 {
		t.Errorf("%d messages read", k)
	}
	f.Close()
	for _, name := range []string{listName, journalName} {
		if err := os.Remove(filepath.Join(s.Path(), name)); err != nil && name == listName {
			t.Fatal(err)
		}
	}
	f = open(t, s, "INBOX")
	r.tell(t, f, look(t, f, false), Whole)
	if k := r.since(); k < 5 {
		t.Errorf("%d messages read", k)
	}
	// What is in the way of the cache costs time only.
	os.Remove(filepath.Join(s.Path(), cacheName))
	if err := os.Mkdir(filepath.Join(s.Path(), cacheName), 0o700); err != nil {
		t.Fatal(err)
	}
	r.tell(t, f, look(t, f, false), Whole)
}

// Whatever call fails for the cache, what is told is right.
func TestCacheFaults(t *testing.T) {
	s := newStore(t)
	many(t, s, 5)
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	cache := filepath.Join(s.Path(), cacheName)
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EIO, unix.EACCES} {
		for nth, more := 1, true; more; nth++ {
			if nth%2 == 0 { // every other time there is one already
				os.Remove(cache)
			}
			b, err := f.enter()
			if err != nil {
				t.Fatal(err)
			}
			b.cache.end()
			b.leave()
			var calls atomic.Int32
			disk.Hook = func(c *disk.Call, do func() error) error {
				ours := strings.HasSuffix(c.Name, cacheName) || strings.HasPrefix(c.Name, "tmp/") || c.Op == disk.Write
				if ours && int(calls.Add(1)) == nth {
					if c.Op == disk.Write && len(c.Data) > 1 { // the disk is full in the middle of it
						c.Data = c.Data[:len(c.Data)/2]
						return do()
					}
					return errno
				}
				return do()
			}
			r := newReader()
			r.tell(t, f, st, Header)
			r.tell(t, f, st, Whole)
			disk.Hook = nil
			r.tell(t, f, st, Whole)
			if more = int(calls.Load()) >= nth; nth > 50 {
				t.Fatal("it never ends")
			}
			if t.Failed() {
				t.Fatalf("%v at call %d", errno, nth)
			}
		}
	}
	f.Close()
	s.Close() // the lock has a file there as long as one of the two is open
	if left, _ := filepath.Glob(filepath.Join(s.Path(), "tmp", "*")); len(left) > 0 {
		t.Error(left)
	}
}
