package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"

	"pennypost/proto/mimetree"
)

// A part is a file that goes into the message.
type part struct {
	wish
	label string // for messages to the user
	body  bool   // the text of the message: it has no name and no disposition
	shown string // as the HTML names it

	src   io.Reader // what is left to be read, from its beginning
	spool *os.File  // a copy of what cannot be read twice
	found content

	parts []*part // of a multipart; then only media, params and boundary matter
	bound string
	extra mimetree.Params
}

const (
	sample   = 3072    // octets by which a type is told
	inMemory = 1 << 20 // octets of a pipe that are held, before it goes to a file
	longest  = 990     // octets of a line that may go as it is (RFC 5321 §4.5.3.1.6)
)

// content is what was seen of a text when it was read through.
type content struct {
	all      bool // it was read to its end
	size     int64
	high     int64 // octets beyond ASCII
	utf8     bool  // all of it is UTF-8
	cp1252   bool  // all of it may be windows-1252
	controls bool  // NUL or others that are not of text
	cr, crlf bool
	bareCR   bool
	long     bool // a line longer than 990
	fragile  bool // a line that transport changes: "From ", ".", one like a boundary
	noEnd    bool // the last line has no end
	bom      string
}

// look finds out what a part is. Afterwards src reads it from its beginning. What has to be read whole
// for that is a file, or becomes one.
func (q *part) look(r io.Reader) error {
	head := make([]byte, sample)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	head = head[:n]
	if q.media == "" {
		q.media = mimetree.TypeByName(q.name)
	}
	if q.media == "" {
		q.media, _ = mimetree.ParseParams(mimetype.Detect(head).String())
	}
	if q.isText() || q.isMessage() {
		return q.lookThrough(head, r)
	}
	q.src = io.MultiReader(bytes.NewReader(head), r)
	return nil
}

func (q *part) isText() bool    { return strings.HasPrefix(q.media, "text/") }
func (q *part) isMessage() bool { return q.media == "message/rfc822" || q.media == "message/global" }

// lookThrough reads a text to its end and makes it readable again.
func (q *part) lookThrough(head []byte, r io.Reader) error {
	s := newSurvey()
	s.Write(head)
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			if _, err := io.CopyBuffer(s, struct{ io.Reader }{f}, make([]byte, 128<<10)); err != nil {
				return err
			}
			q.found = s.end()
			q.src = f
			return rewind(f, at-int64(len(head)))
		}
	}
	var held bytes.Buffer
	held.Write(head)
	n, err := io.CopyN(io.MultiWriter(&held, s), r, inMemory)
	if errors.Is(err, io.EOF) {
		q.found = s.end()
		q.src = &held
		return nil
	}
	if err != nil {
		return err
	}
	_ = n
	if q.spool, err = os.CreateTemp("", "mimepack"); err != nil {
		return err
	}
	os.Remove(q.spool.Name())
	if _, err := q.spool.Write(held.Bytes()); err != nil {
		return err
	}
	if _, err := io.Copy(io.MultiWriter(q.spool, s), r); err != nil {
		return err
	}
	q.found = s.end()
	q.src = q.spool
	return rewind(q.spool, 0)
}

// A survey is written a text and notes what matters for sending it.
type survey struct {
	c    content
	line []byte // beginning of the line being read, at most a few octets
	col  int
	rest []byte // of a character cut in two
	last byte
	head []byte
}

func newSurvey() *survey { return &survey{c: content{utf8: true, cp1252: true}} }

func (s *survey) Write(p []byte) (int, error) {
	if len(s.head) < 4 {
		s.head = append(s.head, p[:min(4-len(s.head), len(p))]...)
	}
	for _, b := range p {
		if s.last == '\r' && b != '\n' {
			s.c.bareCR = true
		}
		switch {
		case b == '\n':
			if s.last == '\r' {
				s.c.crlf = true
				s.col--
			}
			s.endLine()
			s.last = b
			continue
		case b == '\r':
			s.c.cr = true
		case b < ' ' && b != '\t' && b != '\f' && b != 0x1b && b != '\b' || b == 0x7f:
			s.c.controls = true
		case b >= 0x80:
			s.c.high++
			if b == 0x81 || b == 0x8d || b == 0x8f || b == 0x90 || b == 0x9d {
				s.c.cp1252 = false
			}
		}
		if s.col++; s.col <= 8 {
			s.line = append(s.line, b)
		}
		s.last = b
	}
	s.c.size += int64(len(p))
	if s.c.utf8 && (s.c.high > 0 || len(s.rest) > 0) {
		s.checkUTF8(p)
	}
	return len(p), nil
}

// checkUTF8 looks at a piece, of which the last character may be cut.
func (s *survey) checkUTF8(p []byte) {
	if len(s.rest) > 0 {
		need := min(utf8.UTFMax, len(p))
		first := append(s.rest, p[:need]...)
		r, n := utf8.DecodeRune(first)
		if r == utf8.RuneError && n <= 1 {
			s.c.utf8 = false
			return
		}
		p = p[n-len(s.rest):]
		s.rest = nil
	}
	for i := 1; i <= min(utf8.UTFMax-1, len(p)); i++ {
		if utf8.RuneStart(p[len(p)-i]) {
			if !utf8.FullRune(p[len(p)-i:]) {
				s.rest = append([]byte(nil), p[len(p)-i:]...)
				p = p[:len(p)-i]
			}
			break
		}
	}
	s.c.utf8 = utf8.Valid(p)
}

func (s *survey) endLine() {
	if s.col > longest {
		s.c.long = true
	}
	switch line := string(s.line); {
	case strings.HasPrefix(line, "From "), strings.HasPrefix(line, "--=_"), s.col == 1 && line[0] == '.':
		s.c.fragile = true
	}
	s.line, s.col = s.line[:0], 0
}

func (s *survey) end() content {
	s.c.all = true
	s.c.noEnd = s.c.size > 0 && s.last != '\n'
	if s.last == '\r' {
		s.c.bareCR = true
	}
	s.endLine()
	if len(s.rest) > 0 {
		s.c.utf8 = false
	}
	switch {
	case bytes.HasPrefix(s.head, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(s.head, []byte("\x00\x00\xfe\xff")):
		s.c.bom = "utf-32"
	case bytes.HasPrefix(s.head, []byte("\xff\xfe")), bytes.HasPrefix(s.head, []byte("\xfe\xff")):
		s.c.bom = "utf-16"
	}
	return s.c
}

// settle decides on charset and encoding. alone says that the part is the whole body of the message.
func (q *part) settle(eightBit, alone bool) error {
	c := q.found
	switch {
	case q.isMessage():
		if q.encoding == "base64" || q.encoding == "quoted-printable" {
			return errors.New("a message cannot be encoded (RFC 2046 §5.2.1)")
		}
		if q.encoding = "7bit"; c.high > 0 {
			q.encoding = "8bit"
		}
		return nil
	case !q.isText():
		if q.encoding == "" {
			q.encoding = "base64"
		}
		if q.encoding != "base64" {
			return errors.New("what is no text goes as base64 only")
		}
		return nil
	}
	if q.charset == "" {
		switch {
		case c.bom != "":
			q.charset = c.bom
		case c.controls && !c.utf8:
			q.charset = "unknown-8bit"
		case c.high == 0:
			q.charset = "us-ascii"
		case c.utf8:
			q.charset = "utf-8"
		case c.cp1252:
			q.charset = "windows-1252"
		default:
			q.charset = "unknown-8bit" // RFC 1428
		}
	}
	exact := !q.body // a text file keeps its octets, the text of a message its lines
	asItIs := !c.controls && !c.bareCR && !c.long && !c.fragile && !(exact && (c.crlf || alone && c.noEnd)) && c.bom == ""
	asLines := !c.controls && !c.bareCR && !(exact && c.crlf) && c.bom == ""
	switch q.encoding {
	case "":
		switch {
		case asItIs && c.high == 0:
			q.encoding = "7bit"
		case asItIs && eightBit:
			q.encoding = "8bit"
		case asLines && c.high*3 < c.size:
			q.encoding = "quoted-printable"
		default:
			q.encoding = "base64"
		}
	case "7bit":
		if !asItIs || c.high > 0 {
			return errors.New("cannot go as 7bit")
		}
	case "8bit":
		if !asItIs {
			return errors.New("cannot go as 8bit")
		}
	case "quoted-printable":
		if !asLines {
			return errors.New("has octets that quoted-printable would change")
		}
	}
	return nil
}
