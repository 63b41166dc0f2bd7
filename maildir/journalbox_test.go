package maildir

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pennypost/maildir/internal/disk"
)

// pictured is all that a client can learn of a folder without its journal.
func pictured(t testing.TB, f *Folder) (list []string) {
	t.Helper()
	st := look(t, f, false)
	list = append(list, fmt.Sprint("validity ", st.UIDValidity, " next ", st.UIDNext))
	for _, m := range st.All() {
		keywords := slices.Clone(m.Keywords())
		slices.Sort(keywords)
		list = append(list, fmt.Sprint(m.UID, " ", m.Key(), " ", m.Flags, " ", keywords))
	}
	return list
}

// detailed is what the journal alone knows.
func detailed(t testing.TB, f *Folder) (list []string) {
	t.Helper()
	st := look(t, f, false)
	for _, m := range st.All() {
		saved := must(f.SavedDate(m))(t)
		list = append(list, fmt.Sprint(m.UID, " ", m.ModSeq, " ", f.EmailID(m), " ", saved.Unix()))
	}
	gone, whole := f.Vanished(0)
	return append(list, fmt.Sprint(st.HighestModSeq, gone, whole))
}

func alike(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nnot\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func messages(st *State) (list []Message) {
	for _, m := range st.All() {
		list = append(list, m)
	}
	return list
}

// busyFolder makes an INBOX in which much has happened, by the hand of bob, and closes it.
func busyFolder(t testing.TB) (s *Store, pictures, details []string) {
	t.Helper()
	hush(t)
	s = newStore(t)
	s.By = "bob"
	f := must(s.OpenFolder("INBOX"))(t)
	for i := range 12 {
		deliver(t, s, fmt.Sprintf("Subject: %d\n\nx\n", i))
	}
	msgs := messages(look(t, f, true))
	var keywords []string
	for i := range 40 {
		keywords = append(keywords, fmt.Sprint("word", i))
	}
	must(f.Store(msgs[:6], Change{Add: Seen, AddKeywords: keywords}))(t)
	must(f.Store(msgs[1:2], Change{Add: Flagged, RemoveKeywords: keywords[20:35]}))(t)
	if err := f.Expunge([]Message{msgs[3], msgs[4], msgs[8]}); err != nil {
		t.Fatal(err)
	}
	must(f.Copy(msgs[:1], f))(t)
	must(f.Append(AppendOptions{Flags: Replied, Keywords: []string{"word39"}}, strings.NewReader("Subject: a\n\nb\n")))(t)
	pictures, details = pictured(t, f), detailed(t, f)
	f.Close()
	return s, pictures, details
}

func TestJournalSurvives(t *testing.T) {
	s, pictures, details := busyFolder(t)
	f := open(t, s, "INBOX")
	alike(t, "opened again", pictured(t, f), pictures)
	alike(t, "opened again", detailed(t, f), details)
	st := look(t, f, false)
	first, last := st.At(0), st.At(st.Len()-2)
	if f.EmailID(first) != f.EmailID(last) || f.EmailID(first) == f.EmailID(st.At(1)) {
		t.Error("a copy has its own EMAILID", first, last)
	}
	if n := len(first.Keywords()); n != 40 {
		t.Errorf("%d keywords", n)
	}
	if gone, whole := f.Vanished(first.ModSeq); !whole || ranges(gone) != "4:5,9" {
		t.Error(ranges(gone), whole)
	}
	if gone, whole := f.Vanished(1); whole {
		t.Error("it knows what was before the journal", gone)
	}
}

// A message keeps its EMAILID wherever it goes (RFC 8474 §5.1), and gets a save date where it comes to (RFC 8514 §2).
func TestJournalMove(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	in, box := open(t, s, "INBOX"), open(t, s, "Box")
	deliver(t, s, "Subject: 1\n\nx\n")
	m := look(t, in, true).At(0)
	id, begun := in.EmailID(m), time.Now().Truncate(time.Second)
	if len(id) != 21 || id[0] != 'M' {
		t.Error(id)
	}
	must(in.Copy([]Message{m}, box))(t)
	must(in.Move([]Message{m}, box))(t)
	must(box.Move([]Message{look(t, box, false).At(0)}, in))(t)
	for _, f := range []*Folder{in, box} {
		m := look(t, f, false).At(0)
		if got := f.EmailID(m); got != id {
			t.Errorf("%s in %s, not %s", got, f.Name(), id)
		}
		if saved := must(f.SavedDate(m))(t); saved.Before(begun) {
			t.Error(saved, begun)
		}
	}
}

// The journal tells who has done what.
func TestJournalBy(t *testing.T) {
	hush(t)
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	s.By = "bob"
	in, box := open(t, s, "INBOX"), open(t, s, "Box")
	deliver(t, s, "Subject: 1\n\nx\n")
	must(box.Append(AppendOptions{}, strings.NewReader("Subject: 0\n\nx\n")))(t)
	m := look(t, in, true).At(0)
	must(in.Append(AppendOptions{}, strings.NewReader("Subject: 2\n\nx\n")))(t)
	must(in.Store([]Message{m}, Change{Add: Seen}))(t)
	look(t, in, false)
	must(in.Move([]Message{look(t, in, false).At(0)}, box))(t)
	if err := in.Expunge([]Message{look(t, in, false).At(0)}); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string][]string{
		"":     {" by bob added uid 2 ", " by bob changed uid 1 cur/*:2,S", " by bob vanished uid 1 ", " by bob vanished uid 2 "},
		".Box": {" by bob added uid 2 "},
	} {
		var b bytes.Buffer
		if err := DumpJournal(&b, filepath.Join(s.Path(), folder)); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%q is not in\n%s", w, b.String())
			}
		}
	}
}

// An unchanged folder is opened without reading a directory or the UID list.
func TestJournalOpen(t *testing.T) {
	s, pictures, _ := busyFolder(t)
	time.Sleep(coarseGrain) // what the directories' times may hide has been looked for by then
	f := must(s.OpenFolder("INBOX"))(t)
	look(t, f, false)
	f.Close()
	var opened []string
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Op == disk.Open {
			opened = append(opened, c.Name)
		}
		return do()
	}
	f = must(s.OpenFolder("INBOX"))(t)
	got := pictured(t, f)
	disk.Hook = nil
	f.Close()
	alike(t, "opened again", got, pictures)
	for _, name := range opened {
		if name == "cur" || name == "new" || strings.HasPrefix(name, "cur/") || name == listName {
			t.Fatal("opened:", opened)
		}
	}
}

// Whatever becomes of the journal, UIDs and flags stay, and mod-sequences grow.
func TestJournalLost(t *testing.T) {
	s, pictures, _ := busyFolder(t)
	file := filepath.Join(s.Path(), journalName)
	data := must(os.ReadFile(file))(t)
	plain := func(list []string) (out []string) { // keywords beyond the letters are lost
		for _, l := range list {
			words, _, _ := strings.Cut(l, "[")
			out = append(out, words)
		}
		return out
	}
	highest := uint64(0)
	step := max(1, len(data)/40)
	if testing.Short() {
		step = len(data) / 8
	}
	for cut := 0; cut < len(data)+step; cut += step {
		for _, how := range []string{"cut", "flipped", "removed", "text"} {
			broken := slices.Clone(data)
			switch how {
			case "cut":
				broken = broken[:min(cut, len(broken))]
			case "flipped":
				broken[min(cut, len(broken)-1)] ^= 0x10
			case "text":
				broken = bytes.Repeat([]byte("text\n"), cut)
			}
			lay(t, file, broken)
			if how == "removed" {
				os.Remove(file)
			}
			f := must(s.OpenFolder("INBOX"))(t)
			alike(t, fmt.Sprint(how, " at ", cut), plain(pictured(t, f)), plain(pictures))
			st := look(t, f, false)
			if st.HighestModSeq <= highest && how == "removed" {
				t.Errorf("%s at %d: highest modseq %d after %d", how, cut, st.HighestModSeq, highest)
			}
			must(f.Store([]Message{st.At(2)}, Change{Add: Trashed}))(t)
			after := look(t, f, false)
			if after.HighestModSeq <= st.HighestModSeq || after.At(2).ModSeq != after.HighestModSeq {
				t.Errorf("%s at %d: %d, %d after %d", how, cut, after.At(2).ModSeq, after.HighestModSeq, st.HighestModSeq)
			}
			must(f.Store([]Message{st.At(2)}, Change{Remove: Trashed}))(t)
			want := pictured(t, f)
			highest = max(highest, look(t, f, false).HighestModSeq)
			f.Close()
			f = must(s.OpenFolder("INBOX"))(t)
			alike(t, fmt.Sprint(how, " at ", cut, ", once more"), pictured(t, f), want)
			f.Close()
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// A UID list that is lost comes back from the journal.
func TestJournalBringsListBack(t *testing.T) {
	for name, harm := range map[string]func(file string) error{
		"removed": os.Remove,
		"emptied": func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"text":    func(file string) error { return os.WriteFile(file, []byte("Hello\n"), 0o600) },
		"cut":     func(file string) error { return os.Truncate(file, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			s, pictures, _ := busyFolder(t)
			if err := harm(filepath.Join(s.Path(), listName)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				f := must(s.OpenFolder("INBOX"))(t)
				alike(t, "after", pictured(t, f), pictures)
				f.Close()
			}
		})
	}
}
