// Pop3d serves Maildirs over POP3 (pop3d(8)).
package main

import (
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/daemon"
	"pennypost/cmd/internal/guard"
	"pennypost/maildir"
	"pennypost/proto/pop3"
	"pennypost/proto/wire"
)

func main() {
	daemon.Main(&cli.App{
		Name:      "pop3d",
		Usage:     "serve Maildirs over POP3",
		UsageText: "pop3d [options] [MAILDIR]",
		Flags:     slices.Concat(daemon.Flags("pop3d"), []cli.Flag{account.Flag()}),
		Action:    serve,
	})
}

func serve(c *cli.Context) error {
	office, err := account.Open(c.String("post-office"))
	if err != nil {
		return err
	}
	return daemon.Run(c, daemon.Program{
		Name:    "pop3d",
		Roles:   map[string]daemon.Role{"pop3": {Port: 110}, "pop3s": {Port: 995, TLS: true}},
		Preauth: true,
		Busy:    "-ERR [SYS/TEMP] too many connections, come again later\r\n",
		TLS:     office.TLS,
		Serve: func(ctx context.Context, c *daemon.Client) {
			converse(ctx, c, office)
		},
	})
}

// guesses slows down who tries passwords in session after session.
var guesses guard.Guard

// converse holds one session for a client.
func converse(ctx context.Context, c *daemon.Client, office *account.Office) {
	s := &pop3.Session{
		Conn:      wire.New(c.Conn, 255, c.Idle),
		TLS:       c.TLS,
		Cleartext: c.Cleartext,
		Idle:      c.Idle,
		Log:       c.Log,
		Login: func(name, password string) (*maildir.Store, error) {
			if err := guesses.Wait(ctx, c.Peer); err != nil {
				return nil, err
			}
			u, err := office.Login(name, password)
			if errors.Is(err, account.ErrRefused) {
				guesses.Failed(c.Peer)
				return nil, pop3.ErrRefused
			}
			if err != nil {
				return nil, err
			}
			return maildir.Open(u.Maildir)
		},
	}
	if c.Preauth != nil {
		s.User = c.Preauth.User
		s.Open = func() (*maildir.Store, error) { return maildir.Open(c.Preauth.Maildir) }
	}
	if err := s.Serve(ctx); err != nil {
		c.Log.Info("hung up", "err", err)
	}
}
