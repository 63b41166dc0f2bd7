package account

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The spool remembers which mailboxes there have been, as an empty file for each in its
// directory mailboxes: a Maildir that was there and is not is on a disk that is not
// mounted, even where the directory for it to be mounted on is there and empty. Whoever
// may not write the spool remembers nothing; a file that is removed is forgotten.

// memory is the file that stands for a mailbox.
func (o *Office) memory(path string) string {
	name := url.PathEscape(path)
	if len(name) > 255 {
		name = fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(path)))
	}
	return filepath.Join(o.Spool(), "mailboxes", name)
}

// remember notes that there is a mailbox at path. That it cannot be noted harms nobody
// before a disk is away, and the log of each login would say so.
func (o *Office) remember(path string) {
	if o.noted.lately(path) {
		return
	}
	file := o.memory(path)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			o.noted.add(path)
		}
		return
	}
	if _, err := os.Stat(o.Spool()); err != nil && !o.holds(o.Spool()) {
		return // nor is a spool made on a disk that is not there
	}
	dir := filepath.Dir(file)
	uid, gid := o.spoolOwner()
	if makeAbove(file, uid, gid) != nil {
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return
	}
	f.Close()
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

// noted are the mailboxes that the spool was seen to remember a moment ago, so that
// not every login looks.
type noted struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	notedFor = time.Minute
	maxNoted = 10_000
)

func (n *noted) lately(path string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Before(n.until[path])
}

func (n *noted) add(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.until == nil || len(n.until) >= maxNoted {
		n.until = map[string]time.Time{}
	}
	n.until[path] = time.Now().Add(notedFor)
}

func (n *noted) forget(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.until, path)
}

// remembers tells whether there has been a mailbox at path.
func (o *Office) remembers(path string) bool {
	_, err := os.Lstat(o.memory(path))
	return err == nil
}

// Forget is told when a user's Maildir was removed for good.
func (o *Office) Forget(u *User) error {
	o.noted.forget(u.Maildir)
	err := os.Remove(o.memory(u.Maildir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Away tells why a user's Maildir should be there: there has been one. It returns nil
// for a user who never had any.
func (o *Office) Away(u *User) error {
	if o.remembers(u.Maildir) {
		return o.away(u.Maildir)
	}
	return nil
}

// away is the error for a mailbox that was there before.
func (o *Office) away(path string) error {
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("was here before; is its disk mounted? (if it is gone for good, remove %s): %w",
		o.memory(path), fs.ErrNotExist)}
}

// Guesses returns the directory in which processes that serve one client each count
// failed logins together. It is made if the spool can be written.
func (o *Office) Guesses() string {
	dir := filepath.Join(o.Spool(), "guesses")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(o.Spool()); err == nil || o.holds(o.Spool()) {
			uid, gid := o.spoolOwner()
			makeAbove(filepath.Join(dir, "any"), uid, gid)
		}
	}
	return dir
}

// spoolOwner is who owns the spool, or would.
func (o *Office) spoolOwner() (uid, gid int) {
	if fi, err := os.Stat(o.Spool()); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			return int(st.Uid), int(st.Gid)
		}
	}
	return o.Owner()
}
