package imap

import (
	"errors"
	"io"
	"io/fs"
	"time"

	"pennypost/maildir"
)

// append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal
// (RFC 9051 §6.3.12). The message goes from the connection to the disk as it
// comes.
func (s *Session) append(p *parser) reply {
	p.sp()
	name := p.mailbox()
	p.sp()
	o := maildir.AppendOptions{Limit: s.MaxSize}
	if len(p.rest) > 0 && p.rest[0] == '(' {
		o.Flags, o.Keywords = letters(p.flagList())
		p.sp()
	}
	if len(p.rest) > 0 && p.rest[0] == '"' {
		o.Date = p.dateTime()
		p.sp()
	}
	l, announced := announcement(p.rest)
	if p.err == nil && !announced {
		p.want("literal")
	}
	if p.err != nil {
		return bad(p.err)
	}
	// What is refused here is not asked for; what comes unasked is skipped.
	if l.size > s.MaxSize {
		return no("TOOBIG", "the message is too large") // RFC 7889 §4
	}
	if l.size == 0 {
		return no("CANNOT", "a message has at least one octet")
	}
	folder, err := s.target(name)
	if err != nil {
		return s.failedTo(err)
	}
	defer s.release(folder)
	// Half of it may be CRs, which are not stored.
	if err := s.user.Store.Room(l.size / 2); err != nil {
		return s.failed(err)
	}
	if _, err := folder.Sync(maildir.SyncOptions{}); err != nil {
		return s.failedTo(err)
	}
	if o.Date.IsZero() {
		o.Date = time.Now()
	}
	if l.sync {
		s.Conn.WriteString("+ OK\r\n")
	}
	body := &message{s: s, p: p, r: s.Conn.Literal(l.size), size: l.size}
	p.rest = ""
	uid, err := folder.Append(o, body)
	if !body.done && p.fatal == nil && body.err == nil {
		// The disk failed: read over the rest.
		io.Copy(io.Discard, body)
	}
	switch {
	case p.fatal != nil:
		return bad(p.fatal)
	case body.err != nil:
		return bad(body.err)
	case err != nil:
		return s.failed(err)
	}
	learn(folder, uid)
	return reply{"OK", codef("APPENDUID %d %d", folder.UIDValidity(), uid), "appended"}
}

// A message is the literal of an APPEND. Its end comes only when the command
// has ended as it should: a command that turns out wrong leaves no message.
type message struct {
	s    *Session
	p    *parser
	r    io.Reader
	size int64
	done bool
	err  error // the command is wrong
}

func (m *message) Read(b []byte) (int, error) {
	if m.done {
		if m.err != nil {
			return 0, m.err
		}
		return 0, io.EOF
	}
	n, err := m.r.Read(b)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		return 0, nil
	}
	m.done = true
	if err != io.EOF {
		m.p.fatal = broken(err)
		m.err = err
		return 0, err
	}
	line, err := m.s.line(m.p, 0)
	if err == nil && line != "" {
		err = errors.New("one message at a time, and nothing behind it")
	}
	if m.err = err; err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// isSelected tells whether name stands for the selected mailbox; another
// session may have given its name to another one.
func (s *Session) isSelected(name string) bool {
	return s.view != nil && s.view.name == name && s.user.Store.Holds(s.view.folder)
}

// target opens the mailbox that messages go to. The selected one is open.
func (s *Session) target(name string) (*maildir.Folder, error) {
	if s.isSelected(name) {
		return s.view.folder, nil
	}
	folder, r, err := s.openFolder(name)
	if err == nil && r&maildir.RightInsert == 0 {
		folder.Close()
		err = errRights
	}
	return folder, err
}

func (s *Session) release(f *maildir.Folder) {
	if s.view == nil || s.view.folder != f {
		f.Close()
	}
}

// failedTo is failed for commands that could succeed once the mailbox is there
// (RFC 9051 §7.1, TRYCREATE).
func (s *Session) failedTo(err error) reply {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, maildir.ErrGone) {
		return no("TRYCREATE", "no such mailbox")
	}
	return s.failed(err)
}
