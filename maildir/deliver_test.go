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
)

func TestDeliverToMany(t *testing.T) {
	a, b, c := newStore(t), newStore(t), newStore(t)
	if err := c.CreateFolder("Lists"); err != nil {
		t.Fatal(err)
	}
	d, err := a.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, also := range []struct {
		s *Store
		o DeliverOptions
	}{{b, DeliverOptions{}}, {c, DeliverOptions{Folder: "Lists"}}} {
		if err := d.Also(also.s, also.o); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Also(b, DeliverOptions{Folder: "None"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	io.WriteString(d, text("many"))
	for _, s := range []*Store{a, b} {
		if look(t, open(t, s, "INBOX"), false).Len() != 0 {
			t.Error("seen before it was committed")
		}
	}
	if _, err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	var first os.FileInfo
	for i, f := range []*Folder{open(t, a, "INBOX"), open(t, b, "INBOX"), open(t, c, "Lists")} {
		st := look(t, f, false)
		if st.Len() != 1 || st.At(0).Key() != d.Names()[i] {
			t.Fatal(keys(st), d.Names())
		}
		if _, ok := whole([]byte(read(t, f, st.At(0)))); !ok {
			t.Error("half")
		}
		r, err := f.Reader(st.At(0))
		if err != nil {
			t.Fatal(err)
		}
		fi, _ := r.Stat()
		r.Close()
		if first == nil {
			first = fi
		} else if !os.SameFile(first, fi) {
			t.Error("copied where a link would do")
		}
	}
	if _, err := d.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	for _, s := range []*Store{a, b, c} {
		noLeftovers(t, s)
	}
}

// On another file system, and for another user, the file is copied.
func TestDeliverCopies(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "pennypost")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	far, err := Create(filepath.Join(dir, "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near := newStore(t)
	d, err := near.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Also(far, DeliverOptions{}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(d, text("far"))
	if _, err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	from, to := open(t, far, "INBOX"), open(t, near, "INBOX")
	st := look(t, from, true)
	if _, ok := whole([]byte(read(t, from, st.At(0)))); !ok {
		t.Error("half")
	}
	// COPY and MOVE go there, too.
	date, err := from.Date(st.At(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.Copy(st.List(), to); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Move(st.List(), to); err != nil {
		t.Fatal(err)
	}
	if n := look(t, from, false).Len(); n != 0 {
		t.Error(n)
	}
	now := look(t, to, false)
	if now.Len() != 3 {
		t.Fatal(keys(now))
	}
	if got, err := to.Date(now.At(1)); err != nil || !got.Equal(date) {
		t.Error(got, date, err)
	}
	if os.Geteuid() != 0 {
		return
	}
	d, err = near.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Create(filepath.Join(t.TempDir(), "Maildir"), Options{UID: 8, GID: 8, Mode: 0o750})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := d.Also(theirs, DeliverOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(theirs.Path(), "new", d.Names()[1]))
	if err != nil || owned(fi) != 8 || fi.Mode().Perm() != 0o640 {
		t.Error(fi.Mode(), owned(fi), err)
	}
}

func TestDeliverPartly(t *testing.T) {
	a, b := newStore(t), newStore(t)
	d, err := a.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Also(b, DeliverOptions{}); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(b.Path())
	io.WriteString(d, text("part"))
	_, err = d.Commit()
	part, ok := errors.AsType[*PartialError](err)
	if !ok || len(part.Failed) != 1 || !errors.Is(part.Failed[1], fs.ErrNotExist) {
		t.Fatal(err)
	}
	if n := look(t, open(t, a, "INBOX"), false).Len(); n != 1 {
		t.Error(n)
	}
}

func TestDeliverGivenUp(t *testing.T) {
	s := newStore(t)
	for _, end := range []func(d *Delivery){
		func(d *Delivery) { d.Abort() },
		func(d *Delivery) {
			if _, err := io.Copy(d, newText(2000)); !errors.Is(err, ErrTooBig) {
				t.Error(err)
			}
			if _, err := d.Commit(); !errors.Is(err, ErrTooBig) {
				t.Error(err)
			}
		},
	} {
		d, err := s.Deliver(DeliverOptions{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(d, "x")
		end(d)
		d.Abort()
		for _, sub := range []string{"tmp", "new", "cur"} {
			if left, _ := os.ReadDir(filepath.Join(s.Path(), sub)); len(left) > 0 {
				t.Error(left)
			}
		}
	}
}

// Line ends, at every place where a Write may end.
func TestLineEnds(t *testing.T) {
	s := newStore(t)
	in := "a\r\n\r\nb\rc\nd\r\r\ne\n\r\nf\r"
	const want = "a\n\nb\rc\nd\r\r\ne\n\nf\r"
	for cut := range len(in) {
		d, err := s.Deliver(DeliverOptions{})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(d, in[:cut])
		io.WriteString(d, in[cut:])
		name, err := d.Commit()
		if err != nil {
			t.Fatal(err)
		}
		got := get(t, s, "new/"+name)
		c, _ := countCRLF(strings.NewReader(got))
		if got != want || sizeByName(name, int64(len(got))) != c.octets || lackingByName(name) != 1 {
			t.Errorf("cut at %d: %q, %s, W should be %d, E 1", cut, got, name, c.octets)
		}
	}
}

// What the last line lacks is known without reading, and goes along with a copy.
func TestLacking(t *testing.T) {
	s := newStore(t)
	s.CreateFolder("A")
	put(t, s, "cur/1.a:2,", "a\nb") // 2
	put(t, s, "cur/2.b:2,", "a\nb\n")
	put(t, s, "cur/3.c:2,", "")
	put(t, s, "cur/4.d,S=4,W=6:2,", "a\nb\n")
	f, to := open(t, s, "INBOX"), open(t, s, "A")
	look(t, f, true)
	for _, text := range []string{"a\r\nb", "a\r\nb\r", "a\r\nb\r\n"} { // 2, 1, 0
		if _, err := f.Append(AppendOptions{}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(f *Folder, want ...int64) {
		t.Helper()
		var got []int64
		for _, m := range look(t, f, true).All() {
			if _, err := f.Size(m); err != nil {
				t.Error(err)
			}
			got = append(got, f.Lacking(m))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(f, 2, 0, 0, 0, 2, 1, 0)
	if _, err := f.Copy(look(t, f, true).List(), to); err != nil {
		t.Fatal(err)
	}
	check(to, 2, 0, 0, 0, 2, 1, 0)
}

func TestWrongSizes(t *testing.T) {
	s := newStore(t)
	for name, want := range map[string]int64{
		"1.a,S=4,W=6": 6, "3.a,S=5,W=6": 6, "4.a,S=4,W=3": 6, "5.a,S=4,W=99": 6, "6.a": 6, "7.a,W=6": 6, "8.a,S=x,W=y": 6,
	} {
		put(t, s, "cur/"+name+":2,", "a\nb\n")
		f := open(t, s, "INBOX")
		st := look(t, f, false)
		for _, m := range st.All() {
			if m.Key() == name {
				if got, err := f.Size(m); err != nil || got != want {
					t.Errorf("%s: %d %v", name, got, err)
				}
			}
		}
	}
}
