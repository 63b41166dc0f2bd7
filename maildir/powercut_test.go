package maildir

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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

// A scene is a way in, while its calls are recorded.
type scene struct {
	*testing.T
	log *powercut.Log
	s   *Store
	at  *dues // what is due at the cut that is being looked at
	seq int
	mu  sync.Mutex
}

// mark notes what has been told from here on.
func (c *scene) mark(what func(l *dues)) { c.log.Mark(func() { what(c.at) }) }

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

func (c *scene) open(name string) *Folder { return open(c, c.s, name) }

// After a power cut at any moment of any change, all that was acknowledged is there, whole and once, under its UID; the
// mailbox opens at once.
func TestPowerCut(t *testing.T) {
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
			way.do(c)
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
	for st := range c.log.States(r, *powercutStates) {
		c.at = newDues()
		c.at.folder(inbox)
		c.at.posix = st.Posix
		c.log.Replay(st.Cut)
		path := filepath.Join(dir, fmt.Sprint("state", n))
		if _, err := st.Build(path, deadOwner); err != nil {
			c.Fatal(err)
		}
		if n++; bad < 3 {
			if wrong := c.at.check(c, path); wrong != nil {
				bad++
				var b strings.Builder
				c.log.Print(&b, st.Cut-30, st.Cut)
				st.Print(&b)
				c.Errorf("%s\n%s", strings.Join(wrong, "\n"), &b)
			}
		}
		os.RemoveAll(path)
	}
	c.Logf("%d calls and marks, %d states, seed %d", c.log.Len(), n, seed)
	if c.Failed() {
		c.Logf("again: -powercut-seed %d -powercut-states %d", seed, *powercutStates)
	}
}
