package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Prepare ends the writing of a message that Store.Finish will make visible, now or after a crash: whoever keeps
// a log of its own notes name between the two. The message is on disk then, in the Maildir's tmp, where it may
// stay for a day. A delivery to several mailboxes cannot be prepared.
func (d *Delivery) Prepare() (name string, err error) {
	if d.done || len(d.also) > 0 {
		return "", fs.ErrClosed
	}
	defer d.Abort()
	tmp := d.first.tmp
	if err := d.file.finish(time.Time{}); err != nil {
		return "", fmt.Errorf("deliver: %w", err)
	}
	// It counts from here on: whoever finishes it does not ask again.
	count, err := d.first.root.claim(d.file.s, 1)
	if err != nil {
		return "", fmt.Errorf("deliver: %w", err)
	}
	defer func() {
		if err != nil {
			count.note(-d.file.s, -1)
		}
		count.close()
	}()
	name = d.file.sized()
	if err := renameNew(tmp, d.file.name, tmp, name); err != nil {
		return "", fmt.Errorf("deliver: %w", err)
	}
	d.file.name = ""
	if err := fsync(tmp); err != nil {
		unlinkat(tmp, name)
		return "", fmt.Errorf("deliver: %w", err)
	}
	return name, nil
}

// Finish makes a prepared message visible in INBOX, durably. false: it is not in tmp any more. It has been made
// visible before, unless a day has passed and somebody has cleaned up.
func (s *Store) Finish(name string) (bool, error) {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/:\x00") {
		return false, fmt.Errorf("deliver: %q: %w", name, ErrName)
	}
	p, err := s.openFolderPlace("INBOX")
	if err != nil {
		return false, fmt.Errorf("deliver to %s: %w", s.path, err)
	}
	t, err := newTarget(p)
	if err != nil {
		return false, fmt.Errorf("deliver to %s: %w", s.path, err)
	}
	defer t.close()
	err = renameNew(t.tmp, name, t.new, name)
	if err == unix.EEXIST && sameFile(t.tmp, name, t.new, name) {
		err = unlinkat(t.tmp, name) // both names have come through a power cut
	}
	moved := err == nil
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = fsync(t.new)
	}
	if err != nil {
		return moved, fmt.Errorf("deliver to %s: %w", s.path, err)
	}
	return moved, nil
}
