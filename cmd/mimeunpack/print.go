package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// print writes one part decoded, octet for octet; with --utf8 text in UTF-8 with LF.
func (o *options) print(m *job) (int, error) {
	known, found := true, false
	_, err := m.parse(func(l *leaf, _ mimetree.Header) io.Writer {
		if !strings.EqualFold(l.section, o.section) {
			return nil
		}
		found = true
		w := o.screen(l.part)
		text, ok := io.WriteCloser(nopCloser{w}), true
		if o.utf8 && l.part.Type == "text" {
			text, ok = mimetree.NewTextWriter(&lfWriter{w: w}, l.part.Charset())
		}
		known = known && ok
		p := &printed{text: text}
		p.Decoder, ok = mimetree.NewDecoder(text, l.part.Encoding)
		known = known && ok
		return p
	}, func(l *leaf, w io.Writer) error {
		p, ok := w.(*printed)
		if !ok {
			return nil
		}
		err := errors.Join(p.Close(), p.text.Close())
		l.decoded(p.Decoder)
		return err
	})
	if err != nil {
		return 0, err
	}
	if m.any = found; !found {
		return 0, status.Errorf(exitNothing, "%s: no part %s", m.name, o.section)
	}
	if !known {
		m.exit = max(m.exit, exitDamaged)
		status.Print(os.Stderr, "mimeunpack", fmt.Errorf("%s: %s: unknown charset or encoding", m.name, o.section))
	}
	return m.exit, nil
}

// A printed part is decoded on its way out.
type printed struct {
	*mimetree.Decoder
	text io.WriteCloser
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// screen is standard output; where it is a terminal text loses what would move the cursor, and what is
// no text is as if it were.
func (o *options) screen(*mimetree.Part) io.Writer {
	if o.terminal {
		return &visible{w: o.out}
	}
	return o.out
}

// raw writes octets as they stand.
func (o *options) raw(m *job) (int, error) {
	r, root, end, err := m.tree()
	if err != nil {
		return 0, err
	}
	defer end()
	s, ok := root.Section(o.section)
	if m.any = ok; !ok {
		return 0, status.Errorf(exitNothing, "%s: no section %s", m.name, o.section)
	}
	w := o.screen(root)
	if o.crlf {
		w = &crlfWriter{w: w}
	}
	_, err = io.Copy(w, io.NewSectionReader(r, s.Start, s.Len()))
	return 0, err
}

// header prints fields decoded to UTF-8, each on one line.
func (o *options) header(m *job) (int, error) {
	found := false
	_, err := m.parse(func(l *leaf, h mimetree.Header) io.Writer {
		if l.depth > 0 {
			return nil
		}
		if o.several {
			fmt.Fprintf(o.out, "%s:\n", status.Clean(m.name))
		}
		for f := range h.All() {
			if !o.wantsField(f) {
				continue
			}
			found = true
			fmt.Fprintf(o.out, "%s: %s\n", printable(string(f.Name)), printable(decodeField(f)))
		}
		return nil
	}, func(*leaf, io.Writer) error { return nil })
	m.any = found
	return 0, err
}

func (o *options) wantsField(f mimetree.Field) bool {
	if len(o.fields) == 0 {
		return true
	}
	return slices.ContainsFunc(o.fields, f.Is)
}

// decodeField decodes what may be encoded in a field. Of a list of addresses the names are decoded
// when it has been read, so that a comma in one of them stays in it.
func decodeField(f mimetree.Field) string {
	switch strings.ToLower(string(f.Name)) {
	case "from", "to", "cc", "bcc", "sender", "reply-to":
	default:
		return mimetree.DecodeWords(f.Text())
	}
	var b strings.Builder
	separator := ""
	for _, a := range mimetree.ParseAddresses(string(f.Value)) {
		switch a.Kind {
		case mimetree.GroupStart:
			b.WriteString(separator + mimetree.DecodeWords(a.Local) + ":")
			separator = " "
			continue
		case mimetree.GroupEnd:
			b.WriteString(";")
		default:
			b.WriteString(separator + person(a))
		}
		separator = ", "
	}
	return b.String()
}

// person is an address with the name before it, in quotes where a comma or the like is in it.
func person(a mimetree.Address) string {
	name, addr := a.Display(), mimetree.DecodeWords(a.Addr())
	switch {
	case name == "":
		return addr
	case strings.ContainsAny(name, `()<>@,;:\"[]`):
		name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name + " <" + addr + ">"
}

// printable is text for one line: control and format characters are shown as escapes.
func printable(s string) string {
	return status.Clean(strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\t", " "))
}

// An lfWriter turns CRLF into LF.
type lfWriter struct {
	w  io.Writer
	cr bool
}

func (l *lfWriter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+1)
	for _, c := range p {
		if l.cr && c != '\n' {
			out = append(out, '\r')
		}
		if l.cr = c == '\r'; !l.cr {
			out = append(out, c)
		}
	}
	_, err := l.w.Write(out)
	return len(p), err
}

// A crlfWriter turns LF into CRLF, and leaves CRLF.
type crlfWriter struct {
	w  io.Writer
	cr bool
}

func (l *crlfWriter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+len(p)/16)
	for _, c := range p {
		if c == '\n' && !l.cr {
			out = append(out, '\r')
		}
		l.cr = c == '\r'
		out = append(out, c)
	}
	_, err := l.w.Write(out)
	return len(p), err
}

// visible passes text on without the characters that move a terminal's cursor or change its state: they
// are shown in caret notation, or as escapes.
type visible struct {
	w    io.Writer
	rest []byte
	last byte // of what was written
}

func (v *visible) Write(p []byte) (int, error) {
	n := len(p)
	p = append(v.rest, p...)
	var out []byte
	for len(p) > 0 {
		if !utf8.FullRune(p) && len(p) < utf8.UTFMax {
			break
		}
		r, size := utf8.DecodeRune(p)
		switch {
		case r == '\n' || r == '\t':
			out = append(out, p[0])
		case r == '\r':
		case r == utf8.RuneError && size <= 1:
			out = fmt.Appendf(out, `\x%02x`, p[0])
		case r < 0x20 || r == 0x7f:
			out = append(out, '^', byte(r)^0x40)
		case unicode.IsControl(r) || isFormat(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, p[:size]...)
		}
		p = p[size:]
	}
	v.rest = append([]byte(nil), p...)
	if len(out) > 0 {
		v.last = out[len(out)-1]
	}
	_, err := v.w.Write(out)
	return n, err
}

// endLine ends the last line where the text did not.
func (v *visible) endLine() error {
	if v.last == '\n' || v.last == 0 {
		return nil
	}
	_, err := v.w.Write([]byte{'\n'})
	return err
}
