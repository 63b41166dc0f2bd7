package powercut

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A program that writes a file beside and renames it, with some of the syncs that this takes.
type program struct {
	syncFile, syncDir, inPlace bool
}

func (p program) run(t *testing.T, root string) {
	do := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	dir, err := disk.OpenAt(unix.AT_FDCWD, root, unix.O_RDONLY, 0)
	do(err)
	defer unix.Close(dir)
	do(disk.MkdirAt(dir, "other", 0o700)) // noise that nobody syncs
	name := "tmp"
	if p.inPlace {
		name = "new"
	}
	fd, err := disk.OpenAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	do(err)
	defer unix.Close(fd)
	for _, piece := range []string{"hello ", "world"} {
		_, err = disk.WriteTo(fd, []byte(piece))
		do(err)
	}
	if p.syncFile {
		do(disk.Fsync(fd))
	}
	if !p.inPlace {
		do(disk.RenameAt(dir, "tmp", dir, "new", 0))
	}
	if p.syncDir {
		do(disk.Fsync(dir))
	}
}

// The model finds what is wrong with a program that leaves a sync out, and nothing wrong with one that does not.
func TestModel(t *testing.T) {
	for _, test := range []struct {
		program
		lost, half bool // may it be, when the program has said that it is done, or at any time
	}{
		{program{true, true, false}, false, false},
		{program{true, false, false}, true, false},
		{program{false, true, false}, false, true},
		{program{false, false, false}, true, true},
		{program{true, true, true}, false, true},
	} {
		root := filepath.Join(t.TempDir(), "root")
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "old"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Record(root)
		if err != nil {
			t.Fatal(err)
		}
		test.run(t, root)
		done := false
		l.Mark(func() { done = true })
		if err := l.Stop(); err != nil {
			t.Fatal(err)
		}
		lost, half := false, false
		n := 0
		for s := range l.States(rand.New(rand.NewPCG(1, 2)), 500) {
			path := filepath.Join(t.TempDir(), "state")
			if _, err := s.Build(path, nil); err != nil {
				t.Fatal(err)
			}
			done = false
			l.Replay(s.Cut)
			data, err := os.ReadFile(filepath.Join(path, "new"))
			lost = lost || done && err != nil
			half = half || err == nil && string(data) != "hello world"
			if old, err := os.ReadFile(filepath.Join(path, "old")); err != nil || string(old) != "old" {
				t.Error("what was there before is not there any more")
			}
			n++
		}
		if lost != test.lost || half != test.half {
			t.Errorf("%+v: lost %v, half %v in %d states", test, lost, half, n)
		}
	}
}

// A change that goes by the recorder is noticed.
func TestUnseen(t *testing.T) {
	root := t.TempDir()
	l, err := Record(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l.Stop() == nil {
		t.Error("not noticed")
	}
}
