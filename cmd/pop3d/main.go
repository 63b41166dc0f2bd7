// Pop3d serves Maildirs over POP3 (pop3d(8)).
package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/daemon"
	"pennypost/cmd/internal/guard"
	"pennypost/maildir"
	"pennypost/proto/pop3"
	"pennypost/proto/sasl"
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

// A server is what all sessions share.
type server struct {
	office *account.Office
	guard  guard.Guard
}

func serve(c *cli.Context) error {
	office, err := account.Open(c.String("post-office"))
	if err != nil {
		return err
	}
	s := &server{office: office}
	s.guard.MaxLogins = c.Int("max-logins")
	return daemon.Run(c, daemon.Program{
		Name:    "pop3d",
		Roles:   map[string]daemon.Role{"pop3": {Port: 110}, "pop3s": {Port: 995, TLS: true}},
		Preauth: true,
		Busy:    "-ERR [SYS/TEMP] too many connections, come again later\r\n",
		TLS:     office.TLS,
		Serve:   s.converse,
	})
}

// converse holds one session for a client.
func (s *server) converse(ctx context.Context, c *daemon.Client) {
	if c.Alone {
		s.guard.Dir = s.office.Guesses()
	}
	door := guard.Door{Guard: &s.guard, Office: s.office, Service: "pop3", Peer: c.Peer}
	session := &pop3.Session{
		Conn:      wire.New(c.Conn, 255, c.Idle),
		TLS:       c.TLS,
		Cleartext: c.Cleartext,
		Idle:      c.Idle,
		Log:       c.Log,
		SASL:      door.Options(ctx),
		Login: func(ctx context.Context, claim sasl.Claim) (*maildir.Store, error) {
			return s.login(ctx, door, claim)
		},
	}
	if c.Preauth != nil {
		session.User = c.Preauth.User
		session.Open = func() (*maildir.Store, error) { return maildir.Open(c.Preauth.Maildir) }
	}
	if err := session.Serve(ctx); err != nil {
		c.Log.Info("hung up", "err", err)
	}
	session.Conn.Hangup()
}

// login opens the mail of who is who he says, slowly for an address from which
// there were wrong passwords.
func (s *server) login(ctx context.Context, door guard.Door, claim sasl.Claim) (*maildir.Store, error) {
	u, err := door.Login(ctx, claim)
	if err != nil {
		return nil, err
	}
	return s.office.Maildir(u)
}
