package maildir

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// frozen makes a Maildir on a disk of its own with these files, and then lets nothing be written there any more.
func frozen(t *testing.T, files map[string]string) (s *Store, thaw, freeze func()) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s, err := Create(filepath.Join(dir, "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for name, text := range files {
		put(t, s, name, text)
	}
	remount := func(flags uintptr) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Skip(err)
		}
	}
	thaw, freeze = func() { remount(0) }, func() { remount(unix.MS_RDONLY) }
	freeze()
	return s, thaw, freeze
}

// What a UID list tells on a disk that cannot be written is shown, even if the list should be written anew.
func TestFrozenList(t *testing.T) {
	for name, list := range map[string]string{
		"whole":     "3 V77 N3\n1 :a\n2 :b\n",
		"damaged":   "3 V77 N3\n1 :a\nrubbish\n2 :b\n",
		"version 1": "1 77 3\n1 a\n2 b\n",
		"cut":       "3 V77 N3\n1 :a\n2 :b\n3 :c",
	} {
		s, thaw, freeze := frozen(t, map[string]string{listName: list, "cur/a:2,S": "x\n", "new/b": "x\n"})
		f := open(t, s, "INBOX")
		st := look(t, f, true)
		if !slices.Equal(uids(st), []uint32{1, 2}) || st.At(0).Flags != Seen {
			t.Errorf("%s: %v", name, keys(st))
			continue
		}
		if look(t, f, true) != st {
			t.Errorf("%s: there is a new picture, but nothing has changed", name)
		}
		if _, known := f.Vanished(st.HighestModSeq); known && f.box.grave.floor == 0 {
			t.Errorf("%s: nothing can be known of what vanished", name)
		}
		thaw()
		if err := os.Rename(filepath.Join(s.Path(), "cur/a:2,S"), filepath.Join(s.Path(), "cur/a:2,F")); err != nil {
			t.Fatal(err)
		}
		freeze()
		now := look(t, f, true)
		if now.Len() != 2 || now.At(0).Flags != Flagged || now.At(0).ModSeq <= st.HighestModSeq || now.HighestModSeq != now.At(0).ModSeq {
			t.Errorf("%s: somebody's change is not seen: %+v", name, now.List())
		}
	}
}

// On a full disk too.
func TestFullList(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,nr_inodes=200"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s, err := Create(filepath.Join(dir, "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, listName, "3 V77 N3\n1 :a\nrubbish\n2 :b\n")
	put(t, s, "cur/a:2,S", "x\n")
	put(t, s, "cur/b:2,S", "x\n")
	for i := 0; ; i++ {
		file, err := os.Create(filepath.Join(dir, fmt.Sprint("fill", i)))
		if err != nil {
			break
		}
		io.Copy(file, newText(1<<20))
		file.Close()
	}
	f := open(t, s, "INBOX")
	st := look(t, f, true)
	if st.Len() != 2 {
		t.Fatal(keys(st))
	}
	if err := f.Expunge(st.List()[:1]); err != nil {
		t.Fatal(err)
	}
	gone := look(t, f, true)
	fill, _ := filepath.Glob(filepath.Join(dir, "fill*"))
	for _, name := range fill {
		os.Remove(name)
	}
	now := look(t, f, true)
	if now.Len() != 1 || gone.Len() != 1 || now.HighestModSeq < gone.HighestModSeq {
		t.Error(keys(gone), keys(now))
	}
	// What is written when there is room again can be read by all.
	var j journal
	if snap, _, err := j.read(reopen(t, s.Path())); snap == nil {
		t.Error(err)
	}
	g := alone(t, s, "INBOX")
	if then := look(t, g, true); then.HighestModSeq != now.HighestModSeq {
		t.Error(then.HighestModSeq, now.HighestModSeq)
	}
	if _, known := g.Vanished(gone.HighestModSeq - 1); known {
		t.Error("this is from before all that is known")
	}
}
