package wire

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
)

// A squeeze is the compression of a conversation (RFC 4978). While nobody says
// anything it holds what the client may refer to, and what we may: at most 32
// and 8 KiB.
type squeeze struct {
	inflater
	raw  vessel // what has come and was not yet inflated
	err  error  // of what has come
	tail []byte // the last octets sent
}

// Deflaters are large: they are lent for as long as it takes to compress what one
// buffer holds, not for as long as the client takes to read that.
var (
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, flate.BestSpeed) // which is a level that there is
		return w
	}}
	deflated = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// maxTail is how far back our copies reach beyond what is sent at a time.
const maxTail = 8 << 10

// Compress sends what is queued; from then on, what goes to the client and what
// comes from it is compressed by DEFLATE (RFC 4978 §3). What is Buffered was not.
func (c *Conn) Compress() error {
	err := c.Flush()
	if err == nil {
		c.squeeze = new(squeeze)
	}
	return err
}

// Compressed tells whether Compress was called.
func (c *Conn) Compressed() bool { return c.squeeze != nil }

// fill inflates into the empty buffer of c: no more than it has room for.
func (z *squeeze) fill(c *Conn, block bool, until time.Time) error {
	for {
		c.take(block)
		n, err := z.inflate(c.in)
		if n > 0 {
			c.w = n
			return nil
		}
		c.giveBack()
		if err != nil {
			return err
		}
		if err := c.draw(&z.raw, false, until); err != nil {
			return err
		}
	}
}

// receive inflates into p.
func (z *squeeze) receive(c *Conn, p []byte, until time.Time) (int, error) {
	for {
		if n, err := z.inflate(p); n > 0 || err != nil {
			return n, err
		}
		if err := c.draw(&z.raw, false, until); err != nil {
			return 0, err
		}
	}
}

// inflate is read on what has come; the buffer that is empty then is given back.
func (z *squeeze) inflate(p []byte) (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	n, used, err := z.read(p, z.raw.in[z.raw.r:z.raw.w])
	if z.raw.r += used; z.raw.r == z.raw.w {
		z.raw.giveBack()
	}
	if z.err = err; n > 0 {
		return n, nil
	}
	return 0, err
}

// deflate writes p to the client, and whatever is needed for it to be read at
// once.
func (z *squeeze) deflate(to io.Writer, p []byte) error {
	out := deflated.Get().(*bytes.Buffer)
	defer deflated.Put(out)
	out.Reset()
	w := deflaters.Get().(*flate.Writer)
	w.ResetDict(out, z.tail)
	_, err := w.Write(p)
	if err == nil {
		err = w.Flush()
	}
	w.ResetDict(nil, nil)
	deflaters.Put(w)
	if err == nil {
		_, err = to.Write(out.Bytes())
	}
	z.tail = append(z.tail, p[max(0, len(p)-maxTail):]...)
	if n := len(z.tail) - maxTail; n > 0 {
		z.tail = z.tail[:copy(z.tail, z.tail[n:])]
	}
	return err
}

// forget gives back what is needed only for the next reply to be the shorter.
func (z *squeeze) forget() {
	if z != nil {
		z.tail = nil
	}
}
