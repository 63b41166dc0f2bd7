package maildir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestACL(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("a"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ACL("a"); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	put(t, s, ".a/"+aclName, "# ours\nowner lrwstipekxa\n\"user=a b\" lr:\n-user=bob w\nuser=x lrQ\n")
	want := []Grant{{"owner", false, AllRights}, {"user=a b", false, RightLookup | RightRead}, {"user=bob", true, RightWrite}}
	if list, err := s.ACL("a"); err != nil || !slices.Equal(list, want) {
		t.Error(list, err)
	}
	add := func(old Rights, _ bool) (Rights, bool) { return old | RightInsert, true }
	if err := s.SetACL("a", "user=bob", true, add); err != nil {
		t.Fatal(err)
	}
	if err := s.SetACL("a", "user=new", false, add); err != nil {
		t.Fatal(err)
	}
	if err := s.SetACL("a", "owner", false, func(Rights, bool) (Rights, bool) { return 0, false }); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, ".a/"+aclName); got != "# ours\n\"user=a b\" lr\n-user=bob wi\nuser=x lrQ\nuser=new i\n" {
		t.Errorf("%q", got)
	}
	// RFC 4314 §4: one below has the same, and it goes with the folder.
	if err := s.CreateFolder("a.b.c"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ACL("a.b.c"); err != nil || len(list) != 3 {
		t.Error(list, err)
	}
	if err := s.RenameFolder("a.b.c", "d"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ACL("d"); err != nil || len(list) != 3 {
		t.Error(list, err)
	}
	if err := s.CreateFolder("e"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ACL("e"); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if err := s.SetACL("e", "nobody", false, add); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if err := s.SetACL("none", "owner", false, add); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	// A list that is too long to be read whole stays as it is.
	long := strings.Repeat("# a line\n", aclLines) + "-owner w\nuser=last lr\n"
	put(t, s, ".d/"+aclName, long)
	for _, on := range []bool{true, false} {
		if err := s.SetACL("d", "owner", true, func(Rights, bool) (Rights, bool) { return RightRead, on }); !errors.Is(err, ErrGrants) {
			t.Error(err)
		}
	}
	if got := get(t, s, ".d/"+aclName); got != long {
		t.Errorf("%d octets of %d are left", len(got), len(long))
	}
	// The last one takes the file along.
	for _, on := range []bool{true, false} {
		if err := s.SetACL("e", "anyone", false, func(Rights, bool) (Rights, bool) { return RightRead, on }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Path(), ".e", aclName)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzACL(f *testing.F) {
	f.Add("owner lrwstipekxa\n-\"user=a b\" lr\n\"-user=a \\\" b\" l:\n# x\n\nanyone")
	f.Fuzz(func(t *testing.T, text string) {
		lines := parseACL(text)
		if again := parseACL(string(printACL(lines))); !slices.Equal(lines, again) {
			t.Errorf("%+v became %+v", lines, again)
		}
	})
}
