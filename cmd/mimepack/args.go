package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"pennypost/cmd/internal/getopt"
	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// A packer gathers what a message is made of.
type packer struct {
	eightBit, reproducible, noDate bool
	messageID                      string

	fields      []field // of the header, in order
	text, html  *part
	inlines     []*part
	attachments []*part

	header string // the fields made, each with its LF
	stdin  bool   // something reads it already
	files  []*os.File
	hash   string // of everything that is known before the content, for --reproducible
}

// A field of the header as the user gave it.
type field struct{ name, value string }

// A wish is what the user said about the next file.
type wish struct {
	media, name, encoding, charset, disposition, description, cid string
	set                                                           string // the last option that set one
}

// readArgs goes through the command line in its order, as some options mean the next file only, and opens
// every file.
func (p *packer) readArgs(args []getopt.Arg) error {
	var next wish
	for _, a := range args {
		if err := p.readArg(a, &next); err != nil {
			return err
		}
	}
	if next.set != "" {
		return usage(fmt.Errorf("no file after --%s", next.set))
	}
	if len(p.inlines) > 0 && p.html == nil {
		return usage(errors.New("--inline needs --html"))
	}
	return nil
}

func (p *packer) readArg(a getopt.Arg, next *wish) error {
	take := func() wish { w := *next; *next = wish{}; return w }
	for name, to := range map[string]*string{
		"type": &next.media, "name": &next.name, "encoding": &next.encoding, "charset": &next.charset,
		"disposition": &next.disposition, "description": &next.description, "cid": &next.cid,
	} {
		if a.Flag == name {
			*to, next.set = a.Value, name
			return next.check(a)
		}
	}
	var err error
	switch a.Flag {
	case "":
		var q *part
		if q, err = p.open(a.Value, take()); err == nil {
			p.attachments = append(p.attachments, q)
		}
	case "subject", "from", "to", "cc", "bcc", "reply-to":
		p.fields = append(p.fields, field{fieldNames[a.Flag], a.Value})
	case "header":
		name, value, ok := strings.Cut(a.Value, ":")
		if !ok {
			return usage(fmt.Errorf("--header %q: no colon", a.Value))
		}
		p.fields = append(p.fields, field{name, strings.Trim(value, " \t")})
	case "body":
		if p.text != nil {
			return usage(errors.New("more than one text"))
		}
		p.text, err = p.openText(a.Value, "plain", take())
	case "text":
		if p.text != nil {
			return usage(errors.New("more than one text"))
		}
		w := take()
		w.media = orElse(w.media, "text/plain")
		p.text = &part{wish: w, body: true, label: "the text"}
		s := a.Value
		if !strings.HasSuffix(s, "\n") {
			s += "\n"
		}
		err = p.text.look(strings.NewReader(s))
	case "html":
		if p.html != nil {
			return usage(errors.New("more than one --html"))
		}
		p.html, err = p.openText(a.Value, "html", take())
	case "inline":
		file, cid, _ := strings.Cut(a.Value, "=")
		w := take()
		w.cid = orElse(w.cid, cid)
		w.disposition = orElse(w.disposition, "inline")
		var q *part
		if q, err = p.open(file, w); err == nil {
			q.shown = file
			p.inlines = append(p.inlines, q)
		}
	case "message":
		w := take()
		w.media = "message/rfc822"
		var q *part
		if q, err = p.open(a.Value, w); err == nil {
			p.attachments = append(p.attachments, q)
		}
	}
	return err
}

var fieldNames = map[string]string{"subject": "Subject", "from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc", "reply-to": "Reply-To"}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// check looks at what is said about a file: it ends up in a header.
func (w *wish) check(a getopt.Arg) error {
	if err := mimetree.CheckValue(a.Value); err != nil {
		return status.Errorf(status.DataErr, "--%s %w", a.Flag, err)
	}
	switch a.Flag {
	case "type":
		media, params := mimetree.ParseParams(a.Value)
		t, sub, ok := strings.Cut(media, "/")
		if !ok || t == "" || sub == "" || strings.ContainsAny(media, " \t()<>@,;:\\\"[]?=") || strings.Count(media, "/") > 1 {
			return usage(fmt.Errorf("--type %q is no media type", a.Value))
		}
		if t == "multipart" {
			return usage(fmt.Errorf("--type %q: a file cannot be a multipart", a.Value))
		}
		w.media, w.charset = media, orElse(params.Get("charset"), w.charset)
	case "encoding":
		w.encoding = strings.ToLower(a.Value)
		switch w.encoding {
		case "qp":
			w.encoding = "quoted-printable"
		case "auto":
			w.encoding = ""
		case "7bit", "8bit", "quoted-printable", "base64":
		default:
			return usage(fmt.Errorf("--encoding %q is none of auto, 7bit, 8bit, quoted-printable, base64", a.Value))
		}
	case "disposition":
		if w.disposition = strings.ToLower(a.Value); w.disposition != "attachment" && w.disposition != "inline" {
			return usage(fmt.Errorf("--disposition %q is neither attachment nor inline", a.Value))
		}
	case "cid":
		w.cid = strings.Trim(a.Value, "<>")
		if w.cid == "" || strings.ContainsAny(w.cid, " \t<>") {
			return usage(fmt.Errorf("--cid %q is no Content-ID", a.Value))
		}
	}
	return nil
}

// open opens a file, or standard input for "-", and looks at it.
func (p *packer) open(name string, w wish) (*part, error) {
	q := &part{wish: w, label: name}
	if q.disposition == "" {
		q.disposition = "attachment"
	}
	if name != "-" {
		q.name = orElse(q.name, filepath.Base(name))
	}
	if err := mimetree.CheckValue(q.name); err != nil {
		return nil, status.Errorf(status.DataErr, "name of the file %w", err)
	}
	return q, p.read(q, name)
}

// openText opens a file with the text of the message.
func (p *packer) openText(name, subtype string, w wish) (*part, error) {
	w.media = orElse(w.media, "text/"+subtype)
	q := &part{wish: w, label: name, body: true}
	return q, p.read(q, name)
}

func (p *packer) read(q *part, name string) error {
	f := os.Stdin
	if name == "-" {
		if p.stdin {
			return usage(errors.New("standard input can be read once only"))
		}
		p.stdin = true
	} else {
		var err error
		if f, err = os.Open(name); err != nil {
			return status.With(status.NoInput, err)
		}
		p.files = append(p.files, f)
		if info, err := f.Stat(); err != nil {
			return status.With(status.NoInput, err)
		} else if info.IsDir() {
			return status.Errorf(status.NoInput, "%s: a folder", name)
		}
	}
	if err := q.look(f); err != nil {
		return fmt.Errorf("%s: %w", name, status.With(status.IOErr, err))
	}
	if q.spool != nil {
		p.files = append(p.files, q.spool)
	}
	return nil
}

func (p *packer) close() {
	for _, f := range p.files {
		f.Close()
	}
}

// rewind starts a file again from where it was found.
func rewind(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}
