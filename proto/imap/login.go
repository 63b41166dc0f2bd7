package imap

import (
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

func mechanisms() (caps []string) {
	for _, m := range sasl.Mechanisms() {
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

// starttlsNow marks the reply behind which the handshake begins.
const starttlsNow = "\x00starttls"

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
	return s.admitted(s.verify(name, password))
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
	exchange, known := sasl.NewServer(mechanism, func(_, name, password string) error {
		return s.verify(name, password)
	})
	if !known {
		return no("CANNOT", "no such mechanism")
	}
	for {
		challenge, done, err := exchange.Next(response)
		switch {
		case errors.Is(err, sasl.ErrMalformed):
			return bad(err)
		case errors.Is(err, sasl.ErrAuthzid):
			return s.admitted(ErrRefused)
		case err != nil || done:
			return s.admitted(err)
		}
		s.Conn.Printf("+ %s", base64.StdEncoding.EncodeToString(challenge))
		line, err := s.Conn.ReadLine()
		if err != nil {
			p.fatal = broken(err)
			return bad(err)
		}
		p.line = line
		if line == "*" {
			return bad(errors.New("called off"))
		}
		if response, err = base64.StdEncoding.DecodeString(line); err != nil {
			return bad(errBase64)
		}
		if response == nil {
			response = []byte{}
		}
	}
}

var errBase64 = errors.New("not BASE64")

// initial decodes an initial response; "=" is an empty one (RFC 4959 §3).
func initial(s string) ([]byte, error) {
	if s == "=" {
		return []byte{}, nil
	}
	response, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(response) == 0 {
		return nil, errBase64
	}
	return response, nil
}

// verify asks who somebody is, and lets the user in.
func (s *Session) verify(name, password string) error {
	if s.Login == nil {
		return ErrRefused
	}
	u, err := s.Login(name, password)
	if err != nil {
		s.Log.Warn("login refused", "user", name, "err", err)
		return err
	}
	s.enter(u)
	return nil
}

// admitted answers LOGIN and AUTHENTICATE. All who are refused hear the same,
// and later each time.
func (s *Session) admitted(err error) reply {
	switch {
	case err == nil:
		s.Log.Info("login", "user", s.name())
		return reply{"OK", "CAPABILITY " + s.capabilities(), "logged in"}
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
