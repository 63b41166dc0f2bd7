package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/status"
)

// makeMaildir makes a user's Maildir, unless it is there.
func makeMaildir(o *account.Office, u *account.User) error {
	s, err := o.MakeMaildir(u)
	if err != nil {
		return err
	}
	return s.Close()
}

// del removes the user first: from then on nothing is delivered to what goes away.
func del(c *cli.Context) error {
	name, o, err := named(c)
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
	if err := os.RemoveAll(u.Maildir); err != nil {
		return status.Made(err)
	}
	return status.Made(o.Forget(u))
}
