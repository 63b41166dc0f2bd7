package imap

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"pennypost/proto/mimetree"
)

// takeBinary is take for a literal8 (RFC 3516 §4.4). A part that is binary
// cannot be stored as text, whose line ends are no octets of it, nor be sent as a
// literal with NUL octets in it: it is stored as base64, and everything else
// as it is.
func (a *appending) takeBinary(w io.Writer, l announced, behind string) error {
	var r io.ReaderAt
	if l.size <= short {
		var b bytes.Buffer
		if err := a.take(&b, l, behind); err != nil {
			return err
		}
		r = bytes.NewReader(b.Bytes())
	} else {
		file, err := a.folder.Scratch()
		if err != nil {
			return err
		}
		defer file.Close()
		if err := a.take(file, l, behind); err != nil {
			return err
		}
		r = file
	}
	return encodeBinary(w, io.NewSectionReader(r, 0, l.size))
}

// An edit puts something else in the place of a stretch.
type edit struct {
	from, to int64
	text     string // what comes there, or
	encode   bool   // base64 of what stands there
}

// encodeBinary writes a message to w with those parts as base64 that are binary
// by their header and by what is in them.
func encodeBinary(w io.Writer, r *io.SectionReader) error {
	tree, err := mimetree.Parse(r, nil)
	if err != nil {
		return err
	}
	var edits []edit
	binary := false
	for _, p := range tree.All() {
		if p.Encoding != "binary" {
			continue
		}
		leaf := len(p.Parts) == 0 && p.Message == nil
		if leaf {
			text, err := onlyLines(io.NewSectionReader(r, p.Body.Start, p.Body.Len()))
			if err != nil {
				return err
			}
			if text {
				continue
			}
			binary = true
		}
		if edits, err = relabel(edits, r, p, leaf); err != nil {
			return err
		}
		if leaf {
			edits = append(edits, edit{from: p.Body.Start, to: p.Body.End, encode: true})
		}
	}
	if !binary {
		edits = nil
	}
	at := int64(0)
	for _, e := range append(edits, edit{from: r.Size(), to: r.Size()}) {
		if err := e.write(w, r, at); err != nil {
			return err
		}
		at = e.to
	}
	return nil
}

// relabel changes the transfer encoding that the header of p tells: to base64,
// or for what only holds parts to 8bit (RFC 2045 §6.4).
func relabel(edits []edit, r io.ReaderAt, p *mimetree.Part, leaf bool) ([]edit, error) {
	head := make([]byte, min(p.Header.Len(), maxHeader))
	if _, err := r.ReadAt(head, p.Header.Start); err != nil && err != io.EOF {
		return nil, err
	}
	name := "8bit"
	if leaf {
		name = "base64"
	}
	at := 0
	for f := range mimetree.Header(head).All() {
		i := bytes.Index(head[at:], f.Raw)
		if i < 0 || len(f.Raw) == 0 {
			continue
		}
		at += i
		if strings.EqualFold(string(f.Name), "Content-Transfer-Encoding") {
			from := p.Header.Start + int64(at)
			edits = append(edits, edit{from: from, to: from + int64(len(f.Raw)), text: "Content-Transfer-Encoding: " + name + "\r\n"})
		}
		at += len(f.Raw)
	}
	return edits, nil
}

// write writes what stands from at to the edit, and the edit.
func (e edit) write(w io.Writer, r io.ReaderAt, at int64) error {
	if _, err := io.Copy(w, io.NewSectionReader(r, at, e.from-at)); err != nil {
		return err
	}
	if e.encode {
		enc := mimetree.NewBase64Writer(w)
		if _, err := io.Copy(enc, io.NewSectionReader(r, e.from, e.to-e.from)); err != nil {
			return err
		}
		return enc.Close()
	}
	_, err := io.WriteString(w, e.text)
	return err
}

// onlyLines tells whether there are only lines that end in CRLF, and no NUL.
func onlyLines(r io.Reader) (bool, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	cr := false
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c == 0 || cr != (c == '\n') {
				return false, nil
			}
			cr = c == '\r'
		}
		if errors.Is(err, io.EOF) {
			return !cr, nil
		}
		if err != nil {
			return false, err
		}
	}
}
