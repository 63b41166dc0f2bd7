package maildir

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A client is one that follows a folder by CONDSTORE and QRESYNC (RFC 7162): it holds what it was told, and asks only for
// what came later.
type client struct {
	modseq   uint64
	validity uint32
	held     map[uint32]string // flags and keywords
}

func wordsOf(m Message) string { return fmt.Sprint(m.Key(), m.Flags, m.Keywords()) }

// meets brings it up to date, and compares it with one that asks for all.
func (c *client) meets(t *testing.T, what string, f *Folder) {
	t.Helper()
	st := look(t, f, false)
	if c.held == nil || c.validity != st.UIDValidity {
		*c = client{validity: st.UIDValidity, held: map[uint32]string{}}
	}
	vanished, known := f.Vanished(c.modseq)
	if st.HighestModSeq < c.modseq {
		t.Errorf("%s: MODSEQ goes back from %d to %d", what, c.modseq, st.HighestModSeq)
	}
	there := map[uint32]bool{}
	for _, m := range st.All() {
		there[m.UID] = true
		if m.ModSeq > c.modseq {
			c.held[m.UID] = wordsOf(m)
		}
		if c.held[m.UID] != wordsOf(m) {
			t.Errorf("%s: UID %d is %q, the client has %q", what, m.UID, wordsOf(m), c.held[m.UID])
		}
	}
	for uid := range c.held {
		if _, gone := uidSet(vanished).find(uid); gone || !known && !there[uid] {
			delete(c.held, uid)
		}
		if c.held[uid] != "" && !there[uid] {
			t.Errorf("%s: the client still has UID %d", what, uid)
		}
		if c.held[uid] == "" && there[uid] {
			t.Errorf("%s: the client was told that UID %d is gone", what, uid)
		}
	}
	c.modseq = st.HighestModSeq
}

// ages makes a folder in which something has happened, with a copy of its control files from before: two messages were
// there then, one was removed, one flagged, one came.
func ages(t *testing.T, s *Store, f *Folder) (old map[string]string, c *client) {
	t.Helper()
	put(t, s, "cur/a:2,", "x\n")
	put(t, s, "cur/b:2,", "x\n")
	c = &client{}
	c.meets(t, "first", f)
	old = map[string]string{}
	for _, name := range []string{journalName, listName} {
		old[name] = get(t, s, name)
	}
	if _, err := f.Append(AppendOptions{Flags: Seen}, strings.NewReader("y\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Append(AppendOptions{Flags: Seen}, strings.NewReader("z\n")); err != nil {
		t.Fatal(err)
	}
	c.meets(t, "then", f)
	st := look(t, f, false)
	if _, err := f.Store(st.List()[:1], Change{Add: Flagged}); err != nil {
		t.Fatal(err)
	}
	c.meets(t, "flagged", f)
	return old, c
}

// restore puts an old file back as tools do: as another file, or into the one that is there.
func restore(t *testing.T, s *Store, name, text string, inPlace bool, when time.Time) {
	t.Helper()
	path := filepath.Join(s.Path(), name)
	if !inPlace {
		path += ".restored"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if !when.IsZero() {
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if !inPlace {
		if err := os.Rename(path, filepath.Join(s.Path(), name)); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever control file comes back from a backup, and whoever has the folder open: no UID is given twice, and clients hear
// of all that is otherwise than they know.
func TestOlderFiles(t *testing.T) {
	for _, which := range [][]string{{journalName}, {listName}, {journalName, listName}} {
		for _, inPlace := range []bool{false, true} {
			for _, kept := range []bool{false, true} { // the file's time
				for _, open := range []bool{false, true} {
					what := fmt.Sprint(which, " in place ", inPlace, ", time kept ", kept, ", open ", open)
					s := newStore(t)
					f := alone(t, s, "INBOX")
					old, c := ages(t, s, f)
					late := *c
					late.held = map[uint32]string{}
					maps.Copy(late.held, c.held)
					if err := f.Expunge(look(t, f, false).List()[1:3]); err != nil {
						t.Fatal(err)
					}
					c.meets(t, what+": expunged", f)
					next := look(t, f, false).UIDNext
					when := time.Time{}
					if kept {
						when = time.Now().Add(-time.Hour)
					}
					if !open && !kept && len(which) == 2 {
						continue // nobody can know
					}
					for _, name := range which {
						restore(t, s, name, old[name], inPlace, when)
					}
					if !open {
						f = alone(t, s, "INBOX")
					}
					if !open && len(which) == 2 {
						next = 3 // nobody knows better
					}
					for range 2 {
						c.meets(t, what, f)
						late.meets(t, what+": late", f)
						g := alone(t, s, "INBOX")
						c.meets(t, what+": afterwards", g)
					}
					if st := look(t, f, false); st.UIDNext < next {
						t.Errorf("%s: UIDNEXT %d, was %d", what, st.UIDNext, next)
					}
				}
			}
		}
	}
}

// A UID that was given after all that the journal says, and of which nothing is left, is told to be gone.
func TestForgottenUIDs(t *testing.T) {
	s := newStore(t)
	f := alone(t, s, "INBOX")
	old, c := ages(t, s, f)
	f.Close()
	// A power cut takes the end of the journal; Dovecot removes one message and writes the list anew.
	restore(t, s, journalName, old[journalName], false, time.Time{})
	list := strings.Split(strings.TrimSpace(get(t, s, listName)), "\n")
	names := files(t, s, "cur")
	base := list[3][strings.Index(list[3], ":")+1:]
	for _, name := range names {
		if strings.HasPrefix(name, base) {
			if err := os.Remove(filepath.Join(s.Path(), "cur", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	list[0] = strings.Replace(list[0], "N1", "N9", 1)
	put(t, s, listName, strings.Join(append(list[:3], list[4:]...), "\n")+"\n")
	f = alone(t, s, "INBOX")
	c.meets(t, "again", f)
	if vanished, known := f.Vanished(c.modseq - 1); !known || !uidSet(vanished).has(3) || uidSet(vanished).has(4) {
		t.Error(vanished, known)
	}
	g := alone(t, s, "INBOX")
	before := look(t, g, false)
	if v, known := g.Vanished(c.modseq - 1); !known || !uidSet(v).has(3) || before.HighestModSeq != c.modseq {
		t.Error(v, known, before.HighestModSeq, c.modseq)
	}
	var j journal
	if snap, recs, err := j.read(reopen(t, s.Path())); snap == nil || err != nil {
		t.Error(snap, recs, err)
	}
}

// The journal of another folder is nothing to one that is open; what it has under another UIDVALIDITY counts when the list
// says so too.
func TestOtherJournals(t *testing.T) {
	var words []string
	for i := range 30 {
		words = append(words, fmt.Sprint("k", i))
	}
	s := newStore(t)
	f := alone(t, s, "INBOX")
	_, c := ages(t, s, f)
	other := newStore(t)
	put(t, other, listName, "3 V99 N8\n")
	g := alone(t, other, "INBOX")
	for i := range 3 {
		if _, err := g.Append(AppendOptions{Keywords: words[25:]}, strings.NewReader(text(fmt.Sprint(i)))); err != nil {
			t.Fatal(err)
		}
	}
	look(t, g, true)
	restore(t, s, journalName, get(t, other, journalName), false, time.Time{})
	c.meets(t, "foreign", f)
	if _, err := f.Store(look(t, f, false).List()[:1], Change{Add: Replied}); err != nil {
		t.Fatal(err)
	}
	c.meets(t, "foreign", f)
	if _, known := f.Vanished(c.modseq - 1); !known {
		t.Error("forgotten")
	}
	c.meets(t, "foreign", alone(t, s, "INBOX"))

	// Somebody begins anew under another UIDVALIDITY.
	h := alone(t, s, "INBOX")
	st := look(t, h, false)
	if _, err := h.Store(st.List(), Change{AddKeywords: words}); err != nil {
		t.Fatal(err)
	}
	look(t, f, false)
	func() {
		lk, err := h.box.dir.lock()
		if err != nil {
			t.Fatal(err)
		}
		defer lk.release()
		h.box.mu.Lock()
		defer h.box.mu.Unlock()
		if err := errors.Join(h.box.refresh(), h.box.renumber(), h.box.writeList(1), h.box.commit(lk, false)); err != nil {
			t.Fatal(err)
		}
	}()
	for range 2 {
		for _, f := range []*Folder{f, h, alone(t, s, "INBOX")} {
			st := look(t, f, false)
			if st.At(0).UID != 1 || len(st.At(0).Keywords()) != 30 {
				t.Error(st.UIDValidity, st.At(0).Keywords())
			}
			if _, known := f.Vanished(st.HighestModSeq); !known {
				t.Error("nothing is known")
			}
		}
		if _, err := f.Store(look(t, f, false).List(), Change{Add: Seen}); err != nil {
			t.Fatal(err)
		}
	}
}

// Names for further keywords that could not be written are no longer names when somebody else has given others.
func TestLostKeywords(t *testing.T) {
	var words []string
	for i := range 26 {
		words = append(words, fmt.Sprint("k", i))
	}
	s := newStore(t)
	put(t, s, "cur/a:2,", "x\n")
	put(t, s, "cur/b:2,", "x\n")
	f, g := alone(t, s, "INBOX"), alone(t, s, "INBOX")
	if _, err := f.Store(look(t, f, false).List()[:1], Change{AddKeywords: words}); err != nil {
		t.Fatal(err)
	}
	st := look(t, g, false)
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Op == disk.Write || c.Op == disk.Create {
			path, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", c.Fd))
			if strings.HasSuffix(path, journalName) || strings.Contains(c.Name, journalName) {
				return unix.EIO
			}
		}
		return do()
	}
	_, err := f.Store(st.List()[:1], Change{AddKeywords: []string{"lost"}})
	disk.Hook = nil
	if err == nil {
		t.Fatal("no error")
	}
	if _, err := g.Store(st.List()[1:], Change{AddKeywords: []string{"kept"}}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Folder{f, g, alone(t, s, "INBOX"), f} {
		st := look(t, f, false)
		if !slices.Equal(st.At(1).Keywords(), []string{"kept"}) {
			t.Error(st.At(1).Keywords())
		}
	}
	if _, err := f.Store(st.List()[1:], Change{AddKeywords: []string{"lost"}}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Folder{f, g, alone(t, s, "INBOX")} {
		st := look(t, f, false)
		if !slices.Equal(st.At(1).Keywords(), []string{"kept", "lost"}) {
			t.Error(st.At(1).Keywords())
		}
	}
}

// What stands where a control file should be and is none, is not followed and harms nobody.
func TestForeignFiles(t *testing.T) {
	for name, plant := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"hole": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 2<<30)) },
	} {
		for _, file := range []string{journalName, listName, keywordsName, journalName + ".tmp", listTmp, keywordsTmp} {
			for _, open := range []bool{false, true} {
				s := newStore(t)
				f := alone(t, s, "INBOX")
				_, c := ages(t, s, f)
				if _, err := f.Store(look(t, f, false).List()[:1], Change{AddKeywords: []string{"one"}}); err != nil {
					t.Fatal(err)
				}
				c.meets(t, "before", f)
				before := look(t, f, false)
				path := filepath.Join(s.Path(), file)
				os.Remove(path)
				if err := plant(path); err != nil {
					t.Fatal(err)
				}
				if !open {
					f = alone(t, s, "INBOX")
				}
				if _, err := f.Store(look(t, f, false).List()[1:2], Change{Add: Flagged}); err != nil {
					t.Errorf("%s as %s: %v", name, file, err)
				}
				if _, err := f.Append(AppendOptions{Keywords: []string{"two"}}, strings.NewReader("x\n")); err != nil {
					t.Errorf("%s as %s: %v", name, file, err)
				}
				c.meets(t, name+" as "+file, f)
				if st := look(t, f, false); st.UIDValidity != before.UIDValidity || !slices.Equal(uids(st), append(uids(before), before.UIDNext)) {
					t.Errorf("%s as %s: %v", name, file, uids(st))
				}
				c.meets(t, name+" as "+file+" then", alone(t, s, "INBOX"))
			}
		}
	}
}

// Dovecot may give a letter to a name that stands beyond the letters: to take the keyword away is to take both.
func TestKeywordTwice(t *testing.T) {
	var words []string
	for i := range 26 {
		words = append(words, fmt.Sprint("k", i))
	}
	s := newStore(t)
	put(t, s, "cur/a:2,", "x\n")
	f := alone(t, s, "INBOX")
	if _, err := f.Store(look(t, f, false).List(), Change{AddKeywords: append(words, "over")}); err != nil {
		t.Fatal(err)
	}
	put(t, s, keywordsName, strings.Replace(get(t, s, keywordsName), "k3\n", "Over\n", 1))
	if _, err := f.Store(look(t, f, false).List(), Change{RemoveKeywords: []string{"OVER"}}); err != nil {
		t.Fatal(err)
	}
	if m := look(t, f, false).At(0); m.HasKeyword("over") {
		t.Error(m.Keywords())
	}
}
