// Package wire carries lines, blocks and literals between a client and a
// session, bounded in length and in time.
//
// Replies wait in a buffer until the next read would block, so a client that
// sends commands in a group is answered in a group (RFC 2920 §3.2).
package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

var (
	// ErrTooLong reports a line over the limit. It has been skipped up to its
	// end; the conversation may go on.
	ErrTooLong = errors.New("line too long")

	// ErrLineEnd reports a CR without LF or an LF without CR (RFC 5321
	// §2.3.8). The line has been skipped; what follows may be anything.
	ErrLineEnd = errors.New("bare CR or LF")

	// ErrInjected reports octets that arrived in the clear behind STARTTLS
	// (CVE-2011-0411). Nobody may act on them: the session ends.
	ErrInjected = errors.New("octets in the clear behind STARTTLS")
)

// A Conn is one conversation. It is not safe for concurrent use.
type Conn struct {
	nc    net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	limit int
	idle  time.Duration
	until time.Time // the current line has to be whole by then; zero: idle counts from each read
}

// New returns a Conn that takes lines of at most limit octets, CRLF counted,
// and gives up after idle without a whole line from the client.
func New(nc net.Conn, limit int, idle time.Duration) *Conn {
	c := &Conn{nc: nc, limit: limit, idle: idle}
	c.w = bufio.NewWriterSize(out{c}, 4096)
	c.r = bufio.NewReaderSize(turn{c}, 4096)
	return c
}

// SetIdle changes how long the client may keep silent.
func (c *Conn) SetIdle(d time.Duration) { c.idle = d }

// SetLimit changes how many octets a line may have, CRLF counted.
func (c *Conn) SetLimit(n int) { c.limit = n }

// RemoteAddr is the other end, as the operating system tells it.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// out writes to the client, who has as long to take it as to speak.
type out struct{ c *Conn }

func (o out) Write(p []byte) (int, error) {
	o.c.nc.SetWriteDeadline(time.Now().Add(o.c.idle))
	return o.c.nc.Write(p)
}

// turn is the client's turn to speak: what we have to say goes out first.
type turn struct{ c *Conn }

func (t turn) Read(p []byte) (int, error) {
	if err := t.c.Flush(); err != nil {
		return 0, err
	}
	until := t.c.until
	if until.IsZero() {
		until = time.Now().Add(t.c.idle)
	}
	t.c.nc.SetReadDeadline(until)
	return t.c.nc.Read(p)
}

// ReadLine returns the client's next line without its CRLF; it stays valid
// after the next read. The deadline is for the whole line, so a client that
// sends an octet a minute gains nothing.
func (c *Conn) ReadLine() (string, error) {
	line, err := c.line(nil)
	return string(line), err
}

// line appends the next line to buf, without its CRLF.
func (c *Conn) line(buf []byte) ([]byte, error) {
	c.until = time.Now().Add(c.idle)
	defer func() { c.until = time.Time{} }()
	start, long := len(buf), false
	for {
		part, err := c.r.ReadSlice('\n')
		if len(buf)-start+len(part) > c.limit {
			buf, long = buf[:start], true
		}
		if !long {
			buf = append(buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && (len(part) > 0 || len(buf) > start || long):
			return buf[:start], io.ErrUnexpectedEOF
		case err != nil:
			return buf[:start], err
		case long:
			return buf[:start], ErrTooLong
		}
		text, ok := bytes.CutSuffix(buf[start:], []byte("\r\n"))
		if !ok || bytes.IndexByte(text, '\r') >= 0 {
			return buf[:start], ErrLineEnd
		}
		return buf[:start+len(text)], nil
	}
}

// Printf queues one line; the CRLF is added here and nowhere else.
func (c *Conn) Printf(format string, args ...any) {
	fmt.Fprintf(c.w, format, args...)
	c.w.WriteString("\r\n")
}

// Write queues p as it is.
func (c *Conn) Write(p []byte) (int, error) { return c.w.Write(p) }

// WriteString queues s as it is.
func (c *Conn) WriteString(s string) (int, error) { return c.w.WriteString(s) }

// Flush sends what is queued.
func (c *Conn) Flush() error { return c.w.Flush() }

// Close sends what is queued and hangs up.
func (c *Conn) Close() error { return errors.Join(c.w.Flush(), c.nc.Close()) }

// Buffered says how many octets the client has sent that nobody has read yet,
// as far as they have reached us.
func (c *Conn) Buffered() int { return c.r.Buffered() }

// TLS is the state of the encryption, and whether there is any.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	if t, ok := c.nc.(*tls.Conn); ok {
		return t.ConnectionState(), true
	}
	return tls.ConnectionState{}, false
}

// StartTLS sends what is queued and goes over to TLS as the server. Octets
// that came in the clear after the command are never looked at: they fail it
// with ErrInjected.
func (c *Conn) StartTLS(config *tls.Config) error {
	if c.r.Buffered() > 0 {
		return ErrInjected
	}
	if err := c.Flush(); err != nil {
		return err
	}
	c.nc.SetDeadline(time.Now().Add(c.idle))
	t := tls.Server(c.nc, config)
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.nc.SetDeadline(time.Time{})
	c.nc = t
	c.r.Reset(turn{c})
	c.w.Reset(out{c})
	return nil
}

// Literal returns a reader of exactly n octets as they come (RFC 9051 §4.3).
// A client that falls silent or leaves before the last fails the read.
func (c *Conn) Literal(n int64) io.Reader { return &literal{c, n} }

type literal struct {
	c    *Conn
	left int64
}

func (l *literal) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.c.r.Read(p)
	l.left -= int64(n)
	if err == io.EOF && l.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Await returns true when the client has said something, false when a value
// comes from wake (or it is closed) first. What is queued goes out before the
// wait, which lasts no longer than the idle time.
func (c *Conn) Await(wake <-chan struct{}) (bool, error) {
	if c.r.Buffered() > 0 {
		return true, nil
	}
	stop, woken := make(chan struct{}), make(chan bool, 1)
	go func() {
		select {
		case <-wake:
			woken <- true
			for { // Peek may not have set its own deadline yet: insist
				c.nc.SetReadDeadline(time.Unix(1, 0))
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		case <-stop:
			woken <- false
		}
	}()
	_, err := c.r.Peek(1)
	close(stop)
	if early := <-woken; early && errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// Dotted queues what body writes as a dot-stuffed block (RFC 1939 §3,
// RFC 5321 §4.5.2), turning bare LF into CRLF and ending the last line.
func (c *Conn) Dotted(body func(io.Writer) error) error {
	d := &dotted{w: c.w, start: true}
	err := body(d)
	if d.cr {
		c.w.WriteString("\n")
	} else if !d.start {
		c.w.WriteString("\r\n")
	}
	c.w.WriteString(".\r\n")
	return err
}

type dotted struct {
	w     *bufio.Writer
	start bool // at the start of a line
	cr    bool // the last octet was CR
}

// Write copies whole lines at a time.
func (d *dotted) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if d.start && p[0] == '.' {
			d.w.WriteByte('.')
		}
		d.start = false
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			d.cr = p[len(p)-1] == '\r'
			_, err := d.w.Write(p)
			return n, err
		}
		if i > 0 {
			d.cr = p[i-1] == '\r'
		}
		d.w.Write(p[:i])
		if !d.cr {
			d.w.WriteByte('\r')
		}
		if err := d.w.WriteByte('\n'); err != nil {
			return 0, err
		}
		d.start, d.cr = true, false
		p = p[i+1:]
	}
	return n, nil
}

// Undotted returns a reader of the block that ends in a dot on a line of its
// own (RFC 5321 §4.5.2), with the stuffing taken out and CRLF at the end of
// each line. Nothing but CRLF.CRLF ends it: a line over the limit or with a
// bare CR or LF fails the read with ErrTooLong or ErrLineEnd.
func (c *Conn) Undotted() io.Reader { return &undotted{c: c} }

type undotted struct {
	c    *Conn
	buf  []byte
	rest []byte
	done error
}

func (u *undotted) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(u.rest) == 0 {
			if u.done != nil || n > 0 && u.c.r.Buffered() == 0 {
				break
			}
			u.next()
			continue
		}
		k := copy(p[n:], u.rest)
		u.rest, n = u.rest[k:], n+k
	}
	if n == 0 {
		return 0, u.done
	}
	return n, nil
}

func (u *undotted) next() {
	line, err := u.c.line(u.buf[:0])
	u.buf = line
	switch {
	case err == io.EOF:
		u.done = io.ErrUnexpectedEOF
	case err != nil:
		u.done = err
	case len(line) == 1 && line[0] == '.':
		u.done = io.EOF
	default:
		u.buf = append(line, '\r', '\n')
		u.rest = bytes.TrimPrefix(u.buf, []byte("."))
	}
}
