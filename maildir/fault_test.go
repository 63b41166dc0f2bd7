package maildir

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A sync that fails is never tried again on the same file, for the second one would say that all is well: what it was for is
// refused, what has been told stays true, and the next try writes a new file.
func TestSyncFails(t *testing.T) {
	var kept []int
	defer func() {
		syncFault = nil
		for _, fd := range kept {
			unix.Close(fd)
		}
	}()
	for fail := 1; ; fail++ {
		n, failed := 0, map[uint64]bool{}
		syncFault = func(fd int) error {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			if n++; n == fail {
				if st.Mode&unix.S_IFMT == unix.S_IFREG {
					keep, err := unix.Dup(fd) // so that no other file gets its number
					if err != nil {
						t.Fatal(err)
					}
					kept = append(kept, keep)
					failed[st.Ino] = true
				}
				return unix.EIO
			}
			if failed[st.Ino] {
				t.Errorf("sync %d: tried again", fail)
			}
			return nil
		}
		s, err := Create(filepath.Join(t.TempDir(), "Maildir"), Options{})
		if err != nil {
			continue
		}
		told := map[uint32]string{} // UIDs somebody has heard of
		tell := func(f *Folder) {
			st, err := f.Sync(SyncOptions{Claim: true})
			if err != nil {
				return
			}
			for _, m := range st.All() {
				if key, ok := told[m.UID]; ok && key != m.Key() {
					t.Errorf("sync %d: UID %d is %q, was %q", fail, m.UID, m.Key(), key)
				}
				told[m.UID] = m.Key()
			}
		}
		f := open(t, s, "INBOX")
		other := alone(t, s, "INBOX") // as another process would
		acked := 0
		for i := range 4 {
			if d, err := s.Deliver(DeliverOptions{}); err == nil {
				fmt.Fprintf(d, "delivered %d\n", i)
				if _, err := d.Commit(); err == nil {
					acked++
				}
			}
			if i%2 == 0 {
				tell(other)
			}
			if _, err := f.Append(AppendOptions{Keywords: []string{fmt.Sprint("k", i)}}, strings.NewReader("appended\n")); err == nil {
				acked++
			}
			tell(f)
		}
		made := s.CreateFolder("a.b") == nil
		moved := made && s.RenameFolder("a", "c") == nil
		removed := moved && s.DeleteFolder("c.b") == nil
		subscribed := s.Subscribe("x") == nil
		total := n
		syncFault = nil

		for _, f := range []*Folder{other, open(t, s, "INBOX"), alone(t, s, "INBOX")} {
			if st := look(t, f, false); st.Len() != acked {
				t.Errorf("sync %d: %d messages, %d acknowledged", fail, st.Len(), acked)
			}
			tell(f)
		}
		want := []Info{{Name: "INBOX"}}
		switch {
		case made && !moved:
			want = append(want, Info{Name: "a", NoSelect: true}, Info{Name: "a.b", NoSelect: false})
		case moved && !removed:
			want = append(want, Info{Name: "c", NoSelect: true}, Info{Name: "c.b", NoSelect: false})
		}
		if list, err := s.List(); err != nil || !slices.Equal(list, want) {
			t.Errorf("sync %d: %v %v, want %v", fail, list, err, want)
		}
		if names, err := s.Subscriptions(); err != nil || subscribed && !slices.Equal(names, []string{"x"}) {
			t.Errorf("sync %d: %v %v", fail, names, err)
		}
		s.Close()
		if fail > total {
			return
		}
	}
}
