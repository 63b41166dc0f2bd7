package mimetree

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// A Decoder undoes a content transfer encoding (RFC 2045 §6) while a body is written to it. Nothing
// it reads makes it fail; Write and Close return the errors of the writer below only.
type Decoder struct {
	w        io.Writer
	step     func(d *Decoder, p []byte, last bool) []byte // returns what cannot be decoded yet
	rest     []byte
	out      []byte
	b64      base64Decoder
	uu       uuState
	problems []Problem
}

// NewDecoder returns a decoder for an encoding as in Content.Encoding. ok is false when the
// encoding is not known: octets then pass as they are.
func NewDecoder(w io.Writer, encoding string) (d *Decoder, ok bool) {
	d = &Decoder{w: w}
	if d.step, ok = stepOf(encoding); !ok {
		d.problem("unknown-encoding", "a transfer encoding that is not known: the octets are left as they are")
	}
	return d, ok
}

// stepOf finds how an encoding is undone; nil when there is nothing to undo.
func stepOf(encoding string) (step func(d *Decoder, p []byte, last bool) []byte, ok bool) {
	word, _, _ := strings.Cut(encoding, " ")
	switch word {
	case "base64":
		return (*Decoder).base64, true
	case "quoted-printable":
		return (*Decoder).qp, true
	case "x-uuencode", "uuencode", "x-uue", "uue":
		return (*Decoder).uudecode, true
	case "", "7bit", "8bit", "binary", "7-bit", "8-bit", "7", "8", "7bits", "8bits", "none":
		return nil, true
	}
	return nil, false
}

func (d *Decoder) problem(code, text string) {
	for _, p := range d.problems {
		if p.Code == code {
			return
		}
	}
	d.problems = append(d.problems, Problem{code, text})
}

// Problems lists what was wrong with the content; complete after Close.
func (d *Decoder) Problems() []Problem { return d.problems }

// Write takes a piece of the body as stored.
func (d *Decoder) Write(p []byte) (int, error) {
	if d.step == nil {
		return d.w.Write(p)
	}
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), maxLine)
		if err := d.run(p[:k], false); err != nil {
			return n - len(p), err
		}
		p = p[k:]
	}
	return n, nil
}

// run decodes what was held back and p.
func (d *Decoder) run(p []byte, last bool) error {
	if d.out == nil {
		d.out = make([]byte, 0, len(p))
	}
	d.out = d.out[:0]
	if len(d.rest) > 0 {
		d.rest = append(d.rest, p...)
		p = d.rest
	}
	d.rest = append(d.rest[:0], d.step(d, p, last)...) // of what it may be a part of: append copies as memmove
	if len(d.out) == 0 {
		return nil
	}
	_, err := d.w.Write(d.out)
	return err
}

// Close decodes what is left. It does not close the writer below.
func (d *Decoder) Close() error {
	if d.step == nil {
		return nil
	}
	return d.run(nil, true)
}

// decoders are those that AppendDecoded uses.
var decoders = sync.Pool{New: func() any { return new(Decoder) }}

// AppendDecoded appends a body that is in memory without its content transfer encoding.
func AppendDecoded(to, body []byte, encoding string) []byte {
	step, _ := stepOf(encoding)
	if step == nil {
		return append(to, body...)
	}
	d := decoders.Get().(*Decoder)
	d.out = to
	if rest := step(d, body, true); len(rest) > 0 {
		step(d, rest, true)
	}
	to = d.out
	*d = Decoder{b64: base64Decoder{flat: d.b64.flat[:0]}}
	decoders.Put(d)
	return to
}

func (d *Decoder) base64(p []byte, last bool) []byte {
	d.out = d.b64.stretch(d.out, p)
	if last {
		if d.b64.n > 0 {
			d.problem("base64-cut", "base64 ends without its padding")
		}
		d.out = d.b64.finish(d.out)
		if d.b64.foreign {
			d.problem("base64-foreign", "characters that are not of base64")
		}
	}
	return nil
}

const maxLine = 64 << 10 // octets of a line that are held back to see its end

// qp decodes quoted-printable (RFC 2045 §6.7). Line ends stay as they are stored; an equals sign
// before anything but hexadecimal digits or a line end is itself, and blanks at the end of a
// line, which only transport adds, go.
func (d *Decoder) qp(p []byte, last bool) []byte {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		switch {
		case i >= 0:
			d.qpLine(p[:i], p[:i+1])
			p = p[i+1:]
		case last:
			d.qpLine(p, p)
			return nil
		case len(p) < maxLine:
			return p
		default: // a line without end: decode but for what may go on
			cut := len(p) - 2
			for cut > 0 && (p[cut-1] == ' ' || p[cut-1] == '\t' || p[cut-1] == '=' || p[cut-1] == '\r' || cut > 1 && p[cut-2] == '=') {
				cut--
			}
			if cut < len(p)/2 {
				cut = len(p) - 2 // blanks without end
			}
			d.qpText(p[:cut])
			return p[cut:]
		}
	}
	return nil
}

// qpLine decodes a line; whole is with its LF, if it has one.
func (d *Decoder) qpLine(line, whole []byte) {
	text := bytes.TrimRight(line, " \t\r")
	end := whole[len(line):]
	if n := len(line); n > 0 && line[n-1] == '\r' && len(end) > 0 {
		end = whole[n-1:]
	} else if len(end) == 0 && len(bytes.TrimRight(line, " \t")) > len(text) {
		text = bytes.TrimRight(line, " \t") // a CR at the very end
	}
	if n := len(text); n > 0 && text[n-1] == '=' {
		text, end = text[:n-1], nil // a soft line break
	}
	d.qpText(text)
	d.out = append(d.out, end...)
}

func (d *Decoder) qpText(p []byte) {
	for {
		i := bytes.IndexByte(p, '=')
		if i < 0 {
			d.out = append(d.out, p...)
			return
		}
		d.out = append(d.out, p[:i]...)
		p = p[i:]
		if len(p) > 2 && unhex[p[1]] < 16 && unhex[p[2]] < 16 {
			d.out = append(d.out, unhex[p[1]]<<4|unhex[p[2]])
			p = p[3:]
			continue
		}
		d.problem("qp-bad-escape", "an equals sign that begins no quoted-printable code")
		d.out = append(d.out, '=')
		p = p[1:]
	}
}

// A uuState says where in uuencoded data a decoder is.
type uuState int

const (
	uuBefore uuState = iota // no begin line yet
	uuInside
	uuAfter
)

// uudecode decodes uuencoded data between its begin and end lines.
func (d *Decoder) uudecode(p []byte, last bool) []byte {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		var line []byte
		switch {
		case i >= 0:
			line, p = p[:i], p[i+1:]
		case last || len(p) >= maxLine:
			line, p = p, nil
		default:
			return p
		}
		line = bytes.TrimRight(line, "\r")
		switch {
		case d.uu == uuBefore:
			if bytes.HasPrefix(line, []byte("begin ")) {
				d.uu = uuInside
			}
		case d.uu == uuAfter:
		case string(bytes.TrimRight(line, " ")) == "end":
			d.uu = uuAfter
		case len(line) > 0:
			d.out = uuLine(d.out, line)
		}
	}
	if last && d.uu != uuAfter {
		d.problem("uu-cut", "uuencoded data without begin or end")
	}
	return nil
}

// uuLine decodes one line: a length, then four characters for three octets. Blanks cut off at its
// end are zeros.
func uuLine(to, line []byte) []byte {
	n := int(line[0]-' ') & 0x3f
	at := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 0x3f
		}
		return 0
	}
	for i := 1; n > 0; i, n = i+4, n-3 {
		a, b, c, e := at(i), at(i+1), at(i+2), at(i+3)
		three := [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | e}
		to = append(to, three[:min(n, 3)]...)
	}
	return to
}
