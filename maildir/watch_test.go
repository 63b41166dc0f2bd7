package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watchFolder makes a channel of a watch.
func watchFolder(f *Folder) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	return c, f.Watch(ring(c))
}

func ring(c chan struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// woken waits for a value.
func woken(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(5 * time.Second):
		t.Fatalf("not woken: %s", what)
	}
}

// still waits until there is nothing more to hear, and calls look each time.
func still(c <-chan struct{}, look func()) {
	for {
		select {
		case <-c:
			look()
		case <-time.After(3 * aftermath):
			return
		}
	}
}

// watchWays are with inotify, without it, when the user has as many instances as allowed, and where it tells of this host
// alone.
func watchWays(t *testing.T, test func(t *testing.T)) {
	for _, way := range []string{"inotify", "poll", "exhausted", "distant"} {
		t.Run(way, func(t *testing.T) {
			PollOnly(way == "poll")
			switch way {
			case "distant":
				distant = func() bool { return true }
			case "exhausted":
				inotify = func(int) (int, error) { return -1, unix.EMFILE }
			}
			interval, after := pollInterval, aftermath
			pollInterval, aftermath = 30*time.Millisecond, 30*time.Millisecond
			defer func() {
				PollOnly(false)
				inotify, distant, pollInterval, aftermath = unix.InotifyInit1, nil, interval, after
			}()
			test(t)
			watches.mu.Lock()
			defer watches.mu.Unlock()
			if watches.file != nil || watches.endLook != nil || len(watches.all)+len(watches.looked)+len(watches.by) > 0 {
				t.Error("something is still watched")
			}
		})
	}
}

func TestWatch(t *testing.T) {
	watchWays(t, func(t *testing.T) {
		s := newStore(t)
		f, g := open(t, s, "INBOX"), open(t, s, "INBOX")
		look(t, f, true)
		c, stop := watchFolder(f)
		other, stopOther := watchFolder(g)
		select {
		case <-c:
			t.Error("woken by nothing")
		case <-time.After(20 * time.Millisecond):
		}
		deliver(t, s, "x\n")
		woken(t, c, "a delivery")
		woken(t, other, "a delivery")
		if n := look(t, f, true).Len(); n != 1 {
			t.Error(n)
		}
		// A keyword without a letter leaves no trace in cur.
		var words []string
		for i := range 27 {
			words = append(words, fmt.Sprint("k", i))
		}
		h := alone(t, s, "INBOX")
		if _, err := h.Store(look(t, h, false).List(), Change{AddKeywords: words[:26]}); err != nil {
			t.Fatal(err)
		}
		still(c, func() { look(t, f, true) })
		if _, err := h.Store(look(t, h, false).List(), Change{AddKeywords: words}); err != nil {
			t.Fatal(err)
		}
		woken(t, c, "a keyword")
		if n := len(look(t, f, true).At(0).Keywords()); n != 27 {
			t.Error(n)
		}
		stopOther()
		stop()
		stop()
	})
}

func TestWatchNames(t *testing.T) {
	watchWays(t, func(t *testing.T) {
		s := newStore(t)
		if err := s.CreateFolder("a"); err != nil {
			t.Fatal(err)
		}
		f := open(t, s, "INBOX")
		messages, stop := watchFolder(f)
		defer stop()
		names, inA := make(chan struct{}, 1), make(chan struct{}, 1)
		stopNames, err := s.WatchNames(ring(names))
		if err != nil {
			t.Fatal(err)
		}
		defer stopNames()
		stopA, err := s.Watch("a", ring(inA))
		if err != nil {
			t.Fatal(err)
		}
		defer stopA()
		if _, err := s.Watch("b", ring(inA)); err == nil {
			t.Error("there is no b")
		}
		for _, change := range []struct {
			what string
			do   func() error
		}{
			{"create", func() error { return s.CreateFolder("b") }},
			{"subscribe", func() error { return s.Subscribe("b") }},
			{"rename", func() error { return s.RenameFolder("b", "c") }},
			{"delete", func() error { return s.DeleteFolder("c") }},
			{"mkdir", func() error { return os.MkdirAll(filepath.Join(s.path, ".d", "cur"), 0o700) }},
		} {
			if err := change.do(); err != nil {
				t.Fatal(err)
			}
			woken(t, names, change.what)
			still(names, func() {})
		}
		select {
		case <-messages:
			t.Error("names are no messages")
		case <-inA:
			t.Error("nothing has happened there")
		default:
		}
		// The folder may be opened meanwhile, and get another name.
		a := open(t, s, "a")
		again, stopAgain := watchFolder(a)
		defer stopAgain()
		if err := s.RenameFolder("a", "e"); err != nil {
			t.Fatal(err)
		}
		still(inA, func() {})
		still(again, func() {})
		d, err := s.Deliver(DeliverOptions{Folder: "e"})
		if err != nil {
			t.Fatal(err)
		}
		d.Write([]byte("x\n"))
		if _, err := d.Commit(); err != nil {
			t.Fatal(err)
		}
		woken(t, inA, "a delivery under the new name")
		woken(t, again, "a delivery under the new name")
		still(names, func() {})
		select {
		case <-messages:
			t.Error("what happens elsewhere is no news here")
		default:
		}
	})
}

// A directory that is gone, and whose number another one has, is not taken for that.
func TestWatchGone(t *testing.T) {
	watchWays(t, func(t *testing.T) {
		s := newStore(t)
		c := make(chan struct{}, 1)
		for i := range 5 {
			if err := s.CreateFolder("a"); err != nil {
				t.Fatal(err)
			}
			stop, err := s.Watch("a", ring(c))
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			if i > 0 {
				still(c, func() {})
			}
			if err := s.DeleteFolder("a"); err != nil {
				t.Fatal(err)
			}
			woken(t, c, "the folder is removed")
		}
	})
}

// Where inotify is not to be had, a delivery is noticed within two seconds; where it is, at once.
func TestWatchInTime(t *testing.T) {
	defer func() { inotify = unix.InotifyInit1 }()
	for _, within := range []time.Duration{300 * time.Millisecond, 2 * time.Second} {
		var took []time.Duration
		for range 3 {
			s := newStore(t)
			f := open(t, s, "INBOX")
			look(t, f, true)
			c, stop := watchFolder(f)
			began := time.Now()
			deliver(t, s, "x\n")
			woken(t, c, "a delivery")
			took = append(took, time.Since(began))
			stop()
		}
		if slices.Sort(took); took[1] > within {
			t.Errorf("%s, want %s", took, within)
		}
		inotify = func(int) (int, error) { return -1, unix.EMFILE }
	}
}
