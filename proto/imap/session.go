// Package imap serves a user's Maildirs to one client over the Internet
// Message Access Protocol: IMAP4rev2 (RFC 9051), IMAP4rev1 (RFC 3501) and the
// extensions that capabilities lists.
//
// The files follow RFC 9051: parse.go, numset.go and write.go are its grammar
// (§4, §9), session.go and reply.go its states (§3), anystate.go, login.go, enable.go,
// mailbox.go, list.go, append.go and idle.go the commands of §6.1 to §6.3,
// selected.go, fetch.go, store.go and search.go those of §6.4; view.go is the
// mailbox as the client knows it, and tell.go what it hears of that (§7).
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"pennypost/maildir"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// state is one of the connection states of RFC 9051 §3.
type state uint8

const (
	notAuthenticated state = 1 << iota
	authenticated
	selected
	logout
	mailboxes = authenticated | selected
	always    = notAuthenticated | authenticated | selected
)

// inbox is the one name that is the same in every case (RFC 9051 §5.1).
const inbox = "INBOX"

// separator stands between the levels of a name, as in every Maildir++.
const separator = "."

// A command is a row of the protocol.
type command struct {
	in state
	do func(*Session, *parser) reply

	// holds says that message numbers may not change while it runs: no
	// EXPUNGE is sent (RFC 9051 §7.5.1).
	holds bool

	// numbers says that it takes or tells message numbers, which are of no use
	// to those who want UIDs only (RFC 9586 §3.2).
	numbers bool
}

// commands is the protocol: RFC 9051 §6, RFC 3501 §6, and the extensions.
var commands = map[string]command{
	"CAPABILITY": {in: always, do: (*Session).capability}, // RFC 9051 §6.1.1
	"NOOP":       {in: always, do: (*Session).noop},       // §6.1.2
	"LOGOUT":     {in: always, do: (*Session).logout},     // §6.1.3
	"ID":         {in: always, do: (*Session).id},         // RFC 2971 §3.1
	"LANGUAGE":   {in: always, do: (*Session).language},   // RFC 5255 §3.2

	"STARTTLS":     {in: notAuthenticated, do: (*Session).starttls},     // §6.2.1
	"AUTHENTICATE": {in: notAuthenticated, do: (*Session).authenticate}, // §6.2.2
	"LOGIN":        {in: notAuthenticated, do: (*Session).login},        // §6.2.3

	"UNAUTHENTICATE": {in: mailboxes, do: (*Session).unauthenticate}, // RFC 8437 §3

	"ENABLE":      {in: mailboxes, do: (*Session).enable},      // §6.3.1
	"SELECT":      {in: mailboxes, do: (*Session).selectBox},   // §6.3.2
	"EXAMINE":     {in: mailboxes, do: (*Session).examine},     // §6.3.3
	"CREATE":      {in: mailboxes, do: (*Session).create},      // §6.3.4
	"DELETE":      {in: mailboxes, do: (*Session).delete},      // §6.3.5
	"RENAME":      {in: mailboxes, do: (*Session).rename},      // §6.3.6
	"SUBSCRIBE":   {in: mailboxes, do: (*Session).subscribe},   // §6.3.7
	"UNSUBSCRIBE": {in: mailboxes, do: (*Session).unsubscribe}, // §6.3.8
	"LIST":        {in: mailboxes, do: (*Session).list},        // §6.3.9
	"LSUB":        {in: mailboxes, do: (*Session).lsub},        // RFC 3501 §6.3.9
	"GETACL":      {in: mailboxes, do: (*Session).getACL},      // RFC 4314 §3.3
	"SETACL":      {in: mailboxes, do: (*Session).setACL},      // RFC 4314 §3.1
	"DELETEACL":   {in: mailboxes, do: (*Session).deleteACL},   // RFC 4314 §3.2
	"LISTRIGHTS":  {in: mailboxes, do: (*Session).listRights},  // RFC 4314 §3.4
	"MYRIGHTS":    {in: mailboxes, do: (*Session).myRights},    // RFC 4314 §3.5
	"GETMETADATA": {in: mailboxes, do: (*Session).getMetadata}, // RFC 5464 §4.2
	"SETMETADATA": {in: mailboxes, do: (*Session).setMetadata}, // RFC 5464 §4.3
	"RLIST":       {in: mailboxes, do: (*Session).list},        // RFC 2193 §5.1
	"RLSUB":       {in: mailboxes, do: (*Session).lsub},        // RFC 2193 §5.2
	"FIND":        {in: mailboxes, do: (*Session).find},        // RFC 1730 §A.6.3.OBS
	"BBOARD":      {in: mailboxes, do: (*Session).bboard},      // RFC 1176
	"NAMESPACE":   {in: mailboxes, do: (*Session).namespace},   // §6.3.10
	"STATUS":      {in: mailboxes, do: (*Session).status},      // §6.3.11
	"APPEND":      {in: mailboxes, do: (*Session).append},      // §6.3.12
	"IDLE":        {in: mailboxes, do: (*Session).idle},        // §6.3.13
	"NOTIFY":      {in: mailboxes, do: (*Session).notify},      // RFC 5465 §3.1
	"COMPRESS":    {in: mailboxes, do: (*Session).compress},    // RFC 4978 §3

	"ESEARCH":     {in: mailboxes, do: (*Session).esearch}, // RFC 7377 §2
	"UID ESEARCH": {in: mailboxes, do: (*Session).esearch}, // as its example has it

	"GETQUOTA":     {in: mailboxes, do: (*Session).getQuota},     // RFC 9208 §4.1.1
	"GETQUOTAROOT": {in: mailboxes, do: (*Session).getQuotaRoot}, // RFC 9208 §4.1.2
	"SETQUOTA":     {in: mailboxes, do: (*Session).setQuota},     // RFC 9208 §4.1.3

	"CHECK":        {in: selected, do: (*Session).noop},                                  // RFC 3501 §6.4.1
	"CLOSE":        {in: selected, do: (*Session).closeBox},                              // §6.4.1
	"UNSELECT":     {in: selected, do: (*Session).unselect},                              // §6.4.2
	"EXPUNGE":      {in: selected, do: (*Session).expunge},                               // §6.4.3
	"SEARCH":       {in: selected, do: (*Session).search, holds: true, numbers: true},    // §6.4.4
	"PARTIAL":      {in: selected, do: (*Session).partial, holds: true, numbers: true},   // RFC 1730 §6.4.6
	"SORT":         {in: selected, do: (*Session).sort, holds: true, numbers: true},      // RFC 5256 §3
	"THREAD":       {in: selected, do: (*Session).thread, holds: true, numbers: true},    // RFC 5256 §3
	"FETCH":        {in: selected, do: (*Session).fetch, holds: true, numbers: true},     // §6.4.5
	"STORE":        {in: selected, do: (*Session).storeFlag, holds: true, numbers: true}, // §6.4.6
	"COPY":         {in: selected, do: (*Session).copy, numbers: true},                   // §6.4.7
	"MOVE":         {in: selected, do: (*Session).move, numbers: true},                   // §6.4.8
	"REPLACE":      {in: selected, do: (*Session).replace, numbers: true},                // RFC 8508 §3.2
	"UID REPLACE":  {in: selected, do: (*Session).replace},                               // RFC 8508 §3.3
	"UID EXPUNGE":  {in: selected, do: (*Session).expunge},                               // §6.4.9
	"UID SEARCH":   {in: selected, do: (*Session).search},                                // §6.4.9
	"CANCELUPDATE": {in: selected, do: (*Session).cancelUpdate},                          // RFC 5267 §4.3.5
	"UID SORT":     {in: selected, do: (*Session).sort},                                  // RFC 5256 §3
	"UID THREAD":   {in: selected, do: (*Session).thread},                                // RFC 5256 §3
	"UID FETCH":    {in: selected, do: (*Session).fetch},                                 // §6.4.9
	"UID STORE":    {in: selected, do: (*Session).storeFlag},                             // §6.4.9
	"UID COPY":     {in: selected, do: (*Session).copy},                                  // §6.4.9
	"UID MOVE":     {in: selected, do: (*Session).move},                                  // §6.4.9
}

// ErrRefused is what Login returns for a wrong name or password; but for the
// others of package sasl every error is trouble of ours, and the client may
// come again.
var ErrRefused = sasl.ErrRefused

// A User is somebody who is logged in.
type User struct {
	Name  string         // for the log
	Store *maildir.Store // closed when the session ends
}

// A Session is one conversation with one client. The fields are set before
// Serve and not changed.
type Session struct {
	Conn *wire.Conn

	// Login says who somebody is (RFC 9051 §6.2). Nobody is anybody if it
	// is nil.
	Login func(sasl.Claim) (*User, error)

	// SASL has the ways to log in beside passwords (RFC 9051 §6.2.2).
	SASL sasl.Options

	// Preauth, unless nil, is whom the launcher vouches for: the greeting
	// is PREAUTH (RFC 9051 §7.1.4), or, if Tag is not empty, the answer to
	// the LOGIN that another program has heard under that tag.
	Preauth *User
	Tag     string

	TLS       *tls.Config   // for STARTTLS; nil: not offered
	Cleartext bool          // passwords may come without TLS
	MaxSize   int64         // octets of a message in APPEND; 0: DefaultMaxSize
	Idle      time.Duration // silence that ends the session; 0: 30 minutes (RFC 9051 §5.4)

	// MessageLimit is how many messages a command may have (RFC 9738); 0: all.
	MessageLimit int

	Log     *slog.Logger
	Version string // for ID, told to users only
	Admin   string // URI of the administrator, or "" (RFC 5464 §3.2.1.1)

	ctx     context.Context
	state   state
	enabled feature

	modSeqTold bool // a FETCH had a MODSEQ since the last answer
	modSeqDue  bool // messages were told to be gone since

	user    *User
	view    *view
	began   time.Time
	heard   int    // commands before login
	bad     int    // wrong commands in a row
	refused int    // wrong passwords
	budget  int64  // octets that the current command may still have
	scratch []byte // for answers
	buf     []byte // holds a short message
	memo    *memo

	overQuota bool // and the client has heard it
	notice    *notice
	attention *attention // nil: NOTIFY was not used
}

// DefaultMaxSize is how many octets a message may have.
const DefaultMaxSize = 50 << 20

// Bounds before and after login.
const (
	lineBefore, lineAfter       = 16 << 10, 64 << 10 // octets of a line
	literalBefore, literalAfter = 4 << 10, 64 << 10  // octets of a literal
	budgetBefore, budgetAfter   = 32 << 10, 1 << 20  // octets of a command
	badBefore, badAfter         = 3, 20              // wrong commands in a row
	idleBefore, idleAfter       = time.Minute, 30 * time.Minute
	wrongPasswords              = 5
	timeBefore, commandsBefore  = 5 * time.Minute, 100 // all there is before login
)

func (s *Session) name() string {
	if s.user == nil {
		return ""
	}
	return s.user.Name
}

// Serve holds the conversation until the client or ctx ends it; with ctx the
// client gets a farewell. The connection stays open.
func (s *Session) Serve(ctx context.Context) error {
	s.ctx = ctx
	s.state, s.began = notAuthenticated, time.Now()
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.MaxSize == 0 {
		s.MaxSize = DefaultMaxSize
	}
	if s.Idle == 0 {
		s.Idle = idleAfter
	}
	s.Conn.AllowLF()
	defer context.AfterFunc(ctx, s.Conn.Stop)()
	defer s.leave()
	s.greet()
	for s.state != logout {
		if err := s.turn(); err != nil {
			s.Conn.Flush()
			return err
		}
	}
	return s.Conn.Flush()
}

func (s *Session) leave() {
	s.attention.end()
	if s.view != nil {
		s.view.close()
		s.view = nil
	}
	if s.user != nil && s.user.Store != nil {
		s.user.Store.Close()
	}
}

// greet opens the conversation (RFC 9051 §7.1.1, §7.1.4).
func (s *Session) greet() {
	if s.Preauth == nil {
		s.Conn.SetLimit(lineBefore)
		s.untagged("OK [CAPABILITY %s] Pennypost ready", s.capabilities())
		return
	}
	s.enter(s.Preauth)
	if p := (&parser{rest: s.Tag}); s.Tag != "" && p.tag() == s.Tag {
		s.Conn.Printf("%s OK [CAPABILITY %s] logged in", s.Tag, s.capabilities())
		return
	}
	s.untagged("PREAUTH [CAPABILITY %s] Pennypost ready", s.capabilities())
}

// enter begins the authenticated state.
func (s *Session) enter(u *User) {
	u.Store.By = u.Name
	s.user, s.state, s.bad = u, authenticated, 0
	s.Conn.SetIdle(s.Idle)
	s.Conn.SetLimit(lineAfter)
}

// turn takes one command and answers it. It returns an error only when the
// conversation cannot go on.
func (s *Session) turn() error {
	if err := s.ctx.Err(); err != nil {
		return s.lost(err)
	}
	if s.state == notAuthenticated {
		left := timeBefore - time.Since(s.began)
		if s.heard++; s.heard > commandsBefore || left <= 0 {
			s.bye("", "log in sooner")
			return nil
		}
		s.Conn.SetIdle(min(idleBefore, s.Idle, left))
	}
	if err := s.await(); err != nil || s.state == logout {
		return s.lost(err)
	}
	line, err := s.Conn.ReadLine()
	if err != nil {
		return s.lost(err)
	}
	if s.state == notAuthenticated && isHTTP(line) {
		s.bye("", "this is IMAP")
		return nil
	}
	s.budget = budgetBefore
	if s.state != notAuthenticated {
		s.budget = budgetAfter
	}
	p := &parser{rest: line, utf8: s.has(rev2 | utf8Accept), uidOnly: s.has(uidOnly)}
	p.more = func(l announced) (string, string, error) { return s.literal(p, l) }
	p.line, p.exists = line, s.exists

	tag := p.tag()
	p.tagged = tag
	before := s.view
	r, holds := s.answer(p)
	if p.fatal != nil {
		return s.lost(p.fatal)
	}
	if err := s.skip(p); err != nil {
		return s.lost(err)
	}
	if tag == "" {
		tag = "*"
	}
	// What happens behind SELECT is no answer to it, and waits.
	if s.view != nil && s.view == before && r.status != "BAD" {
		s.news(!holds)
		s.tellModSeq(&r)
		s.tellLimit(p, &r)
	}
	s.tellNormal(p, r)
	s.tellAround(p.affects()...)
	s.tellAnnotated()
	code := r.code
	if code == starttlsNow || code == compressNow {
		r.code = ""
	}
	if r.code != "" {
		r.text = "[" + r.code + "] " + r.text
	}
	s.Conn.Printf("%s %s %s", tag, r.status, r.text)
	s.count(r)
	switch code {
	case starttlsNow:
		return s.Conn.StartTLS(s.TLS)
	case compressNow:
		return s.Conn.Compress()
	}
	return nil
}

// count ends the session of a client that makes nothing but mistakes.
func (s *Session) count(r reply) {
	if r.status != "BAD" {
		if s.state != notAuthenticated {
			s.bad = 0
		}
		return
	}
	s.bad++
	most := badAfter
	if s.state == notAuthenticated {
		most = badBefore
	}
	if s.bad >= most {
		s.bye("", "too many wrong commands")
	}
}

// answer finds the row for one command; it alone knows about states.
func (s *Session) answer(p *parser) (r reply, holds bool) {
	p.sp()
	p.name = p.keyword()
	if p.name == "UID" {
		p.byUID = true
		p.sp()
		p.name = "UID " + p.keyword()
	}
	if p.err != nil {
		return bad(p.err), true
	}
	c, known := commands[p.name]
	switch {
	case !known:
		return bad(errors.New("unknown command")), true
	case c.in&s.state == 0 && s.state == notAuthenticated:
		return bad(errors.New("log in first")), true
	case c.in&s.state == 0 && c.in == selected:
		return bad(errors.New("select a mailbox first")), true
	case c.in&s.state == 0:
		return bad(errors.New("already logged in")), true
	case c.numbers && s.has(uidOnly):
		return bad(errUIDRequired), true
	}
	s.Log.Debug("command", "user", s.name(), "name", p.name)
	r = c.do(s, p)
	return r, c.holds || p.holds
}

// lost says why the conversation ends, if the client can still hear it.
func (s *Session) lost(err error) error {
	switch {
	case errors.Is(err, errTorn), errors.Is(err, errLost):
		return err // in the middle of a literal
	case s.ctx.Err() != nil:
		s.bye("UNAVAILABLE", "the server is going down")
		return nil
	case errors.Is(err, io.EOF):
		s.state = logout
		return nil
	case errors.Is(err, wire.ErrTooLong), errors.Is(err, wire.ErrEndless):
		s.bye("", "line too long") // a literal may follow that we know nothing about
	case errors.Is(err, wire.ErrGarbled):
		s.bye("", "garbled compression")
	case errors.Is(err, wire.ErrLineEnd):
		s.bye("", "a bare CR in a line")
	case errors.Is(err, errTooBig):
		s.bye("TOOBIG", "literal too large")
	case isTimeout(err):
		s.bye("", "logged out for inactivity")
	}
	return err
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// isHTTP recognizes a browser, or a script in one, that has been led here.
func isHTTP(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE":
		return strings.HasPrefix(rest, "/") || strings.Contains(rest, "HTTP/")
	}
	return false
}
