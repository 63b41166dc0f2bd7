package imap

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// A source is a message that is being read. What is short is read at once,
// the rest stays on disk.
type source struct {
	io.ReaderAt
	file   io.Closer
	stored int64 // octets as stored
	text   []byte
	tree   *mimetree.Part // nil unless asked for; without parts unless the whole was asked for
	memo   *memo
}

// short is up to how many octets a message is read into memory.
const short = 256 << 10

// A memo remembers the long message that was read last: a client that fetches
// it piece by piece (RFC 9051 §6.4.5, partial) does not make us begin anew
// each time.
type memo struct {
	folder *maildir.Folder
	uid    uint32
	tree   *mimetree.Part // of the whole, or nil
	sent   int64          // octets as sent, or -1

	// Where reading begins for offset sent octets into the stretch that
	// starts at from.
	from, offset, pos int64
	cr                bool // the octet before pos is CR
}

// source opens m and reads of its structure what is needed.
func (s *Session) source(folder *maildir.Folder, m maildir.Message, tree, whole bool) (*source, error) {
	file, err := folder.Reader(m)
	if err != nil {
		return nil, err
	}
	return s.sourceOf(file, folder, m, tree, whole)
}

// sourceOf is source for a file that is open.
func (s *Session) sourceOf(file messageFile, folder *maildir.Folder, m maildir.Message, tree, whole bool) (*source, error) {
	src := &source{ReaderAt: file, file: file}
	if err := s.prepare(src, file, folder, m, tree, whole); err != nil {
		file.Close()
		return nil, err
	}
	return src, nil
}

type messageFile interface {
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

func (s *Session) prepare(src *source, file messageFile, folder *maildir.Folder, m maildir.Message, tree, whole bool) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	src.stored = info.Size()
	if err := src.load(&s.buf); err != nil {
		return err
	}
	if src.text == nil {
		if s.memo == nil || s.memo.folder != folder || s.memo.uid != m.UID {
			s.memo = &memo{folder: folder, uid: m.UID, sent: -1}
		}
		src.memo = s.memo
	}
	if !tree || src.tree != nil {
		return nil
	}
	if src.memo == nil || !whole {
		if src.tree, err = src.structure(whole); src.tree != nil || err != nil {
			return err
		}
	}
	if src.memo != nil && src.memo.tree != nil {
		src.tree = src.memo.tree
		return nil
	}
	src.tree, err = partsOf(folder, m)
	if err == nil && (src.tree == nil || src.tree.Body.End != src.stored) {
		src.tree, err = src.parse()
	}
	src.memo.tree = src.tree
	return err
}

// structure reads the structure of the message, or of its header only: then it
// returns nil for one of unusual length.
func (src *source) structure(whole bool) (*mimetree.Part, error) {
	if !whole {
		return src.header()
	}
	return src.parse()
}

// partsOf gives from the cache where the parts of a long message are, after it
// was read once; nil if there are too many.
func partsOf(folder *maildir.Folder, m maildir.Message) (*mimetree.Part, error) {
	e := folder.Entries(maildir.Whole, entries)
	defer e.Close()
	k := e.One(m)
	if k.Err != nil {
		return nil, k.Err
	}
	return readPartMap(k.Texts[maildir.TextParts]), nil
}

// load reads a short message into buf, which grows if it has to.
func (src *source) load(buf *[]byte) error {
	if src.stored > short {
		return nil
	}
	if int64(cap(*buf)) < src.stored {
		*buf = make([]byte, min(2*src.stored, short))
	}
	text := (*buf)[:src.stored]
	n, err := src.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return err
	}
	src.text, src.stored = text[:n], int64(n)
	src.ReaderAt = bytes.NewReader(src.text)
	return nil
}

// parse reads the structure of the whole message.
func (src *source) parse() (*mimetree.Part, error) {
	if src.text != nil {
		return mimetree.ParseText(src.text), nil
	}
	return mimetree.Parse(io.NewSectionReader(src, 0, src.stored), nil)
}

// Close ends the reading.
func (src *source) Close() error {
	if src.file == nil {
		return nil
	}
	return src.file.Close()
}

// header reads the header of the message only. It returns nil for one of
// unusual length.
func (src *source) header() (*mimetree.Part, error) {
	head := src.text
	if head == nil {
		head = make([]byte, 64<<10)
		n, err := src.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			return nil, err
		}
		head = head[:n]
	}
	end, found := headerEnd(head)
	if !found && src.text == nil {
		return nil, nil
	}
	return mimetree.ParseText(head[:end]), nil
}

// headerEnd is the offset behind the first blank line.
func headerEnd(b []byte) (int, bool) {
	for at := 0; at < len(b); {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		if i == 0 || i == 1 && b[at] == '\r' {
			return at + i + 1, true
		}
		at += i + 1
	}
	return len(b), false
}

// A stretch is a part of a message on its way to the client, with every line
// end as CRLF.
type stretch struct {
	r        io.ReaderAt
	text     []byte // all there is to read, if it is in memory
	from, to int64  // as stored
	skip     int64  // octets as sent that are left out at the beginning
	size     int64  // octets as sent that follow
	raw      bool   // NUL octets may be among them
	memo     *memo
}

// stretch finds what a section stands for; false if there is no such part.
func (src *source) stretch(it fetchItem) (*stretch, bool, error) {
	var span mimetree.Span
	if it.number == "" && it.text == "" {
		n, err := src.sent()
		if err != nil {
			return nil, false, err
		}
		span = mimetree.Span{Start: 0, End: src.stored, Size: n}
	} else {
		var ok bool
		if span, ok = src.tree.Section(it.spec()); !ok {
			return nil, false, nil
		}
	}
	st := &stretch{r: src, text: src.text, from: span.Start, to: span.End, size: span.Size, memo: src.memo}
	if it.partial {
		st.skip = min(it.offset, span.Size)
		st.size = min(it.most, span.Size-st.skip)
	}
	return st, true, nil
}

func (it fetchItem) spec() string {
	text, _, _ := strings.Cut(it.text, ".")
	switch {
	case it.number == "":
		return text
	case text == "":
		return it.number
	}
	return it.number + "." + text
}

// sent counts the octets of the whole message as they are sent.
func (src *source) sent() (int64, error) {
	switch {
	case src.text != nil:
		return src.stored + bare(src.text, false), nil
	case src.memo == nil: // an empty file
		return 0, nil
	case src.memo.sent >= 0:
		return src.memo.sent, nil
	}
	buf := getBuffer()
	defer putBuffer(buf)
	n, cr := int64(0), false
	for at := int64(0); at < src.stored; {
		k, err := src.ReadAt(buf[:min(int64(len(buf)), src.stored-at)], at)
		if k == 0 && err != nil {
			if err == io.EOF {
				err = errTorn
			}
			return 0, err
		}
		n += int64(k) + bare(buf[:k], cr)
		cr = buf[k-1] == '\r'
		at += int64(k)
	}
	src.memo.sent = n
	return n, nil
}

// bare counts the LFs in b without a CR before them; cr says whether one
// stands before b.
func bare(b []byte, cr bool) int64 {
	n := bytes.Count(b, []byte{'\n'})
	if n == 0 {
		return 0
	}
	if bytes.IndexByte(b, '\r') >= 0 {
		n -= bytes.Count(b, []byte("\r\n"))
	}
	if cr && b[0] == '\n' {
		n--
	}
	return int64(n)
}

const chunk = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

func getBuffer() []byte  { return *buffers.Get().(*[]byte) }
func putBuffer(b []byte) { b = b[:chunk]; buffers.Put(&b) }

// writeTo sends the stretch: exactly size octets, or an error, after which
// nothing can be said any more.
func (st *stretch) writeTo(w io.Writer) error {
	if st.text != nil && st.skip == 0 {
		return st.writeText(w)
	}
	in, out := getBuffer(), getBuffer()
	defer putBuffer(in)
	defer putBuffer(out)
	in = in[:chunk/2] // so that out holds it with every octet an LF
	pos, offset, cr := st.from, int64(0), false
	if m := st.memo; m != nil && m.from == st.from && m.offset <= st.skip && m.pos >= st.from && m.pos <= st.to {
		pos, offset, cr = m.pos, m.offset, m.cr
	}
	left := st.size
	for left > 0 {
		if m := st.memo; m != nil {
			m.from, m.offset, m.pos, m.cr = st.from, offset, pos, cr
		}
		if pos >= st.to {
			return errTorn
		}
		n, err := st.r.ReadAt(in[:min(int64(len(in)), st.to-pos)], pos)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = errTorn
			}
			return err
		}
		pos += int64(n)
		var b []byte
		b, cr = crlf(out[:0], in[:n], cr)
		begin := offset
		offset += int64(len(b))
		if begin < st.skip {
			b = b[min(st.skip-begin, int64(len(b))):]
		}
		if int64(len(b)) > left {
			b = b[:left]
		}
		if !st.raw {
			withoutNUL(b)
		}
		if _, err := w.Write(b); err != nil {
			return errors.Join(errLost, err)
		}
		left -= int64(len(b))
	}
	return nil
}

// withoutNUL puts another octet in the place of each NUL, which a literal may
// not hold (RFC 9051 §9, CHAR8): the one that Dovecot takes. BINARY has them.
func withoutNUL(b []byte) {
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return
		}
		b[i] = 0x80
		b = b[i+1:]
	}
}

// writeText is writeTo for what is in memory.
func (st *stretch) writeText(w io.Writer) error {
	out := getBuffer()
	defer putBuffer(out)
	cr, left := false, st.size
	for rest := st.text[st.from:min(st.to, int64(len(st.text)))]; left > 0; {
		if len(rest) == 0 {
			return errTorn
		}
		in := rest[:min(len(rest), chunk/2)] // so that out holds it with every octet an LF
		var b []byte
		b, cr = crlf(out[:0], in, cr)
		b = b[:min(left, int64(len(b)))]
		if !st.raw {
			withoutNUL(b)
		}
		if _, err := w.Write(b); err != nil {
			return errors.Join(errLost, err)
		}
		rest, left = rest[len(in):], left-int64(len(b))
	}
	return nil
}

var errLost = errors.New("connection lost")

// crlf appends p to b with every line end as CRLF; cr says whether the octet
// before p is CR, and whether the last one is.
func crlf(b, p []byte, cr bool) ([]byte, bool) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return append(b, p...), p[len(p)-1] == '\r'
		}
		if i > 0 {
			cr = p[i-1] == '\r'
		}
		b = append(b, p[:i]...)
		if !cr {
			b = append(b, '\r')
		}
		b = append(b, '\n')
		cr = false
		p = p[i+1:]
	}
	return b, cr
}

// maxHeader is how much of a header is looked at for fields.
const maxHeader = 1 << 20

// headerFields is what HEADER.FIELDS and HEADER.FIELDS.NOT stand for: the
// fields as they are, and a blank line (RFC 9051 §6.4.5.1). It returns false
// if there is no such part.
func (src *source) headerFields(it fetchItem) ([]byte, bool, error) {
	span, ok := src.tree.Section(it.spec())
	if !ok {
		return nil, false, nil
	}
	head, err := src.slice(span.Start, min(span.End, span.Start+maxHeader))
	if err != nil {
		return nil, false, err
	}
	return appendFields(nil, head, it), true, nil
}

// appendFields appends those fields of a header that an item names, or does not
// name, and a blank line.
func appendFields(b, head []byte, it fetchItem) []byte {
	not := it.text == "HEADER.FIELDS.NOT"
	for f := range mimetree.Header(head).All() {
		if named(it.fields, f.Name) != not {
			b = appendField(b, f)
		}
	}
	return append(b, "\r\n"...)
}

// slice is a piece of the message as stored.
func (src *source) slice(from, to int64) ([]byte, error) {
	if src.text != nil && to <= int64(len(src.text)) {
		return src.text[from:to], nil
	}
	b := make([]byte, to-from)
	n, err := src.ReadAt(b, from)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}
