package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Buffers are lent: small ones to who has a line to read, large ones to who has
// a block to read or replies to send.
var (
	smalls  = sync.Pool{New: func() any { return new([small]byte) }}
	buffers = sync.Pool{New: func() any { return new([large]byte) }}
)

// A vessel holds octets between those who send and those who read. It has a
// buffer only while something is in it.
type vessel struct {
	in   []byte // in[r:w] is what has come and was not read
	r, w int
	line *[small]byte // in, one of the two
	lent *[large]byte
}

// take gets an empty buffer, for a block a large one.
func (v *vessel) take(block bool) {
	if block {
		v.lent = buffers.Get().(*[large]byte)
		v.in = v.lent[:]
	} else {
		v.line = smalls.Get().(*[small]byte)
		v.in = v.line[:]
	}
}

// giveBack returns the buffer with what is in it.
func (v *vessel) giveBack() {
	switch {
	case v.lent != nil:
		buffers.Put(v.lent)
	case v.line != nil:
		smalls.Put(v.line)
	}
	*v = vessel{}
}

// An intake is how octets come in without a buffer that waits for them.
type intake struct {
	wait  syscall.RawConn // of a bare socket
	try   func(fd uintptr) bool
	into  *vessel
	block bool
	n     int
	err   error

	octet [1]byte // the first one to come through TLS
}

// begin looks what nc is.
func (i *intake) begin(nc net.Conn) {
	*i = intake{}
	switch s := nc.(type) {
	case *net.TCPConn:
		i.wait, _ = s.SyscallConn()
	case *net.UnixConn:
		i.wait, _ = s.SyscallConn()
	}
	if i.wait != nil {
		i.try = i.receive
	}
}

// receive reads from a socket that may have nothing to say yet.
func (i *intake) receive(fd uintptr) bool {
	i.into.take(i.block)
	for {
		i.n, i.err = syscall.Read(int(fd), i.into.in)
		switch i.err {
		case nil:
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			i.into.giveBack()
			return false
		}
		return true
	}
}

// draw waits for the client and receives into v, which is empty.
func (c *Conn) draw(v *vessel, block bool, until time.Time) error {
	if err := c.listen(until); err != nil {
		return err
	}
	_, encrypted := c.nc.(*tls.Conn)
	var n int
	var err error
	switch {
	case c.wait != nil:
		n, err = c.drawBare(v, block)
	case encrypted:
		// How much TLS has in hand nobody can ask. So one octet is waited for, and the others are there or not.
		if n, err = c.read(c.octet[:]); err == nil {
			v.take(block)
			v.in[0] = c.octet[0]
			c.raw.SetReadDeadline(past)
			more, _ := c.nc.Read(v.in[1:]) // an error comes again
			n += more
		}
	default:
		v.take(block)
		n, err = c.read(v.in)
	}
	v.w = n
	if err != nil {
		v.giveBack()
	}
	return err
}

func (c *Conn) drawBare(v *vessel, block bool) (int, error) {
	c.into, c.block, c.n, c.err = v, block, 0, nil
	err := c.wait.Read(c.try)
	c.into = nil
	switch {
	case err != nil:
		return 0, c.why(err)
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Net: c.raw.RemoteAddr().Network(), Addr: c.raw.RemoteAddr(), Err: c.err}
	case c.n == 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// errWoken is what a read fails with that Wake has ended.
var errWoken = errors.New("woken")

// An alarm is what Wake rings.
type alarm struct {
	sync.Mutex
	rang bool
	set  bool // somebody waits for it
}

// rung tells whether Wake has ended the wait.
func (a *alarm) rung() bool {
	a.Lock()
	defer a.Unlock()
	return a.set && a.rang
}

// Wake ends an Await, the one under way or the next one. It never waits, and may be
// called while another goroutine uses the Conn.
func (c *Conn) Wake() {
	c.alarm.Lock()
	defer c.alarm.Unlock()
	c.alarm.rang = true
	if c.alarm.set {
		c.raw.SetReadDeadline(past)
	}
}

// Await returns true when the client has said something, false when it was
// woken or d has passed before that. What is queued goes out before the wait.
// The client's silence costs no memory but that of the Conn.
func (c *Conn) Await(d time.Duration) (spoke bool, err error) {
	if c.Buffered() > 0 {
		return true, nil
	}
	if err := c.Flush(); err != nil {
		return false, err
	}
	c.squeeze.forget()
	a := &c.alarm
	a.Lock()
	a.set = true
	a.Unlock()
	until := time.Now().Add(d)
	err = c.fill(false, until)
	a.Lock()
	woken := a.rang
	a.rang, a.set = false, false // nobody sets a deadline any more
	a.Unlock()
	switch {
	case c.Buffered() > 0:
		if woken { // not lost: the next one returns at once
			c.Wake()
		}
		return true, nil
	case errors.Is(err, errWoken), timedOut(err) && !time.Now().Before(until):
		return false, nil
	}
	return false, err
}
