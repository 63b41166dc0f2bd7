package queue

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
	"pennypost/maildir/internal/powercut"
)

var (
	powercutStates = flag.Int("powercut-states", 100, "how many states of the disk after a power cut are tried")
	powercutSeed   = flag.Uint64("powercut-seed", 0, "which states; 0: others each time")
)

const body = "Subject: x\n\nall of it\n"

// due is what a spool is held to.
type due struct {
	there, mayBe map[string]bool   // messages, by their identifiers
	words        map[string][]Word // by identifier and recipient, what may stand there
}

func (d *due) note(id string, to int, w ...Word) { d.words[fmt.Sprint(id, to)] = w }

// life is what becomes of two messages. told notes what somebody has heard so far. It ends at the first error.
func life(q *Queue, told func(func(d *due))) error {
	var ids []string
	for range 2 {
		w, err := q.Create(Envelope{Created: monday, From: "a@b", To: []Recipient{{Address: "c@d"}, {Address: "e@f"}}})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, body); err != nil {
			w.Abort()
			return err
		}
		id := w.ID()
		told(func(d *due) { d.mayBe[id] = true })
		if _, err := w.Commit(); err != nil {
			told(func(d *due) { delete(d.mayBe, id) })
			return err
		}
		told(func(d *due) { d.there[id] = true })
		ids = append(ids, id)
	}
	id := ids[0]
	e, err := q.Find(id)
	if err != nil {
		return err
	}
	i, err := q.Take(e)
	if err != nil {
		return err
	}
	defer i.Close()
	if err := i.Reserve(2); err != nil {
		return err
	}
	note := func(to int, before, after Word, why string) error {
		told(func(d *due) { d.note(id, to, before, after) })
		if err := i.Note(monday, Note{to, after, why}); err != nil {
			return err
		}
		told(func(d *due) { d.note(id, to, after) })
		return nil
	}
	if err := note(0, Waiting, Tried, "mx: 451 later"); err != nil {
		return err
	}
	if err := i.Later(monday.Add(time.Hour)); err != nil {
		return err
	}
	if err := note(0, Tried, Delivered, "mx: 250 "+strings.Repeat("long ", 100)); err != nil {
		return err
	}
	if err := note(1, Waiting, Failed, "mx: 550 no"); err != nil {
		return err
	}
	w, err := i.Beget(Envelope{Created: monday, To: []Recipient{{Address: "a@b"}}})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, body); err != nil {
		w.Abort()
		return err
	}
	told(func(d *due) {
		d.mayBe[w.ID()] = true
		d.note(id, 1, Failed, Reported)
	})
	if err := i.Announce(monday, w, Reported, []int{1}); err != nil {
		return err
	}
	told(func(d *due) {
		d.there[w.ID()] = true
		d.note(id, 1, Reported)
	})
	if err := q.Hold(Entry{ID: ids[1], name: "new/" + ids[1]}); err != nil {
		return err
	}
	told(func(d *due) { delete(d.there, id) })
	return i.Remove()
}

// check looks at a spool as a runner does, and tells what is wrong.
func (d *due) check(dir string) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	q, err := Open(dir)
	if err != nil {
		return []string{err.Error()}
	}
	reported := map[string]bool{}
	look := func(settle bool) map[string]int {
		found := map[string]int{}
		list, err := q.List()
		if err != nil {
			bad("%v", err)
		}
		for _, e := range list {
			i, err := q.Take(e)
			if err != nil {
				bad("%s: %v", e.ID, err)
				continue
			}
			defer i.Close()
			found[e.ID]++
			if text, err := io.ReadAll(i.Message()); string(text) != body || err != nil {
				bad("%s: %q %v", e.ID, text, err)
			}
			if !d.mayBe[e.ID] {
				bad("%s is there", e.ID)
			}
			for n, s := range i.Status {
				ok := s.Word == Waiting && d.words[fmt.Sprint(e.ID, n)] == nil
				for _, w := range d.words[fmt.Sprint(e.ID, n)] {
					ok = ok || w == s.Word
				}
				if !ok {
					bad("%s to %d: %q, not one of %q", e.ID, n, s.Word, d.words[fmt.Sprint(e.ID, n)])
				}
				if s.Word == Reported {
					reported[s.Text] = true
				}
			}
			if settle {
				if err := i.Settle(); err != nil {
					bad("%s: %v", e.ID, err)
				}
				if err := i.Note(monday, Note{0, Tried, "x"}); err != nil || i.Status[0].Word != Tried {
					bad("%s: %v", e.ID, err)
				}
			}
		}
		return found
	}
	look(true)
	d.words = map[string][]Word{}
	found := map[string]int{}
	list, _ := q.List()
	for _, e := range list {
		found[e.ID]++
	}
	for id := range d.there {
		if found[id] != 1 {
			bad("%s is there %d times", id, found[id])
		}
	}
	for id := range reported {
		if found[id] != 1 {
			bad("%s, which the history tells of, is there %d times", id, found[id])
		}
	}
	return wrong
}

func newDue() *due { return &due{map[string]bool{}, map[string]bool{}, map[string][]Word{}} }

// quickDir is a directory in memory, where there is one.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "pennypost-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func seed() uint64 {
	if *powercutSeed != 0 {
		return *powercutSeed
	}
	return rand.Uint64()
}

// After a power cut at any moment a spool holds what it has taken, whole and once, and what was noted.
func TestPowerCut(t *testing.T) {
	dir := quickDir(t)
	log, err := powercut.Record(dir)
	if err != nil {
		t.Fatal(err)
	}
	at, opened := newDue(), false
	q, err := Open(filepath.Join(dir, "a", "spool"))
	if err == nil {
		log.Mark(func() { opened = true })
		err = life(q, func(told func(*due)) { log.Mark(func() { told(at) }) })
	}
	if err := errors.Join(err, log.Stop()); err != nil {
		t.Fatal(err)
	}
	s, n := seed(), 0
	for st := range log.States(rand.New(rand.NewPCG(s, 0)), *powercutStates) {
		at, opened = newDue(), false
		log.Replay(st.Cut)
		path := filepath.Join(t.TempDir(), "state")
		if _, err := st.Build(path, nil); err != nil {
			t.Fatal(err)
		}
		spool := filepath.Join(path, "a", "spool")
		if _, err := os.Stat(filepath.Join(spool, "new")); opened && err != nil {
			t.Errorf("the spool is lost: %v", err)
		}
		if wrong := at.check(spool); wrong != nil {
			var b strings.Builder
			log.Print(&b, st.Cut-30, st.Cut)
			st.Print(&b)
			t.Fatalf("seed %d\n%s\n%s", s, strings.Join(wrong, "\n"), &b)
		}
		os.RemoveAll(path)
		n++
	}
	t.Logf("%d calls and marks, %d states, seed %d", log.Len(), n, s)
}

// Whatever call fails, nothing that was taken is lost or torn, nothing that was refused is there, and nothing stays open.
func TestFaults(t *testing.T) {
	errnos := []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENOMEM}
	defer func() { disk.Hook = nil }()
	tried := 0
	for nth, last := 1, false; !last; nth++ {
		for _, errno := range errnos {
			for _, and := range []bool{false, true} { // and all that take room, or a descriptor
				dir := filepath.Join(quickDir(t), "spool")
				q, err := Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				before, _ := os.ReadDir("/proc/self/fd")
				n, hit := 0, false
				disk.Hook = func(c *disk.Call, do func() error) error {
					if n++; n == nth || and && n > nth && (c.Op == disk.Create || c.Op == disk.Write) {
						hit = true
						return errno
					}
					return do()
				}
				at := newDue()
				err = life(q, func(told func(*due)) { told(at) })
				disk.Hook = nil
				if err != nil && !errors.Is(err, errno) {
					t.Errorf("call %d %v: %v", nth, errno, err)
				}
				if after, _ := os.ReadDir("/proc/self/fd"); len(after) > len(before) {
					t.Errorf("call %d %v: %d descriptors more", nth, errno, len(after)-len(before))
				}
				if errors.Is(err, fs.ErrNotExist) || !hit && err != nil {
					t.Errorf("call %d %v: %v", nth, errno, err)
				}
				if wrong := at.check(dir); wrong != nil {
					t.Errorf("call %d %v %v: %s", nth, errno, and, strings.Join(wrong, "\n"))
				}
				last = !hit
				tried++
			}
		}
	}
	t.Logf("%d faults", tried)
}
