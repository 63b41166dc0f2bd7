package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/status"
	"pennypost/maildir"
)

// makeMaildir makes a user's Maildir, unless it is there. When the superuser makes it,
// it belongs to the user's uid and gid, else to whom the post office belongs.
func makeMaildir(o *account.Office, u *account.User) error {
	uid, gid := o.Owner()
	if err := makeAbove(u.Maildir, uid, gid); err != nil {
		return status.Made(err)
	}
	if u.UID >= 0 {
		uid = u.UID
	}
	if u.GID >= 0 {
		gid = u.GID
	}
	s, err := maildir.Create(u.Maildir, maildir.Options{UID: uid, GID: gid})
	if err != nil {
		return status.Made(err)
	}
	return s.Close()
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
	switch err := os.Mkdir(dir, 0o711); {
	case errors.Is(err, fs.ErrExist):
		return nil // somebody else was quicker
	case err != nil:
		return err
	}
	if os.Geteuid() == 0 && uid >= 0 {
		if err := os.Lchown(dir, uid, gid); err != nil {
			return err
		}
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// del removes the user first: from then on nothing is delivered to what goes away.
func del(c *cli.Context) error {
	name, err := one(c)
	if err != nil {
		return err
	}
	o, err := account.Open(postOffice(c))
	if err != nil {
		return err
	}
	u, err := o.RemoveUser(name)
	if err != nil || !c.Bool("purge") {
		return err
	}
	return purge(o, u)
}

// purge removes a Maildir that nobody else uses. What is no Maildir stays.
func purge(o *account.Office, u *account.User) error {
	for _, domain := range o.Domains() {
		users, err := o.Users(domain)
		if err != nil {
			return err
		}
		for _, other := range users {
			if other.Maildir == u.Maildir {
				return status.Errorf(status.NoPerm, "%s is removed, but %s is the Maildir of %s too", u.Address(), u.Maildir, other.Address())
			}
		}
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		fi, err := os.Lstat(filepath.Join(u.Maildir, sub))
		if errors.Is(err, fs.ErrNotExist) && sub == "cur" {
			return nil
		}
		if err != nil || !fi.IsDir() {
			return status.Errorf(status.NoPerm, "%s is removed, but %s is not a Maildir", u.Address(), u.Maildir)
		}
	}
	return status.Made(os.RemoveAll(u.Maildir))
}
