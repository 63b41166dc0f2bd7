// Package check reads a Maildir as a suspicious stranger: it believes no index, takes every control file apart with
// parsers of its own that forgive nothing, reads the octets of every message, and tells what is wrong.
//
// Looking takes no lock and writes nothing, so it may be done while others deliver, flag and move mail. What looks
// wrong is looked at again before it is told: a file that was renamed meanwhile is not missing, a line that
// is just being written is not torn.
//
// With Options.Repair what is wrong is mended as far as that can be done without a loss: under the folder's lock,
// durably, and so that a kill -9 at any moment costs no message and no UID. What has to be taken out of the way goes
// to the directory pennypost-aside in the Maildir.
package check

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// How bad a finding is. Only warnings and errors mean that something is wrong.
const (
	Note    Severity = iota // worth knowing, and in order
	Warning                 // untidy: costs time or space, or a program may stumble over it
	Error                   // mail, its UIDs or its state are damaged or at risk
)

// A Severity is how bad a Finding is.
type Severity uint8

// String gives "note", "warning" or "error".
func (s Severity) String() string { return [...]string{"note", "warning", "error"}[min(s, Error)] }

// A Finding is one thing that somebody should know.
type Finding struct {
	Severity Severity
	Kind     string // one of the words of maildircheck(8); they stay the same from version to version
	Maildir  string // path, as it was given
	Folder   string // name in UTF-8; "" when it is about the Maildir as a whole
	File     string // path below the Maildir; "" when it is about no single file
	UID      uint32 // 0: none, or not known
	Count    int    // how many there are of the kind, when more than one
	Text     string // what is wrong
	Mend     string // what Repair does about it; "": nothing
	Mended   bool   // it has been done
	Err      error  // why it could not be done
}

// Options say how to look.
type Options struct {
	Quick  bool   // leave the octets of the messages alone: names and control files only
	Repair bool   // mend what can be mended
	Tally  *Tally // counts what was looked at, when not nil
}

// A Tally counts what was looked at.
type Tally struct {
	Maildirs, Folders, Messages int
}

// ErrNone says that a directory is no Maildir: it has neither cur nor new nor tmp. It is an fs.ErrNotExist.
var ErrNone = fmt.Errorf("no Maildir: %w", fs.ErrNotExist)

// Maildir looks at the Maildir at path with all its folders, and gives each finding as it is found; with Repair after it has
// been mended, or has not. An error tells what could not be read, and the looking goes on with the next thing:
// fs.ErrNotExist (no such directory) is the first and last one.
func Maildir(path string, o Options) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		if o.Tally == nil {
			o.Tally = new(Tally)
		}
		c := &checker{path: path, o: o, yield: yield, begun: time.Now()}
		c.run()
	}
}

// A checker looks at one Maildir.
type checker struct {
	path    string
	o       Options
	yield   func(Finding, error) bool
	stopped bool // nobody listens any more
	begun   time.Time
	root    *dir
	st      unix.Stat_t // of the root: what belongs to it has its owner and its mode
}

func (c *checker) run() {
	root, err := openDir(unix.AT_FDCWD, c.path, true)
	if err != nil {
		c.fail(c.path, err)
		return
	}
	defer root.close()
	c.root = root
	if c.st, err = root.stat("."); err != nil {
		c.fail(c.path, err)
		return
	}
	there := 0
	for _, sub := range subs {
		if _, err := root.stat(sub); err == nil {
			there++
		} else if !errors.Is(err, fs.ErrNotExist) {
			c.fail(path.Join(c.path, sub), err)
		}
	}
	if there == 0 {
		c.fail(c.path, ErrNone)
		return
	}
	c.o.Tally.Maildirs++
	c.folder("INBOX", "")
	dirs := c.folders()
	for _, d := range dirs {
		c.folder(d.name, d.dir)
	}
	c.whole(dirs)
}

// fail tells of something that could not be read.
func (c *checker) fail(path string, err error) {
	if !c.stopped {
		c.stopped = !c.yield(Finding{Maildir: c.path}, fmt.Errorf("%s: %w", path, err))
	}
}

// tell gives a finding away.
func (c *checker) tell(f Finding) {
	f.Maildir = c.path
	if !c.stopped {
		c.stopped = !c.yield(f, nil)
	}
}

// mode is what a file of the Maildir should have.
func (c *checker) mode() uint32 { return c.st.Mode&0o666 | 0o600 }

// wrongOwner tells whether something belongs to somebody else than the Maildir.
func (c *checker) wrongOwner(st *unix.Stat_t) bool { return st.Uid != c.st.Uid }

// plural puts a number before a word.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
