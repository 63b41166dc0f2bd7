package mimetree

import (
	"bytes"
	"slices"

	"github.com/segmentio/asm/base64"
)

// base64Values is the value of each character of the base64 alphabet (RFC 2045 §6.8), and a class
// for the others.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = base64Foreign
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['='] = base64Pad
	for _, c := range []byte(" \t\r\n") {
		t[c] = base64Blank
	}
	return t
}()

const (
	base64Pad     = 64 + iota // =
	base64Blank               // a line end or blank
	base64Foreign             // what RFC 2045 §6.8 says to pass over
)

// A base64Decoder decodes base64 as mail has it: other characters are passed over, padding may be
// missing, and after padding another stretch may begin.
type base64Decoder struct {
	bits    uint32
	n       int  // characters in bits
	foreign bool // met characters outside the alphabet
	cut     bool // a stretch ended in a single character
	flat    []byte
}

// stretch is append for many octets: lines of nothing but base64 are put together and decoded at once.
// Anything else in them leaves the whole to append.
func (d *base64Decoder) stretch(to, src []byte) []byte {
	for d.n > 0 && len(src) > 0 {
		to = d.append(to, src[:1])
		src = src[1:]
	}
	d.flat = d.flat[:0]
	for rest := src; len(rest) > 0; {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		d.flat = append(d.flat, line...)
	}
	whole := len(d.flat) &^ 3
	start := len(to)
	to = slices.Grow(to, whole/4*3+64)
	n, err := base64.StdEncoding.Decode(to[start:start+whole/4*3], d.flat[:whole])
	if err != nil || whole > 0 && d.flat[whole-1] == '=' && whole < len(d.flat) {
		return d.append(to[:start], src)
	}
	return d.append(to[:start+n], d.flat[whole:])
}

// append decodes src behind what is in to.
func (d *base64Decoder) append(to, src []byte) []byte {
	for i := 0; i < len(src); {
		// Whole quads, as most of them are.
		if d.n == 0 {
			for i+4 <= len(src) {
				a, b, c, e := base64Values[src[i]], base64Values[src[i+1]], base64Values[src[i+2]], base64Values[src[i+3]]
				if a|b|c|e >= 64 {
					break
				}
				v := uint32(a)<<18 | uint32(b)<<12 | uint32(c)<<6 | uint32(e)
				to = append(to, byte(v>>16), byte(v>>8), byte(v))
				i += 4
			}
			if i == len(src) {
				break
			}
		}
		switch v := base64Values[src[i]]; {
		case v < 64:
			d.bits = d.bits<<6 | uint32(v)
			if d.n++; d.n == 4 {
				to = append(to, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
				d.bits, d.n = 0, 0
			}
		case v == base64Pad:
			to = d.finish(to)
		case v == base64Foreign:
			d.foreign = true
		}
		i++
	}
	return to
}

// finish ends a stretch: two characters are one octet, three are two.
func (d *base64Decoder) finish(to []byte) []byte {
	switch d.n {
	case 1:
		d.cut = true
	case 2:
		to = append(to, byte(d.bits>>4))
	case 3:
		to = append(to, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.n = 0, 0
	return to
}
