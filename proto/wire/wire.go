// Package wire carries lines, blocks and literals between a client and a
// session, bounded in length and in time.
//
// Replies wait in a buffer until the next read would block, so a client that
// sends commands in a group is answered in a group (RFC 2920 §3.2).
//
// What a conversation costs does not grow with what it carries: nothing while
// the client is silent and has said all of a line, a pooled buffer while it
// speaks, and one more while replies wait to go out.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

var (
	// ErrTooLong reports a line over the limit. It has been skipped up to its
	// end; the conversation may go on.
	ErrTooLong = errors.New("line too long")

	// ErrEndless reports a line so far over the limit that nobody waits for
	// its end. The conversation cannot go on.
	ErrEndless = errors.New("line without end")

	// ErrLineEnd reports a CR without LF or an LF without CR (RFC 5321
	// §2.3.8). A line has been skipped; what follows may be anything. Behind a
	// block nobody knows what follows: there the conversation cannot go on.
	ErrLineEnd = errors.New("bare CR or LF")

	// ErrInjected reports octets that arrived in the clear behind STARTTLS
	// (CVE-2011-0411). Nobody may act on them: the session ends.
	ErrInjected = errors.New("octets in the clear behind STARTTLS")

	// ErrStopped reports that Stop was called before the client spoke.
	ErrStopped = errors.New("stopped")
)

const (
	small = 4 << 10  // octets of the buffer a line comes into
	large = 32 << 10 // octets of the buffers for blocks and for replies

	endless = 1 << 20 // octets beyond which nobody waits for the end of a line

	// minRate is how many octets a second a client has to keep up through a
	// block, on top of one idle time in all. Fewer is no slow line but somebody
	// who holds the session open (slowloris).
	minRate = 500

	maxHandshake = time.Minute
	maxWrite     = 5 * time.Minute // for what one buffer holds
)

// A Conn is one conversation. But for Stop and Wake it is not safe for
// concurrent use.
type Conn struct {
	nc    net.Conn // the client, behind TLS once that has begun
	raw   net.Conn // the client as New got it
	limit int
	idle  time.Duration

	bareLF bool // a line may end in LF alone

	vessel               // what the client has sent and nobody has read
	intake               // how it comes in
	squeeze *squeeze     // compression; nil: none
	out     []byte       // what waits to go out
	outbuf  *[large]byte // where out lies; nil when nothing waits
	outErr  error        // of the first write that failed; nothing is written after it

	stopped atomic.Bool
	alarm   alarm
}

// New returns a Conn that takes lines of at most limit octets, CRLF counted,
// and gives up after idle without a whole line from the client.
func New(nc net.Conn, limit int, idle time.Duration) *Conn {
	c := &Conn{nc: nc, raw: nc, limit: limit, idle: idle}
	c.intake.begin(nc)
	return c
}

// SetIdle changes how long the client may keep silent.
func (c *Conn) SetIdle(d time.Duration) { c.idle = d }

// SetLimit changes how many octets a line may have, CRLF counted.
func (c *Conn) SetLimit(n int) { c.limit = n }

// AllowLF lets lines end in LF alone, as a person types them into a pipe. It is
// for protocols in which nobody takes what is sent for something else: never
// for SMTP.
func (c *Conn) AllowLF() { c.bareLF = true }

// RemoteAddr is the other end, as the operating system tells it.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Pause makes a client wait that asks for it, unless ctx ends first. What was said
// before goes out first.
func (c *Conn) Pause(ctx context.Context, d time.Duration) {
	c.Flush()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Hangup sends what is queued and tells the client that nothing more comes. The
// connection stays for its owner to close, who can let the client take it all:
// a close with octets of the client unread would destroy what is on its way.
func (c *Conn) Hangup() error {
	err := c.Flush()
	if t, ok := c.nc.(*tls.Conn); ok && err == nil {
		err = t.CloseWrite()
	}
	c.giveBack()
	return err
}

// Close sends what is queued and hangs up.
func (c *Conn) Close() error {
	err := errors.Join(c.Flush(), c.nc.Close())
	c.giveBack()
	return err
}

// Stop makes every wait for the client fail with ErrStopped, the one under way
// too. What has reached us can still be read, and replies can still be sent.
// It may be called while another goroutine uses the Conn.
func (c *Conn) Stop() {
	c.stopped.Store(true)
	c.raw.SetReadDeadline(past)
}

var past = time.Unix(1, 0)

// Buffered says how many octets the client has sent that nobody has read yet,
// as far as they have reached us.
func (c *Conn) Buffered() int { return c.w - c.r }

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
	if c.Buffered() > 0 {
		return ErrInjected
	}
	if err := c.Flush(); err != nil {
		return err
	}
	t := tls.Server(c.nc, config)
	if err := c.handshake(t); err != nil {
		return err
	}
	c.nc = t
	c.intake.begin(t)
	return nil
}

func (c *Conn) handshake(t *tls.Conn) error {
	c.raw.SetDeadline(time.Now().Add(min(c.idle, maxHandshake)))
	if c.stopped.Load() {
		return ErrStopped
	}
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.raw.SetDeadline(time.Time{})
	return nil
}

// timedOut says whether err is that of a deadline.
func timedOut(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
