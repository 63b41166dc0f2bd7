package imap

import (
	"errors"
	"io"
	"strings"

	"pennypost/proto/mimetree"
)

// text is BODY, which matches no header field, and with headers TEXT. It sees
// what a reader sees: texts in their charset without their transfer encoding;
// headers decoded.
type text struct {
	needle  needle
	headers bool
}

func (text) cost() cost { return byBody }

var errFound = errors.New("found")

func (k text) match(c *candidate) (bool, error) {
	if err := c.open(); err != nil {
		return false, err
	}
	if len(k.needle) == 0 {
		return true, nil
	}
	o := &mimetree.Options{
		Begin: func(_ string, p *mimetree.Part, h mimetree.Header) io.Writer {
			hay := &haystack{needle: k.needle}
			if k.headers {
				for f := range h.All() {
					hay.line(string(f.Name) + ": " + mimetree.DecodeWords(f.Text()))
				}
			}
			if hay.found || p.Type == "text" || p.Type == "message" && !p.IsMessage() {
				return hay.decoding(p)
			}
			return nil
		},
		End: func(p *mimetree.Part, w io.Writer) error {
			hay, ok := w.(*decoded)
			if !ok {
				return nil
			}
			return hay.Close()
		},
	}
	_, err := mimetree.Parse(io.NewSectionReader(c.src, 0, c.src.stored), o)
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// A haystack is text in UTF-8 that is searched as it is written.
type haystack struct {
	needle needle
	tail   []byte // the end of what was there, folded
	found  bool
}

func (h *haystack) line(s string) { h.found = h.found || h.needle.in(s) }

// Write searches p and what came before it. It fails with errFound.
func (h *haystack) Write(p []byte) (int, error) {
	if h.found {
		return 0, errFound
	}
	h.tail = fold(h.tail, p)
	if h.needle.inFolded(h.tail) {
		h.found = true
		return 0, errFound
	}
	if keep := len(h.needle) - 1; len(h.tail) > keep {
		h.tail = h.tail[:copy(h.tail, h.tail[len(h.tail)-keep:])]
	}
	return len(p), nil
}

// decoded is the body of a part on its way to a haystack.
type decoded struct {
	h *haystack
	w io.WriteCloser // through the transfer encoding and the charset
	c io.WriteCloser // through the charset
}

func (h *haystack) decoding(p *mimetree.Part) *decoded {
	d := &decoded{h: h}
	d.c, _ = mimetree.NewTextWriter(h, p.Charset())
	d.w, _ = mimetree.NewDecoder(d.c, p.Encoding)
	return d
}

func (d *decoded) Write(p []byte) (int, error) {
	if d.h.found {
		return 0, errFound
	}
	n, err := d.w.Write(p)
	if d.h.found {
		return n, errFound
	}
	if err != nil {
		return len(p), nil // what cannot be decoded is not searched
	}
	return n, nil
}

func (d *decoded) Close() error {
	d.w.Close()
	d.c.Close()
	if d.h.found {
		return errFound
	}
	return nil
}

// A needle is the text that is searched for, folded.
type needle []byte

func newNeedle(s string) needle { return fold(nil, []byte(strings.ToValidUTF8(s, "\ufffd"))) }

func (n needle) in(s string) bool { return len(n) == 0 || n.inFolded(fold(nil, []byte(s))) }
