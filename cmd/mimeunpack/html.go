package main

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlText turns HTML into text for reading while it is written: paragraphs, line breaks, list items,
// and where links lead. Scripts, styles and what is hidden in the head are left out.
type htmlText struct {
	pipe *io.PipeWriter
	done chan error
}

const maxToken = 1 << 20 // octets of one tag or stretch of text

func newHTMLText(w io.Writer) *htmlText {
	r, pipe := io.Pipe()
	h := &htmlText{pipe: pipe, done: make(chan error, 1)}
	go func() {
		err := renderHTML(w, r)
		io.Copy(io.Discard, r)
		h.done <- err
	}()
	return h
}

func (h *htmlText) Write(p []byte) (int, error) { return h.pipe.Write(p) }

// Close ends the text, and waits until all of it is written.
func (h *htmlText) Close() error {
	h.pipe.Close()
	return <-h.done
}

// A renderer writes words with the blanks and line ends that are due before them.
type renderer struct {
	w     io.Writer
	lines int  // line ends due
	blank bool // a blank is due
	any   bool
	err   error
}

func (r *renderer) text(s string) {
	for i, word := range strings.Fields(s) {
		if i > 0 || s != "" && isBlank(s[0]) {
			r.blank = true
		}
		r.word(word)
	}
	if s != "" && isBlank(s[len(s)-1]) {
		r.blank = true
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (r *renderer) word(s string) {
	before := ""
	switch {
	case !r.any:
	case r.lines > 0:
		before = strings.Repeat("\n", min(r.lines, 2))
	case r.blank:
		before = " "
	}
	r.any, r.lines, r.blank = true, 0, false
	if r.err == nil {
		_, r.err = io.WriteString(r.w, before+s)
	}
}

func (r *renderer) newline(n int) { r.lines = max(r.lines, n) }

// renderHTML reads HTML to its end.
func renderHTML(w io.Writer, in io.Reader) error {
	z := html.NewTokenizer(in)
	z.SetMaxBuf(maxToken)
	r := &renderer{w: w}
	skip := atom.Atom(0) // the element whose content is left out
	href := ""
	for r.err == nil {
		switch z.Next() {
		case html.ErrorToken:
			if r.any && r.err == nil {
				_, r.err = io.WriteString(w, "\n")
			}
			if err := z.Err(); !errors.Is(err, io.EOF) && !errors.Is(err, html.ErrBufferExceeded) {
				return err
			}
			return r.err
		case html.TextToken:
			if skip == 0 {
				r.text(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch t.DataAtom {
			case atom.Script, atom.Style, atom.Title:
				skip = t.DataAtom
			case atom.Br:
				r.lines++
			case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.Table, atom.Ul, atom.Ol, atom.Blockquote, atom.Pre:
				r.newline(2)
			case atom.Div, atom.Tr, atom.Dt, atom.Dd, atom.Hr, atom.H5, atom.H6:
				r.newline(1)
			case atom.Li:
				r.newline(1)
				r.word("* ")
			case atom.Td, atom.Th:
				r.blank = true
			case atom.A:
				href = attribute(t, "href")
			case atom.Img:
				r.text(attribute(t, "alt"))
			}
		case html.EndTagToken:
			t := z.Token()
			switch t.DataAtom {
			case skip:
				skip = 0
			case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.Table, atom.Ul, atom.Ol, atom.Blockquote, atom.Pre:
				r.newline(2)
			case atom.Div, atom.Tr, atom.Li:
				r.newline(1)
			case atom.A:
				if strings.HasPrefix(href, "http") {
					r.blank = true
					r.word("<" + href + ">")
				}
				href = ""
			}
		}
	}
	return r.err
}

func attribute(t html.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
