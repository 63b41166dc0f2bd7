package imap

import (
	"errors"
	"strings"
	"time"
)

// stillHere is how often an idle client hears something, so that the routers
// between us remember the connection.
const stillHere = 4 * time.Minute

// lookAround is how often one looks whether annotations have changed.
const lookAround = 2 * time.Second

// idle = "IDLE" CRLF "DONE"   (RFC 9051 §6.3.13)
func (s *Session) idle(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.Conn.WriteString("+ idling\r\n")
	switch {
	case s.attention != nil:
		s.watchSelected()
	case s.view != nil:
		defer s.view.folder.Watch(s.Conn.Wake)()
	}
	if s.view != nil {
		s.news(true)
	}
	s.scratch, s.buf = nil, nil // silence costs little
	began := time.Now()
	told := began
	for s.state != logout {
		wait := min(stillHere-time.Since(told), s.Idle-time.Since(began))
		if s.notice != nil {
			wait = min(wait, lookAround)
		}
		spoke, err := s.Conn.Await(wait)
		if err != nil {
			p.fatal = broken(err)
			return bad(err)
		}
		if spoke {
			line, err := s.Conn.ReadLine()
			if err != nil {
				p.fatal = broken(err)
				return bad(err)
			}
			p.line = line
			if !strings.EqualFold(line, "DONE") {
				return bad(errors.New("want DONE"))
			}
			return ok("done")
		}
		switch {
		case time.Since(began) >= s.Idle:
			s.bye("", "logged out for inactivity")
			continue
		case s.view != nil:
			s.news(true)
		}
		s.tellAround()
		s.tellAnnotated()
		if time.Since(told) >= stillHere {
			told = time.Now()
			s.untagged("OK still here")
		}
	}
	return ok("done")
}
