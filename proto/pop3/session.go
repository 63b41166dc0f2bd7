// Package pop3 serves one Maildir to one client over the Post Office Protocol,
// version 3 (RFC 1939) with its extensions (RFC 2449).
//
// The maildrop of a session is the INBOX as it was at login. Other programs may
// go on with it: what they remove answers -ERR when it is asked for, and what
// arrives is for the next session.
package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"pennypost/maildir"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// state is one of the session states of RFC 1939 §3.
type state uint8

const (
	authorization state = 1 << iota // §4
	transaction                     // §5
	over                            // §6: the client has said QUIT, or too much nonsense

	anytime = authorization | transaction
)

// A command is one row of the protocol: where it is allowed, and the method
// that answers it.
type command struct {
	in state
	do func(*Session, string) reply
}

// commands is the protocol.
var commands = map[string]command{
	"USER": {authorization, (*Session).user}, // RFC 1939 §7
	"PASS": {authorization, (*Session).pass}, // RFC 1939 §7
	"APOP": {authorization, (*Session).apop}, // RFC 1939 §7
	"AUTH": {authorization, (*Session).auth}, // RFC 5034 §4
	"STLS": {authorization, (*Session).stls}, // RFC 2595 §4
	"CAPA": {anytime, (*Session).capa},       // RFC 2449 §5
	"STAT": {transaction, (*Session).stat},   // RFC 1939 §5
	"LIST": {transaction, (*Session).list},   // RFC 1939 §5
	"RETR": {transaction, (*Session).retr},   // RFC 1939 §5
	"DELE": {transaction, (*Session).dele},   // RFC 1939 §5
	"NOOP": {transaction, (*Session).noop},   // RFC 1939 §5
	"RSET": {transaction, (*Session).rset},   // RFC 1939 §5
	"TOP":  {transaction, (*Session).top},    // RFC 1939 §7
	"UIDL": {transaction, (*Session).uidl},   // RFC 1939 §7
	"QUIT": {anytime, (*Session).quit},       // RFC 1939 §4, §6
}

// foreign verbs begin the conversations of other protocols. A browser that was
// talked into speaking to us gets no answer it could be made to misuse.
var foreign = map[string]bool{
	"GET": true, "POST": true, "HEAD": true, "PUT": true, "DELETE": true, "OPTIONS": true, "CONNECT": true,
	"PATCH": true, "TRACE": true, "PRI": true, "HOST:": true, "EHLO": true, "HELO": true, "LHLO": true,
}

// Bounds of a session.
const (
	lineLimit   = 255              // octets with CRLF (RFC 2449 §4)
	authLimit   = 12288            // octets of a line within AUTH (RFC 4954 §4)
	loginIdle   = time.Minute      // of silence before login
	loginTime   = 5 * time.Minute  // for all that comes before login
	loginLines  = 100              // lines before login
	badBefore   = 3                // commands that make no sense, before login
	badAfter    = 20               // and after
	wrongLogins = 3                // passwords
	wrongPause  = 2 * time.Second  // before a refusal is told, and twice as long for the next
	defaultIdle = 10 * time.Minute // RFC 1939 §3: no less
)

// ErrRefused is what Login returns for a wrong name or password, as opposed to
// trouble on our side.
var ErrRefused = sasl.ErrRefused

// A Session is one conversation with one client. The caller sets the exported
// fields and calls Serve once.
type Session struct {
	Conn *wire.Conn

	// Login opens the mail of a user who is who he says. ErrRefused says that he
	// is not; but for the others of package sasl any error is ours, and he may
	// come again.
	Login func(context.Context, sasl.Claim) (*maildir.Store, error)

	// SASL has the ways to log in beside passwords (RFC 5034).
	SASL sasl.Options

	// Open, if not nil, opens the mail of a client who need not log in. User
	// is that client's name for the log.
	Open func() (*maildir.Store, error)
	User string

	TLS       *tls.Config   // for STLS; nil: not offered
	Cleartext bool          // passwords are accepted without encryption
	Idle      time.Duration // silence allowed after login; 0: ten minutes
	Log       *slog.Logger

	ctx    context.Context
	state  state
	begun  time.Time
	lines  int // from the client
	bad    int // among them without sense
	wrong  int // passwords
	named  string
	store  *maildir.Store
	folder *maildir.Folder
	drop   []message // numbered at login, never renumbered (RFC 1939 §5)
	read   int       // messages retrieved
	gone   int       // messages removed
	lost   error     // why there is nothing more to read, found within a command
}

// reply is what the server says to one command. Handlers return exactly one.
type reply struct {
	ok   bool
	text string
	body func(io.Writer) error // of a multi-line response, or nil
	then func() error          // to do when the reply is queued, or nil
}

func ok(format string, args ...any) reply { return reply{ok: true, text: fmt.Sprintf(format, args...)} }
func no(format string, args ...any) reply { return reply{text: fmt.Sprintf(format, args...)} }

func (r reply) with(body func(io.Writer) error) reply { r.body = body; return r }

// Serve holds the conversation, from greeting to hang-up. A client that hangs
// up or falls silent instead of saying QUIT loses no message (RFC 1939 §3);
// so does one that is told farewell because ctx has ended.
//
// The error says how the conversation ended when it was not by QUIT.
func (s *Session) Serve(ctx context.Context) error {
	s.ctx, s.begun = ctx, time.Now()
	if s.Idle == 0 {
		s.Idle = defaultIdle
	}
	s.state = authorization
	s.Conn.SetLimit(lineLimit)
	s.Conn.AllowLF() // as people type it, and some scripts; it means nothing else here
	defer context.AfterFunc(ctx, s.Conn.Stop)()
	defer s.close()

	greeting := ok("POP3 server ready")
	if s.Open != nil {
		store, err := s.Open()
		if greeting = s.open(store, err, s.User); greeting.ok {
			greeting.text = "" // answers PASS in a chain of programs that has asked for it already
		} else {
			s.state = over
		}
	}
	if err := s.say(greeting); err != nil {
		return err
	}
	for s.state != over {
		if ctx.Err() != nil {
			return s.farewell()
		}
		line, err := s.readLine()
		switch {
		case errors.Is(err, wire.ErrTooLong), errors.Is(err, wire.ErrLineEnd):
			err = s.say(s.nonsense("%v", err))
		case err != nil && ctx.Err() != nil:
			return s.farewell()
		case err != nil:
			return err
		case s.alien(line):
			return errors.New("not POP3 that the client speaks")
		default:
			err = s.say(s.answer(line))
		}
		if err != nil {
			return err
		}
		if s.lost != nil && ctx.Err() == nil {
			return s.lost
		}
	}
	return s.Conn.Flush()
}

// readLine waits for the client, before login no longer than loginTime in all.
func (s *Session) readLine() (string, error) {
	idle := s.Idle
	if s.state == authorization {
		idle = max(min(loginIdle, loginTime-time.Since(s.begun)), time.Millisecond)
		if s.lines++; s.lines > loginLines {
			return "", errors.New("too many commands before login")
		}
	}
	s.Conn.SetIdle(idle)
	return s.Conn.ReadLine()
}

// farewell ends the conversation because we have to go. Nothing is removed.
func (s *Session) farewell() error {
	if err := s.say(no("[SYS/TEMP] the server is going down")); err != nil {
		return err
	}
	return s.Conn.Flush()
}

// alien says whether the client takes us for a server of another kind.
func (s *Session) alien(line string) bool {
	if s.state != authorization {
		return false
	}
	verb, _, _ := strings.Cut(line, " ")
	return foreign[strings.ToUpper(verb)] || strings.HasPrefix(line, "\x16\x03")
}

// answer finds the row for one line; it alone knows about states.
func (s *Session) answer(line string) reply {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	s.overhear(line, verb)
	if verb != "PASS" && verb != "USER" { // which may hold spaces that count
		arg = strings.Trim(arg, " ")
	}
	c, known := commands[verb]
	if s.Open != nil && known && c.in == authorization && verb != "STLS" {
		return ok("") // who is in may knock as he likes
	}
	switch {
	case !known:
		return s.nonsense("unknown command")
	case c.in&s.state == 0:
		return s.nonsense("not in this state")
	}
	return c.do(s, arg)
}

// overhear logs what the client says, but for what may be a secret.
func (s *Session) overhear(line, verb string) {
	if !s.Log.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	if verb == "PASS" || verb == "APOP" || verb == "AUTH" {
		line = verb
	}
	s.Log.Debug("client", "line", line)
}

// nonsense answers what no client that means well says often.
func (s *Session) nonsense(format string, args ...any) reply {
	s.bad++
	if s.state == authorization && s.bad >= badBefore || s.bad >= badAfter {
		s.state = over
	}
	return no(format, args...)
}

// say queues a reply. It fails when a body could not be given whole; the
// conversation has to end there, without the dot that would make it look so.
func (s *Session) say(r reply) error {
	status := "-ERR "
	if r.ok {
		status = "+OK "
	}
	s.Conn.Printf("%s%s", status, r.text)
	if r.body != nil {
		if err := s.Conn.Dotted(r.body); err != nil {
			s.Log.Error("reply cut short", "err", err)
			return err
		}
	}
	if r.then != nil {
		return r.then()
	}
	return nil
}

// fail answers a command that failed on our side: the log gets the cause, the
// client only learns that it may try again (RFC 3206 §4).
func (s *Session) fail(doing string, err error) reply {
	s.Log.Error(doing, "user", s.named, "err", err)
	return no("[SYS/TEMP] cannot %s", doing)
}

// quit enters the UPDATE state if somebody is logged in (RFC 1939 §6): only
// here do deleted messages vanish.
func (s *Session) quit(string) reply {
	was := s.state
	s.state = over
	if was == transaction {
		if err := s.update(); err != nil {
			return s.fail("remove some deleted messages", err)
		}
	}
	return ok("POP3 server signing off")
}

// close ends the session on the disk, and in the log.
func (s *Session) close() {
	if s.folder == nil {
		return
	}
	s.markSeen()
	s.folder.Close()
	s.store.Close()
	s.Log.Info("farewell", "user", s.named, "retrieved", s.read, "removed", s.gone)
}
