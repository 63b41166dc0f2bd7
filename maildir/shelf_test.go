package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keep keeps folders during a test.
func keep(t testing.TB, d time.Duration) {
	Keep(d)
	t.Cleanup(func() { Keep(0) })
}

func kept() int {
	shelf.Lock()
	defer shelf.Unlock()
	return len(shelf.idle)
}

// A folder that was open before is open again without a file being read, sees what others have done since, and is freed
// after a while.
func TestKeep(t *testing.T) {
	keep(t, 300*time.Millisecond)
	s := newStore(t)
	if err := s.CreateFolder("a"); err != nil {
		t.Fatal(err)
	}
	fds := descriptors()
	f, err := s.OpenFolder("a")
	if err != nil {
		t.Fatal(err)
	}
	add(t, f, "one\n")
	known := f.box
	look(t, f, false)
	f.Close()

	other := alone(t, s, "a")
	add(t, other, "two\n")
	other.Close()
	if f, err = s.OpenFolder("a"); err != nil {
		t.Fatal(err)
	}
	if f.box != known {
		t.Error("it was opened anew")
	}
	if st := look(t, f, false); st.Len() != 2 {
		t.Error(st.Len(), "messages")
	}
	f.Close()

	if err := s.RenameFolder("a", "b"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateFolder("a"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"a": 0, "b": 2} {
		f, err := s.OpenFolder(name)
		if err != nil {
			t.Fatal(err)
		}
		if st := look(t, f, false); st.Len() != want {
			t.Errorf("%s has %d messages, not %d", name, st.Len(), want)
		}
		f.Close()
	}
	for begun := time.Now(); kept() > 0 || descriptors() > fds; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 5*time.Second {
			t.Fatalf("%d folders are still there, and %d descriptors more", kept(), descriptors()-fds)
		}
	}
}

// What somebody has taken from a folder is made again when it is opened, and what lies in tmp for long is removed, kept or not.
func TestKeepWhole(t *testing.T) {
	keep(t, time.Minute)
	s := newStore(t)
	if err := s.CreateFolder("a"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Path(), ".a")
	for range 3 {
		for _, sub := range []string{"tmp", "new"} {
			os.RemoveAll(filepath.Join(path, sub))
		}
		f, err := s.OpenFolder("a")
		if err != nil {
			t.Fatal(err)
		}
		known := f.box
		add(t, f, "one\n")
		f.Close()
		known.cleaned = time.Time{}
		old := filepath.Join(path, "tmp", "old")
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-37 * time.Hour)
		if err := os.Chtimes(old, when, when); err != nil {
			t.Fatal(err)
		}
		if f, err = s.OpenFolder("a"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := os.Stat(old); err == nil {
			t.Error("a leftover is still there")
		}
	}
}

// Folders are kept as long as they are few, small, and there are descriptors for others.
func TestKeepBounds(t *testing.T) {
	keep(t, time.Minute)
	s := newStore(t)
	visit := func(n int) {
		f, err := s.OpenFolder(fmt.Sprint("f", n))
		if err != nil {
			t.Fatal(err)
		}
		look(t, f, false)
		f.Close()
	}
	for i := range 10 {
		if err := s.CreateFolder(fmt.Sprint("f", i)); err != nil {
			t.Fatal(err)
		}
	}
	shelf.Lock()
	shelf.most = 5
	shelf.Unlock()
	for i := range 10 {
		visit(i)
	}
	if n := kept(); n != 5 {
		t.Errorf("%d folders are kept, not 5", n)
	}
	visit(7) // the oldest one goes, not this one
	visit(0)
	if f, err := s.OpenFolder("f7"); err != nil || f.box.users.Load() != 1 || kept() != 4 {
		t.Error(err, kept())
	} else {
		f.Close()
	}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	free, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	few := limit
	few.Cur = uint64(free)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenFolder("f3")
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if n := kept(); n > 1 {
		t.Errorf("%d folders are kept beside the new one", n-1)
	}
}

func add(t testing.TB, f *Folder, text string) {
	t.Helper()
	if _, err := f.Append(AppendOptions{}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}
