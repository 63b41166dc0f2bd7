package wire

import (
	"bytes"
	"io"
	"time"
)

// receive reads into p once. It is the client's turn: what we have to say goes
// out first. The client has until the deadline.
func (c *Conn) receive(p []byte, until time.Time) (int, error) {
	if c.squeeze != nil {
		return c.squeeze.receive(c, p, until)
	}
	if err := c.listen(until); err != nil {
		return 0, err
	}
	return c.read(p)
}

// listen makes it the client's turn.
func (c *Conn) listen(until time.Time) error {
	if err := c.Flush(); err != nil {
		return err
	}
	c.raw.SetReadDeadline(until)
	if c.stopped.Load() { // before Stop set its deadline, or we have put it off
		return ErrStopped
	}
	if c.alarm.rung() {
		return errWoken
	}
	return nil
}

func (c *Conn) read(p []byte) (int, error) {
	for range 100 {
		n, err := c.nc.Read(p)
		switch {
		case n > 0:
			return n, nil // an error comes again
		case err != nil:
			return 0, c.why(err)
		}
	}
	return 0, io.ErrNoProgress
}

// why is what err means: it may be that of a deadline that Stop or Wake has set.
func (c *Conn) why(err error) error {
	switch {
	case !timedOut(err):
		return err
	case c.stopped.Load():
		return ErrStopped
	case c.alarm.rung():
		return errWoken
	}
	return err
}

// fill receives into the buffer behind what is there. An empty buffer is given
// back while the client is silent, and is another one then: a line is short, a
// block may be long.
func (c *Conn) fill(block bool, until time.Time) error {
	if c.r == c.w {
		c.giveBack()
		if c.squeeze != nil {
			return c.squeeze.fill(c, block, until)
		}
		return c.draw(&c.vessel, block, until)
	}
	if c.w == len(c.in) {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.in) {
		return io.ErrShortBuffer // nobody reads on without having taken something
	}
	n, err := c.receive(c.in[c.w:], until)
	c.w += n
	return err
}

// Peek waits for the client's next octet and leaves it where it is.
func (c *Conn) Peek() (byte, error) {
	if c.Buffered() == 0 {
		if err := c.fill(false, time.Now().Add(c.idle)); err != nil {
			return 0, err
		}
	}
	return c.in[c.r], nil
}

// ReadLine returns the client's next line without its CRLF; it stays valid
// after the next read. The deadline is for the whole line, so a client that
// sends an octet a minute gains nothing. A client that leaves between lines is
// io.EOF, within a line io.ErrUnexpectedEOF.
func (c *Conn) ReadLine() (string, error) {
	var (
		head  []byte // what came before the buffer
		until time.Time
		size  int // octets of the line so far
	)
	for {
		p := c.in[c.r:c.w]
		i := bytes.IndexByte(p, '\n')
		if i >= 0 {
			c.r += i + 1
			if size += i + 1; size > c.limit {
				return "", ErrTooLong
			}
			return c.cut(head, p[:i+1])
		}
		c.r = c.w
		if size += len(p); size <= c.limit {
			head = append(head, p...)
		} else if head = nil; size > endless {
			return "", ErrEndless
		}
		if until.IsZero() {
			until = time.Now().Add(c.idle)
		}
		if err := c.fill(false, until); err != nil {
			if err == io.EOF && size > 0 {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// cut joins the two pieces of a line and takes off its CRLF.
func (c *Conn) cut(head, tail []byte) (string, error) {
	line := tail
	if len(head) > 0 {
		line = append(head, tail...)
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok && c.bareLF {
		text, ok = line[:len(line)-1], true
	}
	if !ok || bytes.IndexByte(text, '\r') >= 0 {
		return "", ErrLineEnd
	}
	return string(text), nil
}
