package maildir

import "testing"

// A folder keeps its ID under every name and whatever becomes of what can be rebuilt; another folder of the name has another.
func TestFolderID(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("A"); err != nil {
		t.Fatal(err)
	}
	id := func(name string) string {
		t.Helper()
		f := must(s.OpenFolder(name))(t)
		defer f.Close()
		before := must(f.ID())(t)
		must(f.Sync(SyncOptions{}))(t)
		if after := must(f.ID())(t); after != before {
			t.Errorf("%s: %s before it was looked at, %s behind", name, before, after)
		}
		return before
	}
	first := id("A")
	if err := s.RenameFolder("A", "B"); err != nil {
		t.Fatal(err)
	}
	if got := id("B"); got != first {
		t.Errorf("renamed: %s, was %s", got, first)
	}
	if err := s.DeleteFolder("B"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateFolder("B"); err != nil {
		t.Fatal(err)
	}
	if got := id("B"); got == first {
		t.Errorf("another folder: %s again", got)
	}
}
