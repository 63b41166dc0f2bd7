// Sendmail takes a message on standard input and brings it on its way: into the
// Maildirs of this host, or into the queue, which it runs too. Called mailq it
// lists the queue, called newaliases it checks the aliases.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/delivery"
	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
)

func main() {
	// Callers may have closed their ends: a write that fails is an error, no death.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// A program is one run of sendmail.
type program struct {
	*call
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	post   *delivery.Post
}

// run does what argv says and returns the exit status.
func run(argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c, err := understand(argv)
	if err != nil {
		status.Print(stderr, "sendmail", err)
		return status.Usage
	}
	p := &program{call: c, stdin: stdin, stdout: stdout, stderr: stderr}
	for _, w := range c.warnings {
		status.Print(stderr, "sendmail", errors.New(w))
	}
	if err := p.do(); err != nil {
		status.Print(stderr, "sendmail", err)
		return code(err)
	}
	return status.OK
}

func (p *program) do() error {
	switch p.job {
	case help:
		usage(p.stdout)
		return nil
	case tell:
		_, err := fmt.Fprintln(p.stdout, "sendmail", version.String())
		return err
	case nothing:
		return nil
	}
	office, err := account.Open(p.office)
	if err != nil {
		return status.With(status.Config, err)
	}
	level := slog.LevelError
	if p.verbose || p.job == watch {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log) // what the Maildir has to say
	if p.tag != "" {
		log = log.With("tag", p.tag)
	}
	office.Log = log
	p.post = &delivery.Post{Office: office, Log: log}
	signals := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	if p.job == watch { // the post office is read again by itself
		signal.Ignore(syscall.SIGHUP)
		signals = signals[:2]
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	switch p.job {
	case speak:
		return p.session(ctx)
	case list, count:
		return p.list()
	case aliases:
		return p.aliases()
	case verify:
		return p.verify()
	case flush:
		return p.runner().Pass(ctx, p.wanted())
	case watch:
		return p.runner().Run(ctx, p.interval)
	case serve:
		return p.serve()
	}
	return p.send(ctx)
}

func (p *program) runner() *delivery.Runner { return &delivery.Runner{Post: p.post} }

// code is the exit status for an error (sysexits(3)).
func code(err error) int {
	if e, ok := errors.AsType[*status.Error](err); ok {
		return e.Code
	}
	if r, ok := errors.AsType[*delivery.Refusal](err); ok {
		switch {
		case r.Temporary():
			return status.TempFail
		case r.Status == "5.4.6": // a loop
			return status.Config
		case r.Status == "5.1.3", r.Status == "5.6.0": // an address, or a message, that is none
			return status.DataErr
		}
		return status.Unavailable
	}
	switch {
	case errors.Is(err, account.ErrUnknown):
		return status.NoUser
	case errors.Is(err, account.ErrSyntax):
		return status.DataErr
	case errors.Is(err, account.ErrLoop):
		return status.Config
	case errors.Is(err, context.Canceled):
		return status.TempFail
	}
	switch n := status.Code(err); n {
	case status.NoPerm, status.NoInput, status.OSErr, status.Software, status.IOErr:
		return status.TempFail // a spool or Maildir that cannot be written: somebody may mend it
	default:
		return n
	}
}

// stamp is the Received field for a message that comes from a process of this
// host (RFC 5321 §4.4). The uid is what the system says, whatever -f says.
func (p *program) stamp(now time.Time) string {
	return fmt.Sprintf("Received: by %s (Pennypost, from uid %d);\n\t%s\n", p.post.Office.Me(), os.Getuid(), now.Format(time.RFC1123Z))
}
