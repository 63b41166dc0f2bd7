package imap

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"time"

	"pennypost/proto/sasl"
)

// canStartTLS says whether STARTTLS is to be had (RFC 9051 §6.2.1).
func (s *Session) canStartTLS() bool { return s.TLS != nil && !s.encrypted() }

func (s *Session) encrypted() bool {
	_, yes := s.Conn.TLS()
	return yes
}

// mayLogin says whether a password may be sent now (RFC 9051 §11.5).
func (s *Session) mayLogin() bool { return s.encrypted() || s.Cleartext }

// channel is the state of TLS; nil without it.
func (s *Session) channel() *tls.ConnectionState {
	if state, yes := s.Conn.TLS(); yes {
		return &state
	}
	return nil
}

// mechanisms are the ways to log in that capabilities lists.
func (s *Session) mechanisms() (caps []string) {
	for _, m := range s.SASL.Mechanisms(s.channel()) {
		caps = append(caps, "AUTH="+m)
	}
	return caps
}

// starttls (RFC 9051 §6.2.1). What came in the clear behind the command ends
// the session.
func (s *Session) starttls(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	if !s.canStartTLS() {
		return bad(errors.New("no TLS here"))
	}
	if s.Conn.Buffered() > 0 {
		s.Log.Warn("commands in the clear behind STARTTLS")
		s.bye("", "commands in the clear behind STARTTLS")
		return bad(errors.New("pipelined behind STARTTLS"))
	}
	return reply{"OK", starttlsNow, "begin TLS"}
}

// In the place of a response code these mark the reply behind which something
// begins: the handshake, compression.
const (
	starttlsNow = "\x00starttls"
	compressNow = "\x00compress"
)

// login = "LOGIN" SP userid SP password   (RFC 9051 §6.2.3)
func (s *Session) login(p *parser) reply {
	p.sp()
	name := p.astring()
	p.sp()
	password := p.astring()
	if err := p.end(); err != nil {
		return bad(err)
	}
	if !s.mayLogin() {
		return no("PRIVACYREQUIRED", "not without TLS")
	}
	return s.admitted(s.admit(sasl.Claim{Mechanism: "LOGIN", Name: name, Secret: password}))
}

// authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp] *(CRLF base64)
// (RFC 9051 §6.2.2, RFC 4959 §3)
func (s *Session) authenticate(p *parser) reply {
	p.sp()
	mechanism := p.keyword()
	var response []byte
	if p.take(" ") {
		var err error
		if response, err = initial(p.rest); err != nil {
			return bad(err)
		}
		p.rest = ""
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if !s.mayLogin() {
		return no("PRIVACYREQUIRED", "not without TLS")
	}
	exchange, known := s.SASL.Server(mechanism, s.channel(), s.admit)
	if !known {
		return no("CANNOT", "no such mechanism")
	}
	err := sasl.Exchange(exchange, response, func(words []byte) ([]byte, error) { return s.challenge(p, words) })
	if p.fatal != nil || errors.Is(err, errCalledOff) || errors.Is(err, errBase64) || errors.Is(err, sasl.ErrMalformed) {
		return bad(err)
	}
	return s.admitted(err)
}

var (
	errBase64    = errors.New("not BASE64")
	errCalledOff = errors.New("called off")
)

// challenge sends one and waits for the response to it. "*" calls the
// exchange off (RFC 9051 §6.2.2).
func (s *Session) challenge(p *parser, words []byte) ([]byte, error) {
	s.Conn.Printf("+ %s", base64.StdEncoding.EncodeToString(words))
	line, err := s.Conn.ReadLine()
	if err != nil {
		p.fatal = broken(err)
		return nil, p.fatal
	}
	p.line = line
	if line == "*" {
		return nil, errCalledOff
	}
	response, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil {
		return nil, errBase64
	}
	return response, nil
}

// initial decodes an initial response; "=" is an empty one (RFC 4959 §3).
func initial(s string) ([]byte, error) {
	if s == "=" {
		return []byte{}, nil
	}
	response, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(response) == 0 {
		return nil, errBase64
	}
	return response, nil
}

// admit asks who somebody is, and lets the user in.
func (s *Session) admit(c sasl.Claim) error {
	if s.Login == nil {
		return ErrRefused
	}
	u, err := s.Login(c)
	if err != nil {
		s.Log.Warn("login refused", "user", c.Name, "err", err, "mechanism", c.Mechanism)
		return err
	}
	s.enter(u)
	s.Log.Info("login", "user", u.Name, "mechanism", c.Mechanism)
	return nil
}

// admitted answers LOGIN and AUTHENTICATE (RFC 5530 §3). All who are refused
// hear the same, and later each time. Why somebody may not come in, only those
// hear who have proved who they are.
func (s *Session) admitted(err error) reply {
	switch {
	case err == nil:
		return reply{"OK", "CAPABILITY " + s.capabilities(), "logged in"}
	case errors.Is(err, sasl.ErrAuthzid):
		return no("AUTHORIZATIONFAILED", "that is somebody else")
	case errors.Is(err, sasl.ErrExpired):
		return no("EXPIRED", "the account has expired")
	case errors.Is(err, sasl.ErrBlocked):
		return no("CONTACTADMIN", "the administrator has closed this account")
	case !errors.Is(err, ErrRefused):
		return no("UNAVAILABLE", "cannot look that up now")
	}
	s.refused++
	s.Conn.Pause(s.ctx, time.Duration(s.refused)*2*time.Second)
	if s.refused >= wrongPasswords {
		s.bye("", "too many wrong passwords")
	}
	return no("AUTHENTICATIONFAILED", "no such name or password")
}
