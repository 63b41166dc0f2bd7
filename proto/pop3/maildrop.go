package pop3

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"pennypost/maildir"
)

// A message is one of the maildrop, numbered by its place there.
type message struct {
	maildir.Message
	size    int64 // octets as sent, line ends as CRLF, the last one too, dots not stuffed
	deleted bool  // marked, still on disk
	read    bool  // retrieved whole
}

// count makes the maildrop of what is in the folder. A message that vanishes
// meanwhile or cannot be read is not part of it.
func (s *Session) count(folder *maildir.Folder) error {
	state, err := folder.Sync(maildir.SyncOptions{})
	if err != nil {
		return err
	}
	s.drop = make([]message, 0, state.Len())
	for _, m := range state.All() {
		size, err := folder.Size(m)
		if err == nil {
			s.drop = append(s.drop, message{Message: m, size: size + folder.Lacking(m)})
		} else if !errors.Is(err, maildir.ErrGone) {
			s.Log.Error("message left out", "user", s.named, "msg", m.Key(), "err", err)
		}
	}
	return nil
}

// stat = "+OK" SP count SP octets   (RFC 1939 §5), deleted ones not counted.
func (s *Session) stat(string) reply {
	n, size := s.total()
	return ok("%d %d", n, size)
}

func (s *Session) total() (n int, size int64) {
	for i := range s.drop {
		if !s.drop[i].deleted {
			n, size = n+1, size+s.drop[i].size
		}
	}
	return n, size
}

// list tells the size of one message, or of each (RFC 1939 §5).
func (s *Session) list(arg string) reply {
	if arg != "" {
		n, m, err := s.message(arg)
		if err != nil {
			return s.refuse(err)
		}
		return ok("%d %d", n, m.size)
	}
	n, size := s.total()
	return ok("%d messages (%d octets)", n, size).with(s.scan(func(buf []byte, m *message) []byte {
		return strconv.AppendInt(buf, m.size, 10)
	}))
}

// uidl tells the unique id of one message, or of each (RFC 1939 §7).
func (s *Session) uidl(arg string) reply {
	if arg != "" {
		n, m, err := s.message(arg)
		if err != nil {
			return s.refuse(err)
		}
		return ok("%d %s", n, s.folder.UIDL(m.Message))
	}
	return ok("unique ids follow").with(s.scan(func(buf []byte, m *message) []byte {
		return append(buf, s.folder.UIDL(m.Message)...)
	}))
}

// scan writes a line for each message that is not deleted: its number, and
// what column appends.
func (s *Session) scan(column func([]byte, *message) []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		buf := make([]byte, 0, 100)
		for i := range s.drop {
			if s.drop[i].deleted {
				continue
			}
			buf = append(strconv.AppendInt(buf[:0], int64(i+1), 10), ' ')
			buf = append(column(buf, &s.drop[i]), '\r', '\n')
			if _, err := w.Write(buf); err != nil {
				return err
			}
		}
		return nil
	}
}

// retr sends a message (RFC 1939 §5) and remembers that it was read.
func (s *Session) retr(arg string) reply {
	_, m, err := s.message(arg)
	if err != nil {
		return s.refuse(err)
	}
	f, err := s.folder.Reader(m.Message)
	if err != nil {
		return s.missing(m, err)
	}
	return ok("%d octets", m.size).with(func(w io.Writer) error {
		defer f.Close()
		if err := send(w, f, -1); err != nil {
			return err
		}
		if !m.read {
			m.read = true
			s.read++
		}
		return nil
	})
}

// top = "TOP" SP msg SP n   (RFC 1939 §7): the header, the blank line, and n
// lines of the body. It reads no further, and does not count as reading.
func (s *Session) top(arg string) reply {
	number, count, _ := strings.Cut(arg, " ")
	n, err := natural(strings.TrimLeft(count, " "))
	if err != nil {
		return s.nonsense("TOP wants a message and a number of lines")
	}
	_, m, err := s.message(number)
	if err != nil {
		return s.refuse(err)
	}
	f, err := s.folder.Reader(m.Message)
	if err != nil {
		return s.missing(m, err)
	}
	return ok("top of message follows").with(func(w io.Writer) error {
		defer f.Close()
		return send(w, f, n)
	})
}

// dele marks a message; it stays on disk until QUIT (RFC 1939 §5, §6).
func (s *Session) dele(arg string) reply {
	n, m, err := s.message(arg)
	if err != nil {
		return s.refuse(err)
	}
	m.deleted = true
	return ok("message %d deleted", n)
}

func (s *Session) noop(string) reply { return ok("") }

// rset takes every mark back (RFC 1939 §5).
func (s *Session) rset(string) reply {
	for i := range s.drop {
		s.drop[i].deleted = false
	}
	n, size := s.total()
	return ok("maildrop has %d messages (%d octets)", n, size)
}

// update removes what is marked, durably (RFC 1939 §6). One that somebody else
// has removed before is removed, too.
func (s *Session) update() error {
	var doomed []maildir.Message
	for i := range s.drop {
		if s.drop[i].deleted {
			doomed = append(doomed, s.drop[i].Message)
		}
	}
	if len(doomed) == 0 {
		return nil
	}
	if err := s.folder.Expunge(doomed); err == nil {
		s.gone = len(doomed)
		return nil
	}
	var errs []error
	for _, m := range doomed { // one that cannot be removed shall not keep the others
		if err := s.folder.Expunge([]maildir.Message{m}); err != nil {
			errs = append(errs, err)
		} else {
			s.gone++
		}
	}
	return errors.Join(errs...)
}

// markSeen sets \Seen on what was retrieved, for those who read the same mail
// over IMAP or on this host. That it is done at the end, at once for all, costs
// a client nothing that only comes to download.
func (s *Session) markSeen() {
	var seen []maildir.Message
	for i := range s.drop {
		if m := &s.drop[i]; m.read && m.Flags&maildir.Seen == 0 && !(m.deleted && s.gone > 0) {
			seen = append(seen, m.Message)
		}
	}
	if len(seen) == 0 {
		return
	}
	if _, err := s.folder.Store(seen, maildir.Change{Add: maildir.Seen}); err != nil {
		s.Log.Warn("flags not stored", "user", s.named, "err", err)
	}
}

// errNumber and errNone are the two ways to name no message: without sense, and
// by a number that is not in use.
var (
	errNumber = errors.New("a message number is wanted")
	errNone   = errors.New("no such message")
)

// message finds the message arg numbers, counted from 1; a deleted message
// cannot be found (RFC 1939 §5).
func (s *Session) message(arg string) (int, *message, error) {
	n, err := natural(arg)
	switch {
	case err != nil:
		return 0, nil, errNumber
	case n < 1 || n > int64(len(s.drop)) || s.drop[n-1].deleted:
		return 0, nil, errNone
	}
	return int(n), &s.drop[n-1], nil
}

func (s *Session) refuse(err error) reply {
	if errors.Is(err, errNumber) {
		return s.nonsense("%v", err)
	}
	return no("%v", err)
}

// missing answers for a message that cannot be opened. That another program has
// removed it is no trouble of ours.
func (s *Session) missing(m *message, err error) reply {
	if errors.Is(err, maildir.ErrGone) {
		return no("message is gone: another program has removed it")
	}
	return s.fail("open the message", fmt.Errorf("%s: %w", m.Key(), err))
}

// natural = 1*DIGIT, as large as it may be: what is beyond all bounds is as
// good as very large.
func natural(text string) (int64, error) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, errNumber
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, nil
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// send copies r to w: all of it when lines is negative, else the header, the
// blank line and so many lines of the body, reading no further than the buffer
// reaches.
func send(w io.Writer, r io.Reader, lines int64) error {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	part := buf[:]
	c := cutter{left: lines, empty: true}
	if lines >= 0 {
		part = buf[:4<<10]
	}
	for {
		n, err := r.Read(part)
		keep := part[:n]
		if lines >= 0 {
			keep = keep[:c.cut(keep)]
		}
		if _, werr := w.Write(keep); werr != nil {
			return werr
		}
		switch {
		case err == io.EOF, len(keep) < n, c.body && c.left == 0 && lines >= 0:
			return nil
		case err != nil:
			return err
		}
	}
}

// A cutter finds the place where TOP ends.
type cutter struct {
	body  bool  // past the blank line
	left  int64 // lines of the body still wanted
	empty bool  // the line so far is empty, but for a CR perhaps
}

// cut returns how much of p belongs to the top.
func (c *cutter) cut(p []byte) int {
	for i, b := range p {
		if c.body && c.left == 0 {
			return i
		}
		switch {
		case b != '\n':
			c.empty = c.empty && b == '\r'
		case c.body:
			c.left--
		default:
			c.body, c.empty = c.empty, true
		}
	}
	return len(p)
}
