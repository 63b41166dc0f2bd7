package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/delivery"
	"pennypost/proto/smtp"
	"pennypost/proto/wire"
)

// session is -bs: SMTP with whoever has called us, who may send mail anywhere.
func (p *program) session(ctx context.Context) error {
	c := newPipe(p.stdin, p.stdout)
	defer c.Close()
	s := &smtp.Session{
		Conn: wire.New(c, 2048, time.Hour), Name: p.post.Office.Me(), Log: p.post.Log, Idle: time.Hour, Trusted: true,
		Check: func(_ context.Context, _ *smtp.Envelope, rcpt string) error {
			addr, err := p.qualify(rcpt)
			if err != nil {
				return &smtp.Error{Code: 553, Status: "5.1.3", Text: "bad address"}
			}
			return reply(p.post.Check(addr))
		},
		Deliver: p.deliver,
	}
	return s.Serve(ctx)
}

func (p *program) deliver(ctx context.Context, e *smtp.Envelope, r io.Reader) (string, error) {
	m := delivery.Message{From: e.From, EightBit: e.EightBit, Trace: e.Trace, Submission: true, Gateway: p.gateway, Patient: true}
	var err error
	if e.From != "" {
		if m.From, err = p.qualify(e.From); err != nil {
			return "", &smtp.Error{Code: 553, Status: "5.1.7", Text: "bad sender"}
		}
	}
	m.Name = p.fullName(m.From)
	for _, to := range e.To {
		if to, err = p.qualify(to); err != nil {
			return "", &smtp.Error{Code: 553, Status: "5.1.3", Text: "bad address"}
		}
		m.To = append(m.To, delivery.Recipient{Address: to})
	}
	id, err := p.post.Send(ctx, m, r)
	return id, reply(err)
}

// reply gives an error the words of SMTP.
func reply(err error) error {
	if r, ok := errors.AsType[*delivery.Refusal](err); ok {
		return &smtp.Error{Code: r.Code, Status: r.Status, Text: r.Text}
	}
	switch {
	case errors.Is(err, delivery.ErrRemote):
		return nil
	case errors.Is(err, account.ErrUnknown):
		return &smtp.Error{Code: 550, Status: "5.1.1", Text: "no such user here"}
	case errors.Is(err, account.ErrSyntax):
		return &smtp.Error{Code: 553, Status: "5.1.3", Text: "bad address"}
	case errors.Is(err, account.ErrLoop):
		return &smtp.Error{Code: 554, Status: "5.4.6", Text: "aliases lead in a circle"}
	}
	return err
}

// A pump reads in a goroutine of its own, so that nobody who waits for it has to
// wait for ever. What it reads from need be no socket and may be shared with
// other processes: its mode is left alone.
type pump struct {
	in   chan chunk
	stop chan struct{}
	rest []byte
	err  error
}

type chunk struct {
	data []byte
	err  error
}

func newPump(in io.Reader) *pump {
	p := &pump{in: make(chan chunk), stop: make(chan struct{})}
	go func() {
		for {
			buf := make([]byte, 32<<10)
			n, err := in.Read(buf)
			select {
			case p.in <- chunk{buf[:n], err}:
			case <-p.stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// untilDone reads from the pump until ctx ends.
type untilDone struct {
	*pump
	ctx context.Context
}

func (u untilDone) Read(b []byte) (int, error) {
	for len(u.rest) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		select {
		case c := <-u.in:
			u.rest, u.err = c.data, c.err
		case <-u.ctx.Done():
			return 0, context.Cause(u.ctx)
		}
	}
	n := copy(b, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// A pipe makes a connection of the two descriptors. What comes in may end its
// lines with LF, as the caller is a local program.
type pipe struct {
	*pump
	last byte // octet read
	out  io.Writer
	once sync.Once

	mu     sync.Mutex
	moved  chan struct{} // closed when the deadline moves
	expiry time.Time
}

func newPipe(in io.Reader, out io.Writer) *pipe {
	return &pipe{pump: newPump(in), out: out, moved: make(chan struct{})}
}

// crlf puts a CR before each LF that has none.
func crlf(data []byte, last *byte) []byte {
	out := make([]byte, 0, len(data)+bytes.Count(data, []byte("\n")))
	for _, c := range data {
		if c == '\n' && *last != '\r' {
			out = append(out, '\r')
		}
		out = append(out, c)
		*last = c
	}
	return out
}

func (p *pipe) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		p.mu.Lock()
		moved, expiry := p.moved, p.expiry
		p.mu.Unlock()
		var timer <-chan time.Time
		if !expiry.IsZero() {
			timer = time.After(time.Until(expiry))
		}
		select {
		case c := <-p.in:
			p.rest, p.err = crlf(c.data, &p.last), c.err
		case <-timer:
			return 0, os.ErrDeadlineExceeded
		case <-moved:
		case <-p.stop:
			return 0, net.ErrClosed
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) { return p.out.Write(b) }

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.stop) })
	return nil
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expiry = t
	close(p.moved)
	p.moved = make(chan struct{})
	return nil
}

func (p *pipe) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (p *pipe) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
