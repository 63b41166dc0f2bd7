package imap

import (
	"errors"
	"strings"
	"time"
)

// stillHere is how often an idle client hears something, so that the routers
// between us remember the connection.
const stillHere = 4 * time.Minute

// idle = "IDLE" CRLF "DONE"   (RFC 9051 §6.3.13)
func (s *Session) idle(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.Conn.WriteString("+ idling\r\n")
	var changes <-chan struct{}
	if s.view != nil {
		watch, stop := s.view.folder.Watch()
		defer stop()
		changes = watch
		s.news(true)
	}
	wake, stop := s.alarm(changes)
	defer stop()
	began := time.Now()
	told := began
	for s.state != logout {
		spoke, err := s.Conn.Await(wake)
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
		s.tellAnnotated()
		if time.Since(told) >= stillHere {
			told = time.Now()
			s.untagged("OK still here")
		}
	}
	return ok("done")
}

// alarm joins what may wake an idle session: changes, and time.
func (s *Session) alarm(changes <-chan struct{}) (wake <-chan struct{}, stop func()) {
	out, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		tick, end := time.NewTicker(stillHere), time.NewTimer(s.Idle)
		defer tick.Stop()
		defer end.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			case <-end.C:
			case _, more := <-changes:
				if !more {
					changes = nil
				}
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { close(done) }
}
