// Mailuser adds, removes and lists the users of a post office, sets and checks their
// passwords and sets what their mailboxes may hold (mailuser(1)).
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
)

func main() {
	app := program()
	status.Exit(app.Run(os.Args))
}

// help shows the options of every command, so that one page has them all.
const help = `NAME:
   {{.HelpName}} - {{.Usage}}

USAGE:
   {{wrap .UsageText 3}}

COMMANDS:{{range .VisibleCommands}}
   {{.Name}} {{.ArgsUsage}}{{"\t"}}{{.Usage}}{{end}}

OPTIONS:
   {{range .VisibleFlags}}{{.}}
   {{end}}{{range .Commands}}{{if .VisibleFlags}}
OPTIONS OF {{.Name}}:
   {{range .VisibleFlags}}{{.}}
   {{end}}{{end}}{{end}}
`

func program() *cli.App {
	// The flag is known before and after the name of the command.
	office := account.Flag().(*cli.StringFlag)
	after := *office
	after.Hidden, after.EnvVars = true, nil
	scheme := &cli.StringFlag{
		Name:  "scheme",
		Value: account.DefaultScheme,
		Usage: "store the password as `NAME`: " + strings.Join(account.Schemes(), ", "),
	}
	app := &cli.App{
		Name:                      "mailuser",
		HelpName:                  "mailuser",
		Usage:                     "add, remove and list mail users, set their passwords and limits",
		UsageText:                 "mailuser [--post-office DIR] command [options] [argument]",
		Version:                   version.String(),
		CustomAppHelpTemplate:     help,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Flags:                     []cli.Flag{office},
		ExitErrHandler:            func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return status.Errorf(status.Usage, "unknown command %q: add, passwd, del, list, quota or verify", name)
			}
			return status.Errorf(status.Usage, "a command is wanted: add, passwd, del, list, quota or verify")
		},
		Commands: []*cli.Command{
			{
				Name:      "add",
				Usage:     "add a user with the password that is typed, or the first line of standard input",
				ArgsUsage: "NAME[@DOMAIN]",
				Flags: []cli.Flag{
					scheme,
					&cli.IntFlag{Name: "uid", Value: -1, DefaultText: "none", Usage: "let the mail belong to the user with the `NUMBER`"},
					&cli.IntFlag{Name: "gid", Value: -1, DefaultText: "none", Usage: "let the mail belong to the group with the `NUMBER`"},
					&cli.StringFlag{Name: "gecos", Usage: "remember the full `NAME`"},
					&cli.StringFlag{Name: "home", Usage: "remember `DIR` as the home directory"},
					&cli.StringFlag{Name: "quota", Usage: "let the mailbox hold at most `LIMITS`: 1G, or storage=1G:messages=10000"},
				},
				Action: add,
			},
			{
				Name:      "passwd",
				Usage:     "set a user's password",
				ArgsUsage: "NAME[@DOMAIN]",
				Flags:     []cli.Flag{scheme},
				Action:    passwd,
			},
			{
				Name:      "del",
				Usage:     "remove a user",
				ArgsUsage: "NAME[@DOMAIN]",
				Flags:     []cli.Flag{&cli.BoolFlag{Name: "purge", Usage: "remove the mail too"}},
				Action:    del,
			},
			{
				Name:      "list",
				Usage:     "list the users of a domain, or of all",
				ArgsUsage: "[DOMAIN]",
				Flags:     []cli.Flag{&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "show the Maildir and the full name too"}},
				Action:    list,
			},
			{
				Name:      "quota",
				Usage:     "show what a user's mailbox holds and may hold, or set that: 1G, storage=1G:messages=10000, none",
				ArgsUsage: "NAME[@DOMAIN] [LIMITS]",
				Action:    quota,
			},
			{
				Name:      "verify",
				Usage:     "check a password: exit status 0 if it is right, 77 if not",
				ArgsUsage: "NAME[@DOMAIN]",
				Action:    verify,
			},
		},
	}
	usage := func(c *cli.Context, err error, _ bool) error { return status.With(status.Usage, err) }
	app.OnUsageError = usage
	for _, c := range app.Commands {
		c.OnUsageError = usage
		c.HideHelpCommand = true
		c.Flags = append(c.Flags, &after)
	}
	return app
}

// postOffice returns the directory that the flag names, before or after the command.
func postOffice(c *cli.Context) string {
	for _, c := range c.Lineage() {
		if c.IsSet("post-office") {
			return c.String("post-office")
		}
	}
	return ""
}

// one returns the only argument.
func one(c *cli.Context) (string, error) {
	switch {
	case c.NArg() == 0:
		return "", status.Errorf(status.Usage, "%s: whom?", c.Command.Name)
	case c.NArg() > 1:
		return "", status.Errorf(status.Usage, "%s: one name at a time, with the options before it", c.Command.Name)
	}
	return c.Args().First(), nil
}

// named returns the only argument, and the post office that it is about.
func named(c *cli.Context) (string, *account.Office, error) {
	name, err := one(c)
	if err != nil {
		return "", nil, err
	}
	o, err := account.Open(postOffice(c))
	return name, o, err
}

// add makes what is missing of post office, domain and Maildir.
func add(c *cli.Context) error {
	name, err := one(c)
	if err != nil {
		return err
	}
	n := account.NewUser{Address: name, UID: -1, GID: -1, Gecos: c.String("gecos"), Home: c.String("home")}
	for flag, to := range map[string]*int{"uid": &n.UID, "gid": &n.GID} {
		if c.IsSet(flag) {
			if *to = c.Int(flag); *to < 0 || *to > 1<<32-2 {
				return status.Errorf(status.Usage, "--%s: %d is not a number of the system", flag, *to)
			}
		}
	}
	if text := c.String("quota"); text != "" && text != noLimits {
		l, err := account.ParseLimits(text)
		if err != nil {
			return status.With(status.DataErr, err)
		}
		n.Quota = &l
	}
	if err := account.CheckUser(n); err != nil {
		return err
	}
	if n.Password, err = newPassword(name, c.String("scheme")); err != nil {
		return err
	}
	dir, err := home(postOffice(c))
	if err != nil {
		return err
	}
	o, err := account.Create(dir)
	if err != nil {
		return err
	}
	_, err = o.AddUser(n, func(u *account.User) error { return status.Made(makeMaildir(o, u)) })
	return err
}

// home returns the directory of the post office, also when it is yet to be made:
// /etc/pennypost for the superuser, ~/.config/pennypost for everybody else.
func home(dir string) (string, error) {
	if dir == "" {
		dir = account.Search()
	}
	if dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/etc/pennypost", nil
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return "", status.With(status.Config, err)
	}
	return filepath.Join(config, "pennypost"), nil
}

func passwd(c *cli.Context) error {
	name, o, err := named(c)
	if err != nil {
		return err
	}
	if err := known(o, name); err != nil {
		return err
	}
	stored, err := newPassword(name, c.String("scheme"))
	if err != nil {
		return err
	}
	return o.SetPassword(name, stored)
}

// known spares somebody from typing a password for nobody.
func known(o *account.Office, name string) error {
	_, err := o.Lookup(name)
	if errors.Is(err, account.ErrUnknown) {
		return status.Errorf(status.NoUser, "%s: %w", name, err)
	}
	return err
}

func list(c *cli.Context) error {
	if c.NArg() > 1 {
		return status.Errorf(status.Usage, "list: one domain at a time, with the options before it")
	}
	o, err := account.Open(postOffice(c))
	if err != nil {
		return err
	}
	domains := o.Domains()
	if c.NArg() == 1 {
		domains = []string{c.Args().First()}
	}
	for _, domain := range domains {
		users, err := o.Users(domain)
		if err != nil {
			return err
		}
		for _, u := range users {
			line := status.Clean(u.Address())
			if c.Bool("long") {
				line += "\t" + status.Clean(u.Maildir) + "\t" + status.Clean(u.Gecos)
			}
			if _, err := fmt.Fprintln(os.Stdout, line); err != nil {
				return status.With(status.IOErr, err)
			}
		}
	}
	return nil
}

func verify(c *cli.Context) error {
	name, o, err := named(c)
	if err != nil {
		return err
	}
	password, err := oldPassword(name)
	if err != nil {
		return err
	}
	switch _, err := o.Login(name, password); {
	case errors.Is(err, account.ErrRefused):
		return status.Errorf(status.NoPerm, "%s: %w", name, err)
	case err != nil:
		return status.With(status.TempFail, err)
	}
	return nil
}
