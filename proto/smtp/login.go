package smtp

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// starttls agrees to TLS; the loop begins it when the reply is on its way.
// What the client has said so far is forgotten, it may have been somebody else
// who said it (RFC 3207 §4.2). Octets that came along with the command are such
// words: they end the session.
func (s *Session) starttls(arg string) reply {
	switch {
	case arg != "":
		return noArgument
	case s.encrypted():
		return say(503, "5.5.1", "we speak TLS already")
	case s.TLS == nil:
		return say(502, "5.5.1", "no certificate here")
	case s.Conn.Buffered() > 0:
		s.state = over
		s.gone = wire.ErrInjected
		return say(554, "5.5.1", "nothing may follow STARTTLS before TLS does")
	}
	s.upgrade = true
	s.state, s.esmtp, s.helo, s.user, s.env = greeting, false, "", "", Envelope{}
	return say(220, "2.0.0", "go ahead")
}

// auth logs the client in (RFC 4954 §4).
func (s *Session) auth(arg string) reply {
	mechanism, initial, has := strings.Cut(arg, " ")
	switch {
	case s.Login == nil:
		return say(502, "5.5.1", "nobody logs in here")
	case !s.esmtp:
		return say(503, "5.5.1", "say EHLO first")
	case s.user != "":
		return say(503, "5.5.1", "logged in already")
	case !s.encrypted() && !s.ClearLogin:
		return say(538, "5.7.11", "say STARTTLS first")
	case mechanism == "":
		return say(501, "5.5.4", "AUTH wants a mechanism")
	}
	var user string
	exchange, ok := s.SASL.Server(mechanism, s.channel(), func(c sasl.Claim) (err error) {
		user, err = s.Login(s.ctx, c)
		if err == nil {
			s.Log.Info("login", "user", user, "mechanism", c.Mechanism)
		} else {
			s.Log.Warn("login refused", "user", c.Name, "err", err, "mechanism", c.Mechanism)
		}
		return err
	})
	if !ok {
		return say(504, "5.5.4", "unknown mechanism")
	}
	if r, in := s.exchange(exchange, initial, has); !in {
		return r
	}
	s.user = user
	s.Conn.SetLimit(s.limit())
	s.Conn.SetIdle(s.Idle)
	return say(235, "2.7.0", "welcome")
}

// channel is the state of TLS; nil without it.
func (s *Session) channel() *tls.ConnectionState {
	if state, encrypted := s.Conn.TLS(); encrypted {
		return &state
	}
	return nil
}

// limit is how many octets a command may have: a token in an initial response
// is longer than anything else (RFC 4954 §4).
func (s *Session) limit() int {
	if s.SASL.Tokens && s.Login != nil && s.user == "" {
		return authLimit
	}
	return lineLimit
}

// errEnded says that the client has called an exchange off, or been told
// already why it cannot go on.
var errEnded = errors.New("authentication ended")

// exchange carries the responses and challenges. When the client is not in, the
// reply says why.
func (s *Session) exchange(x sasl.Server, initial string, has bool) (r reply, in bool) {
	defer func() { s.Conn.SetLimit(s.limit()) }()
	s.Conn.SetLimit(authLimit)
	var response []byte // nil: none yet
	if has {
		if response, has = decode(strings.Trim(initial, " ")); !has {
			return badBase64, false
		}
	}
	err := sasl.Exchange(x, response, func(challenge []byte) (response []byte, err error) {
		response, r, err = s.ask(challenge)
		return response, err
	})
	switch {
	case err == nil:
		return reply{}, true
	case errors.Is(err, errEnded):
		return r, false
	case errors.Is(err, sasl.ErrMalformed):
		return say(501, "5.5.2", sasl.ErrMalformed.Error()), false
	}
	return s.noLogin(err), false
}

// ask sends a challenge and waits for the response to it. "*" calls the
// exchange off (RFC 4954 §4). With errEnded comes what the client is to hear.
func (s *Session) ask(challenge []byte) ([]byte, reply, error) {
	s.send(say(334, "", base64.StdEncoding.EncodeToString(challenge)))
	line, err := s.Conn.ReadLine()
	switch {
	case errors.Is(err, wire.ErrTooLong):
		return nil, say(500, "5.5.6", "line too long"), errEnded
	case errors.Is(err, wire.ErrLineEnd):
		return nil, badBase64, errEnded
	case err != nil:
		return nil, s.lost(err), errEnded
	case line == "*":
		return nil, say(501, "5.7.0", "as you like"), errEnded
	}
	if line == "" {
		line = "=" // an empty response; only the initial one needs the sign
	}
	response, ok := decode(line)
	if !ok {
		return nil, badBase64, errEnded
	}
	return response, reply{}, nil
}

var badBase64 = say(501, "5.5.2", "not base64")

// decode reads base64; "=" stands for an empty initial response (RFC 4954 §4).
func decode(text string) ([]byte, bool) {
	if text == "=" {
		return []byte{}, true
	}
	p, err := base64.StdEncoding.Strict().DecodeString(text)
	return p, err == nil && len(p) > 0
}

// noLogin refuses a password, slower each time, and the client after some of
// them.
func (s *Session) noLogin(err error) reply {
	switch {
	case errors.Is(err, sasl.ErrAuthzid):
		err = &Error{Code: 535, Status: "5.7.8", Text: "that is somebody else", Err: err}
	case errors.Is(err, sasl.ErrExpired), errors.Is(err, sasl.ErrBlocked):
		err = &Error{Code: 525, Status: "5.7.13", Text: err.Error(), Err: err} // RFC 5248 §2.4
	case errors.Is(err, sasl.ErrRefused):
		err = &Error{Code: 535, Status: "5.7.8", Text: "wrong name or password", Err: err}
	}
	r := refuse(err, say(454, "4.7.0", "trouble here; try again later"))
	s.failed++
	s.Conn.Pause(s.ctx, time.Duration(s.failed)*time.Second)
	if s.failed >= maxFailed {
		s.state = over
		return say(421, "4.7.0", "too many failed logins")
	}
	return r
}
