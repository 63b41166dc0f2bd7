package main

import (
	"bytes"
	"io"
	"strings"

	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// body prints the text of a message for reading: plain text where there is some, else what the HTML
// says, in UTF-8 with LF.
func (o *options) body(m *job) (int, error) {
	r, root, end, err := m.tree()
	if err != nil {
		return 0, err
	}
	defer end()
	best := text(root, "plain")
	if html := text(root, "html"); html != nil && (best == nil || o.html) {
		best = html
	}
	if best == nil {
		best = text(root, "")
	}
	if m.any = best != nil; best == nil {
		return 0, status.Errorf(exitNothing, "%s: no text", m.name)
	}
	screen := &visible{w: o.out}
	var w io.Writer = screen
	finish := func() error { return nil }
	switch p := best.Params; {
	case best.Subtype == "html" && !o.html:
		h := newHTMLText(w)
		w, finish = h, h.Close
	case strings.EqualFold(p.Get("format"), "flowed"):
		f := &unflow{w: w, delete: strings.EqualFold(p.Get("delsp"), "yes")}
		w, finish = f, f.Close
	}
	text, known := mimetree.NewTextWriter(&lfWriter{w: w}, best.Charset())
	dec, ok := mimetree.NewDecoder(text, best.Encoding)
	if _, err := io.Copy(dec, io.NewSectionReader(r, best.Body.Start, best.Body.Len())); err != nil {
		return 0, err
	}
	for _, end := range []func() error{dec.Close, text.Close, finish, screen.endLine} {
		if err := end(); err != nil {
			return 0, err
		}
	}
	if !known || !ok || len(dec.Problems()) > 0 {
		return exitDamaged, nil
	}
	return 0, nil
}

// text finds the first text part of a subtype that is not an attachment; "" is any.
func text(root *mimetree.Part, subtype string) *mimetree.Part {
	for _, p := range root.All() {
		if p.Type == "text" && (subtype == "" || p.Subtype == subtype) && p.Disposition != "attachment" {
			return p
		}
	}
	return nil
}

// unflow joins the lines of format=flowed (RFC 3676): a line that ends in a blank goes on in the next,
// unless it is the signature's "-- ".
type unflow struct {
	w      io.Writer
	delete bool   // DelSp=yes
	line   []byte // not yet ended
	quotes int    // of the paragraph that flows
	flows  bool
	err    error
}

const maxFlowed = 1 << 20 // octets of a line that are held back

func (u *unflow) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && u.err == nil {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if u.line = append(u.line, p...); len(u.line) > maxFlowed {
				u.end()
			}
			break
		}
		u.line = append(u.line, p[:i]...)
		p = p[i+1:]
		u.end()
	}
	return n, u.err
}

// end takes a whole line.
func (u *unflow) end() {
	line := string(u.line)
	u.line = u.line[:0]
	text := strings.TrimLeft(line, ">")
	quotes := len(line) - len(text)
	text = strings.TrimPrefix(text, " ")
	var out strings.Builder
	if u.flows && quotes != u.quotes {
		out.WriteByte('\n')
		u.flows = false
	}
	signature := text == "-- "
	if signature && u.flows {
		out.WriteByte('\n')
		u.flows = false
	}
	if !u.flows && quotes > 0 {
		out.WriteString(strings.Repeat(">", min(quotes, 1000)) + " ")
	}
	flows := strings.HasSuffix(text, " ") && !signature
	if flows && u.delete {
		text = text[:len(text)-1]
	}
	out.WriteString(text)
	if !flows {
		out.WriteByte('\n')
	}
	u.flows, u.quotes = flows, quotes
	_, u.err = io.WriteString(u.w, out.String())
}

// Close ends the text.
func (u *unflow) Close() error {
	if len(u.line) > 0 {
		u.end()
	}
	if u.flows && u.err == nil {
		_, u.err = io.WriteString(u.w, "\n")
	}
	return u.err
}
