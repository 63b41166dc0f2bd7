package imap

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"pennypost/maildir"
)

// fetch = "FETCH" SP sequence-set SP items   (RFC 9051 §6.4.5)
func (s *Session) fetch(p *parser) reply {
	p.sp()
	set := p.numSet()
	p.sp()
	items := p.fetchItems()
	if err := p.end(); err != nil {
		return bad(err)
	}
	v := s.view
	chosen, err := v.choose(set, p.byUID)
	if err != nil {
		return bad(err)
	}
	f := s.plan(items, p.byUID)
	var missed bool
	var trouble error
	for n := range chosen.all() {
		err := f.message(n)
		switch {
		case err == nil:
		case errors.Is(err, errTorn):
			// Nobody can tell any more where anything ends.
			m, _ := v.at(n)
			s.Log.Error("message changed while it was sent", "user", s.name(), "folder", v.name, "msg", m.Key())
			p.fatal = err
		case errors.Is(err, maildir.ErrGone), errors.Is(err, fs.ErrNotExist):
			missed = true
		case f.broken:
			p.fatal = err
		default:
			trouble = err
		}
		if p.fatal != nil {
			break
		}
	}
	if err := f.markSeen(); err != nil && trouble == nil {
		trouble = err
	}
	switch {
	case p.fatal != nil:
		return bad(p.fatal)
	case trouble != nil:
		return s.failed(trouble)
	case missed:
		return no("EXPUNGEISSUED", "some of the messages are gone")
	}
	return ok("done")
}

// errTorn reports a message that is not as long as was announced, or an answer
// that cannot be finished.
var errTorn = errors.New("message changed while it was sent")

// A fetching is one FETCH command at work.
type fetching struct {
	s      *Session
	v      *view
	items  []fetchItem
	file   bool // some item is read from the message's file
	tree   bool // … and from its structure
	whole  bool // … of more than the header
	seen   bool // sets \Seen
	flags  bool // FLAGS are asked for
	marked []maildir.Message
	broken bool // the connection failed
	out    []byte
}

// plan looks at the items once for all messages.
func (s *Session) plan(items []fetchItem, byUID bool) *fetching {
	f := &fetching{s: s, v: s.view, out: s.scratch[:0]}
	hasUID := false
	for _, it := range items {
		switch {
		case it.section:
			f.file = true
			f.seen = f.seen || !it.peek && !s.view.readOnly
			header := it.number == "" && it.text != "" && it.text != "TEXT"
			if it.number != "" || it.text != "" {
				f.tree = true
				f.whole = f.whole || !header
			}
		case it.what == "ENVELOPE":
			f.file, f.tree = true, true
		case it.what == "BODY", it.what == "BODYSTRUCTURE":
			f.file, f.tree, f.whole = true, true, true
		case it.what == "UID":
			hasUID = true
		case it.what == "FLAGS":
			f.flags = true
		}
	}
	if byUID && !hasUID { // RFC 9051 §6.4.9
		items = append([]fetchItem{{what: "UID"}}, items...)
	}
	f.items = items
	return f
}

// A piece is what answers one item: text, or a stretch of the message.
type piece struct {
	text   []byte
	stream *stretch
}

// maxHeld is how many octets of one answer are held back until all of it is
// known to be there. A FETCH may ask for the same BODYSTRUCTURE a thousand times.
const maxHeld = 256 << 10

// message answers for one message. What can go wrong does so before the first
// octet is written, as long as the answer is short; later nothing but the end
// of the conversation tells the client.
func (f *fetching) message(n int) error {
	m, gone := f.v.at(n)
	var src *source
	if f.file {
		if gone {
			return maildir.ErrGone
		}
		var err error
		if src, err = f.s.source(f.v.folder, m, f.tree, f.whole); err != nil {
			return err
		}
		defer src.Close()
	}
	marks := f.seen && m.Flags&maildir.Seen == 0
	b := fmt.Appendf(f.out[:0], "* %d FETCH (", n)
	var pieces []piece
	held, began := 0, false
	send := func() error {
		began, held = true, 0
		for _, p := range pieces {
			if err := f.write(p); err != nil {
				return err
			}
		}
		pieces = nil
		err := f.write(piece{text: b})
		b = b[:0]
		return err
	}
	for k, it := range f.items {
		if k > 0 {
			b = append(b, ' ')
		}
		var st *stretch
		var err error
		if b, st, err = f.item(b, src, m, it, marks); err != nil && began {
			return errors.Join(errTorn, err)
		} else if err != nil {
			return err
		}
		if st != nil {
			pieces = append(pieces, piece{text: b, stream: st})
			held += len(b)
			b = nil
		}
		if held+len(b) > maxHeld {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if marks && !f.flags { // RFC 9051 §6.4.5: tell them if they change
		b = append(b, " FLAGS "...)
		b = f.appendFlags(b, m, marks)
	}
	b = append(b, ")\r\n"...)
	if err := send(); err != nil {
		return err
	}
	if cap(b) <= maxHeld {
		f.out = b
		f.s.scratch = b
	}
	if marks {
		f.marked = append(f.marked, m)
	}
	return nil
}

// write sends a piece.
func (f *fetching) write(p piece) error {
	_, err := f.s.Conn.Write(p.text)
	if err == nil && p.stream != nil {
		err = p.stream.writeTo(f.s.Conn)
	}
	if err != nil {
		f.broken = true
	}
	return err
}

// item appends the answer to one item. What is long is returned as a stretch to
// be streamed behind it.
func (f *fetching) item(b []byte, src *source, m maildir.Message, it fetchItem, marks bool) (_ []byte, st *stretch, err error) {
	b = append(b, it.what...)
	if it.partial {
		b = fmt.Appendf(b, "<%d>", it.offset)
	}
	b = append(b, ' ')
	switch {
	case it.section:
		return f.section(b, src, it)
	case it.what == "FLAGS":
		b = f.appendFlags(b, m, marks)
	case it.what == "UID":
		b = strconv.AppendUint(b, uint64(m.UID), 10)
	case it.what == "INTERNALDATE":
		t, e := f.v.folder.Date(m)
		b, err = appendDateTime(b, t), e
	case it.what == "RFC822.SIZE":
		n, e := f.v.folder.Size(m)
		b, err = strconv.AppendInt(b, n, 10), e
	case it.what == "ENVELOPE":
		b = appendEnvelope(b, src.tree.Envelope)
	case it.what == "BODY", it.what == "BODYSTRUCTURE":
		b = appendStructure(b, src.tree, it.what == "BODYSTRUCTURE")
	}
	return b, nil, err
}

func (f *fetching) appendFlags(b []byte, m maildir.Message, marks bool) []byte {
	flags := m.Flags
	if marks {
		flags |= maildir.Seen
	}
	b = append(b, '(')
	b = append(b, flagString(flags, m.Keywords(), f.v.folder.Recent(m.UID))...)
	return append(b, ')')
}

// markSeen puts on disk what was told: the messages sent are \Seen.
func (f *fetching) markSeen() error {
	if len(f.marked) == 0 {
		return nil
	}
	c := maildir.Change{Add: maildir.Seen}
	_, err := f.v.folder.Store(f.marked, c)
	if err == nil {
		f.s.tell(false, newOwn(f.marked, c))
	}
	return err
}

// section appends the answer to one BODY[…]; what is long is returned as a
// stretch to be streamed behind it.
func (f *fetching) section(b []byte, src *source, it fetchItem) ([]byte, *stretch, error) {
	if it.fields != nil {
		text, ok, err := src.headerFields(it)
		if err != nil {
			return b, nil, err
		}
		if !ok {
			return append(b, "NIL"...), nil, nil
		}
		from := min(it.offset, int64(len(text)))
		text = text[from:]
		if it.partial {
			text = text[:min(it.most, int64(len(text)))]
		}
		b = append(b, '{')
		b = strconv.AppendInt(b, int64(len(text)), 10)
		b = append(b, "}\r\n"...)
		return append(b, text...), nil, nil
	}
	st, ok, err := src.stretch(it)
	if err != nil {
		return b, nil, err
	}
	if !ok { // there is no such part
		return append(b, "NIL"...), nil, nil
	}
	b = append(b, '{')
	b = strconv.AppendInt(b, st.size, 10)
	b = append(b, "}\r\n"...)
	if st.size == 0 {
		return b, nil, nil
	}
	return b, st, nil
}
