package wire

import (
	"bytes"
	"io"
	"time"
)

// A pace is what a client has left of the time for a block: one idle time,
// which waiting uses up and octets win back at minRate.
type pace struct {
	left  time.Duration
	begun bool
}

// receive is c.receive or c.fill within the pace.
func (p *pace) receive(c *Conn, read func(until time.Time) (int, error)) error {
	if !p.begun {
		p.left, p.begun = c.idle, true
	}
	start := time.Now()
	n, err := read(start.Add(p.left))
	p.left += time.Duration(n)*time.Second/minRate - time.Since(start)
	p.left = min(p.left, c.idle)
	return err
}

// Literal returns a reader of exactly n octets as they come (RFC 9051 §4.3).
// A client that falls silent, falls behind or leaves before the last fails the
// read.
func (c *Conn) Literal(n int64) io.Reader { return &literal{c: c, left: n} }

type literal struct {
	c    *Conn
	left int64 // octets
	pace pace
}

func (l *literal) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	if len(p) == 0 {
		return 0, nil
	}
	c := l.c
	var n int
	var err error
	switch {
	case c.Buffered() > 0:
	case len(p) >= small: // no need to copy
		err = l.pace.receive(c, func(until time.Time) (int, error) {
			n, err = c.receive(p, until)
			return n, err
		})
	default:
		err = l.pace.receive(c, func(until time.Time) (int, error) {
			err := c.fill(l.left >= small, until)
			return c.Buffered(), err
		})
	}
	if n == 0 {
		n = copy(p, c.in[c.r:c.w])
		c.r += n
	}
	l.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Undotted returns a reader of the block that ends in a dot on a line of its
// own (RFC 5321 §4.5.2), with the stuffing taken out and CRLF at the end of
// each line. Lines may be of any length.
//
// Nothing but CRLF.CRLF ends it: a bare CR or LF fails the read with
// ErrLineEnd, a client that leaves before the end with io.ErrUnexpectedEOF.
// Then nobody knows where the block ends: no part of it may be used, and the
// conversation is over.
func (c *Conn) Undotted() io.Reader { return &undotted{c: c, start: true} }

type undotted struct {
	c     *Conn
	start bool // at the start of a line
	cr    bool // the last octet was CR
	rest  int  // octets at c.r that have been looked at and not been taken
	done  error
	pace  pace
}

func (u *undotted) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := u.next(); err != nil {
		return 0, err
	}
	n := copy(p, u.c.in[u.c.r:u.c.r+u.rest])
	u.c.r += n
	u.rest -= n
	return n, nil
}

// WriteTo hands w the buffer itself.
func (u *undotted) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if err := u.next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		k, err := w.Write(u.c.in[u.c.r : u.c.r+u.rest])
		u.c.r += k
		u.rest -= k
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
}

// next looks at the octets behind c.r until some of them can be taken as they
// are, and counts those in rest.
func (u *undotted) next() error {
	for u.rest == 0 && u.done == nil {
		p := u.c.in[u.c.r:u.c.w]
		switch {
		case len(p) == 0, u.start && p[0] == '.' && short(p):
			u.more()
		case !u.start || p[0] != '.':
			u.rest = u.scan(p)
		case p[1] != '\r': // a stuffed dot
			u.c.r++
			u.start = false
		case p[2] == '\n':
			u.c.r += 3
			u.done = io.EOF
		default:
			u.done = ErrLineEnd
		}
	}
	if u.rest > 0 {
		return nil
	}
	return u.done
}

// short says that of a line with a dot in front too little has come to tell
// what it is.
func short(p []byte) bool { return len(p) < 2 || p[1] == '\r' && len(p) < 3 }

func (u *undotted) more() {
	c := u.c
	err := u.pace.receive(c, func(until time.Time) (int, error) {
		before := c.Buffered()
		err := c.fill(true, until)
		return c.Buffered() - before, err
	})
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	u.done = err
}

// scan returns how many octets of p come before the next line that begins
// with a dot; none if there is a bare CR or LF among them.
//
// Each LF has to have a CR before it, and then each CR has an LF behind it
// when there are as many of them: so a line costs one search, and a buffer one
// count.
func (u *undotted) scan(p []byte) int {
	end, lfs := 0, 0
	for end < len(p) && (!u.start || p[end] != '.') {
		i := bytes.IndexByte(p[end:], '\n')
		if i < 0 {
			end, u.start = len(p), false
			break
		}
		if i += end; i == 0 && !u.cr || i > 0 && p[i-1] != '\r' {
			u.done = ErrLineEnd
			return 0
		}
		end, u.start = i+1, true
		lfs++
	}
	crs := bytes.Count(p[:end], []byte{'\r'})
	if u.cr {
		crs++
	}
	u.cr = p[end-1] == '\r'
	if u.cr { // its LF may be on the way
		crs--
	}
	if crs != lfs {
		u.done = ErrLineEnd
		return 0
	}
	return end
}
