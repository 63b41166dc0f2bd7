package smtp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hello is HELO: no extensions.
func (s *Session) hello(arg string) reply {
	if r, ok := s.meet(arg); !ok {
		return r
	}
	s.esmtp = false
	return say(250, "", s.Name+" hello "+arg+", pleased to meet you")
}

// ehlo lists the extensions. EHLO begins a new transaction, too (§4.1.4).
func (s *Session) ehlo(arg string) reply {
	if r, ok := s.meet(arg); !ok {
		return r
	}
	s.esmtp = true
	lines := []string{
		s.Name + " hello " + arg + ", pleased to meet you",
		"PIPELINING",
		"8BITMIME",
		"ENHANCEDSTATUSCODES",
	}
	if s.MaxSize > 0 {
		lines = append(lines, fmt.Sprintf("SIZE %d", s.MaxSize))
	} else {
		lines = append(lines, "SIZE")
	}
	if s.TLS != nil && !s.encrypted() {
		lines = append(lines, "STARTTLS")
	}
	if s.Login != nil && (s.encrypted() || s.ClearLogin) {
		lines = append(lines, "AUTH "+strings.Join(s.SASL.Mechanisms(s.channel()), " "))
	}
	return say(250, "", append(lines, "HELP")...)
}

// meet takes down what the client calls itself. It need not be true (§4.1.4),
// nor quite a domain: many a host's name has an underscore.
func (s *Session) meet(name string) (reply, bool) {
	if name == "" || len(name) > maxDomain || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return say(501, "5.5.4", "say the name of your host"), false
	}
	if !s.NeedLogin || s.user != "" {
		s.Conn.SetIdle(s.Idle)
	}
	s.helo, s.state = name, idle
	s.reset()
	return reply{}, true
}

// mail begins a transaction.
func (s *Session) mail(arg string) reply {
	if s.NeedLogin && s.user == "" {
		return say(530, "5.7.0", "log in first")
	}
	if s.messages >= maxMessages {
		s.state = over
		return say(421, "4.7.0", "enough for one session; come again")
	}
	arg, ok := cutFold(arg, "FROM:")
	if !ok {
		return say(501, "5.5.4", "MAIL wants FROM:<address>")
	}
	from, arg, err := s.path(arg, true)
	if err != nil {
		return say(501, "5.1.7", err.Error())
	}
	env := Envelope{From: from, User: s.user}
	err = parameters(arg, func(key, value string) error {
		switch key {
		case "SIZE": // RFC 1870 §3
			if len(value) > 20 {
				return errTooBig
			}
			n, err := strconv.ParseUint(value, 10, 63)
			if errors.Is(err, strconv.ErrRange) || s.MaxSize > 0 && n > uint64(s.MaxSize) {
				return errTooBig
			}
			env.Size = int64(n)
			return err
		case "BODY": // RFC 6152 §3
			env.EightBit = strings.EqualFold(value, "8BITMIME")
			if !env.EightBit && !strings.EqualFold(value, "7BIT") {
				return errParameter
			}
			return nil
		case "AUTH": // RFC 4954 §5: we trust nobody to say who somebody else is
			if s.Login == nil {
				return errUnknownParameter
			}
			return authMailbox(value)
		}
		return errUnknownParameter
	})
	if err != nil {
		return parameterReply(err)
	}
	env.ID = strings.ToLower(rand.Text()[:13])
	s.env, s.state = env, mail
	return say(250, "2.1.0", "<"+from+"> sender ok")
}

// rcpt adds a recipient.
func (s *Session) rcpt(arg string) reply {
	arg, ok := cutFold(arg, "TO:")
	if !ok {
		return say(501, "5.5.4", "RCPT wants TO:<address>")
	}
	to, arg, err := s.path(arg, false)
	if err != nil {
		return say(501, "5.1.3", err.Error())
	}
	if err := parameters(arg, func(string, string) error { return errUnknownParameter }); err != nil {
		return parameterReply(err)
	}
	known := slices.Contains(s.env.To, to)
	if !known && len(s.env.To) >= maxRecipients {
		return say(452, "4.5.3", "too many recipients") // RFC 5321 §4.5.3.1.10
	}
	if !known {
		if err := s.Check(s.ctx, &s.env, to); err != nil {
			return s.noRecipient(to, err)
		}
		s.env.To = append(s.env.To, to)
	} else {
		s.junk++
	}
	s.state = rcpt
	return say(250, "2.1.5", "<"+to+"> recipient ok")
}

// noRecipient refuses one. Whoever tries out names to learn which exist learns
// slowly, and not many.
func (s *Session) noRecipient(to string, err error) reply {
	s.refused++
	s.Log.Warn("recipient refused", "from", s.env.From, "to", to, "err", err)
	if s.refused > maxRefused {
		s.state = over
		return say(421, "4.7.0", "too many unknown recipients")
	}
	if s.refused > slowRefused {
		s.Conn.Pause(s.ctx, time.Second)
	}
	return refuse(err, say(451, "4.3.0", "trouble here; try again later"))
}

func (s *Session) rset(arg string) reply {
	if arg != "" {
		return noArgument
	}
	s.reset()
	return say(250, "2.0.0", "forgotten")
}

// vrfy does not say who is here (§7.3): RCPT will.
func (s *Session) vrfy(arg string) reply {
	if arg == "" {
		return say(501, "5.5.4", "VRFY wants a name")
	}
	return say(252, "2.0.0", "cannot say; send, and see")
}

func (s *Session) never(string) reply { return say(502, "5.5.1", "not done here") }

func (s *Session) help(string) reply {
	return say(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH", "RFC 5321 has the rest")
}

func (s *Session) noop(string) reply { return say(250, "2.0.0", "ok") }

func (s *Session) quit(arg string) reply {
	if arg != "" {
		return noArgument
	}
	s.state = over
	return say(221, "2.0.0", s.Name+" closing connection")
}

var noArgument = say(501, "5.5.4", "takes no argument")
