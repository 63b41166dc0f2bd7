// Package daemon finds out where a server's conversations come from (passed
// sockets, its own listeners, descriptor 0), holds them within limits, and
// ends them when it is told to.
//
// A program says what it is in a [Program]; [Run] does the rest and calls
// Serve once for each client.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
)

// A Program is one server as Run has to know it.
type Program struct {
	Name  string                               // "pop3d", as logs show it
	Roles map[string]Role                      // by the names that sockets have: "pop3", "pop3s"
	Serve func(ctx context.Context, c *Client) // one conversation; see Client

	// Preauth says that somebody who runs the program on their own descriptor
	// 0 need not log in.
	Preauth bool

	// Busy is what a client hears who is one too many: whole lines with CRLF.
	Busy string

	// Reload is called at SIGHUP. Its error is logged; the old state stays.
	Reload func() error

	// TLS gives the server's certificates, nil when there are none. It is
	// called at the start and at SIGHUP, the first time before privileges are
	// dropped.
	TLS func() (*tls.Config, error)
}

// A Role is one of the services a program offers.
type Role struct {
	Port int  // where it is usually found
	TLS  bool // encrypted from the first octet
}

// A Client is one conversation to hold. The daemon closes Conn when Serve has
// returned. When the context given to Serve ends, every read from Conn soon
// fails with os.ErrDeadlineExceeded, while writes still work for some seconds:
// the session asks ctx.Err() when a read has failed and before each command it
// has in hand, says its farewell and returns.
type Client struct {
	net.Conn
	Peer      string        // address for logs and limits, "" when it is not known
	Role      string        // a key of Program.Roles
	Secure    bool          // TLS from the start: Conn is a *tls.Conn, shaken hands
	TLS       *tls.Config   // for STARTTLS; nil: not offered
	Preauth   *Preauth      // nil: the client has to log in
	Idle      time.Duration // how long a logged-in client may keep silent
	Cleartext bool          // passwords are accepted without encryption
	Alone     bool          // nobody else is served by this process
	Log       *slog.Logger  // knows the peer already
}

// Preauth is the mailbox of a client who need not log in.
type Preauth struct {
	User    string // login name of the user that runs the program
	Maildir string
}

// idle times and further flags that differ between the programs.
var idle = map[string]time.Duration{
	"pop3d": 10 * time.Minute, // RFC 1939 §3
	"imapd": 30 * time.Minute, // RFC 9051 §5.4
	"smtpd": 5 * time.Minute,  // RFC 5321 §4.5.3.2.7
}

// Flags are the flags that Run reads, with environment variables in the name
// of the program: POP3D_LISTEN for --listen of pop3d.
func Flags(program string) []cli.Flag {
	env := func(name string) []string {
		return []string{strings.ToUpper(program) + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
	}
	quiet := idle[program]
	if quiet == 0 {
		quiet = 10 * time.Minute
	}
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Aliases: []string{"l"}, EnvVars: env("listen"), Usage: "accept connections on `ADDR` ([role=][tls:]host:port or unix:/path); may be repeated"},
		&cli.IntFlag{Name: "max-connections", EnvVars: env("max-connections"), Value: 2000, Usage: "hold at most `N` conversations at a time, 0 for no limit"},
		&cli.IntFlag{Name: "max-per-address", EnvVars: env("max-per-address"), Value: 100, Usage: "hold at most `N` of them with one address, 0 for no limit"},
		&cli.IntFlag{Name: "max-logins", EnvVars: env("max-logins"), Value: 100_000, Usage: "let a user log in `N` times a minute from an address, and have more wait; 0 for no limit"},
		&cli.DurationFlag{Name: "idle", EnvVars: env("idle"), Value: quiet, Usage: "hang up after `TIME` of silence"},
		&cli.StringFlag{Name: "user", EnvVars: env("user"), Usage: "become user `NAME` when the sockets are bound and the keys read"},
		&cli.BoolFlag{Name: "cleartext-login", EnvVars: env("cleartext-login"), Usage: "accept passwords without encryption"},
		&cli.StringFlag{Name: "log-level", EnvVars: env("log-level"), Value: "info", Usage: "log what is at least `LEVEL`: debug, info, warn or error"},
		&cli.IntFlag{Name: "notification-fd", Aliases: []string{"N"}, EnvVars: env("notification-fd"), Usage: "write a newline to descriptor `FD` when ready, as s6 likes it"},
	}
	if program != "smtpd" {
		flags = append(flags,
			&cli.BoolFlag{Name: "login", Aliases: []string{"L"}, EnvVars: env("login"), Usage: "have the client log in, whoever runs the program"},
			&cli.BoolFlag{Name: "preauth", Aliases: []string{"P"}, EnvVars: env("preauth"), Usage: "serve the mailbox of the user that runs the program, without login"},
		)
	}
	return flags
}

var begin = sync.OnceFunc(func() {
	// Runaway recursion should kill one process early, not eat the machine.
	debug.SetMaxStack(64 << 20)

	// A write to a vanished reader of descriptor 2 would kill the process.
	// Caught, not ignored: children must have the default again.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
})

// Main is all of a daemon's main function: it makes app one of our programs
// and ends with the status of what it returns (sysexits(3)).
func Main(app *cli.App) {
	Begin(app.Name)
	app.HelpName = app.Name
	app.Version = version.String()
	app.HideHelpCommand = true
	app.DisableSliceFlagSeparator = true
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return status.With(status.Usage, err) }
	err := app.Run(os.Args)
	if err != nil && !onStderr {
		slog.Error("cannot serve", "err", err) // standard error leads nowhere
		os.Exit(status.Code(err))
	}
	status.Exit(err)
}

// Begin takes care that nothing but the conversation reaches the client: under
// inetd descriptor 2 may be the client's socket. Main begins with it.
func Begin(program string) {
	begin()
	openLog(program)
}

// Run serves until the conversation is over, or until SIGTERM. The error is a
// [status.Error].
func Run(c *cli.Context, p Program) error {
	Begin(p.Name)
	if err := setLevel(c.String("log-level")); err != nil {
		return usage("%w", err)
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	s := &server{
		Program:   p,
		log:       slog.Default(),
		idle:      c.Duration("idle"),
		cleartext: c.Bool("cleartext-login"),
		most:      c.Int("max-connections"),
		mostOf:    c.Int("max-per-address"),
	}
	if s.idle <= 0 {
		return usage("--idle %s: wants a time above zero", s.idle)
	}
	if s.most < 0 || s.mostOf < 0 || c.Int("max-logins") < 0 {
		return usage("--max-connections, --max-per-address and --max-logins: want a number, 0 for no limit")
	}
	ask, err := look(c, p)
	if err != nil {
		return err
	}
	way, err := ask.decide()
	if err != nil {
		return err
	}
	if err := s.loadTLS(); err != nil {
		return config("TLS: %w", err)
	}
	return s.run(ctx, c, ask, way)
}

func (s *server) run(ctx context.Context, c *cli.Context, ask facts, w way) error {
	defer closeAll(ask.passed)
	switch w {
	case wayListen:
		if err := s.open(ask); err != nil {
			return err
		}
		if err := become(c.String("user")); err != nil {
			return err
		}
		return s.serve(ctx, c.Int("notification-fd"))
	default:
		conn, role, peer, err := s.one(ask, w)
		if err != nil {
			return err
		}
		if err := become(c.String("user")); err != nil {
			return err
		}
		var pre *Preauth
		if w == wayPreauth {
			if pre, err = ask.mailbox(); err != nil {
				return err
			}
		}
		missing := pre != nil && !isDir(filepath.Join(pre.Maildir, "cur"))
		s.single(ctx, conn, role, peer, pre)
		if missing { // the client and the log have heard so; a script looks at the status
			return status.Errorf(status.NoInput, "")
		}
		return nil
	}
}

// What is wrong before anybody is served, as sysexits(3) has it.
func usage(format string, args ...any) error { return status.Errorf(status.Usage, format, args...) }

func config(format string, args ...any) error { return status.Errorf(status.Config, format, args...) }

func system(format string, args ...any) error { return status.Errorf(status.OSErr, format, args...) }

var errNobody = errors.New("nobody to talk to: give --listen, or run me from inetd, systemd or ssh")
