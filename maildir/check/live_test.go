package check

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pennypost/maildir"
)

// While others deliver, read, flag, move and remove, by our library and by plain renames, nothing is wrong.
func TestLive(t *testing.T) {
	run := 4 * time.Second
	if testing.Short() {
		run = time.Second
	}
	haste = 1
	defer func() { haste = 40 }()
	s, err := maildir.Create(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetQuota(maildir.Limits{Octets: 1 << 30})
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	stop := time.Now().Add(run)
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			for i := 0; time.Now().Before(stop); i++ {
				if err := server(s, fmt.Sprint(n, ".", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(stop) {
			reader(s.Path())
		}
	})
	looks, messages := 0, 0
	for time.Now().Before(stop) {
		tally := Tally{}
		for f, err := range Maildir(s.Path(), Options{Tally: &tally, Quick: looks%2 == 1}) {
			if err != nil {
				t.Error(err)
			} else if f.Severity > Note {
				t.Errorf("%s %s %s: %s", f.Kind, f.Folder, f.File, f.Text)
			}
		}
		looks++
		messages += tally.Messages
	}
	wg.Wait()
	if got := wrong(look(t, s.Path(), Options{})); len(got) > 0 {
		t.Errorf("at the end: %q", got)
	}
	t.Logf("%d looks at %d messages", looks, messages)
}

// server does one thing as our programs do.
func server(s *maildir.Store, id string) error {
	in, err := s.OpenFolder([]string{"INBOX", "Box"}[rand.N(2)])
	if err != nil {
		return err
	}
	defer in.Close()
	d, err := s.Deliver(maildir.DeliverOptions{})
	if err != nil {
		return err
	}
	io.WriteString(d, "Subject: "+id+"\r\n\r\n"+strings.Repeat("body\r\n", rand.N(3000)))
	if _, err := d.Commit(); err != nil {
		return err
	}
	st, err := in.Sync(maildir.SyncOptions{Claim: true})
	if err != nil || st.Len() == 0 {
		return err
	}
	at := rand.N(st.Len())
	var few []maildir.Message
	for _, m := range st.From(at) {
		if few = append(few, m); len(few) == 5 {
			break
		}
	}
	if _, err := in.Store(few, maildir.Change{Add: maildir.Flags(rand.N(32)), Remove: maildir.Flags(rand.N(32)), AddKeywords: []string{fmt.Sprint("k", rand.N(12))}}); err != nil {
		return err
	}
	box, err := s.OpenFolder("Box")
	if err != nil {
		return err
	}
	defer box.Close()
	if _, err := in.Copy(few[:1], box); err != nil {
		return err
	}
	if st.Len() > 100 {
		return in.Expunge(few)
	}
	return nil
}

// reader renames and copies as mutt and people do.
func reader(root string) {
	for _, sub := range []string{"new", "cur", ".Box/cur"} {
		names, _ := os.ReadDir(filepath.Join(root, sub))
		if len(names) == 0 {
			continue
		}
		name := names[rand.N(len(names))].Name()
		base, text := split(name)
		flags := []byte(strings.TrimPrefix(text, ":2,"))
		if !slices.Contains(flags, 'S') {
			flags = append(flags, 'S')
		}
		slices.Sort(flags)
		to := strings.Replace(sub, "new", "cur", 1)
		os.Rename(filepath.Join(root, sub, name), filepath.Join(root, to, base+":2,"+string(flags)))
	}
	time.Sleep(time.Millisecond)
}

// A file that is written straight into cur, piece by piece, is not told of before it is whole.
func TestSlowCopy(t *testing.T) {
	haste = 1
	defer func() { haste = 40 }()
	root := box(t, nil)
	done := make(chan error)
	f, err := os.OpenFile(filepath.Join(root, "cur/1.a,S=600:2,"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		var err error
		for range 6 {
			if _, werr := f.WriteString("Subject: x\n\n" + strings.Repeat("x", 88)); werr != nil {
				err = werr
			}
			time.Sleep(300 * time.Millisecond)
		}
		f.Close()
		done <- err
	}()
	if got := wrong(look(t, root, Options{})); len(got) > 0 {
		t.Error(got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
