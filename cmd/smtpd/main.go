// Smtpd receives mail over SMTP. See smtpd(8).
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/daemon"
	"pennypost/cmd/internal/delivery"
	"pennypost/cmd/internal/guard"
	"pennypost/cmd/internal/status"
	"pennypost/proto/smtp"
	"pennypost/proto/wire"
)

const (
	flagMaxSize    = "max-size"
	flagRefuseFull = "refuse-full"
	flagTrust      = "trust"
)

func main() {
	daemon.Main(&cli.App{
		Name:      "smtpd",
		Usage:     "receive mail over SMTP",
		UsageText: "smtpd [options]",
		Flags: slices.Concat([]cli.Flag{account.Flag()}, daemon.Flags("smtpd"), []cli.Flag{
			&cli.Int64Flag{Name: flagMaxSize, EnvVars: []string{"SMTPD_MAX_SIZE"}, Value: 50 << 20, Usage: "take messages of at most `OCTETS`, 0 for no limit"},
			&cli.BoolFlag{Name: flagRefuseFull, EnvVars: []string{"SMTPD_REFUSE_FULL"}, Usage: "refuse mail for a full mailbox for good, not for now"},
			&cli.StringSliceFlag{Name: flagTrust, EnvVars: []string{"SMTPD_TRUST"}, Usage: "relay for clients in `NET` (192.0.2.0/24, 2001:db8::1) without login; may be repeated"},
		}),
		Action: run,
	})
}

func run(c *cli.Context) error {
	if c.Args().Present() {
		return status.Errorf(status.Usage, "unexpected argument %q", c.Args().First())
	}
	s := &server{maxSize: c.Int64(flagMaxSize)}
	if s.maxSize < 0 {
		return status.Errorf(status.Usage, "--%s %d: wants a number of octets", flagMaxSize, s.maxSize)
	}
	for _, text := range c.StringSlice(flagTrust) {
		p, err := network(text)
		if err != nil {
			return status.Errorf(status.Usage, "--%s %q: wants an address or a network such as 192.0.2.0/24", flagTrust, text)
		}
		s.trust = append(s.trust, p)
	}
	office, err := account.Open(c.String("post-office"))
	if err != nil {
		return err
	}
	s.office = office
	s.guard.MaxLogins = c.Int("max-logins")
	s.post = &delivery.Post{Office: office, Log: slog.Default(), RefuseFull: c.Bool(flagRefuseFull)}
	return daemon.Run(c, daemon.Program{
		Name: "smtpd",
		Roles: map[string]daemon.Role{
			"smtp":        {Port: 25},
			"submission":  {Port: 587},
			"submissions": {Port: 465, TLS: true},
		},
		Busy:  "421 4.7.0 too many connections; try again later\r\n",
		TLS:   office.TLS,
		Serve: s.serve,
	})
}

// network is an address, or all that begin alike.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().Prefix(a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() {
		err = fmt.Errorf("%s: write it as an IPv4 network", text)
	}
	return p.Masked(), err
}

// A server is what all sessions share.
type server struct {
	office  *account.Office
	post    *delivery.Post
	guard   guard.Guard
	maxSize int64 // octets; 0: any
	trust   []netip.Prefix
}

// trusts says whether a client may relay without login: the administrator has
// listed its address. Neither a loopback address nor a pipe is a reason.
func (s *server) trusts(peer string) bool {
	a, err := netip.ParseAddr(peer)
	return err == nil && slices.ContainsFunc(s.trust, func(p netip.Prefix) bool { return p.Contains(a.Unmap().WithZone("")) })
}

// serve holds one conversation.
func (s *server) serve(ctx context.Context, c *daemon.Client) {
	if c.Alone {
		s.guard.Dir = s.office.Guesses()
	}
	d := desk{server: s, client: c, trusted: s.trusts(c.Peer)}
	session := &smtp.Session{
		Conn:       wire.New(c.Conn, 512, c.Idle),
		Name:       s.office.Me(),
		Peer:       c.Peer,
		Log:        c.Log,
		Idle:       c.Idle,
		TLS:        c.TLS,
		MaxSize:    s.maxSize,
		Login:      d.login,
		SASL:       d.door().Options(ctx),
		NeedLogin:  c.Role != "smtp",
		ClearLogin: c.Cleartext,
		Trusted:    d.trusted,
		Check:      d.check,
		Deliver:    d.deliver,
	}
	if err := session.Serve(ctx); err != nil {
		c.Log.Info("client lost", "err", err)
	}
	session.Conn.Hangup()
}
