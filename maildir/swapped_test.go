package maildir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Nothing is changed through a symbolic link that comes in place of cur or new while a folder is open.
func TestSwapped(t *testing.T) {
	for _, dir := range []string{"cur", "new"} {
		s, other := newStore(t), newStore(t)
		if err := s.CreateFolder("a"); err != nil {
			t.Fatal(err)
		}
		for i, f := range []*Folder{open(t, s, "a"), open(t, s, "INBOX"), open(t, other, "INBOX")} {
			for _, flags := range []Flags{0, Seen} {
				if _, err := f.Append(AppendOptions{Flags: flags}, strings.NewReader("Subject: "+string(rune('a'+i))+"\n\n")); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := tree(t, other.Path())
		f, from := open(t, s, "a"), open(t, s, "INBOX")
		here, err := f.Sync(SyncOptions{})
		if err != nil {
			t.Fatal(err)
		}
		there, err := from.Sync(SyncOptions{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(s.Path(), ".a", dir)
		if err := os.Rename(path, path+"x"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(other.Path(), dir), path); err != nil {
			t.Fatal(err)
		}
		for _, flags := range []Flags{0, Seen} {
			if _, err := f.Append(AppendOptions{Flags: flags}, strings.NewReader("x")); err == nil {
				t.Errorf("%s: append with flags %v", dir, flags)
			}
		}
		if _, err := from.Copy([]Message{there.At(0)}, f); err == nil {
			t.Errorf("%s: copy", dir)
		}
		if _, err := from.Move([]Message{there.At(1)}, f); err == nil {
			t.Errorf("%s: move", dir)
		}
		f.Store([]Message{here.At(0), here.At(1)}, Change{Add: Flagged})
		f.Expunge([]Message{here.At(0), here.At(1)})
		f.Sync(SyncOptions{})
		if after := tree(t, other.Path()); !slices.Equal(after, before) {
			t.Errorf("%s: %q became %q", dir, before, after)
		}
	}
}
