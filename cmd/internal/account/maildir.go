package account

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pennypost/maildir"
)

// Maildir opens a user's mail. Who comes first, a message or its reader, has it made,
// but only where the directory above is there or the post office itself holds it, and
// where there was none before: a disk that is not mounted is no empty mailbox, but
// fs.ErrNotExist.
func (o *Office) Maildir(u *User) (*maildir.Store, error) {
	s, err := maildir.Open(u.Maildir)
	switch {
	case err == nil:
		o.remember(u.Maildir)
	case !errors.Is(err, fs.ErrNotExist):
	case o.remembers(u.Maildir):
		return nil, o.away(u.Maildir)
	case o.holds(u.Maildir):
		return o.MakeMaildir(u)
	}
	return u.limited(s, err)
}

// limited sets the user's limits for a Maildir that was opened.
func (u *User) limited(s *maildir.Store, err error) (*maildir.Store, error) {
	if err == nil && u.Quota != nil {
		s.SetQuota(*u.Quota)
	}
	return s, err
}

// Room tells whether the user's mailbox has room for a message of so many octets, 0 when
// that is not known: maildir.ErrQuota if not. A Maildir that is not there yet has.
func (u *User) Room(octets int64) error {
	if u.Quota == nil {
		if _, err := os.Lstat(filepath.Join(u.Maildir, "maildirsize")); err != nil {
			return nil // nobody counts
		}
	}
	s, err := u.limited(maildir.Open(u.Maildir))
	if err != nil {
		return nil // whoever delivers will see
	}
	defer s.Close()
	return s.Room(octets)
}

// holds tells whether a Maildir may be made at path without a word from the
// administrator.
func (o *Office) holds(path string) bool {
	if o.dir != "" && strings.HasPrefix(path, o.dir+"/") {
		return true // the disk is there: we have read of the user on it
	}
	fi, err := os.Stat(filepath.Dir(path))
	return err == nil && fi.IsDir()
}

// MakeMaildir makes a user's Maildir, and what is missing above it, durably; it is fine
// if it is there. When the superuser makes it, it belongs to the user's uid and gid,
// else to whom the post office belongs.
func (o *Office) MakeMaildir(u *User) (*maildir.Store, error) {
	uid, gid := o.Owner()
	if err := makeAbove(u.Maildir, uid, gid); err != nil {
		return nil, err
	}
	if u.UID >= 0 {
		uid = u.UID
	}
	if u.GID >= 0 {
		gid = u.GID
	}
	s, err := maildir.Create(u.Maildir, maildir.Options{UID: uid, GID: gid})
	if err == nil {
		o.noted.forget(u.Maildir)
		o.remember(u.Maildir)
	}
	return u.limited(s, err)
}

// makeAbove makes the directories above a Maildir, durably. They are everybody's way
// to their own mail, so they belong to no user, and all may pass but not look around.
func makeAbove(path string, uid, gid int) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err == nil || dir == path {
		return err
	}
	if err := makeAbove(dir, uid, gid); err != nil {
		return err
	}
	// It has its owner before its name: whoever is killed here leaves nothing that is
	// the superuser's and in the way of the others.
	stage, err := os.MkdirTemp(filepath.Dir(dir), ".pennypost-*")
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 && uid >= 0 {
		err = os.Lchown(stage, uid, gid)
	}
	if err == nil {
		err = os.Chmod(stage, 0o711)
	}
	if err == nil {
		err = os.Rename(stage, dir) // over an empty one at most
	}
	if err != nil {
		os.Remove(stage)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody else was quicker
	}
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}
