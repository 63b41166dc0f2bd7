package imap

import (
	"errors"
	"time"
)

// mayReturn says whether the connection can go back to where nobody is logged
// in (RFC 8437 §3): who was let in by somebody else cannot come in again.
func (s *Session) mayReturn() bool { return s.Login != nil && s.Preauth == nil }

// unauthenticate (RFC 8437 §3) forgets the user and all that the commands since
// have set (§4.1); TLS stays. Nothing but what is set before Serve outlives it,
// and the wrong passwords.
func (s *Session) unauthenticate(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	switch {
	case !s.mayReturn():
		return bad(errors.New("nobody can log in here"))
	case s.Conn.Compressed():
		// Where its compressed octets end the client knows, but we have read on.
		s.bye("CANNOT", "the compression cannot be ended")
		return ok("done")
	}
	s.Log.Info("logout", "user", s.name())
	s.leave()
	*s = Session{
		Conn: s.Conn, Login: s.Login, SASL: s.SASL, TLS: s.TLS, Cleartext: s.Cleartext, MaxSize: s.MaxSize, MessageLimit: s.MessageLimit,
		Idle: s.Idle, Log: s.Log, Version: s.Version, Admin: s.Admin,
		ctx: s.ctx, state: notAuthenticated, began: time.Now(), refused: s.refused,
	}
	s.Conn.SetLimit(lineBefore)
	return ok("nobody is logged in")
}
