package maildir

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pennypost/maildir/internal/disk"
	"pennypost/maildir/internal/powercut"
)

var (
	powercutStates = flag.Int("powercut-states", 25, "how many states of the disk after a power cut are tried for each way in")
	powercutSeed   = flag.Uint64("powercut-seed", 0, "which states; 0: others each time")
)

// quickDir is a directory in memory, where there is one.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "pennypost-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A scene is a way in, while its calls are recorded or fail.
type scene struct {
	*testing.T
	log    *powercut.Log // nil: what is due is due now
	s      *Store
	at     *dues // what is due, at the cut that is being looked at
	fault  error // what a call may fail with
	mu     sync.Mutex
	seq    int
	opened []*Folder
}

// mark notes what has been told from here on.
func (c *scene) mark(what func(l *dues)) {
	if c.log != nil {
		c.log.Mark(func() { what(c.at) })
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	what(c.at)
}

// id makes the id of a further message.
func (c *scene) id() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	return fmt.Sprint("m", c.seq)
}

func (c *scene) check(err error) {
	if err != nil {
		c.Helper()
		c.Error(err)
	}
}

// failed tells whether something did not work, as it may where calls fail.
func (c *scene) failed(err error) bool {
	if err != nil && (c.fault == nil || !errors.Is(err, c.fault)) {
		c.Helper()
		c.Errorf("%v, not %v", err, c.fault)
	}
	return err != nil
}

// close closes the folders.
func (c *scene) close() {
	for _, f := range c.opened {
		f.Close()
	}
	c.opened = nil
}

// open opens a folder, when need be a second time; when that fails too the scene is over.
func (c *scene) open(name string) *Folder {
	f, err := c.s.OpenFolder(name)
	if err != nil && c.failed(err) {
		f, err = c.s.OpenFolder(name)
	}
	if c.failed(err) {
		panic(curtain{})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = append(c.opened, f)
	return f
}

// apart opens a folder as another process does.
func (c *scene) apart(name string) *Folder {
	shelf.Lock()
	mine := shelf.of
	shelf.of = map[[2]uint64]*box{}
	shelf.Unlock()
	f := c.open(name)
	shelf.Lock()
	shelf.of = mine
	shelf.Unlock()
	return f
}

// A curtain ends a scene that cannot go on.
type curtain struct{}

// play plays a scene to its end.
func (c *scene) play(do func(c *scene)) {
	defer func() {
		if r := recover(); r != nil && r != any(curtain{}) {
			panic(r)
		}
	}()
	do(c)
}

// After a power cut at any moment of any change, all that was acknowledged is there, whole and once, under its UID; the
// mailbox opens at once.
func TestPowerCut(t *testing.T) {
	hush(t)
	seed := *powercutSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			c := &scene{T: t, at: newDues()}
			dir := quickDir(t)
			var err error
			if c.s, err = Create(filepath.Join(dir, "Maildir"), Options{}); err != nil {
				t.Fatal(err)
			}
			if way.before != nil {
				c.log = new(powercut.Log)
				way.before(c)
			}
			before := c.log
			if c.log, err = powercut.Record(c.s.Path()); err != nil {
				t.Fatal(err)
			}
			if before != nil {
				c.log.Mark(func() { before.Replay(before.Len()) })
			}
			c.play(way.do)
			c.close()
			if err := c.log.Stop(); err != nil {
				t.Fatal(err)
			}
			if !t.Failed() {
				c.cut(dir, seed)
			}
		})
	}
}

// cut tries the states that the disk may be in.
func (c *scene) cut(dir string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	n, bad := 0, 0
	path := filepath.Join(dir, "after")
	for st := range c.log.States(r, *powercutStates) {
		n++
		var wrong []string
		for range 3 { // what only took too long may have been waiting for the processor
			if wrong = c.try(st, path, n%4 == 0); len(wrong) != 1 || !strings.HasPrefix(wrong[0], slow) {
				break
			}
		}
		if wrong == nil {
			continue
		}
		var b strings.Builder
		c.log.Print(&b, st.Cut-30, st.Cut)
		st.Print(&b)
		text := b.String()
		c.Errorf("%s\n%s", strings.Join(wrong[:min(len(wrong), 10)], "\n"), text[:min(len(text), 20000)])
		if bad++; bad == 3 {
			break
		}
	}
	c.Logf("%d calls and marks, %d states, seed %d", c.log.Len(), n, seed)
	if c.Failed() {
		c.Logf("again: -powercut-seed %d -powercut-states %d", seed, *powercutStates)
	}
}

// try looks at one state after the host was started again; or, as a copy, on another disk of a host that keeps running.
func (c *scene) try(st *powercut.State, path string, copied bool) []string {
	defer os.RemoveAll(path)
	c.at = newDues()
	c.at.folder(inbox)
	c.at.posix = st.Posix
	c.log.Replay(st.Cut)
	inode, err := st.Build(path, deadOwner)
	if err != nil {
		c.Fatal(err)
	}
	if copied {
		inode = nil
	} else {
		running, boot := sinceBoot, time.Now()
		sinceBoot = func() time.Duration { return time.Since(boot) }
		defer func() { sinceBoot = running }()
	}
	disk.Hook = afterwards(inode)
	defer func() { disk.Hook = nil }()
	return c.at.check(c, path)
}

// hush keeps the log still.
func hush(t testing.TB) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(before) })
}

// afterwards gives the files the inode numbers that they had before the cut.
func afterwards(inode map[uint64]uint64) func(*disk.Call, func() error) error {
	return func(c *disk.Call, do func() error) error {
		if c.Op == disk.Sync || c.Op == disk.DataSync {
			return nil
		}
		err := do()
		if c.Op == disk.Stat {
			if was := inode[c.Seen.Ino]; was != 0 {
				c.Seen.Ino = was
			}
		}
		return err
	}
}
