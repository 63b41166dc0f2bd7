package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// tree puts the parts together (RFC 2046 §5.1, RFC 2387): text and HTML are alternatives, the HTML and
// what it shows are related, and attachments follow. One part alone is the body itself.
func (p *packer) tree() (*part, error) {
	var main *part
	if p.html != nil {
		main = p.html
		if len(p.inlines) > 0 {
			if err := p.nameInlines(); err != nil {
				return nil, err
			}
			main = multipart("related", mimetree.Params{{Name: "type", Value: "text/html"}}, append([]*part{p.html}, p.inlines...)...)
		}
	}
	if p.text != nil {
		if main != nil {
			main = multipart("alternative", nil, p.text, main)
		} else {
			main = p.text
		}
	}
	if main == nil && len(p.attachments) == 0 {
		empty := &part{wish: wish{media: "text/plain"}, body: true, label: "the text"}
		if err := empty.look(strings.NewReader("")); err != nil {
			return nil, err
		}
		main = empty
	}
	root := main
	switch {
	case main == nil && len(p.attachments) == 1:
		root = p.attachments[0]
	case len(p.attachments) > 0:
		root = multipart("mixed", nil, p.attachments...)
		if main != nil {
			root.parts = append([]*part{main}, root.parts...)
		}
	}
	return root, p.settle(root, true)
}

func multipart(subtype string, params mimetree.Params, parts ...*part) *part {
	return &part{wish: wish{media: "multipart/" + subtype}, parts: parts, extra: params}
}

// settle decides on encodings, and on that of the multiparts around them.
func (p *packer) settle(q *part, alone bool) error {
	if q.parts == nil {
		if err := q.settle(p.eightBit, alone); err != nil {
			return status.Errorf(status.DataErr, "%s: %w", q.label, err)
		}
		return nil
	}
	for _, r := range q.parts {
		if err := p.settle(r, false); err != nil {
			return err
		}
		if r.encoding == "8bit" {
			q.encoding = "8bit"
		}
	}
	return nil
}

// nameInlines gives what the HTML shows its Content-IDs (RFC 2392), and has the HTML use them.
func (p *packer) nameInlines() error {
	var pairs []string
	for i, q := range p.inlines {
		if q.cid == "" {
			q.cid = fmt.Sprintf("part%d.%s", i+1, p.random(8)) + "@mimepack.invalid"
		}
		seen := map[string]bool{}
		for _, name := range []string{q.shown, filepath.Base(q.shown)} {
			for _, quote := range []string{`"`, `'`} {
				for _, attr := range []string{"src=", "background="} {
					if old := attr + quote + name + quote; !seen[old] {
						seen[old] = true
						pairs = append(pairs, old, attr+quote+"cid:"+url.PathEscape(q.cid)+quote)
					}
				}
			}
		}
	}
	const most = 16 << 20
	b, err := io.ReadAll(io.LimitReader(p.html.src, most+1))
	if err != nil {
		return fmt.Errorf("%s: %w", p.html.label, status.With(status.IOErr, err))
	}
	if len(b) > most {
		return status.Errorf(status.DataErr, "%s: too long to put pictures into", p.html.label)
	}
	return p.html.look(strings.NewReader(strings.NewReplacer(pairs...).Replace(string(b))))
}

// write writes the message.
func (p *packer) write(w io.Writer, root *part, crlf bool) error {
	var ends *crlfWriter
	if crlf {
		ends = &crlfWriter{w: w}
		w = ends
	}
	last := &lastOctet{w: w}
	b := bufio.NewWriterSize(last, 128<<10)
	b.WriteString(p.header)
	if err := p.part(b, root); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if last.octet != '\n' { // a message ends with a line
		_, err := last.Write([]byte{'\n'})
		return err
	}
	return nil
}

// lastOctet remembers what was written last.
type lastOctet struct {
	w     io.Writer
	octet byte
}

func (l *lastOctet) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.octet = p[len(p)-1]
	}
	return l.w.Write(p)
}

// part writes a part's header fields, the blank line and the content.
func (p *packer) part(w *bufio.Writer, q *part) error {
	if q.parts != nil {
		return p.multipart(w, q)
	}
	params := mimetree.Params{}
	if q.isText() {
		params = append(params, mimetree.Param{Name: "charset", Value: q.charset})
	}
	if ascii := mimetree.ASCIIName(q.name); ascii != q.name {
		// For readers that do not know RFC 2231. Beside filename* it would win with some that do.
		params = append(params, mimetree.Param{Name: "name", Value: ascii})
	}
	w.WriteString(mimetree.FoldParams("Content-Type", q.media, params))
	if q.encoding != "7bit" {
		w.WriteString("Content-Transfer-Encoding: " + q.encoding + "\n")
	}
	if disposition := q.disposition; disposition != "" || q.name != "" {
		params := mimetree.Params{}
		if q.name != "" {
			params = append(params, mimetree.Param{Name: "filename", Value: q.name})
		}
		w.WriteString(mimetree.FoldParams("Content-Disposition", orElse(disposition, "inline"), params))
	}
	if q.cid != "" {
		w.WriteString(mimetree.FoldRaw("Content-ID", "<"+q.cid+">"))
	}
	if q.description != "" {
		w.WriteString(mimetree.FoldText("Content-Description", q.description))
	}
	w.WriteByte('\n')
	return q.write(w)
}

func (p *packer) multipart(w *bufio.Writer, q *part) error {
	q.bound = "=_" + p.random(16) // "=_" is in no quoted-printable and no base64 (RFC 2045 §6.7)
	w.WriteString(mimetree.FoldParams("Content-Type", q.media, append(q.extra, mimetree.Param{Name: "boundary", Value: q.bound})))
	if q.encoding == "8bit" {
		w.WriteString("Content-Transfer-Encoding: 8bit\n")
	}
	w.WriteByte('\n')
	for i, r := range q.parts {
		if i > 0 {
			w.WriteByte('\n')
		}
		w.WriteString("--" + q.bound + "\n")
		if err := p.part(w, r); err != nil {
			return err
		}
	}
	w.WriteString("\n--" + q.bound + "--\n")
	return nil
}

// write writes the content, encoded.
func (q *part) write(w *bufio.Writer) error {
	buf := make([]byte, 128<<10)
	var enc io.WriteCloser
	switch q.encoding {
	case "base64":
		enc = mimetree.NewBase64Writer(w)
	case "quoted-printable":
		enc = mimetree.NewQPWriter(w)
	default:
		enc = plain{w}
	}
	src := q.src
	if q.body && q.found.crlf && q.encoding != "base64" || q.isMessage() {
		src = &lfReader{r: src}
	}
	counted := &counter{r: src}
	if _, err := io.CopyBuffer(struct{ io.Writer }{enc}, struct{ io.Reader }{counted}, buf); err != nil {
		return fmt.Errorf("%s: %w", q.label, status.With(status.IOErr, err))
	}
	if q.found.all && src == q.src && counted.n != q.found.size {
		return status.Errorf(status.IOErr, "%s: changed while it was read", q.label)
	}
	return enc.Close()
}

// plain passes text as it is; a last line without an end gets none: the boundary's is there.
type plain struct{ *bufio.Writer }

func (plain) Close() error { return nil }

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// An lfReader turns CRLF into LF.
type lfReader struct {
	r  io.Reader
	cr bool // a CR is held back
}

func (l *lfReader) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	n, err := l.r.Read(p[1:])
	out := 0
	for _, c := range p[1 : 1+n] {
		if l.cr && c != '\n' {
			p[out] = '\r'
			out++
		}
		if l.cr = c == '\r'; !l.cr {
			p[out] = c
			out++
		}
	}
	if err != nil && l.cr {
		p[out] = '\r'
		out++
		l.cr = false
	}
	return out, err
}

// A crlfWriter turns LF into CRLF.
type crlfWriter struct{ w io.Writer }

func (c *crlfWriter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+len(p)/32)
	for _, b := range p {
		if b == '\n' {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	if _, err := c.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// toFile writes the message to a file, which has its name only when it is whole.
func (p *packer) toFile(name string, root *part, crlf bool) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() { // /dev/stdout, a named pipe
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return status.With(status.CantCreate, err)
		}
		defer f.Close()
		return status.With(status.IOErr, errors.Join(p.write(f, root, crlf), f.Close()))
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".mimepack-")
	if err != nil {
		return status.With(status.CantCreate, err)
	}
	defer os.Remove(f.Name())
	if err := p.write(f, root, crlf); err != nil {
		f.Close()
		return status.With(status.IOErr, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return status.With(status.IOErr, err)
	}
	return status.With(status.CantCreate, os.Rename(f.Name(), name))
}

// toCommand gives the message to a command. When reading fails half-way the command is killed before it
// sees an end, so that no cut message leaves.
func (p *packer) toCommand(command string, root *part) error {
	cmd := exec.Command("sendmail", "-t", "-i")
	if command != "" {
		cmd = exec.Command("/bin/sh", "-c", "exec "+command)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return status.With(status.Unavailable, err)
	}
	if err := p.write(in, root, false); err != nil {
		cmd.Process.Kill()
		in.Close()
		cmd.Wait()
		return status.With(status.IOErr, err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok && e.Exited() {
			return err
		}
		return status.With(status.Unavailable, err)
	}
	return nil
}

// describe prints the tree of what is made.
func (q *part) describe(w io.Writer, depth int) {
	words := []string{strings.Repeat("  ", depth) + q.media}
	for _, s := range []string{q.charset, q.encoding} {
		if s != "" {
			words = append(words, s)
		}
	}
	if q.name != "" {
		words = append(words, strconv.Quote(q.name))
	}
	fmt.Fprintln(w, status.Clean(strings.Join(words, " ")))
	for _, r := range q.parts {
		r.describe(w, depth+1)
	}
}
