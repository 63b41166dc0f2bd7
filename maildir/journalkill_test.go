package maildir

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"pennypost/maildir/internal/disk"
)

// A counter counts in a journal: each change has the next modseq and removes the UID of that number.
type counter struct {
	journal
	p    *place
	seen uint64
}

// take reads on, and tells what is wrong with what it reads.
func (c *counter) take() error {
	s, recs, err := c.read(c.p)
	if err != nil {
		return err
	}
	if s != nil {
		if s.modseq < c.seen {
			// It is a later generation: nothing is missing in it that was in one before.
			last := s.modseq
			if len(recs) > 0 {
				last = recs[len(recs)-1].modseq
			}
			if last < c.seen {
				return fmt.Errorf("a snapshot goes back from %d to %d", c.seen, last)
			}
		}
		c.seen = s.modseq
	}
	for _, r := range recs {
		if r.modseq != c.seen+1 || len(r.vanished) != 1 || r.vanished[0].First != uint32(r.modseq) {
			return fmt.Errorf("%d was followed by %d, %v", c.seen, r.modseq, r.vanished)
		}
		c.seen = r.modseq
	}
	return nil
}

func (c *counter) append() error {
	n := c.seen + 1
	r := &record{time: time.Now(), modseq: n, vanished: []UIDRange{{uint32(n), uint32(n)}}, by: strings.Repeat("x", rand.N(200))}
	if err := c.journal.append(c.p, r, n%3 == 0); err != nil {
		return err
	}
	c.seen = n
	return nil
}

func (c *counter) replace(durable bool) error {
	s := someSnapshot(rand.N(50))
	s.modseq, s.removed = c.seen, graveyard{}
	return c.journal.replace(c.p, 1, s, durable)
}

// under does something under the lock, having read all.
func (c *counter) under(do func() error) error {
	lk, err := c.p.lock()
	if err != nil {
		return err
	}
	defer lk.release()
	err = c.take()
	if errors.Is(err, errNoJournal) {
		err = c.replace(false)
	}
	if err != nil {
		return err
	}
	return do()
}

const journalEnv = "MAILDIR_TEST_JOURNAL"

// TestJournalVictim is no test: it is what the others start and kill.
func TestJournalVictim(t *testing.T) {
	words := strings.Fields(os.Getenv(journalEnv))
	if len(words) == 0 {
		t.Skip("nobody wants to kill it")
	}
	c := counter{p: reopen(t, words[0])}
	check := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("has", c.seen)
	}
	if len(words) == 1 { // until it is killed
		for {
			check(c.under(func() error {
				if rand.N(20) == 0 {
					return c.replace(rand.N(10) == 0)
				}
				return c.append()
			}))
		}
	}
	at, _ := strconv.Atoi(words[1])
	calls := dieAt(at, words[2])
	check(c.under(c.append))
	check(c.under(func() error { return c.replace(true) }))
	check(c.under(c.append))
	check(c.under(c.append))
	check(c.under(func() error { return c.replace(false) }))
	disk.Hook = nil
	fmt.Println("end", *calls)
}

func startVictim(t *testing.T, args string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestJournalVictim$")
	cmd.Env = append(os.Environ(), journalEnv+"="+args)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// acknowledged gives the last number that a victim said it has, and whether it came to its end.
func acknowledged(t *testing.T, out *bytes.Buffer) (last uint64, end bool) {
	t.Helper()
	for sc := bufio.NewScanner(out); sc.Scan(); {
		switch word, rest, _ := strings.Cut(sc.Text(), " "); word {
		case "has":
			if n, err := strconv.ParseUint(rest, 10, 64); err == nil { // the last line may be cut
				last = n
			}
		case "end":
			end = true
		case "error":
			t.Fatal(sc.Text())
		}
	}
	return last, end
}

// A process that is killed before, within or after any of the calls that write the journal leaves one that can be
// read, with all that was acknowledged.
func TestJournalKilled(t *testing.T) {
	p, path := newPlace(t)
	follower, kills := counter{p: p}, 0
	for _, how := range []string{"before", "half", "after"} {
		for at := 1; ; at++ {
			cmd, out := startVictim(t, fmt.Sprint(path, " ", at, " ", how))
			cmd.Wait()
			last, end := acknowledged(t, out)
			for _, c := range []*counter{&follower, {p: p}} {
				err := c.take()
				if errors.Is(err, errNoJournal) && last == 0 {
					err = nil
				}
				if err != nil || c.seen < last || c.seen > last+1 && last > 0 {
					t.Fatalf("killed %s call %d: %v, %d of %d is there", how, at, err, c.seen, last)
				}
			}
			if end {
				break
			}
			kills++
		}
	}
	t.Logf("%d kills, %d changes", kills, follower.seen)
}

// Two processes append and compact, are killed now and then, and a third one follows without the lock.
func TestJournalShared(t *testing.T) {
	p, path := newPlace(t)
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	follower, looks := counter{p: p}, 0
	for range rounds {
		a, aout := startVictim(t, path)
		b, bout := startVictim(t, path)
		for until := time.Now().Add(time.Duration(100+rand.N(200)) * time.Millisecond); time.Now().Before(until); looks++ {
			if err := follower.take(); err != nil && !errors.Is(err, errNoJournal) {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.N(2000)) * time.Microsecond)
		}
		a.Process.Kill()
		b.Process.Kill()
		a.Wait()
		b.Wait()
		x, _ := acknowledged(t, aout)
		y, _ := acknowledged(t, bout)
		if err := follower.take(); err != nil && (!errors.Is(err, errNoJournal) || x+y > 0) || follower.seen < max(x, y) {
			t.Fatalf("%v: %d of %d and %d", err, follower.seen, x, y)
		}
	}
	fresh := counter{p: p}
	if err := fresh.under(fresh.append); err != nil || fresh.seen != follower.seen+1 {
		t.Fatal(err, fresh.seen, follower.seen)
	}
	t.Logf("%d changes, %d looks", fresh.seen, looks)
}
