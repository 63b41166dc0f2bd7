package maildir

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	chaosTime = flag.Duration("chaos", 3*time.Second, "how long the chaos test runs")
	chaosSeed = flag.Uint64("seed", 0, "seed of the chaos test; 0: by the clock")
)

// chaos is a Maildir that many work on at once: our own library, and programs that rename, move, copy and remove as
// they like. What readers see is checked at every step.
type chaos struct {
	t    *testing.T
	s    *Store
	dirs map[string]string // folder -> path
	ops  atomic.Int64
	stop atomic.Bool

	mu      sync.Mutex
	removed map[string]bool            // "folder/base": somebody has taken it away, or may have
	owner   map[string]string          // "folder/UID" -> base
	uid     map[string]map[uint32]bool // "folder/base" -> the UIDs it had
}

func (c *chaos) taken(folder, base string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed[folder+"/"+base] = true
}

func (c *chaos) folder(r *rand.Rand) string { return []string{"INBOX", "Box"}[r.IntN(2)] }

// pick gives one file of a folder, as any program finds it.
func (c *chaos) pick(r *rand.Rand, folder string) (sub, name string) {
	sub = []string{"cur", "cur", "cur", "new"}[r.IntN(4)]
	entries, err := os.ReadDir(filepath.Join(c.dirs[folder], sub))
	if err != nil || len(entries) == 0 {
		return "", ""
	}
	return sub, entries[r.IntN(len(entries))].Name()
}

// mua is a mail reader that knows nothing of us: plain rename, link, remove.
func (c *chaos) mua(r *rand.Rand) {
	for n := 0; !c.stop.Load(); n++ {
		folder := c.folder(r)
		sub, name := c.pick(r, folder)
		if name == "" {
			continue
		}
		base, _, _ := strings.Cut(name, ":")
		path := filepath.Join(c.dirs[folder], sub, name)
		to := filepath.Join(c.dirs[folder], "cur", base+":2,"+Flags(r.IntN(32)).String())
		switch op := r.IntN(100); {
		case op < 80:
			os.Rename(path, to)
		case op < 85: // mutt's way: link, then unlink
			if os.Link(path, to) == nil {
				os.Remove(path)
			}
		case op < 90:
			c.taken(folder, base)
			os.Remove(path)
		case op < 94: // into the other folder, under its own name
			c.taken(folder, base)
			other := map[string]string{"INBOX": "Box", "Box": "INBOX"}[folder]
			os.Rename(path, filepath.Join(c.dirs[other], "cur", name))
		case op < 97: // out and in again
			c.taken(folder, base)
			away := filepath.Join(c.s.Path(), "away."+base)
			if os.Rename(path, away) == nil {
				time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
				os.Rename(away, to)
			}
		default: // a copy under a new name
			data, err := os.ReadFile(path)
			tmp := filepath.Join(c.dirs[folder], "tmp", fmt.Sprint("cp.", r.Uint64()))
			if err == nil && os.WriteFile(tmp, data, 0o600) == nil {
				os.Rename(tmp, filepath.Join(c.dirs[folder], "new", filepath.Base(tmp)))
			}
		}
		c.ops.Add(1)
		time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
	}
}

// deliverer brings new mail.
func (c *chaos) deliverer(r *rand.Rand) {
	for n := 0; !c.stop.Load(); n++ {
		d, err := c.s.Deliver(DeliverOptions{Folder: c.folder(r)})
		if err != nil {
			c.t.Error(err)
			return
		}
		io.WriteString(d, text(fmt.Sprint(r.Uint64())))
		if _, err := d.Commit(); err != nil {
			c.t.Error(err)
		}
		c.ops.Add(1)
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
	}
}

// session follows one folder through our library, changes it, and checks all it sees.
func (c *chaos) session(r *rand.Rand, open func(testing.TB, *Store, string) *Folder, name string, other string) {
	f, to := open(c.t, c.s, name), open(c.t, c.s, other)
	known, last := map[uint32]Message{}, (*State)(nil)
	gone := map[uint32]bool{}
	for !c.stop.Load() {
		st, err := f.Sync(SyncOptions{Claim: r.IntN(2) == 0})
		if err != nil {
			c.t.Errorf("sync: %v", err)
			return
		}
		if st != last {
			c.check(name, known, gone, last, st)
			last = st
		}
		c.ops.Add(1)
		if st.Len() == 0 {
			continue
		}
		at := r.IntN(st.Len())
		some := st.List()[at:min(at+1+r.IntN(3), st.Len())]
		switch op := r.IntN(100); {
		case op < 40:
			_, err = f.Store(some, Change{Add: Flags(r.IntN(32)), Remove: Flags(r.IntN(32))})
		case op < 50:
			_, err = f.Append(AppendOptions{Flags: Flags(r.IntN(32))}, strings.NewReader(text("appended")))
		case op < 60:
			_, err = f.Copy(some, to)
		case op < 65:
			for _, m := range some {
				c.taken(name, m.Key())
			}
			_, err = f.Move(some, to)
		case op < 75 && st.Len() > 100:
			for _, m := range some {
				c.taken(name, m.Key())
			}
			err = f.Expunge(some)
		default:
			var file *os.File
			if file, err = f.Reader(some[0]); err == nil {
				data, _ := io.ReadAll(file)
				file.Close()
				if _, ok := whole(data); !ok {
					c.t.Errorf("half a message: %q", data[:min(len(data), 40)])
				}
			}
		}
		if err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, fs.ErrNotExist) {
			c.t.Errorf("session on %s: %v", name, err)
		}
		if errors.Is(err, ErrGone) {
			c.mu.Lock()
			if !c.removed[name+"/"+some[0].Key()] {
				c.t.Errorf("%s: UID %d is said to be gone, and nobody took it", name, some[0].UID)
			}
			c.mu.Unlock()
		}
	}
}

// check compares two states of a session: UIDs are never used again, and nothing leaves that nobody took.
func (c *chaos) check(name string, known map[uint32]Message, gone map[uint32]bool, last, st *State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := map[uint32]Message{}
	bases := map[string]bool{}
	for i, m := range st.All() {
		if i > 0 && st.At(i-1).UID >= m.UID || m.UID >= st.UIDNext {
			c.t.Errorf("%s: UID %d out of order", name, m.UID)
		}
		if bases[m.Key()] {
			c.t.Errorf("%s: %s twice", name, m.Key())
		}
		bases[m.Key()], now[m.UID] = true, m
		if gone[m.UID] {
			c.t.Errorf("%s: UID %d has come back", name, m.UID)
		}
		if last != nil && known[m.UID].UID == 0 && m.UID < last.UIDNext {
			c.t.Errorf("%s: UID %d (%s) appeared below UIDNEXT %d", name, m.UID, m.Key(), last.UIDNext)
		}
		key := fmt.Sprint(name, "/", m.UID)
		if c.owner[key] == "" {
			c.owner[key] = m.Key()
		} else if c.owner[key] != m.Key() {
			c.t.Errorf("%s: UID %d is %s, was %s", name, m.UID, m.Key(), c.owner[key])
		}
		key = name + "/" + m.Key()
		if c.uid[key] == nil {
			c.uid[key] = map[uint32]bool{}
		}
		if c.uid[key][m.UID] = true; len(c.uid[key]) > 1 && !c.removed[key] {
			c.t.Errorf("%s has several UIDs, and was never away: %v", key, c.uid[key])
		}
	}
	for uid, m := range known {
		if now[uid].UID == 0 {
			gone[uid] = true
			if !c.removed[name+"/"+m.Key()] {
				c.t.Errorf("%s: UID %d (%s) left, and nobody took it", name, uid, m.Key())
			}
		}
	}
	if last != nil && (st.UIDNext < last.UIDNext || st.UIDValidity != last.UIDValidity) {
		c.t.Errorf("%s: %d/%d after %d/%d", name, st.UIDValidity, st.UIDNext, last.UIDValidity, last.UIDNext)
	}
	clear(known)
	maps.Copy(known, now)
}

func TestChaos(t *testing.T) { runChaos(t) }

// The same where a directory comes in pieces of a few names, and slowly: each rename may hide a file from a reading.
func TestChaosPiecemeal(t *testing.T) {
	slowly = inPieces(2048, time.Millisecond)
	defer func() { slowly = nil }()
	runChaos(t)
}

func runChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	c := &chaos{
		t: t, s: s, dirs: map[string]string{"INBOX": s.Path(), "Box": filepath.Join(s.Path(), ".Box")},
		removed: map[string]bool{}, owner: map[string]string{}, uid: map[string]map[uint32]bool{},
	}
	for range 200 {
		deliver(t, s, text("first"))
	}
	var wg sync.WaitGroup
	for i := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, i))
		how := open // some share what they know, others are like processes of their own
		if i%2 == 0 {
			how = alone
		}
		switch {
		case i < 2:
			wg.Go(func() { c.mua(r) })
		case i < 4:
			wg.Go(func() { c.deliverer(r) })
		case i < 7:
			wg.Go(func() { c.session(r, how, "INBOX", "Box") })
		default:
			wg.Go(func() { c.session(r, how, "Box", "INBOX") })
		}
	}
	time.Sleep(*chaosTime)
	c.stop.Store(true)
	wg.Wait()

	// When all is quiet, everybody sees the same, and it is what is there.
	time.Sleep(100 * time.Millisecond)
	for name, dir := range c.dirs {
		on := map[string]bool{}
		for _, sub := range []string{"new", "cur"} {
			entries, err := os.ReadDir(filepath.Join(dir, sub))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				base, _, _ := strings.Cut(e.Name(), ":")
				on[base] = true
			}
		}
		f, g := open(t, s, name), alone(t, s, name)
		st := look(t, f, true)
		for _, m := range st.All() {
			if !on[m.Key()] {
				if _, err := f.Reader(m); err != nil {
					t.Errorf("%s: %s is not there", name, m.Key())
				}
			}
			delete(on, m.Key())
		}
		if len(on) > 0 {
			t.Errorf("%s: not shown: %v", name, on)
		}
		if again := look(t, g, false); fmt.Sprint(uids(again)) != fmt.Sprint(uids(st)) {
			t.Errorf("%s: two sessions see different UIDs", name)
		}
		t.Logf("%s: %d messages, UIDNEXT %d", name, st.Len(), st.UIDNext)
	}
	t.Logf("%d operations", c.ops.Load())
}
