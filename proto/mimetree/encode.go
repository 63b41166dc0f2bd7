package mimetree

import (
	"bytes"
	"io"

	"github.com/segmentio/asm/base64"
)

const (
	base64Line  = 57   // octets that make a line of 76 characters
	base64Block = 1024 // lines encoded at once
)

// NewBase64Writer returns a writer that encodes to base64 in lines of 76 characters that end in LF (RFC
// 2045 §6.8). Close writes what is left; it does not close w.
func NewBase64Writer(w io.Writer) io.WriteCloser {
	return &base64Writer{
		w: w, in: make([]byte, 0, base64Line*base64Block),
		flat: make([]byte, 76*base64Block), out: make([]byte, 0, 77*base64Block),
	}
}

// A base64Writer encodes many lines at once, which is what makes the vector code worth it, and then
// cuts them.
type base64Writer struct {
	w         io.Writer
	in        []byte
	flat, out []byte
}

func (b *base64Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(b.in) == 0 && len(p) >= cap(b.in) { // without a copy
			if err := b.encode(p[:cap(b.in)]); err != nil {
				return 0, err
			}
			p = p[cap(b.in):]
			continue
		}
		k := min(cap(b.in)-len(b.in), len(p))
		b.in = append(b.in, p[:k]...)
		p = p[k:]
		if len(b.in) == cap(b.in) {
			if err := b.encode(b.in); err != nil {
				return 0, err
			}
			b.in = b.in[:0]
		}
	}
	return n, nil
}

func (b *base64Writer) encode(p []byte) error {
	flat := b.flat[:base64.StdEncoding.EncodedLen(len(p))]
	base64.StdEncoding.Encode(flat, p)
	b.out = b.out[:0]
	for len(flat) > 0 {
		k := min(76, len(flat))
		b.out = append(b.out, flat[:k]...)
		b.out = append(b.out, '\n')
		flat = flat[k:]
	}
	_, err := b.w.Write(b.out)
	return err
}

func (b *base64Writer) Close() error {
	if len(b.in) == 0 {
		return nil
	}
	err := b.encode(b.in)
	b.in = b.in[:0]
	return err
}

// NewQPWriter returns a writer that encodes text with LF to quoted-printable (RFC 2045 §6.7). Besides what
// must be encoded it encodes what transport is known to change: "From " at the beginning of a
// line, a line of one dot, blanks at the end of a line. A text whose last line has no end is
// decoded without one again. Close ends the text; it does not close w.
func NewQPWriter(w io.Writer) io.WriteCloser { return &qpWriter{w: w} }

type qpWriter struct {
	w    io.Writer
	rest []byte // a line without its end
	out  []byte
	col  int // characters in the line being written
	mid  bool
}

func (q *qpWriter) Write(p []byte) (int, error) {
	n := len(p)
	q.out = q.out[:0]
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			q.rest = append(q.rest, p...)
			if len(q.rest) > maxLine { // no need to see its end, but for its last octets
				keep := len(q.rest) - 8
				q.text(q.rest[:keep], false)
				q.rest = append(q.rest[:0], q.rest[keep:]...)
			}
			break
		}
		line := p[:i]
		if len(q.rest) > 0 {
			q.rest = append(q.rest, line...)
			line = q.rest
		}
		q.text(line, true)
		q.out = append(q.out, '\n')
		q.rest, q.col, q.mid = q.rest[:0], 0, false
		p = p[i+1:]
	}
	_, err := q.w.Write(q.out)
	return n, err
}

const upperHex = "0123456789ABCDEF"

// text encodes a line, or a piece of one when it is not the last.
func (q *qpWriter) text(p []byte, last bool) {
	from := !q.mid && bytes.HasPrefix(p, []byte("From "))
	dot := !q.mid && last && len(p) == 1 && p[0] == '.'
	q.mid = true
	for i, c := range p {
		plain := c > ' ' && c < 0x7f && c != '=' || (c == ' ' || c == '\t') && (!last || i < len(p)-1)
		if plain && !(i == 0 && (from || dot)) {
			if q.col >= 75 {
				q.soft()
				plain = c != 'F' && c != '.' && c != '-' // the line begins like what transport changes, or a boundary
			}
			if plain {
				q.out = append(q.out, c)
				q.col++
				continue
			}
		}
		if q.col+3 > 75 {
			q.soft()
		}
		q.out = append(q.out, '=', upperHex[c>>4], upperHex[c&15])
		q.col += 3
	}
}

// soft breaks the line where the text has no end.
func (q *qpWriter) soft() {
	q.out = append(q.out, '=', '\n')
	q.col = 0
}

func (q *qpWriter) Close() error {
	if len(q.rest) == 0 {
		return nil
	}
	q.out = q.out[:0]
	q.text(q.rest, true)
	q.out = append(q.out, '=', '\n')
	q.rest = nil
	_, err := q.w.Write(q.out)
	return err
}
