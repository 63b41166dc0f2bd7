package mimetree

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"strconv"
	"sync"
)

// Options bound what Parse keeps, and let a caller see the octets as they pass. The zero value has
// the limits that are named here. What lies past a limit stays one part that is not looked into,
// with a problem that says so.
type Options struct {
	Depth  int // levels of multiparts and messages in each other: 100
	Parts  int // parts in all: 10 000
	Header int // octets of one header block that are read for fields: 1 MiB

	// Begin is called for each part when its header has been read, in document order, with its
	// number as in Part.All. h is valid during the call, p.Body has no end yet. What Begin
	// returns, unless nil, gets the octets of the body as they stand, while they are read;
	// its errors end Parse.
	Begin func(section string, p *Part, h Header) io.Writer
	// End is called when the body of a part has ended and its spans are known; w is what Begin
	// returned.
	End func(p *Part, w io.Writer) error
}

const (
	defaultDepth  = 100
	defaultParts  = 10_000
	defaultHeader = 1 << 20
	maxKept       = 32 << 20 // octets of field values kept in one tree
	maxProblems   = 16       // for one part
	bufferSize    = 128 << 10
	maxDelimiter  = 4 << 10 // octets of a line that may be a boundary
)

// Parse reads one message to its end and returns its tree. The content never makes it fail: an error
// comes from r, or from what Begin and End of the options returned. Time is linear in the length of
// the message, memory depends on the number of parts only.
func Parse(r io.Reader, o *Options) (*Part, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	s := newScanner()
	defer s.free()
	s.r, s.buf = r, *buf
	if o != nil {
		s.o = *o
	}
	return s.message()
}

// ParseText reads a message that is in memory. Nothing of the tree is part of text.
func ParseText(text []byte) *Part {
	s := newScanner()
	defer s.free()
	s.buf, s.end, s.eof = text, len(text), true
	p, _ := s.message()
	return p
}

// Outline is ParseText for those who only want to know where the parts are and what they hold: there are no envelopes,
// and of the spans only Start and End are right.
func Outline(text []byte) *Part {
	s := newScanner()
	defer s.free()
	s.buf, s.end, s.eof, s.lean = text, len(text), true, true
	p, _ := s.message()
	return p
}

// scanners are those that can be used again.
var scanners = sync.Pool{New: func() any { return &scanner{delimiters: map[string]int{}} }}

func newScanner() *scanner { return scanners.Get().(*scanner) }

// free gives a scanner back with nothing in it but room.
func (s *scanner) free() {
	clear(s.open)
	clear(s.delimiters)
	again := scanner{open: s.open[:0], writers: s.writers[:0], delimiters: s.delimiters}
	if cap(s.room) <= bufferSize {
		again.room = s.room[:0]
	}
	*s = again
	scanners.Put(s)
}

// buffers are what messages are read into: most messages are smaller.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// A mark is a place in the message with what was counted up to there.
type mark struct {
	off   int64
	lines int64 // LFs
	bare  int64 // LFs without a CR before them: each is one octet more on the wire
}

func span(from, to mark) Span {
	return Span{Start: from.off, End: to.off, Size: to.off - from.off + to.bare - from.bare, Lines: to.lines - from.lines}
}

// An entity is a part whose end has not been seen.
type entity struct {
	part     *Part
	start    mark   // of the body
	boundary string // of a multipart whose close delimiter has not been seen
	outer    int    // index+1 of an entity further out with the same boundary, 0 if there is none
	section  string // for Begin
	inner    string // what the numbers of its parts begin with
	full     bool   // the limit of parts is reached: no further part begins here
	w        io.Writer
	written  int64 // offset up to which w has the body
}

type scanner struct {
	o Options
	r io.Reader

	buf        []byte
	begin, end int   // of what is read and not yet dropped
	pos        int   // of the next octet to look at
	base       int64 // offset in the message of buf[0]
	eof        bool
	lean       bool // only the beginning and end of parts are wanted; all of the message is in buf

	here  mark // of buf[pos]; always right at the start of a line
	crlf  bool // the line end before here was CRLF
	inner bool // here is inside a line longer than the buffer

	open       []entity
	writers    []int          // indices of those that have a writer
	delimiters map[string]int // boundary -> index+1 of the innermost open entity that has it
	parts      int
	kept       int    // octets of field values in the tree
	header     []byte // of the entity being begun
	room       []byte // for header, when it is not a stretch of buf
}

// fill reads more behind what is there. Everything before pos and the line end there may be
// dropped; the writers have had it then.
func (s *scanner) fill() error {
	if s.eof {
		return nil
	}
	keep := max(s.begin, s.pos-2) // a line end may turn out to be the boundary's
	if err := s.flush(s.base + int64(keep)); err != nil {
		return err
	}
	copy(s.buf, s.buf[keep:s.end])
	s.base += int64(keep)
	s.pos -= keep
	s.end -= keep
	s.begin = 0
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		switch {
		case errors.Is(err, io.EOF):
			s.eof = true
			return nil
		case err != nil:
			return err
		case n > 0:
			return nil
		}
	}
	return io.ErrNoProgress
}

// flush gives the writers of all open entities the body up to an offset.
func (s *scanner) flush(to int64) error {
	for _, i := range s.writers {
		e := &s.open[i]
		if to <= e.written {
			continue
		}
		if _, err := e.w.Write(s.buf[e.written-s.base : to-s.base]); err != nil {
			return err
		}
		e.written = to
	}
	return nil
}

// line makes sure that the line at pos is in the buffer, and returns it with its end; a line
// longer than most octets comes without an end. It is empty at the end of the message only.
func (s *scanner) line(most int) ([]byte, error) {
	looked := 0
	for {
		have := s.buf[s.pos:s.end]
		if i := bytes.IndexByte(have[looked:], '\n'); i >= 0 {
			return have[:looked+i+1], nil
		}
		if s.eof || len(have) >= most {
			return have, nil
		}
		looked = len(have)
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// pass moves over a line or a piece of one.
func (s *scanner) pass(line []byte) {
	n := len(line)
	s.pos += n
	s.here.off += int64(n)
	s.inner = n == 0 || line[n-1] != '\n'
	if !s.inner {
		s.here.lines++
		// The CR may be the last octet before this piece, still in the buffer.
		s.crlf = s.pos-2 >= 0 && s.buf[s.pos-2] == '\r' && s.here.off >= 2
		if !s.crlf {
			s.here.bare++
		}
	}
}

// before is the mark before the line end that precedes here, which belongs to a boundary, but not
// before start.
func (s *scanner) before(start mark) mark {
	m := s.here
	if m.off <= start.off {
		return start
	}
	m.lines--
	m.off--
	if s.crlf {
		m.off--
	} else {
		m.bare--
	}
	if m.off < start.off { // the CR of a header without LF: cannot be told apart from the body's
		return start
	}
	return m
}

func (s *scanner) message() (*Part, error) {
	s.o.Depth = cmp.Or(max(s.o.Depth, 0), defaultDepth)
	s.o.Parts = cmp.Or(max(s.o.Parts, 0), defaultParts)
	s.o.Header = cmp.Or(max(s.o.Header, 0), defaultHeader)
	root := &Part{}
	s.parts = 1
	if err := s.entity(root, true, plainText); err != nil {
		return nil, err
	}
	for {
		found, err := s.body()
		if err != nil {
			return nil, err
		}
		if found.none {
			break
		}
		if err := s.delimiter(found); err != nil {
			return nil, err
		}
	}
	for len(s.open) > 0 {
		if last := &s.open[len(s.open)-1]; last.boundary != "" {
			last.part.problem("missing-close-boundary", "the message ends inside a multipart")
		}
		if err := s.close(s.here); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// A found is a boundary line.
type found struct {
	none  bool // the message ended instead
	open  int  // index of the multipart
	close bool // it is the last
	line  []byte
}

// body passes over lines until one is a boundary of an open multipart.
func (s *scanner) body() (found, error) {
	for {
		if !s.inner && len(s.delimiters) > 0 && s.end-s.pos >= 2 && s.buf[s.pos] == '-' && s.buf[s.pos+1] == '-' {
			line, err := s.line(maxDelimiter)
			if err != nil {
				return found{}, err
			}
			if f, ok := s.match(line); ok {
				return f, nil
			}
			s.pass(line)
			continue
		}
		have := s.buf[s.pos:s.end]
		if s.lean {
			have = s.dull(have)
			s.pass(have)
			if s.pos < s.end {
				continue
			}
			return found{none: true}, nil
		}
		if i := bytes.IndexByte(have, '\n'); i >= 0 {
			s.pass(have[:i+1])
			continue
		}
		switch {
		case s.eof:
			if len(have) > 0 {
				s.pass(have)
			}
			return found{none: true}, nil
		case len(have) >= bufferSize/2 || s.inner && len(have) > 2:
			s.pass(have[:len(have)-2]) // leave what may be a CR
		default:
		}
		if err := s.fill(); err != nil {
			return found{}, err
		}
	}
}

// dull is the octets of the body that come before what may be a boundary.
func (s *scanner) dull(have []byte) []byte {
	if len(s.delimiters) > 0 {
		if i := bytes.Index(have, []byte("\n--")); i >= 0 {
			return have[:i+1]
		}
	}
	return have
}

// match finds the multipart that a line beginning with "--" is a boundary of. Blanks after the
// boundary are allowed (RFC 2046 §5.1.1), anything else makes it a line of text.
func (s *scanner) match(line []byte) (found, bool) {
	if len(line) > maxDelimiter {
		return found{}, false
	}
	text := bytes.TrimRight(line[2:], " \t\r\n")
	i := s.delimiters[string(text)]
	j := 0
	if rest, ok := bytes.CutSuffix(text, []byte("--")); ok {
		j = s.delimiters[string(bytes.TrimRight(rest, " \t"))]
	}
	if i == 0 && j == 0 {
		return found{}, false
	}
	return found{open: max(i, j) - 1, close: j > i, line: line}, true
}

// delimiter ends what is inside a multipart, and begins its next part or its epilogue.
func (s *scanner) delimiter(f found) error {
	if e := &s.open[f.open]; e.full && !f.close && f.open == len(s.open)-2 {
		s.pass(f.line) // part of the opaque rest
		return nil
	}
	var inner mark // the end of what was closed before: a blank line may end a header and precede a boundary
	for len(s.open) > f.open+1 {
		last := &s.open[len(s.open)-1]
		if last.boundary != "" {
			last.part.problem("missing-close-boundary", "a boundary of an outer multipart comes first")
		}
		at := s.before(last.start)
		if at.off < inner.off {
			at = inner
		}
		inner = at
		if err := s.close(at); err != nil {
			return err
		}
	}
	e := &s.open[f.open]
	s.pass(f.line)
	if f.close {
		s.forget(e)
		return nil
	}
	if e.full {
		return nil
	}
	p := &Part{}
	e.part.Parts = append(e.part.Parts, p)
	s.parts++
	kind := plainText
	if e.part.Subtype == "digest" {
		kind = rfc822 // RFC 2046 §5.1.5
	}
	if s.parts > s.o.Parts {
		e.full = true
		e.part.problem("too-many-parts", "the rest is left as one part")
		p.Content = opaque
		p.Header = span(s.here, s.here)
		return s.push(entity{part: p, start: s.here}, nil)
	}
	return s.entity(p, false, kind)
}

// forget takes a multipart's boundary out of those that are looked for.
func (s *scanner) forget(e *entity) {
	if e.boundary == "" {
		return
	}
	if e.outer > 0 {
		s.delimiters[e.boundary] = e.outer
	} else {
		delete(s.delimiters, e.boundary)
	}
	e.boundary = ""
}

func (s *scanner) push(e entity, h Header) error {
	if s.o.Begin != nil {
		s.number(&e)
		e.w = s.o.Begin(e.section, e.part, h)
	}
	e.written = e.start.off
	if e.w != nil {
		s.writers = append(s.writers, len(s.open))
	}
	s.open = append(s.open, e)
	return nil
}

// number finds the section of an entity that is about to be opened; see Part.walk.
func (s *scanner) number(e *entity) {
	message, prefix := true, ""
	if len(s.open) > 0 {
		outer := &s.open[len(s.open)-1]
		prefix = outer.inner
		if message = outer.part.Message == e.part; !message {
			prefix = dot(prefix, strconv.Itoa(len(outer.part.Parts)))
		}
	}
	e.section, e.inner = prefix, prefix
	if message && e.part.IsMultipart() {
		e.section = dot(prefix, "TEXT")
	} else if message {
		e.section = dot(prefix, "1")
		e.inner = e.section
	}
}

// close ends the innermost entity at a mark.
func (s *scanner) close(at mark) error {
	if err := s.flush(at.off); err != nil {
		return err
	}
	e := &s.open[len(s.open)-1]
	s.forget(e)
	e.part.Body = span(e.start, at)
	if e.part.IsMultipart() && len(e.part.Parts) == 0 && len(e.part.Problems) == 0 {
		e.part.problem("no-parts", "a multipart in which no boundary was found")
	}
	p, w := e.part, e.w
	*e = entity{}
	s.open = s.open[:len(s.open)-1]
	if n := len(s.writers); n > 0 && s.writers[n-1] == len(s.open) {
		s.writers = s.writers[:n-1]
	}
	if s.o.End != nil {
		return s.o.End(p, w)
	}
	return nil
}

// problem notes what is wrong, within reason.
func (p *Part) problem(code, text string) {
	if len(p.Problems) < maxProblems {
		p.Problems = append(p.Problems, Problem{code, text})
	}
}
