package wire

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// Printf queues one line; the CRLF is added here and nowhere else.
func (c *Conn) Printf(format string, args ...any) {
	fmt.Fprintf(c, format, args...)
	c.WriteString("\r\n")
}

// Write queues p as it is.
func (c *Conn) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && c.outErr == nil {
		if len(p) >= large && len(c.out) == 0 { // no need to copy
			c.send(p[:large])
			p = p[large:]
			continue
		}
		k := min(len(p), c.room())
		c.out = append(c.out, p[:k]...)
		p = p[k:]
	}
	if c.outErr != nil {
		return 0, c.outErr
	}
	return n, nil
}

// WriteString queues s as it is.
func (c *Conn) WriteString(s string) (int, error) {
	n := len(s)
	for len(s) > 0 && c.outErr == nil {
		k := min(len(s), c.room())
		c.out = append(c.out, s[:k]...)
		s = s[k:]
	}
	if c.outErr != nil {
		return 0, c.outErr
	}
	return n, nil
}

// room is how many octets can be queued; it makes some when there is none.
func (c *Conn) room() int {
	if c.outbuf != nil && len(c.out) == large {
		c.send(c.out)
		c.out = c.out[:0]
	}
	if c.outbuf == nil {
		c.outbuf = buffers.Get().(*[large]byte)
		c.out = c.outbuf[:0]
	}
	return large - len(c.out)
}

// Flush sends what is queued.
func (c *Conn) Flush() error {
	if c.outbuf != nil {
		c.send(c.out)
		buffers.Put(c.outbuf)
		c.out, c.outbuf = nil, nil
	}
	return c.outErr
}

// send writes to the client, who has as long to take it as to speak.
func (c *Conn) send(p []byte) {
	if c.outErr != nil || len(p) == 0 {
		return
	}
	c.raw.SetWriteDeadline(time.Now().Add(min(c.idle, maxWrite)))
	if c.squeeze != nil {
		c.outErr = c.squeeze.deflate(c.nc, p)
		return
	}
	_, c.outErr = c.nc.Write(p)
}

// Dotted queues what body writes as a dot-stuffed block (RFC 1939 §3,
// RFC 5321 §4.5.2), turning bare LF into CRLF and ending the last line. A CR
// without LF goes out as it is.
//
// When body fails the block is left open, and Dotted returns the error: the
// caller hangs up, so that nobody takes the part for the whole.
func (c *Conn) Dotted(body func(io.Writer) error) error {
	d := &dotted{c: c, start: true}
	if err := body(d); err != nil {
		return err
	}
	switch {
	case d.cr:
		c.WriteString("\n.\r\n")
	case !d.start:
		c.WriteString("\r\n.\r\n")
	default:
		c.WriteString(".\r\n")
	}
	return c.outErr
}

type dotted struct {
	c     *Conn
	start bool // at the start of a line
	cr    bool // the last octet was CR
}

// Write copies a line at a time, straight into the buffer when it has room.
func (d *dotted) Write(p []byte) (int, error) {
	c, n := d.c, len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		line := p
		if i >= 0 {
			line, p = p[:i], p[i+1:]
			if i > 0 {
				d.cr = line[i-1] == '\r'
			}
		} else {
			p = nil
			d.cr = line[len(line)-1] == '\r'
		}
		// A dot before the line and CRLF behind it.
		if c.room() < len(line)+3 {
			if err := d.long(line, i >= 0); err != nil {
				return 0, err
			}
			continue
		}
		out := c.out
		if d.start && len(line) > 0 && line[0] == '.' {
			out = append(out, '.')
		}
		out = append(out, line...)
		d.start = false
		if i >= 0 {
			if !d.cr {
				out = append(out, '\r')
			}
			out = append(out, '\n')
			d.start, d.cr = true, false
		}
		c.out = out
	}
	return n, c.outErr
}

// long queues a line that may not fit in what is left of the buffer.
func (d *dotted) long(line []byte, ended bool) error {
	if d.start && len(line) > 0 && line[0] == '.' {
		d.c.WriteString(".")
	}
	d.c.Write(line)
	d.start = false
	if ended {
		if !d.cr {
			d.c.WriteString("\r")
		}
		d.c.WriteString("\n")
		d.start, d.cr = true, false
	}
	return d.c.outErr
}
