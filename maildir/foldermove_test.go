package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pennypost/maildir/internal/disk"
)

// dieAfter lets the next n calls that change the disk happen, and none after: as if we had been killed there. alive
// undoes it, and tells how many calls there were.
func dieAfter(n int) (alive func() int) {
	calls := 0
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Op == disk.Open {
			return do()
		}
		if calls++; calls > n {
			return fmt.Errorf("%s %s: killed", c.Op, c.Name)
		}
		return do()
	}
	return func() int {
		disk.Hook = nil
		return calls
	}
}

// Whoever is killed at any step of changing folders leaves them as they were, or as they should be, once somebody
// has looked.
func TestFoldersKilled(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *Store) error
		free string // the name that is free then
	}{
		{"create", func(s *Store) error { return s.CreateFolder("N.x") }, ""},
		{"delete", func(s *Store) error { return s.DeleteFolder("A") }, "A"},
		{"rename", func(s *Store) error { return s.RenameFolder("A", "N.y") }, "A"},
		{"rename one", func(s *Store) error { return s.RenameFolder("A.b", "N") }, "A.b"},
		{"rename level", func(s *Store) error { return s.RenameFolder("A.c", "N") }, "A.c.d"},
		{"rename inbox", func(s *Store) error { return s.RenameFolder("INBOX", "N") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := someFolders(t)
			if err := c.do(s); err != nil {
				t.Fatal(err)
			}
			done := contents(t, s)
			step := 1
			if testing.Short() {
				step = 4
			}
			for n := 0; ; n += step {
				s := someFolders(t)
				before := contents(t, s)
				validity := look(t, open(t, s, "A.c.d"), false).UIDValidity
				alive := dieAfter(n)
				c.do(s)
				calls := alive()
				s.Close()

				s, err := Open(s.Path())
				if err != nil {
					t.Fatal(err)
				}
				after := contents(t, s)
				if !slices.Equal(after, before) && !slices.Equal(after, done) {
					t.Fatalf("killed after %d of %d calls:\n%q\nwas\n%q\nshould be\n%q", n, calls, after, before, done)
				}
				if _, err := os.Stat(filepath.Join(s.Path(), planName)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("killed after %d calls: the plan stays: %v", n, err)
				}
				if slices.Equal(after, before) {
					if err := c.do(s); err != nil {
						t.Errorf("killed after %d calls, done again: %v", n, err)
					}
				}
				if c.free != "" {
					if err := s.CreateFolder(c.free); err != nil {
						t.Errorf("killed after %d calls: %v", n, err)
					} else if v := look(t, open(t, s, c.free), false).UIDValidity; v <= validity {
						t.Errorf("killed after %d calls: UIDVALIDITY %d after %d", n, v, validity)
					}
				}
				s.Close()
				if n > calls {
					return
				}
			}
		})
	}
}

// someFolders makes a Maildir with folders and messages.
func someFolders(t *testing.T) *Store {
	t.Helper()
	s := newStore(t)
	for _, name := range []string{"A", "A.b", "A.c.d"} {
		if err := s.CreateFolder(name); err != nil {
			t.Fatal(err)
		}
		f := open(t, s, name)
		if _, err := f.Append(AppendOptions{Flags: Flagged | Seen}, strings.NewReader("in "+name+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		deliver(t, s, fmt.Sprintln(i+1))
	}
	return s
}

// contents lists all folders and messages, these in no order of their own.
func contents(t *testing.T, s *Store) (list []string) {
	t.Helper()
	infos, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		list = append(list, i.Name)
		if i.NoSelect {
			continue
		}
		f := open(t, s, i.Name)
		for _, m := range look(t, f, false).All() {
			list = append(list, i.Name+": "+strings.TrimSpace(read(t, f, m))+" "+m.Flags.String())
		}
	}
	slices.Sort(list)
	return list
}

// Two who rename at once each do what they say, or refuse.
func TestFoldersRenamedAtOnce(t *testing.T) {
	for range 20 {
		s := someFolders(t)
		other, err := Open(s.Path())
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		go func() { errs <- s.RenameFolder("A", "N") }()
		go func() { errs <- other.RenameFolder("A", "M") }()
		one, two := <-errs, <-errs
		if (one == nil) == (two == nil) {
			t.Fatalf("%v, %v: %q", one, two, contents(t, s))
		}
		if n := len(contents(t, s)); n != 11 {
			t.Fatalf("%q", contents(t, s))
		}
	}
}

// A folder that somebody else has made meanwhile stops a plan: all have their old names then.
func TestPlanTakenBack(t *testing.T) {
	var s *Store
	var before []string
	for n := 0; ; n++ {
		s = someFolders(t)
		before = contents(t, s)
		alive := dieAfter(n)
		s.RenameFolder("A", "N")
		alive()
		_, half := os.Stat(filepath.Join(s.Path(), ".N.b"))
		_, rest := os.Stat(filepath.Join(s.Path(), ".A.c.d"))
		if half == nil && rest == nil {
			break
		}
		if rest != nil {
			t.Fatal("never half done")
		}
	}
	if err := os.MkdirAll(filepath.Join(s.Path(), ".N.c.d", "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := append(before, "N", "N.c", "N.c.d")
	slices.Sort(want)
	if got := contents(t, s); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(string((&plan{steps: []step{{7, ".a", ".b"}, {8, ".a.c", ".b.c"}}}).text()))
	f.Add(string((&plan{inbox: "Old.Käse", under: 7, below: 3}).text()))
	f.Add(planHead + "1 .a\t.b\n")
	f.Add(planHead + "1 ../a\t.b\n" + planEnd)
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := parsePlan(text)
		if !ok {
			return
		}
		if got := string(p.text()); got != text && p.inbox == "" {
			t.Errorf("%q became %q", text, got)
		}
		for _, st := range p.steps {
			for _, dir := range []string{st.from, st.to} {
				if dir[0] != '.' || strings.HasPrefix(dir, "..") || strings.ContainsAny(dir, "/\x00") {
					t.Errorf("%q", dir)
				}
			}
		}
		if q, ok := parsePlan(string(p.text())); !ok || q.inbox != p.inbox || q.below != p.below || q.under != p.under {
			t.Errorf("%v became %v", p, q)
		}
	})
}
