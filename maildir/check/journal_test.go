package check

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pennypost/maildir"
)

// served makes a Maildir that our library has served: list, journal and cache are there.
func served(t *testing.T) (root string, s *maildir.Store, in *maildir.Folder) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "Maildir")
	s, err := maildir.Create(root, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if in, err = s.OpenFolder("INBOX"); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := in.Append(maildir.AppendOptions{Flags: maildir.Flags(i), Keywords: []string{"k"}}, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\nbody\r\n", i))); err != nil {
			t.Fatal(err)
		}
	}
	st, err := in.Sync(maildir.SyncOptions{Claim: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Store([]maildir.Message{st.At(2), st.At(3)}, maildir.Change{Add: maildir.Flagged}); err != nil {
		t.Fatal(err)
	}
	if err := in.Expunge([]maildir.Message{st.At(5)}); err != nil {
		t.Fatal(err)
	}
	return root, s, in
}

// picture gives all that a client knows of a folder.
func picture(t *testing.T, s *maildir.Store) (lines []string) {
	t.Helper()
	in, err := s.OpenFolder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	st, err := in.Sync(maildir.SyncOptions{Claim: true})
	if err != nil {
		t.Fatal(err)
	}
	gone, whole := in.Vanished(0)
	lines = append(lines, fmt.Sprint(st.UIDValidity, " ", st.UIDNext, " ", gone, " ", whole))
	for _, m := range st.All() {
		size, err := in.Size(m)
		saved, err2 := in.SavedDate(m)
		if err != nil || err2 != nil {
			t.Error(err, err2)
		}
		lines = append(lines, fmt.Sprint(m.UID, " ", m.Flags, " ", m.Keywords(), " ", size, " ", in.EmailID(m), " ", saved.Unix(), " ", in.UIDL(m)))
	}
	return lines
}

func same(t *testing.T, what string, was, is []string) {
	t.Helper()
	if a, b := strings.Join(was, "\n"), strings.Join(is, "\n"); a != b {
		t.Errorf("%s: it was\n%s\nis\n%s", what, a, b)
	}
}

// A list that has lost lines, or its head, or all, gets them back from the journal.
func TestJournalKnows(t *testing.T) {
	for name, damage := range map[string]func(text string) string{
		"lines": func(s string) string {
			l := strings.SplitAfter(s, "\n")
			return strings.Join(append(l[:2], l[5:]...), "")
		},
		"end":  func(s string) string { return s[:len(s)-150] },
		"head": func(s string) string { return "garbage" + s },
		"all":  func(string) string { return "" },
		"file": nil,
	} {
		t.Run(name, func(t *testing.T) {
			root, s, in := served(t)
			before := picture(t, s)
			in.Close()
			s.Close()
			if got := wrong(look(t, root, Options{})); len(got) > 0 {
				t.Error(got)
			}
			path := filepath.Join(root, listName)
			if damage == nil {
				os.Remove(path)
			} else {
				data, _ := os.ReadFile(path)
				if err := os.WriteFile(path, []byte(damage(string(data))), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := wrong(look(t, root, Options{})); len(got) == 0 {
				t.Error("nothing found")
			}
			look(t, root, Options{Repair: true})
			if got := wrong(look(t, root, Options{})); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
			s, err := maildir.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			same(t, "mended", before, picture(t, s))
		})
	}
}

// A message whose name told wrong sizes is the same one to all clients after.
func TestRebaseAndJournal(t *testing.T) {
	for _, open := range []bool{false, true} {
		root, s, in := served(t)
		before := picture(t, s)
		if !open {
			in.Close()
			s.Close()
		}
		modseq := highest(t, root)
		names, _ := filepath.Glob(filepath.Join(root, "cur", "*"))
		for _, path := range names[:4] {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(data, "more\n"...), 0o600); err != nil { // somebody has edited it
				t.Fatal(err)
			}
		}
		look(t, root, Options{Repair: true})
		if got := wrong(look(t, root, Options{})); len(got) > 0 {
			t.Errorf("left: %q", got)
		}
		if !open {
			var err error
			if s, err = maildir.Open(root); err != nil {
				t.Fatal(err)
			}
		}
		size := regexp.MustCompile(`\] \d+ `)
		after := picture(t, s)
		in, err := s.OpenFolder("INBOX")
		if err != nil {
			t.Fatal(err)
		}
		st, err := in.Sync(maildir.SyncOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if gone, whole := in.Vanished(modseq); len(gone) > 0 || !whole || st.HighestModSeq <= modseq {
			t.Errorf("after %d, at %d: %v vanished, %v", modseq, st.HighestModSeq, gone, whole)
		}
		in.Close()
		for i := range after {
			before[i], after[i] = size.ReplaceAllString(before[i], "]"), size.ReplaceAllString(after[i], "]")
		}
		same(t, fmt.Sprint("rebased, open: ", open), before, after)
		s.Close()
	}
}

func highest(t *testing.T, root string) uint64 {
	t.Helper()
	d, err := openDir(unix.AT_FDCWD, root, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	j, err := maildir.ReadJournal(d.fd)
	if err != nil {
		t.Fatal(err)
	}
	return j.HighestModSeq
}

// A journal that is torn or damaged is found out, and no message pays for it.
func TestJournalDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(data []byte) []byte
		want   string
	}{
		"torn":     {func(b []byte) []byte { return append(b, "half a record"...) }, "warning journal pennypost-journal 0"},
		"cut":      {func(b []byte) []byte { return b[:len(b)-3] }, "warning journal pennypost-journal 0"},
		"snapshot": {func(b []byte) []byte { b[60]++; return b }, "error journal pennypost-journal 0"},
		"empty":    {func(b []byte) []byte { return nil }, "error journal pennypost-journal 0"},
	} {
		t.Run(name, func(t *testing.T) {
			root, s, in := served(t)
			before := uids(picture(t, s))
			in.Close()
			s.Close()
			path := filepath.Join(root, maildir.JournalName)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := wrong(look(t, root, Options{})); len(got) != 1 || got[0] != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			look(t, root, Options{Repair: true})
			if got := wrong(look(t, root, Options{})); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
			if s, err = maildir.Open(root); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			same(t, "mended", before, uids(picture(t, s)))
		})
	}
}

// uids keeps what no journal is needed for: UIDs and flags.
func uids(picture []string) (list []string) {
	for _, line := range picture[1:] {
		before, _, _ := strings.Cut(line, "]")
		list = append(list, before)
	}
	return list
}
