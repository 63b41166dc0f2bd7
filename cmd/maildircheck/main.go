// Maildircheck tells what is wrong with Maildirs, and mends it (maildircheck(8)).
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
	"pennypost/maildir"
	"pennypost/maildir/check"
)

// Exit statuses besides those of sysexits(3), much as fsck(8) has them.
const (
	exitFound = 1 // something is wrong; with --repair it was, and all of it is mended
	exitLeft  = 4 // with --repair: something is wrong still
)

func main() {
	app := &cli.App{
		Name:                      "maildircheck",
		Usage:                     "tell what is wrong with Maildirs, and mend it",
		UsageText:                 "maildircheck [option]... MAILDIR...\nmaildircheck [option]... --post-office DIR\nmaildircheck --dump-journal FOLDER | --dump-cache FOLDER",
		Version:                   version.String(),
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Flags: []cli.Flag{
			account.Flag(),
			&cli.BoolFlag{Name: "repair", Usage: "mend what is wrong; without this nothing is written"},
			&cli.BoolFlag{Name: "quick", Usage: "look at names and control files only, not into the messages"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object a finding, and one at the end"},
			&cli.PathFlag{Name: "dump-cache", Usage: "show the cache of the folder in the directory `FOLDER` as text"},
			&cli.PathFlag{Name: "dump-journal", Usage: "show the journal of the folder in the directory `FOLDER` as text"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print only what is wrong: no notes, and no sum at the end"},
		},
		Action:         run,
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usage(err) },
		ExitErrHandler: func(*cli.Context, error) {},
	}
	status.Exit(app.Run(os.Args))
}

// usage is a mistake on the command line.
func usage(err error) error {
	return status.Errorf(status.Usage, "%w (see maildircheck --help)", err)
}

func run(c *cli.Context) error {
	paths := c.Args().Slice()
	for flag, show := range map[string]func(io.Writer, string) error{"dump-journal": maildir.DumpJournal, "dump-cache": maildir.DumpCache} {
		if c.IsSet(flag) {
			if len(paths) > 0 || c.IsSet("dump-journal") && c.IsSet("dump-cache") {
				return usage(errors.New("one file of one folder is shown at a time"))
			}
			return dump(show, c.Path(flag))
		}
	}
	several := len(paths) > 1
	var away []error
	if len(paths) == 0 {
		if c.String("post-office") == "" {
			return usage(errors.New("which Maildir, or which post office?"))
		}
		var err error
		if paths, away, err = mailboxes(c.String("post-office")); err != nil {
			return err
		}
		several = true
	}
	r := &report{
		out: bufio.NewWriterSize(os.Stdout, 32<<10), json: c.Bool("json"), quiet: c.Bool("quiet"), repair: c.Bool("repair"), several: several,
	}
	o := check.Options{Quick: c.Bool("quick"), Repair: r.repair, Tally: &r.tally}
	for _, err := range away {
		r.trouble(status.With(status.TempFail, err))
	}
	for _, path := range paths {
		for f, err := range check.Maildir(path, o) {
			if err != nil {
				r.trouble(err)
			} else {
				r.finding(f)
			}
			if r.err != nil {
				return status.With(status.IOErr, r.err)
			}
		}
	}
	if err := r.end(); err != nil {
		return status.With(status.IOErr, err)
	}
	return r.status()
}

// dump shows a file of a folder that people cannot read.
func dump(show func(io.Writer, string) error, path string) error {
	err := show(os.Stdout, path)
	switch code := status.Code(err); code {
	case status.OK, status.NoInput, status.NoPerm, status.TempFail, status.IOErr:
		return err
	}
	return status.With(status.DataErr, err)
}

// mailboxes gives the Maildirs of all users of a post office that have one. away tells of those that were there once.
func mailboxes(dir string) (paths []string, away []error, err error) {
	o, err := account.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(o.Dir()); err != nil {
		return nil, nil, status.With(status.NoInput, err)
	}
	seen := map[string]bool{}
	for _, domain := range o.Domains() {
		users, err := o.Users(domain)
		if err != nil {
			return nil, nil, err
		}
		for _, u := range users {
			if seen[u.Maildir] {
				continue
			}
			seen[u.Maildir] = true
			if _, err := os.Stat(filepath.Join(u.Maildir, "cur")); !errors.Is(err, fs.ErrNotExist) {
				paths = append(paths, u.Maildir)
			} else if err := o.Away(u); err != nil {
				away = append(away, err)
			} else if _, err := os.Stat(u.Maildir); err == nil {
				paths = append(paths, u.Maildir) // what is there is no Maildir, or half of one
			}
		}
	}
	return paths, away, nil
}

// code gives the exit status of something that could not be read or mended.
func code(err error) int {
	if e, ok := errors.AsType[*status.Error](err); ok {
		return e.Code
	}
	switch {
	case errors.Is(err, maildir.ErrLocked):
		return status.TempFail
	case errors.Is(err, fs.ErrNotExist):
		return status.NoInput
	}
	switch code := status.Code(err); code {
	case status.TempFail, status.NoPerm:
		return code
	}
	return status.IOErr
}

// trouble tells on standard error what could not be read.
func (r *report) trouble(err error) {
	r.out.Flush()
	status.Print(os.Stderr, "maildircheck", err)
	r.worst = max(r.worst, code(err))
}

// status gives the exit status as an error about which all has been said.
func (r *report) status() error {
	exit := r.worst
	switch {
	case exit > 0:
	case r.repair && r.left > 0:
		exit = exitLeft
	case r.wrong > 0:
		exit = exitFound
	}
	if exit == 0 {
		return nil
	}
	return &status.Error{Code: exit, Err: errors.New("")}
}

func (r *report) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(r.out, format, args...); r.err == nil {
		r.err = err
	}
}
