package smtp

import (
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
	exchange, ok := sasl.NewServer(mechanism, func(_, name, password string) (err error) {
		user, err = s.Login(s.ctx, name, password)
		if err == nil {
			s.Log.Info("login", "user", user, "mechanism", strings.ToUpper(mechanism))
		} else {
			s.Log.Warn("login refused", "user", name, "err", err)
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
	s.Conn.SetIdle(s.Idle)
	return say(235, "2.7.0", "welcome")
}

// exchange carries the responses and challenges. When the client is not in, the
// reply says why.
func (s *Session) exchange(x sasl.Server, initial string, has bool) (r reply, in bool) {
	defer s.Conn.SetLimit(lineLimit)
	s.Conn.SetLimit(authLimit)
	var response []byte // nil: none yet
	if has {
		if response, has = decode(strings.Trim(initial, " ")); !has {
			return badBase64, false
		}
	}
	for {
		challenge, done, err := x.Next(response)
		switch {
		case done:
			return reply{}, true
		case errors.Is(err, sasl.ErrMalformed):
			return say(501, "5.5.2", sasl.ErrMalformed.Error()), false
		case err != nil:
			return s.noLogin(err), false
		}
		s.send(say(334, "", base64.StdEncoding.EncodeToString(challenge)))
		line, err := s.Conn.ReadLine()
		switch {
		case errors.Is(err, wire.ErrTooLong):
			return say(500, "5.5.6", "line too long"), false
		case errors.Is(err, wire.ErrLineEnd):
			return badBase64, false
		case err != nil:
			return s.lost(err), false
		case line == "*":
			return say(501, "5.7.0", "as you like"), false
		}
		if line == "" {
			line = "=" // an empty response; only the initial one needs the sign
		}
		var ok bool
		if response, ok = decode(line); !ok {
			return badBase64, false
		}
	}
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
	if errors.Is(err, sasl.ErrAuthzid) {
		err = &Error{Code: 535, Status: "5.7.8", Text: "that is somebody else", Err: err}
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
