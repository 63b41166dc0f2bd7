// Package smtp receives mail from one client over the Simple Mail Transfer
// Protocol (RFC 5321).
//
// It knows no storage and no accounts: what it has to ask or hand over goes
// through the func fields of a [Session], so that a mail exchanger, a
// submission server and a session on a pipe are the same code.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// state says how far a mail transaction has come (RFC 5321 §3.3, §4.1.4).
type state uint8

const (
	greeting state = 1 << iota // before HELO or EHLO
	idle                       // between transactions
	mail                       // after MAIL
	rcpt                       // after at least one RCPT
	over                       // after QUIT
	always   = greeting | idle | mail | rcpt
)

// commands is the protocol: RFC 5321 §4.1.1, one row to a subsection, then the
// extensions. The replies to some commands may wait for more (RFC 2920 §3.2).
var commands = map[string]struct {
	in   state
	do   func(*Session, string) reply
	wait bool
}{
	"EHLO": {always, (*Session).ehlo, false},      // .1
	"HELO": {always, (*Session).hello, false},     // .1
	"MAIL": {idle, (*Session).mail, true},         // .2
	"RCPT": {mail | rcpt, (*Session).rcpt, true},  // .3
	"DATA": {mail | rcpt, (*Session).data, false}, // .4
	"RSET": {always, (*Session).rset, true},       // .5
	"VRFY": {always, (*Session).vrfy, false},      // .6
	"EXPN": {always, (*Session).never, false},     // .7
	"HELP": {always, (*Session).help, false},      // .8
	"NOOP": {always, (*Session).noop, false},      // .9
	"QUIT": {always, (*Session).quit, false},      // .10

	"STARTTLS": {always, (*Session).starttls, false}, // RFC 3207 §4
	"AUTH":     {idle, (*Session).auth, false},       // RFC 4954 §4

	"TURN": {always, (*Session).never, false}, // RFC 5321 §F.1
	"SEND": {always, (*Session).never, false}, // RFC 5321 §F.6
	"SOML": {always, (*Session).never, false},
	"SAML": {always, (*Session).never, false},
	"ETRN": {always, (*Session).never, false}, // RFC 1985
	"BDAT": {always, (*Session).never, false}, // RFC 3030
}

// foreign are the first words of clients that speak something else, or are made
// to do so by a web page. They do not get a second line.
var foreign = []string{"GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS", "TRACE", "DELETE", "PATCH", "PRI"}

// Bounds on what one client can ask for (RFC 5321 §4.5.3.1). A command line may
// be longer than the 512 octets of §4.5.3.1.4 by what extensions put there.
const (
	lineLimit = 2048
	authLimit = 12288 + 2 // RFC 4954 §4, and the CRLF

	maxRecipients = 1000   // a message (§4.5.3.1.8 wants 100)
	maxMessages   = 10_000 // a session
	maxBad        = 10     // commands that are none, before the client has logged in
	maxBadKnown   = 20     // and afterwards
	maxJunk       = 100    // commands that bring no message on, between two messages
	maxFailed     = 3      // logins
	maxRefused    = 100    // recipients; from slowRefused on each costs a second
	slowRefused   = 10

	helloTime   = time.Minute     // for HELO, from whoever has just come
	defaultIdle = 5 * time.Minute // §4.5.3.2.7
)

// A Session is one conversation with one client.
type Session struct {
	Conn *wire.Conn   // the client; Serve sets its limits
	Name string       // ours, in the greeting and in Received
	Peer string       // the client's IP address, for Received; "" if there is none
	Log  *slog.Logger // has to escape what it is given
	Idle time.Duration

	// TLS is for STARTTLS, which is not offered without it.
	TLS *tls.Config

	// MaxSize is how many octets a message may have, line ends as CRLF; 0 for
	// any number.
	MaxSize int64

	// Login returns who it is that makes a claim; AUTH is not offered without
	// it. An error may be one of package sasl or an *Error; any other means that
	// it could not be found out. Login may take its time, to slow down who
	// guesses.
	Login func(context.Context, sasl.Claim) (user string, err error)

	// SASL has the ways to log in beside passwords (RFC 4954).
	SASL sasl.Options

	NeedLogin  bool // a client has to log in before MAIL (RFC 6409 §4.3)
	ClearLogin bool // and may do so without encryption
	Trusted    bool // the client may leave out the brackets of an address, and its domain

	// Check is asked about each recipient. nil: we take mail for it. An error
	// may be an *Error; any other means trouble of ours.
	Check func(ctx context.Context, e *Envelope, rcpt string) error

	// Deliver reads a message to its end, lines ending in CRLF. When it returns
	// nil, the message is on disk for every recipient (§6.1). When r fails, it
	// delivers nothing and returns that error. id is what the log calls the
	// message. An error may be an *Error; any other means trouble of ours.
	Deliver func(ctx context.Context, e *Envelope, r io.Reader) (id string, err error)

	ctx   context.Context
	state state
	esmtp bool   // the client has said EHLO
	helo  string // what it calls itself
	user  string // who has logged in
	env   Envelope

	bad, junk, failed, refused, messages int
	upgrade                              bool  // STARTTLS has been answered
	gone                                 error // why nothing more can be read
}

// An Envelope says where mail comes from and where it goes, whatever its
// header says.
type Envelope struct {
	ID       string   // ours, for Received, the log and the client
	From     string   // "" for the null reverse-path
	To       []string // each once; "postmaster" alone is that of this host, as is any name of a trusted client's
	Size     int64    // octets, as declared (RFC 1870 §3); 0: not
	EightBit bool     // BODY=8BITMIME (RFC 6152 §3)
	User     string   // who has logged in; ""
	Trace    string   // the Received field to put on top, lines ending in LF; set for Deliver
}

// reply is one SMTP reply (RFC 5321 §4.2) with its enhanced status code (RFC 3463).
type reply struct {
	code   int
	status string // "2.1.0", or "" where RFC 2034 §4 forbids one
	lines  []string
}

func say(code int, status string, lines ...string) reply { return reply{code, status, lines} }

// An Error is a refusal as the client shall hear it.
type Error struct {
	Code   int    // 4xx or 5xx
	Status string // RFC 3463, of the same class
	Text   string
	Err    error // the cause, for the log only; or nil
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%d %s %s", e.Code, e.Status, e.Text)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// refuse is the reply to err: what it says itself, or else otherwise.
func refuse(err error, otherwise reply) reply {
	if e, ok := errors.AsType[*Error](err); ok {
		return say(e.Code, e.Status, e.Text)
	}
	return otherwise
}

// Serve holds the conversation. It ends with QUIT, when the client leaves or
// has to, or when ctx does: then the reply in progress is finished, and the
// client hears 421. The error says why a client was lost.
func (s *Session) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.Conn.Stop)()
	if s.Idle == 0 {
		s.Idle = defaultIdle
	}
	s.ctx, s.state = ctx, greeting
	s.Conn.SetLimit(s.limit())
	s.Conn.SetIdle(min(helloTime, s.Idle))
	s.send(say(220, "", s.Name+" ESMTP"))
	// A TLS client hello is no line: nobody waits for the end of it.
	if first, err := s.Conn.Peek(); err != nil {
		s.send(s.lost(err))
	} else if first == 0x16 {
		s.state = over
		s.send(say(554, "5.5.1", "this is SMTP; say STARTTLS before you speak TLS"))
	}
	for s.state != over {
		r, wait := s.turn()
		s.send(r)
		if !wait {
			s.Conn.Flush()
		}
		if s.upgrade {
			s.upgrade = false
			if err := s.Conn.StartTLS(s.TLS); err != nil {
				return err
			}
		}
	}
	return errors.Join(s.gone, s.Conn.Flush())
}

// turn reads one line and finds its reply.
func (s *Session) turn() (r reply, wait bool) {
	if s.ctx.Err() != nil {
		return s.lost(wire.ErrStopped), false
	}
	line, err := s.Conn.ReadLine()
	switch {
	case errors.Is(err, wire.ErrTooLong):
		r = say(500, "5.5.2", "line too long")
	case errors.Is(err, wire.ErrLineEnd):
		r = say(500, "5.5.2", "a line ends in CRLF, and has no CR or LF elsewhere")
	case err != nil:
		return s.lost(err), false
	default:
		r, wait = s.answer(line)
	}
	if r.code >= 500 && r.code <= 504 || r.code == 555 {
		s.bad++
	}
	limit := maxBad
	if s.user != "" {
		limit = maxBadKnown
	}
	if s.state != over && (s.bad > limit || s.junk > maxJunk) {
		s.state = over
		return say(421, "4.7.0", "too many commands to no purpose"), false
	}
	return r, wait
}

// answer finds the row for one line; it alone knows about states.
func (s *Session) answer(line string) (r reply, wait bool) {
	verb, arg, _ := strings.Cut(line, " ")
	verb, arg = strings.ToUpper(strings.TrimRight(verb, "\t")), strings.Trim(arg, " \t")
	if verb == "AUTH" { // its argument may be the password
		line = verb
	}
	s.Log.Debug("client", "line", line)
	c, known := commands[verb]
	if verb != "MAIL" && verb != "RCPT" && verb != "DATA" {
		s.junk++
	}
	switch {
	case slices.Contains(foreign, verb):
		s.state = over
		return say(554, "5.5.1", "this is SMTP"), false
	case !known:
		return say(500, "5.5.1", "unknown command"), false
	case strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return say(501, "5.5.4", "control characters in the argument"), c.wait
	case c.in&s.state == 0:
		return say(503, "5.5.1", s.instead()), c.wait
	}
	return c.do(s, arg), c.wait
}

// instead says which commands have to come first.
func (s *Session) instead() string {
	switch s.state {
	case greeting:
		return "say EHLO or HELO first"
	case idle:
		return "say MAIL first"
	}
	return "not in a mail transaction"
}

// lost is the farewell to a client from whom nothing more can be read, if there
// is still somebody to hear it.
func (s *Session) lost(err error) reply {
	s.state = over
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, wire.ErrStopped), s.ctx.Err() != nil:
		return say(421, "4.3.2", s.Name+" is shutting down")
	case timeout != nil && timeout.Timeout():
		return say(421, "4.4.2", s.Name+" has waited too long")
	case errors.Is(err, wire.ErrEndless):
		s.gone = err
		return say(500, "5.5.2", "line too long")
	}
	if err != io.EOF {
		s.gone = err
	}
	return reply{}
}

// send queues a reply. It makes sure that a reply is what RFC 5321 §4.2 says it
// is, whoever thought out its text.
func (s *Session) send(r reply) {
	for i, text := range r.lines {
		sep := "-"
		if i == len(r.lines)-1 {
			sep = " "
		}
		if r.status != "" {
			text = r.status + " " + text
		}
		s.Log.Debug("server", "code", r.code, "line", text)
		s.Conn.Printf("%d%s%s", r.code, sep, plain(text, 500))
	}
}

// plain is text as far as it can stand in a line: ASCII without control
// characters, at most n octets.
func plain(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(n, len(text))]
}

// encrypted says whether the client speaks TLS.
func (s *Session) encrypted() bool {
	_, ok := s.Conn.TLS()
	return ok
}

// reset forgets the transaction (RFC 5321 §4.1.1.5).
func (s *Session) reset() {
	s.env = Envelope{}
	if s.state != greeting && s.state != over {
		s.state = idle
	}
}
