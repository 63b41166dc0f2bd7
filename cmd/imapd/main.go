// Imapd serves Maildirs over IMAP (imapd(8)).
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/daemon"
	"pennypost/cmd/internal/guard"
	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// folderKept is how long a folder stays known after it was closed: clients come back, and ask for the STATUS of all their
// folders again and again.
const folderKept = 5 * time.Minute

func main() {
	daemon.Main(&cli.App{
		Name:      "imapd",
		Usage:     "serve Maildirs over IMAP",
		ArgsUsage: "[MAILDIR]",
		Flags: slices.Concat(daemon.Flags("imapd"), []cli.Flag{
			account.Flag(),
			&cli.Int64Flag{
				Name: "max-size", Value: imap.DefaultMaxSize, EnvVars: []string{"IMAPD_MAX_SIZE"},
				Usage: "take messages of at most `OCTETS`",
			},
			&cli.IntFlag{
				Name: "message-limit", Value: imap.DefaultMessageLimit, EnvVars: []string{"IMAPD_MESSAGE_LIMIT"},
				Usage: "let a command have at most `N` messages, 0 for no limit",
			},
		}),
		Action: serve,
	})
}

func serve(c *cli.Context) error {
	if n := c.Int64("max-size"); n <= 0 {
		return status.Errorf(status.Usage, "--max-size %d: wants a number of octets", n)
	}
	if n := c.Int("message-limit"); n < 0 {
		return status.Errorf(status.Usage, "--message-limit %d: wants a number of messages", n)
	}
	office, err := account.Open(c.String("post-office"))
	if err != nil {
		return err
	}
	server := &server{office: office, maxSize: c.Int64("max-size"), messageLimit: c.Int("message-limit"), tag: os.Getenv("IMAPLOGINTAG")}
	server.guesses.MaxLogins = c.Int("max-logins")
	os.Unsetenv("IMAPLOGINTAG")
	maildir.Keep(folderKept)
	defer maildir.Keep(0) // nothing of them stays in tmp
	return daemon.Run(c, daemon.Program{
		Name: "imapd",
		Roles: map[string]daemon.Role{
			"imap":  {Port: 143},
			"imaps": {Port: 993, TLS: true},
		},
		Serve:   server.serve,
		Preauth: true,
		Busy:    "* BYE [UNAVAILABLE] too many connections\r\n",
		TLS:     office.TLS,
	})
}

type server struct {
	office  *account.Office
	maxSize int64

	messageLimit int
	tag          string // of the LOGIN that the launcher has heard (IMAPLOGINTAG)
	guesses      guard.Guard
}

// serve holds one conversation.
func (s *server) serve(ctx context.Context, c *daemon.Client) {
	if c.Alone {
		s.guesses.Dir = s.office.Guesses()
	}
	door := guard.Door{Guard: &s.guesses, Office: s.office, Service: "imap", Peer: c.Peer}
	session := &imap.Session{
		Conn:      wire.New(c.Conn, 8192, c.Idle),
		Login:     func(claim sasl.Claim) (*imap.User, error) { return s.login(ctx, door, claim) },
		SASL:      door.Options(ctx),
		TLS:       c.TLS,
		Cleartext: c.Cleartext,
		MaxSize:   s.maxSize,

		MessageLimit: s.messageLimit,
		Idle:         c.Idle,
		Log:          c.Log,
		Version:      version.String(),
		Admin:        "mailto:postmaster@" + s.office.Me(), // RFC 5321 §4.5.1
	}
	if c.Preauth != nil {
		store, err := maildir.Open(c.Preauth.Maildir)
		if err != nil {
			c.Log.Error("open the Maildir", "user", c.Preauth.User, "err", err)
			session.Conn.Printf("* BYE [UNAVAILABLE] the mail cannot be opened")
			session.Conn.Hangup()
			return
		}
		session.Preauth, session.Tag = &imap.User{Name: c.Preauth.User, Store: store}, s.tag
	}
	if err := session.Serve(ctx); err != nil {
		c.Log.Info("client left", "err", err)
	}
	session.Conn.Hangup()
}

// login opens the mail of a user.
func (s *server) login(ctx context.Context, door guard.Door, claim sasl.Claim) (*imap.User, error) {
	u, err := door.Login(ctx, claim)
	if err != nil {
		return nil, err
	}
	store, err := s.office.Maildir(u)
	if err != nil {
		return nil, fmt.Errorf("mail of %s: %w", u.Address(), err)
	}
	return &imap.User{Name: u.Address(), Store: store}, nil
}
