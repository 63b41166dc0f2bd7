// Package queue keeps the messages that wait for their next host in a
// directory made for ls, cat, mv and rm.
//
// The directory is a Maildir. A message is written to tmp, synced, and renamed
// into new; that one rename commits it. What lies in new waits for a runner,
// what somebody moves to cur is on hold. A file is text: the envelope on top,
// an empty line, the message with LF line ends as it will be sent, and below
// it the history, one line for everything that befell a recipient:
//
//	Pennypost-Queue: 1
//	Created: 2026-11-23T12:24:09Z
//	From: <alice@crepes.fr>
//	To: <bob@hamburger.edu>
//	Size: 0000000000000000042
//
//	From: Alice
//	...
//	2026-11-23T12:24:10Z tried <bob@hamburger.edu> mx.hamburger.edu: 451 4.3.0 later
//	2026-11-23T12:29:40Z delivered <bob@hamburger.edu> mx.hamburger.edu: 250 2.0.0 ok
//
// Nothing that is written changes any more, the file only grows: head(1) shows
// the envelope, tail(1) the last try. A file says all there is to say about its
// message, so it may be moved to another spool, or away and back again, without
// a recipient getting it twice, and rm(1) is all it takes to drop it.
//
// The name is the queue identifier, with ",N=" and the Unix time of the next
// try behind it once there has been one. The next message due is found by
// reading names, not files.
//
// A runner locks the message it works on with flock(2), so several may run, and
// the lock of one that is killed is gone with it.
package queue

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrBusy reports a message that another runner is working on.
	ErrBusy = errors.New("another runner has this message")

	// ErrDamaged reports a file that is no queued message, or one cut short.
	ErrDamaged = errors.New("not a whole queued message")

	// ErrEnvelope reports an address or a parameter that cannot be written
	// into an envelope: control characters, blanks where none may be, or
	// beyond the limits.
	ErrEnvelope = errors.New("bad envelope")
)

// A Queue is a spool directory. It is safe for concurrent use, by any number
// of processes of one host.
type Queue struct{ dir string }

// Open returns the queue in dir, and makes the directory when it is not there.
// Only its owner may look inside: queued mail is nobody else's business.
func Open(dir string) (*Queue, error) {
	q := &Queue{dir: dir}
	if err := q.prepare(); err != nil {
		return nil, fmt.Errorf("queue %s: %w", dir, err)
	}
	return q, nil
}

// prepare makes what is missing of the directory.
func (q *Queue) prepare() error {
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := mkdirAll(filepath.Join(q.dir, sub)); err != nil {
			return err
		}
	}
	return nil
}

// Dir is the spool directory.
func (q *Queue) Dir() string { return q.dir }

// mkdirAll makes dir and what is missing above it, all durable: a directory is
// there after a power cut only when its parent is synced too.
func mkdirAll(dir string) error {
	if fi, err := os.Stat(dir); err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// An Entry is a message as its file name shows it.
type Entry struct {
	ID   string
	Due  time.Time // of the next try; zero: at once
	Held bool      // it lies in cur, and no runner takes it
	name string    // new/ID,N=1700000000
}

// List returns what lies in the queue, what is due first at the front. Only
// names are read. A message that changes its name meanwhile may be missing: it
// is there in the next list.
func (q *Queue) List() ([]Entry, error) {
	var list []Entry
	for _, sub := range []string{"new", "cur"} {
		dir, err := openFile(filepath.Join(q.dir, sub), unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, fmt.Errorf("queue: %w", err)
		}
		for {
			names, err := dir.Readdirnames(4096)
			for _, name := range names {
				if name[0] != '.' {
					list = append(list, entry(sub, name))
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				dir.Close()
				return nil, fmt.Errorf("queue: %w", err)
			}
		}
		dir.Close()
	}
	slices.SortFunc(list, func(a, b Entry) int {
		if c := a.Due.Compare(b.Due); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	// A rename behind the reader's back can show one message under two names.
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(e Entry) bool {
		twice := seen[e.ID]
		seen[e.ID] = true
		return twice
	}), nil
}

// entry reads a file name of the folder sub.
func entry(sub, name string) Entry {
	e := Entry{Held: sub == "cur", name: filepath.Join(sub, name)}
	name, _, _ = strings.Cut(name, ":") // a mail reader's flags
	var fields string
	e.ID, fields, _ = strings.Cut(name, ",")
	for field := range strings.SplitSeq(fields, ",") {
		if n, ok := strings.CutPrefix(field, "N="); ok {
			if sec, err := strconv.ParseInt(n, 10, 64); err == nil && sec > 0 && sec < 1<<40 {
				e.Due = time.Unix(sec, 0)
			}
		}
	}
	return e
}

// Find returns the entry of one identifier, or fs.ErrNotExist.
func (q *Queue) Find(id string) (Entry, error) {
	list, err := q.List()
	if err != nil {
		return Entry{}, err
	}
	for _, e := range list {
		if e.ID == id {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("queue: %s: %w", id, fs.ErrNotExist)
}

// Changed is a mark of the queue's contents: while it stays the same, nothing
// has come or gone. It costs one system call.
func (q *Queue) Changed() (time.Time, error) {
	fi, err := os.Stat(filepath.Join(q.dir, "new"))
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), nil
}

// Clean removes from tmp what nobody has written to for 36 hours: its writer
// is dead. A message that another one has announced (Item.Announce) stays.
func (q *Queue) Clean(now time.Time) error {
	names, err := os.ReadDir(filepath.Join(q.dir, "tmp"))
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	for _, n := range names {
		fi, err := n.Info()
		if err != nil || now.Sub(fi.ModTime()) < 36*time.Hour {
			continue
		}
		if parent, _, ok := strings.Cut(n.Name(), child); ok {
			if _, err := q.Find(parent); err == nil {
				continue // finished when the runner comes to its message
			}
		}
		remove(filepath.Join(q.dir, "tmp", n.Name()))
	}
	return nil
}

// newID makes an identifier: the time in microseconds and 40 random bits, in
// letters and digits that sort by age.
func newID(now time.Time) string {
	var b [5]byte
	rand.Read(b[:])
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	var tail [8]byte
	for i := range tail {
		tail[i], n = digits[n&31], n>>5
	}
	return strconv.FormatInt(now.UnixMicro(), 36) + "-" + string(tail[:])
}
