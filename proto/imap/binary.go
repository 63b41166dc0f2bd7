package imap

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"

	"pennypost/proto/mimetree"
)

// errCTE says that a part has a transfer encoding that is not known (RFC 3516
// §4.3, UNKNOWN-CTE).
var errCTE = errors.New("unknown transfer encoding")

// appendBinary appends the answer to BINARY[…] and BINARY.SIZE[…] (RFC 3516
// §4.3, RFC 9051 §7.5.2). The part is decoded twice: to count, then to send.
func appendBinary(b []byte, src *source, it fetchItem) ([]byte, streamer, error) {
	d, there, err := src.decoded(it)
	if err != nil {
		return b, nil, err
	}
	if there {
		if err := d.count(); err != nil {
			return b, nil, err
		}
	}
	switch {
	case it.counted:
		return strconv.AppendInt(b, d.size, 10), nil, nil
	case !there:
		return append(b, "NIL"...), nil, nil
	case d.nul:
		b = append(b, '~') // literal8
	}
	b = append(b, '{')
	b = strconv.AppendInt(b, d.size, 10)
	b = append(b, "}\r\n"...)
	if d.size == 0 {
		return b, nil, nil
	}
	return b, d, nil
}

// A decodedStretch is a body on its way to the client without its transfer
// encoding.
type decodedStretch struct {
	stretch
	encoding string
	skip     int64 // octets that are left out at the beginning
	most     int64 // octets that are wanted of the rest

	size int64 // octets that follow, once they are counted
	nul  bool  // one of them is NUL
}

// decoded finds what BINARY[…] stands for; false if there is no such part. The
// message itself has no transfer encoding, and a part that has parts has none
// either (RFC 2045 §6.4).
func (src *source) decoded(it fetchItem) (d decodedStretch, there bool, err error) {
	d.skip, d.most = it.offset, math.MaxInt64
	if it.partial {
		d.most = it.most
	}
	part := src.tree.Find(it.number)
	if part == nil {
		return d, false, nil
	}
	span := part.Body
	switch {
	case it.number == "":
		span = mimetree.Span{Start: 0, End: src.stored, Size: part.Header.Size + part.Body.Size}
	case len(part.Parts) == 0 && part.Message == nil:
		head, err := src.slice(part.Header.Start, min(part.Header.End, part.Header.Start+maxHeader))
		if err != nil {
			return d, false, err
		}
		d.encoding = mimetree.ParseText(head).Encoding
	}
	if _, known := mimetree.NewDecoder(io.Discard, d.encoding); !known {
		return d, false, errCTE
	}
	d.stretch = stretch{r: src, text: src.text, raw: true, from: span.Start, to: span.End, size: span.Size}
	return d, true, nil
}

// count finds out how many octets will be sent.
func (d *decodedStretch) count() error {
	w := window{skip: d.skip, left: d.most}
	if err := d.decode(&w); err != nil {
		return err
	}
	d.size, d.nul = w.passed, w.nul
	return nil
}

func (d decodedStretch) writeTo(w io.Writer) error {
	win := window{w: w, skip: d.skip, left: d.size}
	if err := d.decode(&win); err != nil {
		return err
	}
	if win.left > 0 {
		return errTorn
	}
	return nil
}

// decode sends what is stored, with its lines as they are sent, through the
// decoder into w, until w has enough.
func (d *decodedStretch) decode(w *window) error {
	if d.stretch.size == 0 {
		return nil
	}
	decoder, _ := mimetree.NewDecoder(w, d.encoding)
	err := d.stretch.writeTo(decoder)
	if err == nil {
		err = decoder.Close()
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// A window lets the octets pass that are wanted, and fails with errEnough when
// it has had them.
type window struct {
	w          io.Writer // nil: they are counted only
	skip, left int64
	passed     int64
	nul        bool
}

func (w *window) Write(p []byte) (int, error) {
	n := len(p)
	k := min(w.skip, int64(n))
	w.skip -= k
	p = p[k:]
	p = p[:min(w.left, int64(len(p)))]
	w.nul = w.nul || bytes.IndexByte(p, 0) >= 0
	w.left -= int64(len(p))
	w.passed += int64(len(p))
	if w.w != nil && len(p) > 0 {
		if _, err := w.w.Write(p); err != nil {
			return 0, err
		}
	}
	if w.left == 0 {
		return n, errEnough
	}
	return n, nil
}

// partial = "PARTIAL" SP nz-number SP ("BODY" [".PEEK"] "[" section "]" /
// "RFC822" (([".TEXT"] [".PEEK"]) / ".HEADER")) SP number SP number
// (RFC 1730 §6.4.6). Octets are counted from 1.
func (s *Session) partial(p *parser) reply {
	p.sp()
	n := p.nzNumber()
	p.sp()
	it := p.fetchAtt()
	if (!it.section || it.partial || it.binary) && p.err == nil {
		p.fail("no part of this item")
	}
	p.sp()
	from := p.number64()
	p.sp()
	it.most = p.number64()
	if from == 0 && p.err == nil {
		p.fail("octets are counted from 1")
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	it.partial, it.plain, it.offset = true, true, from-1
	return s.fetchItems(p, numSet{{n, n}}, []fetchItem{it}, fetchModifiers{})
}
