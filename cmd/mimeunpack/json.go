package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"pennypost/proto/mimetree"
)

// The JSON form of a message: one object on one line. Absent strings are null, so that a script can
// tell them from empty ones.
type jsonMessage struct {
	File     string        `json:"file"`
	Bytes    int64         `json:"bytes"`
	Headers  *jsonHeaders  `json:"headers"`
	Parts    []*jsonPart   `json:"parts"`
	Problems []jsonProblem `json:"problems"`
}

type jsonHeaders struct {
	Subject   *string       `json:"subject"`
	From      []jsonAddress `json:"from"`
	To        []jsonAddress `json:"to"`
	Cc        []jsonAddress `json:"cc"`
	Date      *string       `json:"date"` // RFC 3339
	MessageID *string       `json:"message_id"`
}

type jsonAddress struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
}

type jsonPart struct {
	Section     string            `json:"section"`
	Type        string            `json:"type"`
	Depth       int               `json:"depth"`
	Parent      *string           `json:"parent"`
	Charset     *string           `json:"charset"`
	Disposition *string           `json:"disposition"`
	Filename    *string           `json:"filename"`
	Encoding    *string           `json:"encoding"`
	Size        int64             `json:"size"` // octets, decoded
	Lines       int64             `json:"lines"`
	Offset      int64             `json:"offset"`
	RawSize     int64             `json:"raw_size"` // octets as stored
	CID         *string           `json:"cid"`
	Description *string           `json:"description"`
	Params      map[string]string `json:"params"`
	SafeName    *string           `json:"safe_name"`
	Attachment  bool              `json:"attachment"`
	SHA256      string            `json:"sha256,omitempty"`
	UTF8SHA256  string            `json:"utf8_sha256,omitempty"`
	Problems    []string          `json:"problems"`
}

type jsonProblem struct {
	Section string `json:"section"`
	Code    string `json:"code"`
	Text    string `json:"text"`
}

// A jsonReport collects one message's object while the message is read.
type jsonReport struct {
	*job
	digest bool
	msg    jsonMessage
	parts  [][]byte // each written when it has ended: many parts cost little more than their text
}

func (o *options) json(m *job) (int, error) {
	r := &jsonReport{job: m, digest: o.digest}
	r.msg.File = m.name
	root, err := m.parse(func(l *leaf, h mimetree.Header) io.Writer {
		if r.msg.Headers == nil {
			r.msg.Headers = readHeaders(h)
		}
		return r.begin(l)
	}, func(l *leaf, w io.Writer) error { return r.end(l, w) })
	if err != nil {
		return 0, err
	}
	r.msg.Bytes = root.Body.End
	return m.exit, r.print(o.out)
}

// print writes the object on one line.
func (r *jsonReport) print(w *bufio.Writer) error {
	head, err := marshal(struct {
		File    string       `json:"file"`
		Bytes   int64        `json:"bytes"`
		Headers *jsonHeaders `json:"headers"`
	}{r.msg.File, r.msg.Bytes, r.msg.Headers})
	if err != nil {
		return err
	}
	tail, err := marshal(nonNil(r.msg.Problems))
	if err != nil {
		return err
	}
	escape(w, bytes.TrimSuffix(head, []byte("}")))
	w.WriteString(`,"parts":[`)
	for i, part := range r.parts {
		if i > 0 {
			w.WriteByte(',')
		}
		escape(w, part)
	}
	w.WriteString(`],"problems":`)
	escape(w, tail)
	w.WriteString("}\n")
	return w.Flush()
}

// readHeaders decodes the fields that people look for.
func readHeaders(h mimetree.Header) *jsonHeaders {
	var j jsonHeaders
	j.Subject = optional(h, "Subject")
	j.MessageID = optional(h, "Message-ID")
	if t, ok := mimetree.ParseDate(h.Get("Date")); ok {
		s := t.Format(time.RFC3339)
		j.Date = &s
	}
	for name, to := range map[string]*[]jsonAddress{"From": &j.From, "To": &j.To, "Cc": &j.Cc} {
		for _, a := range mimetree.ParseAddresses(strings.Join(h.Values(name), ", ")) {
			if a.Kind == mimetree.Mailbox {
				*to = append(*to, jsonAddress{a.Display(), mimetree.DecodeWords(a.Addr())})
			}
		}
	}
	return &j
}

func optional(h mimetree.Header, name string) *string {
	for f := range h.All() {
		if f.Is(name) {
			s := mimetree.DecodeWords(f.Text())
			return &s
		}
	}
	return nil
}

// orNull is nil for an empty string.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// measure counts and hashes what a part holds.
type measure struct {
	dec  *mimetree.Decoder
	text io.WriteCloser // of a text part
	size int64
	sum  hash.Hash // of the content, nil when not wanted
	utf8 hash.Hash // of the text in UTF-8
}

// Write takes decoded octets.
func (m *measure) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	if m.sum != nil {
		m.sum.Write(p)
	}
	if m.text != nil {
		return m.text.Write(p)
	}
	return len(p), nil
}

// A feed passes a body through a part's decoder.
type feed struct{ *measure }

func (f feed) Write(p []byte) (int, error) { return f.dec.Write(p) }

// canonical passes on text in one spelling: LF, no byte order mark, no line ends at the end. So a
// text has one digest however it was stored and sent.
type canonical struct {
	w     io.Writer
	begun bool
	cr    bool
	ends  int // line ends held back
	out   []byte
}

func (c *canonical) Write(p []byte) (int, error) {
	n := len(p)
	if !c.begun && n > 0 {
		c.begun = true
		p = bytes.TrimPrefix(p, []byte("\ufeff"))
	}
	c.out = c.out[:0]
	for _, b := range p {
		switch {
		case b == '\n':
			c.cr = false
			c.ends++
			continue
		case c.cr:
			c.cr = false
			c.put('\r')
		}
		if c.cr = b == '\r'; !c.cr {
			c.put(b)
		}
	}
	_, err := c.w.Write(c.out)
	return n, err
}

func (c *canonical) put(b byte) {
	for ; c.ends > 0; c.ends-- {
		c.out = append(c.out, '\n')
	}
	c.out = append(c.out, b)
}

func (r *jsonReport) begin(l *leaf) io.Writer {
	p := l.part
	if p.IsMultipart() && r.digest {
		return nil // its parts are measured
	}
	m := &measure{}
	m.dec, _ = mimetree.NewDecoder(m, p.Encoding)
	if r.digest {
		m.sum = sha256.New()
		if p.Type == "text" {
			m.utf8 = sha256.New()
			m.text, _ = mimetree.NewTextWriter(&canonical{w: m.utf8}, p.Charset())
		}
	} else if p.IsMultipart() || p.IsMessage() {
		return nil
	}
	return feed{m}
}

func (r *jsonReport) end(l *leaf, w io.Writer) error {
	p := l.part
	if !r.selects(l) {
		return nil
	}
	j := &jsonPart{
		Section: l.section, Type: p.MediaType(), Depth: l.depth, Parent: l.parent,
		Charset: orNull(p.Charset()), Disposition: orNull(p.Disposition), Filename: orNull(p.Filename()), Encoding: orNull(p.Encoding),
		Size: p.Body.Len(), Lines: p.Body.Lines, Offset: p.Body.Start, RawSize: p.Body.Len(),
		CID: orNull(strings.Trim(p.ID, "<> ")), Description: orNull(mimetree.DecodeWords(p.Description)),
		Params: map[string]string{}, Attachment: l.attachment(), Problems: []string{},
	}
	for _, q := range p.Params.Joined() {
		name := strings.TrimSuffix(q.Name, "*")
		j.Params[name] = p.Params.Get(name)
	}
	if f := p.Filename(); f != "" {
		s := safeName(f, p.Content, l.section)
		j.SafeName = &s
	}
	if f, ok := w.(feed); ok {
		if err := f.dec.Close(); err != nil {
			return err
		}
		j.Size = f.size
		if f.sum != nil {
			j.SHA256 = hex.EncodeToString(f.sum.Sum(nil))
		}
		if f.text != nil {
			if err := f.text.Close(); err != nil {
				return err
			}
			j.UTF8SHA256 = hex.EncodeToString(f.utf8.Sum(nil))
		}
		l.decoded(f.dec)
	}
	for _, q := range l.problems() {
		j.Problems = append(j.Problems, q.Code)
		if len(r.msg.Problems) < maxReported {
			r.msg.Problems = append(r.msg.Problems, jsonProblem{l.section, q.Code, q.Text})
		}
	}
	return r.insert(l, j)
}

// insert puts a part where it began: a container ends after its parts.
func (r *jsonReport) insert(l *leaf, j *jsonPart) error {
	b, err := marshal(j)
	if err != nil {
		return err
	}
	for len(r.parts) <= l.index {
		r.parts = append(r.parts, nil)
	}
	r.parts[l.index] = b
	return nil
}

const maxReported = 1000 // problems of one message that are told

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}

// escape writes JSON with the control characters beyond ASCII escaped too, since they move some terminals;
// and the invisible ones.
func escape(w *bufio.Writer, b []byte) {
	special := func(r rune) bool { return r >= 0x7f && (r < 0xa0 || isFormat(r)) }
	for {
		i := bytes.IndexFunc(b, special)
		if i < 0 {
			w.Write(b)
			return
		}
		w.Write(b[:i])
		r, n := utf8.DecodeRune(b[i:])
		if r > 0xffff {
			w.WriteString(escapePair(r))
		} else {
			fmt.Fprintf(w, `\u%04x`, r)
		}
		b = b[i+n:]
	}
}
