package wire

import (
	"bytes"
	"io"
	"time"
)

// receive reads into p once. It is the client's turn: what we have to say goes
// out first. The client has until the deadline.
func (c *Conn) receive(p []byte, until time.Time) (int, error) {
	if err := c.Flush(); err != nil {
		return 0, err
	}
	c.raw.SetReadDeadline(until)
	if c.stopped.Load() { // before Stop set its deadline, or we have put it off
		return 0, ErrStopped
	}
	for range 100 {
		n, err := c.nc.Read(p)
		switch {
		case n > 0:
			return n, nil // an error comes again
		case err != nil && c.stopped.Load() && timedOut(err):
			return 0, ErrStopped
		case err != nil:
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// fill receives into the buffer behind what is there. An empty buffer is the
// time to change its size: a line is short, a block may be long.
func (c *Conn) fill(block bool, until time.Time) error {
	if c.r == c.w {
		c.r, c.w = 0, 0
		switch {
		case block && c.lent == nil:
			c.lent = buffers.Get().(*[large]byte)
			c.in = c.lent[:]
		case !block && (c.lent != nil || c.in == nil):
			c.giveBack()
			if c.own == nil {
				c.own = make([]byte, small)
			}
			c.in = c.own
		}
	} else if c.w == len(c.in) {
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

// giveBack returns the lent buffer with what is in it.
func (c *Conn) giveBack() {
	if c.lent != nil {
		buffers.Put(c.lent)
		c.lent, c.in, c.r, c.w = nil, nil, 0, 0
	}
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

// Await returns true when the client has said something, false when a value
// comes from wake (or it is closed) first. What is queued goes out before the
// wait, which lasts no longer than the idle time.
func (c *Conn) Await(wake <-chan struct{}) (bool, error) {
	if c.Buffered() > 0 {
		return true, nil
	}
	stop, woken := make(chan struct{}), make(chan bool, 1)
	go func() {
		select {
		case <-wake:
		case <-stop:
			woken <- false
			return
		}
		for { // the wait may not have begun, and then sets a deadline of its own: insist
			c.raw.SetReadDeadline(past)
			select {
			case <-stop:
				woken <- true
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	_, err := c.Peek()
	close(stop)
	// The goroutine has ended when it answers: it moves no deadline any more.
	if early := <-woken; early && (err == nil || timedOut(err)) {
		return false, nil // what the client said meanwhile is still there
	}
	return err == nil, err
}
