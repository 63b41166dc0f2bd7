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
	powercutStates = flag.Int("powercut-states", 60, "how many states of the disk after a power cut are tried for each way in")
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
	before := sinceBoot
	defer func() { sinceBoot = before }()
	for st := range c.log.States(r, *powercutStates) {
		c.at = newDues()
		c.at.folder(inbox)
		c.at.posix = st.Posix
		c.log.Replay(st.Cut)
		path := filepath.Join(dir, fmt.Sprint("state", n))
		inode, err := st.Build(path, deadOwner)
		if err != nil {
			c.Fatal(err)
		}
		boot := time.Now()
		sinceBoot = func() time.Duration { return time.Since(boot) }
		disk.Hook = afterwards(inode)
		if n++; bad < 3 {
			if wrong := c.at.check(c, path); wrong != nil {
				bad++
				var b strings.Builder
				c.log.Print(&b, st.Cut-30, st.Cut)
				st.Print(&b)
				c.Errorf("%s\n%s", strings.Join(wrong, "\n"), &b)
			}
		}
		disk.Hook = nil
		os.RemoveAll(path)
	}
	c.Logf("%d calls and marks, %d states, seed %d", c.log.Len(), n, seed)
	if c.Failed() {
		c.Logf("again: -powercut-seed %d -powercut-states %d", seed, *powercutStates)
	}
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
