package imap

import (
	"errors"
	"io"
)

// errTooBig reports a literal that nobody waited for us to ask for, and that
// is larger than we read. Where the next command begins is not known.
var errTooBig = errors.New("literal too large")

// literal reads what l announces, after it has been asked for, and the line
// behind it.
func (s *Session) literal(p *parser, l announced) (text, line string, err error) {
	most := int64(literalBefore)
	if s.state != notAuthenticated {
		most = literalAfter
	}
	if l.size > min(most, s.budget) {
		if !l.sync {
			p.fatal = errTooBig
		}
		return "", "", errTooBig
	}
	if l.sync {
		s.Conn.WriteString("+ OK\r\n")
	}
	octets := make([]byte, l.size)
	if _, err := io.ReadFull(s.Conn.Literal(l.size), octets); err != nil {
		p.fatal = broken(err)
		return "", "", err
	}
	line, err = s.line(p, l.size)
	return string(octets), line, err
}

// line reads the line behind a literal of size octets.
func (s *Session) line(p *parser, size int64) (string, error) {
	line, err := s.Conn.ReadLine()
	if err != nil {
		p.fatal = broken(err)
		return "", p.fatal // not io.EOF, which would be the good end of a message
	}
	s.budget -= size + int64(len(line)) + 16 // a command of many empty literals is bounded too
	if s.budget < 0 {
		p.fatal = errTooBig
		return "", errTooBig
	}
	p.line = line
	return line, nil
}

// broken is err in the middle of a command, where no end is a good one.
func broken(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skip reads over the literals that a command announced and nobody took.
func (s *Session) skip(p *parser) error {
	for {
		l, ok := pending(p.line)
		if !ok || l.sync {
			return nil
		}
		most := s.budget
		switch p.name {
		case "APPEND", "REPLACE", "UID REPLACE":
			most = max(most, s.MaxSize)
		}
		if l.size > most {
			return errTooBig
		}
		if _, err := io.Copy(io.Discard, s.Conn.Literal(l.size)); err != nil {
			return broken(err)
		}
		if _, err := s.line(p, min(l.size, 1024)); err != nil {
			return p.fatal
		}
	}
}
