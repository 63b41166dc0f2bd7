package maildir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// newStore makes an empty Maildir.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "a", "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func open(t testing.TB, s *Store, name string) *Folder {
	t.Helper()
	f, err := s.OpenFolder(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func deliver(t testing.TB, s *Store, text string) string {
	t.Helper()
	d, err := s.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if _, err := io.WriteString(d, text); err != nil {
		t.Fatal(err)
	}
	name, err := d.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func look(t testing.TB, f *Folder, claim bool) *State {
	t.Helper()
	st, err := f.Sync(SyncOptions{Claim: claim})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// alone opens a folder as another process would: it shares nothing with other Folders.
func alone(t testing.TB, s *Store, name string) *Folder {
	t.Helper()
	p, err := s.openFolderPlace(name)
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.dir()
	if err != nil {
		t.Fatal(err)
	}
	shelf.Lock()
	f := &Folder{name: name, box: newBox(p, root)}
	shelf.Unlock()
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t testing.TB, f *Folder, m Message) string {
	t.Helper()
	r, err := f.Reader(m)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func uids(st *State) (list []uint32) {
	for _, m := range st.All() {
		list = append(list, m.UID)
	}
	return list
}

func TestOpenNeedsCur(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no cur: %v", err)
	}
	s := newStore(t)
	os.Remove(filepath.Join(s.Path(), "tmp"))
	again, err := Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if _, err := os.Stat(filepath.Join(s.Path(), "tmp")); err != nil {
		t.Error(err)
	}
}

func TestDeliverAndRead(t *testing.T) {
	s := newStore(t)
	name := deliver(t, s, "Subject: a\r\n\r\nketchup?\r\npickles?")
	if !strings.HasSuffix(name, ",S=29,W=32") {
		t.Errorf("name %q", name)
	}
	f := open(t, s, "inbox")
	st := look(t, f, false)
	if st.Len() != 1 || st.UIDNext != 2 || st.UIDValidity == 0 {
		t.Fatalf("%+v", st)
	}
	m := st.At(0)
	if got := read(t, f, m); got != "Subject: a\n\nketchup?\npickles?" {
		t.Errorf("%q", got)
	}
	if n, err := f.Size(m); n != 32 || err != nil {
		t.Error(n, err)
	}
	if !f.Recent(m.UID) || m.Flags != 0 || m.Key() != name {
		t.Errorf("%+v", m)
	}
	if look(t, f, false) != st {
		t.Error("another state though nothing has changed")
	}
	st = look(t, f, true)
	if _, err := os.Stat(filepath.Join(s.Path(), "cur", name+":2,")); err != nil {
		t.Error(err)
	}
	if !f.Recent(st.At(0).UID) {
		t.Error("claimed, but not recent")
	}
	again := open(t, s, "INBOX")
	if st := look(t, again, true); again.Recent(st.At(0).UID) || st.At(0).UID != 1 || st.UIDValidity != look(t, f, false).UIDValidity {
		t.Errorf("%+v", st.At(0))
	}
}

func TestStoreAndExpunge(t *testing.T) {
	for _, open := range []func(testing.TB, *Store, string) *Folder{open, alone} {
		s := newStore(t)
		storeAndExpunge(t, s, open(t, s, "INBOX"), open(t, s, "INBOX"))
	}
}

func storeAndExpunge(t *testing.T, s *Store, f, g *Folder) {
	for range 3 {
		deliver(t, s, "x\n")
	}
	st := look(t, f, true)
	other := look(t, g, true)
	if _, err := f.Store(st.List()[:2], Change{Add: Seen | Flagged, AddKeywords: []string{"$Junk"}}); err != nil {
		t.Fatal(err)
	}
	// g does not know the new name, and must lose neither change.
	if _, err := g.Store(other.List()[:1], Change{Add: Replied, Remove: Seen}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	for _, f := range []*Folder{f, g} {
		st := look(t, f, false)
		if got := st.At(0); got.Flags != Flagged|Replied || !slices.Equal(got.Keywords(), []string{"$Junk"}) {
			t.Errorf("%v %v", got.Flags, got.Keywords())
		}
		if got := st.At(1); got.Flags != Flagged|Seen || !got.HasKeyword("$junk") {
			t.Errorf("%v %v", got.Flags, got.Keywords())
		}
	}
	if err := g.Expunge(other.List()[:2]); err != nil {
		t.Fatal(err)
	}
	if got := uids(look(t, g, false)); !slices.Equal(got, []uint32{3}) {
		t.Error(got)
	}
	if got := uids(look(t, f, false)); !slices.Equal(got, []uint32{3}) {
		t.Error(got)
	}
	if _, err := f.Reader(st.At(0)); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

func TestAppendCopyMove(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Archive.Käse"); err != nil {
		t.Fatal(err)
	}
	in, to := open(t, s, "INBOX"), open(t, s, "Archive.Käse")
	date := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	uid, err := in.Append(AppendOptions{Flags: Seen, Keywords: []string{"Work"}, Date: date}, strings.NewReader("a\r\nb\r\n"))
	if err != nil || uid != 1 {
		t.Fatal(uid, err)
	}
	if uid, err = in.Append(AppendOptions{}, strings.NewReader("c\r\n")); err != nil || uid != 2 {
		t.Fatal(uid, err)
	}
	st := look(t, in, true)
	if got, err := in.Date(st.At(0)); err != nil || !got.Equal(date) {
		t.Error(got, err)
	}
	pairs, err := in.Copy(st.List(), to)
	if err != nil || !slices.Equal(pairs, []Pair{{1, 1}, {2, 2}}) {
		t.Fatal(pairs, err)
	}
	pairs, err = in.Move(st.List()[:1], to)
	if err != nil || !slices.Equal(pairs, []Pair{{1, 3}}) {
		t.Fatal(pairs, err)
	}
	if got := uids(look(t, in, true)); !slices.Equal(got, []uint32{2}) {
		t.Error(got)
	}
	got := look(t, to, false)
	if !slices.Equal(uids(got), []uint32{1, 2, 3}) || got.At(2).Flags != Seen || !got.At(2).HasKeyword("work") {
		t.Errorf("%v %v", uids(got), got.At(2))
	}
	if d, err := to.Date(got.At(2)); err != nil || !d.Equal(date) {
		t.Error(d, err)
	}
	if _, err := in.Append(AppendOptions{Limit: 3}, strings.NewReader("abcd")); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
	noLeftovers(t, s)
}

// noLeftovers: in tmp is nothing but what becomes our lock.
func noLeftovers(t testing.TB, s *Store) {
	t.Helper()
	for _, name := range files(t, s, "tmp") {
		if text := get(t, s, "tmp/"+name); text != lockContent() {
			t.Errorf("left in tmp: %s", name)
		}
	}
}

// newText gives n octets of message.
func newText(n int) io.Reader { return io.LimitReader(endless{}, int64(n)) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "all work and no play makes jack\r\n"[i%33]
	}
	return len(p), nil
}
