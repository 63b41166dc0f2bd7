package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/status"
	"pennypost/maildir"
)

// noLimits is the word that takes limits away.
const noLimits = "none"

// quota shows or sets what a user's Maildir may hold.
func quota(c *cli.Context) error {
	if c.NArg() == 0 || c.NArg() > 2 {
		return status.Errorf(status.Usage, "quota: a name is wanted, and the limits to set, with the options before them")
	}
	name, text := c.Args().First(), c.Args().Get(1)
	var limits *maildir.Limits
	if text != "" && text != noLimits {
		l, err := account.ParseLimits(text)
		if err != nil {
			return status.With(status.DataErr, err)
		}
		limits = &l
	}
	o, err := account.Open(postOffice(c))
	if err != nil {
		return err
	}
	if text != "" {
		if err := o.SetQuota(name, limits); err != nil {
			return err
		}
	}
	u, err := o.Lookup(name)
	if errors.Is(err, account.ErrUnknown) {
		return status.Errorf(status.NoUser, "%s: %w", name, err)
	}
	if err != nil {
		return err
	}
	return showQuota(u, text)
}

// showQuota prints the limits and what is used of them. After text was set it is
// brought to the Maildir too, and nothing is printed.
func showQuota(u *account.User, text string) error {
	s, err := maildir.Open(u.Maildir)
	if errors.Is(err, fs.ErrNotExist) { // the first message or login will make it
		var used maildir.Usage
		if u.Quota != nil {
			used.Limits = *u.Quota
		}
		if text != "" {
			return nil
		}
		return printQuota(used)
	}
	if err != nil {
		return status.With(status.TempFail, fmt.Errorf("%s: %w", u.Address(), err))
	}
	defer s.Close()
	switch {
	case u.Quota != nil:
		s.SetQuota(*u.Quota)
	case text == noLimits: // else those in its file would be in force
		if used, err := s.Quota(); err != nil || used.Limits != (maildir.Limits{}) {
			s.SetQuota(maildir.Limits{})
		}
	}
	used, err := s.Quota()
	if err != nil {
		return status.With(status.TempFail, err)
	}
	if text != "" {
		return nil
	}
	return printQuota(used)
}

func printQuota(used maildir.Usage) error {
	if used.Limits == (maildir.Limits{}) {
		_, err := fmt.Fprintln(os.Stdout, noLimits)
		return status.With(status.IOErr, err)
	}
	for _, line := range []struct {
		key         string
		used, limit int64
	}{{"storage", used.Octets, used.Limits.Octets}, {"messages", used.Messages, used.Limits.Messages}} {
		limit := noLimits
		if line.limit > 0 {
			limit = strconv.FormatInt(line.limit, 10)
		}
		if _, err := fmt.Fprintf(os.Stdout, "%s\t%d\t%s\n", line.key, line.used, limit); err != nil {
			return status.With(status.IOErr, err)
		}
	}
	return nil
}
