package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pennypost/maildir/internal/disk"
)

// Whoever makes a Maildir and is killed at any call leaves all of it or nothing under its name, and the next one makes
// it whole. So it is with a directory that lacks something.
func TestCreateKilled(t *testing.T) {
	defer func() { disk.Hook = nil }()
	o := Options{Mode: 0o750}
	if os.Geteuid() == 0 {
		o.UID, o.GID = 8, 8
	}
	dead := errors.New("killed")
	right := func(path string) {
		t.Helper()
		for _, sub := range []string{".", "tmp", "new", "cur"} {
			fi, err := os.Stat(filepath.Join(path, sub))
			if err != nil {
				t.Fatal(err)
			}
			if fi.Mode().Perm() != 0o750 || o.UID > 0 && owned(fi) != o.UID {
				t.Errorf("%s: %v, owner %d", sub, fi.Mode(), owned(fi))
			}
		}
	}
	for _, begin := range []func(path string) error{
		func(string) error { return nil },
		func(path string) error {
			if err := os.MkdirAll(filepath.Join(path, "new"), 0o750); err != nil {
				return err
			}
			if o.UID > 0 {
				os.Chown(path, o.UID, o.GID)
				os.Chown(filepath.Join(path, "new"), o.UID, o.GID)
			}
			return nil
		},
	} {
		done := false
		for kill := 1; !done; kill++ {
			path := filepath.Join(t.TempDir(), "Maildir")
			if err := begin(path); err != nil {
				t.Fatal(err)
			}
			n := 0
			disk.Hook = func(c *disk.Call, do func() error) error {
				if c.Op != disk.Open {
					n++
				}
				if n >= kill {
					return dead
				}
				return do()
			}
			s, err := Create(path, o)
			if done = err == nil; done {
				s.Close()
			}
			disk.Hook = nil
			if _, err := os.Stat(filepath.Join(path, "cur")); err == nil {
				right(path)
			}
			for _, sub := range []string{".", "tmp", "new", "cur"} {
				if fi, err := os.Stat(filepath.Join(path, sub)); err == nil && o.UID > 0 && owned(fi) != o.UID {
					t.Errorf("killed at call %d: %s belongs to %d", kill, sub, owned(fi))
				}
			}
			if s, err = Create(path, o); err != nil {
				t.Fatal(err)
			}
			s.Close()
			right(path)
		}
	}
}

// What was staged long ago goes, what is being made stays.
func TestCreateTidies(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, stagingName+"1700000000.M1P1.host", "cur")
	fresh := filepath.Join(dir, stagingName+uniqueName())
	for _, path := range []string{old, fresh} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Create(filepath.Join(dir, "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Stat(filepath.Dir(old)); err == nil {
		t.Error("an old stage stays")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error(err)
	}
}

// What lies in tmp is left alone for 35 hours and gone after 37, whichever of its times is the later one; in folders too.
func TestTmpCleaned(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("A"); err != nil {
		t.Fatal(err)
	}
	hours := func(h int) time.Time { return time.Now().Add(-time.Duration(h) * time.Hour) }
	files := map[string]struct {
		read, written int // hours ago
		stays         bool
	}{
		"35": {35, 35, true}, "37": {37, 37, false}, "read": {35, 400, true}, "written": {400, 35, true}, "long": {4000, 4000, false}, "now": {0, 0, true},
	}
	for _, tmp := range []string{"tmp", ".A/tmp"} {
		for name, f := range files {
			put(t, s, tmp+"/"+name, "half")
			if err := os.Chtimes(filepath.Join(s.Path(), tmp, name), hours(f.read), hours(f.written)); err != nil {
				t.Fatal(err)
			}
		}
	}
	again, err := Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	open(t, again, "A")
	for _, tmp := range []string{"tmp", ".A/tmp"} {
		for name, f := range files {
			if _, err := os.Stat(filepath.Join(s.Path(), tmp, name)); (err == nil) != f.stays {
				t.Errorf("%s/%s: %v", tmp, name, err)
			}
		}
	}
}

// Whoever has been writing for a day gives up, half a day before others clean up behind him.
func TestWriterGivesUp(t *testing.T) {
	s := newStore(t)
	d, err := s.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	d.file.begun = time.Now().Add(time.Minute - lifetime)
	if _, err := d.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	d.file.begun = time.Now().Add(-lifetime - time.Minute)
	if _, err := d.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if _, err := d.Commit(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	noLeftovers(t, s)
}

// A thousand mailboxes want few descriptors, and some of them may fail.
func TestDeliverToThousand(t *testing.T) {
	const many = 1000
	dir := t.TempDir()
	paths := make([]string, many)
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprint("box", i))
	}
	s := newStore(t)
	d, err := s.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(fds)
	}
	before := open()
	for i, path := range paths {
		for _, sub := range []string{"tmp", "new", "cur"} { // without Create's syncs
			if err := os.MkdirAll(filepath.Join(path, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		one, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Also(one, DeliverOptions{}); err != nil {
			t.Fatal(err)
		}
		one.Close()
		if i%100 == 7 {
			os.RemoveAll(path)
		}
	}
	if now := open(); now > before {
		t.Errorf("%d descriptors for %d mailboxes", now-before, many)
	}
	most := 0
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Op == disk.Link {
			most = max(most, open())
		}
		return do()
	}
	defer func() { disk.Hook = nil }()
	d.Write([]byte("Subject: many\n\nx\n"))
	begun := time.Now()
	_, err = d.Commit()
	took := time.Since(begun)
	disk.Hook = nil
	if most > before+4*together {
		t.Errorf("%d descriptors while it was committed", most-before)
	}
	part, ok := errors.AsType[*PartialError](err)
	if !ok || len(part.Failed) != 10 {
		t.Fatal(err)
	}
	for i, path := range paths {
		names, err := os.ReadDir(filepath.Join(path, "new"))
		if want := part.Failed[i+1] == nil; want != (err == nil && len(names) == 1) {
			t.Fatal(path, err, names)
		}
		if err == nil {
			fi, err := names[0].Info()
			if err != nil || fi.Sys().(*syscall.Stat_t).Nlink != many+1-10 {
				t.Fatal(fi.Sys(), err)
			}
		}
	}
	t.Logf("%v, at most %d descriptors", took, most-before)
}
