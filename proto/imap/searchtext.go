package imap

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"golang.org/x/text/encoding"

	"pennypost/proto/mimetree"
)

// text is BODY, which matches no header field, and with headers TEXT. It sees
// what a reader sees: texts in their charset without their transfer encoding,
// HTML without its tags, headers decoded (RFC 9051 §6.4.4).
type text struct {
	needle  needle
	headers bool
}

func (text) cost() cost { return byBody }

func (k text) name() string {
	if k.headers {
		return "TEXT " + k.needle.text
	}
	return "BODY " + k.needle.text
}

var errFound = errors.New("found")

func (k text) match(c *candidate) (bool, error) {
	if err := c.open(); err != nil {
		return false, err
	}
	switch {
	case k.needle.empty():
		return true, nil
	case c.src.text != nil:
		return k.inMemory(c.batch, c.src.text), nil
	}
	return k.inFile(c.batch, c.src)
}

// inMemory looks into a message that is in memory.
func (k text) inMemory(b *batch, message []byte) bool {
	return k.inPart(b, message, mimetree.Outline(message))
}

func (k text) inPart(b *batch, message []byte, p *mimetree.Part) bool {
	if k.headers && k.needle.inHeader(mimetree.Header(message[p.Header.Start:p.Header.End]), &b.folded) {
		return true
	}
	if isText(p) && k.needle.inBody(b, p.Content, message[p.Body.Start:p.Body.End]) {
		return true
	}
	for _, q := range p.Parts {
		if k.inPart(b, message, q) {
			return true
		}
	}
	return p.Message != nil && k.inPart(b, message, p.Message)
}

// isText says whether the body of a part is text. A message that is not looked
// into, since it is encoded, is taken for one.
func isText(p *mimetree.Part) bool {
	return p.Type == "text" || p.Type == "message" && p.Message == nil
}

func isHTML(p *mimetree.Content) bool { return p.Type == "text" && p.Subtype == "html" }

// inHeader looks for the needle in each field of a header as a reader sees it,
// and in each line that has no encoded word: not every line belongs to a field.
func (n *needle) inHeader(h mimetree.Header, room *[]byte) bool {
	ascii := isASCII(h)
	here := n.in(h, room)
	if ascii && !here && !bytes.Contains(h, []byte("=?")) {
		return false // nor is it in one of the fields
	}
	for f := range h.All() {
		text := bytes.TrimRight(f.Raw, " \t\r\n")
		if (!ascii && !isASCII(text)) || bytes.Contains(text, []byte("=?")) {
			text = []byte(string(f.Name) + ": " + mimetree.DecodeWords(f.Text()))
		}
		if n.in(text, room) {
			return true
		}
	}
	if here {
		for line := range bytes.Lines(h) {
			if !bytes.Contains(line, []byte("=?")) && n.in(line, room) {
				return true
			}
		}
	}
	return false
}

// inField looks for the needle in the value of a field.
func (n *needle) inField(f mimetree.Field, room *[]byte) bool { return n.in(fieldText(f), room) }

// fieldText is the value of a field as a reader sees it, but for its line ends.
func fieldText(f mimetree.Field) []byte {
	if isASCII(f.Value) && !bytes.Contains(f.Value, []byte("=?")) {
		return bytes.Trim(f.Value, " \t\r\n")
	}
	return []byte(mimetree.DecodeWords(f.Text()))
}

// inBody looks for the needle in the body of a part.
func (n *needle) inBody(b *batch, c *mimetree.Content, body []byte) bool {
	if c.Encoding != "" {
		b.decoded = mimetree.AppendDecoded(b.decoded[:0], body, c.Encoding)
		body = b.decoded
	}
	if charset := c.Charset(); !isASCII(body) || !likeASCII(charset) {
		b.text = appendUTF8(b.text[:0], body, charset)
		body = b.text
	}
	if isHTML(c) {
		var h htmlText
		b.plain = h.appendText(b.plain[:0], body, true)
		body = b.plain
	}
	return n.in(body, &b.folded)
}

// An appender is written to.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// appendUTF8 appends text in a charset.
func appendUTF8(to, text []byte, charset string) []byte {
	a := &appender{to}
	w, _ := mimetree.NewTextWriter(a, charset)
	w.Write(text)
	w.Close()
	return a.b
}

// likeASCII says whether octets below 128 are in a charset what they are in
// ASCII.
func likeASCII(charset string) bool {
	e, ok := mimetree.Charset(charset)
	if !ok || e == encoding.Nop {
		return true
	}
	if yes, ok := asciiCharsets.Load(e); ok {
		return yes.(bool)
	}
	const probe = "Az 09+AGE-~{VPND~}\x1b$B$\"\x1b(B\x0eAB\x0f"
	text, err := e.NewDecoder().String(probe)
	yes := err == nil && text == probe
	asciiCharsets.Store(e, yes)
	return yes
}

// asciiCharsets is what likeASCII knows, by encoding: of those there are a few.
var asciiCharsets sync.Map

// inFile looks into a message that is too large to be held, while it is read.
func (k text) inFile(b *batch, src *source) (bool, error) {
	o := &mimetree.Options{
		Begin: func(_ string, p *mimetree.Part, h mimetree.Header) io.Writer {
			hay := &haystack{needle: k.needle}
			hay.found = k.headers && k.needle.inHeader(h, &b.folded)
			if hay.found || isText(p) {
				return hay.decoding(p)
			}
			return nil
		},
		End: func(p *mimetree.Part, w io.Writer) error {
			d, ok := w.(*decoded)
			if !ok {
				return nil
			}
			return d.Close()
		},
	}
	_, err := mimetree.Parse(io.NewSectionReader(src, 0, src.stored), o)
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// A haystack is text in UTF-8 that is searched as it is written.
type haystack struct {
	needle needle
	html   *htmlText // takes the tags out; nil: there are none
	plain  []byte
	tail   []byte // the end of what was there, folded
	found  bool
}

// Write searches p and what came before it. It fails with errFound.
func (h *haystack) Write(p []byte) (int, error) {
	if h.html != nil {
		h.plain = h.html.appendText(h.plain[:0], p, false)
		h.look(h.plain)
	} else {
		h.look(p)
	}
	if h.found {
		return 0, errFound
	}
	return len(p), nil
}

func (h *haystack) look(text []byte) {
	if h.found {
		return
	}
	h.tail = fold(h.tail, text)
	if h.needle.inFolded(h.tail) {
		h.found = true
		return
	}
	if keep := len(h.needle.text) - 1; len(h.tail) > keep {
		h.tail = h.tail[:copy(h.tail, h.tail[len(h.tail)-keep:])]
	}
}

// Close searches what was held back.
func (h *haystack) Close() {
	if h.html != nil {
		h.look(h.html.appendText(h.plain[:0], nil, true))
	}
}

// A decoded is the body of a part on its way to a haystack.
type decoded struct {
	h *haystack
	w io.WriteCloser // through the transfer encoding and the charset
	c io.WriteCloser // through the charset
}

func (h *haystack) decoding(p *mimetree.Part) *decoded {
	if isHTML(p.Content) {
		h.html = &htmlText{}
	}
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
	d.h.Close()
	if d.h.found {
		return errFound
	}
	return nil
}
