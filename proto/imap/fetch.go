package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// fetch = "FETCH" SP sequence-set SP items [SP fetch-modifiers]   (RFC 9051
// §6.4.5, RFC 4466 §2.4)
func (s *Session) fetch(p *parser) reply {
	p.sp()
	set := p.numSet()
	p.sp()
	items := p.fetchItems()
	var mods fetchModifiers
	if strings.HasPrefix(p.rest, " (") {
		p.sp()
		p.modifiers(func(name string) { mods.read(p, name) })
		if p.err == nil && mods.vanished && (!p.byUID || mods.since == 0 || !s.has(qresync)) {
			p.fail("VANISHED belongs to UID FETCH with CHANGEDSINCE, after ENABLE QRESYNC")
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	return s.fetchItems(p, set, items, mods)
}

// fetchItems answers a FETCH that has been read.
func (s *Session) fetchItems(p *parser, set numSet, items []fetchItem, mods fetchModifiers) reply {
	v := s.view
	if mods.vanished {
		s.news(true) // what is gone and has been told is told only once
	}
	chosen, err := v.choose(set, p.byUID)
	if err != nil {
		return bad(err)
	}
	if mods.partial != nil {
		if n := mods.partial.size(); s.MessageLimit > 0 && n > s.MessageLimit {
			return s.refusedLimit(0) // RFC 9738 §3.1
		}
		chosen = chosen.slice(mods.partial.bounds(chosen.count()))
	}
	if mods.since > 0 {
		s.wantModSeq()
		chosen = v.changed(chosen, mods.since)
		if !slices.ContainsFunc(items, func(it fetchItem) bool { return it.what == "MODSEQ" }) {
			items = append(slices.Clip(items), fetchItem{what: "MODSEQ"}) // RFC 7162 §3.1.4.1
		}
	}
	chosen = s.limited(p, chosen)
	if mods.vanished {
		s.tellVanished(v.resolve(set, true).in(v.lastUID()), mods.since, 0)
	}
	f := s.plan(items, p.byUID)
	f.run(p, chosen)
	trouble := f.trouble
	if err := f.markSeen(); err != nil && trouble == nil {
		trouble = err
	}
	switch {
	case p.fatal != nil:
		return bad(p.fatal)
	case trouble != nil:
		return s.failed(trouble)
	case f.missed && !p.byUID: // RFC 9051 §6.4.9: a UID that is not there is no mistake
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
	level  maildir.Level // what of the items the cache knows
	fields bool          // header fields that it knows are asked for
	file   bool          // some item is read from the message's file
	tree   bool          // … and from its structure
	whole  bool          // … of more than the header
	seen   bool          // sets \Seen
	flags  bool          // FLAGS are asked for
	lazy   bool          // a PREVIEW is, if it is known

	entries  *maildir.Entries
	known    maildir.Known // of the message at hand
	marked   []maildir.Message
	missed   bool  // some messages are gone
	trouble  error // of others
	broken   bool  // the connection failed
	out      []byte
	pieces   []piece
	fieldsOf []byte       // room for header fields
	ready    *readMessage // that message, read; nil: it has to be opened
	src      source       // of it
	text     bytes.Reader // in it
}

// plan looks at the items once for all messages.
func (s *Session) plan(items []fetchItem, byUID bool) *fetching {
	f := &fetching{s: s, v: s.view, out: s.scratch[:0]}
	hasUID, hasModSeq := false, false
	for _, it := range items {
		switch {
		case it.section:
			f.seen = f.seen || !it.peek && !s.view.readOnly && s.view.rights&maildir.RightSeen != 0
			if it.usual() {
				f.fields = true
				continue
			}
			f.file = true
			header := it.number == "" && it.text != "" && it.text != "TEXT" && !it.binary
			if it.number != "" || it.text != "" || it.binary {
				f.tree = true
				f.whole = f.whole || !header
			}
		case it.what == "INTERNALDATE", it.what == "RFC822.SIZE":
			f.level = max(f.level, maildir.Sizes)
		case it.what == "ENVELOPE", it.what == "THREADID":
			f.level = max(f.level, maildir.Header)
		case it.lazy:
			f.level, f.lazy = max(f.level, maildir.Header), true
		case it.what == "BODY", it.what == "BODYSTRUCTURE", it.what == "PREVIEW":
			f.level = max(f.level, maildir.Whole)
		case it.what == "UID":
			hasUID = true
		case it.what == "FLAGS":
			f.flags = true
		case it.what == "MODSEQ": // RFC 7162 §3.1.4.2
			s.wantModSeq()
			hasModSeq = true
		}
	}
	if s.has(condstore) && f.flags && !hasModSeq { // RFC 7162 §3.1
		items = append(slices.Clip(items), fetchItem{what: "MODSEQ"})
	}
	switch {
	case f.fields && f.file: // then they are read from there
		f.fields, f.tree = false, true
	case f.fields:
		f.level = max(f.level, maildir.Header)
	}
	if f.file && f.level == maildir.Sizes {
		f.level = 0 // the file is looked at anyway
	}
	if byUID && !hasUID && !s.has(uidOnly) { // RFC 9051 §6.4.9
		items = append([]fetchItem{{what: "UID"}}, items...)
	}
	f.items = items
	return f
}

// together is how many messages are looked up in the cache at once.
const together = 128

// run answers for the messages with the given numbers.
func (f *fetching) run(p *parser, chosen numSet) {
	order := chosen.all()
	if p.lowest > 0 {
		order = chosen.down() // RFC 9738 §3.1
		defer func() { slices.Reverse(f.marked) }()
	}
	if f.level == 0 && f.file {
		f.each(order, chosen.count(), func(m *readMessage) bool {
			if m.gone {
				f.missed = true
				return true
			}
			f.ready = m
			return f.answer(p, m.number, m.Message) && f.s.ctx.Err() == nil
		})
		return
	}
	if f.level == 0 {
		for n := range order {
			m, gone := f.v.at(n)
			if gone && f.needs() {
				f.missed = true
			} else if !f.answer(p, n, m) {
				return
			}
		}
		return
	}
	f.entries = f.v.folder.Entries(f.level, entries)
	defer f.entries.Close()
	if f.lazy { // in the background it will be made
		f.entries.Wish(maildir.Whole)
	}
	numbers, msgs := make([]int, 0, together), make([]maildir.Message, 0, together)
	some := func() bool {
		for i, known := range f.entries.All(msgs) {
			if f.known = known; !f.answer(p, numbers[i], msgs[i]) {
				return false
			}
		}
		numbers, msgs = numbers[:0], msgs[:0]
		return f.s.ctx.Err() == nil
	}
	for n := range order {
		m, gone := f.v.at(n)
		if gone {
			f.missed = true
			continue
		}
		numbers, msgs = append(numbers, n), append(msgs, m)
		if len(msgs) == together && !some() {
			return
		}
	}
	some()
}

// needs tells whether more is asked for than is known of a message that is
// gone.
func (f *fetching) needs() bool {
	return f.file || slices.ContainsFunc(f.items, func(it fetchItem) bool { return it.what == "RFC822.SIZE" || it.what == "INTERNALDATE" })
}

// answer answers for one message, and tells whether to go on.
func (f *fetching) answer(p *parser, n int, m maildir.Message) bool {
	err := f.message(n, m)
	switch {
	case err == nil:
	case errors.Is(err, errTorn):
		// Nobody can tell any more where anything ends.
		f.s.Log.Error("message changed while it was sent", "user", f.s.name(), "folder", f.v.name, "msg", m.Key())
		p.fatal = err
	case errors.Is(err, maildir.ErrGone), errors.Is(err, fs.ErrNotExist):
		f.missed = true
	case f.broken:
		p.fatal = err
	default:
		f.trouble = err
	}
	return p.fatal == nil
}

// A piece is what answers one item: text up to an octet, or behind it a stretch
// of the message.
type piece struct {
	end    int
	stream streamer
}

// A streamer sends a stretch of a message: all of it, or it fails.
type streamer interface{ writeTo(w io.Writer) error }

// maxHeld is how many octets of one answer are held back until all of it is
// known to be there. A FETCH may ask for the same BODYSTRUCTURE a thousand times.
const maxHeld = 256 << 10

// message answers for one message. What can go wrong does so before the first
// octet is written, as long as the answer is short; later nothing but the end
// of the conversation tells the client.
func (f *fetching) message(n int, m maildir.Message) error {
	if f.known.Err != nil {
		return f.known.Err
	}
	var src *source
	if f.file || f.fields && f.known.Texts[maildir.TextFields] == nil {
		var err error
		if src, err = f.source(m); err != nil {
			return err
		}
		defer src.Close()
	}
	marks := f.seen && m.Flags&maildir.Seen == 0
	b := f.s.appendFetch(f.out[:0], n, m.UID)
	f.pieces = f.pieces[:0]
	began := false
	send := func() error {
		began = true
		err := f.write(b)
		b, f.pieces = b[:0], f.pieces[:0]
		return err
	}
	for k, it := range f.items {
		if k > 0 {
			b = append(b, ' ')
		}
		var st streamer
		var err error
		if b, st, err = f.item(b, src, m, it, marks); err != nil && began {
			return errors.Join(errTorn, err)
		} else if err != nil {
			return err
		}
		if st != nil {
			f.pieces = append(f.pieces, piece{len(b), st})
		}
		if len(b) > maxHeld {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if marks && !f.flags && !f.s.has(condstore) { // RFC 9051 §6.4.5: tell them if they change
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

// write sends b, and each stretch in its place.
func (f *fetching) write(b []byte) (err error) {
	at := 0
	for _, p := range f.pieces {
		_, err = f.s.Conn.Write(b[at:p.end])
		if at = p.end; err == nil {
			err = p.stream.writeTo(f.s.Conn)
		}
		if err != nil {
			f.broken = true
			return err
		}
	}
	if _, err = f.s.Conn.Write(b[at:]); err != nil {
		f.broken = true
	}
	return err
}

// item appends the answer to one item. What is long is returned as a stretch to
// be streamed behind it.
func (f *fetching) item(b []byte, src *source, m maildir.Message, it fetchItem, marks bool) (_ []byte, st streamer, err error) {
	if it.what == "MODSEQ" {
		return f.s.appendModSeq(b, m), nil, nil
	}
	b = append(b, it.what...)
	if it.partial && !it.plain {
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
	case it.what == "INTERNALDATE" && f.known.Entry != nil:
		b = appendDateTime(b, f.known.Date())
	case it.what == "INTERNALDATE":
		t, e := f.v.folder.Date(m)
		b, err = appendDateTime(b, t), e
	case it.what == "RFC822.SIZE" && f.known.Entry != nil:
		b = strconv.AppendInt(b, f.known.Size, 10)
	case it.what == "RFC822.SIZE":
		n, e := f.v.folder.Size(m)
		b, err = strconv.AppendInt(b, n, 10), e
	case it.what == "ENVELOPE":
		b = append(b, f.known.Texts[maildir.TextEnvelope]...)
	case it.what == "BODYSTRUCTURE":
		b = append(b, f.known.Texts[maildir.TextStructure]...)
	case it.what == "BODY":
		b = appendBody(b, f.known.Texts[maildir.TextStructure])
	case it.what == "PREVIEW":
		text := f.known.Texts[maildir.TextPreview]
		b = appendNString(b, string(text), text != nil || !it.lazy)
	case it.what == "EMAILID":
		b = appendObjectID(b, f.v.folder.EmailID(m))
	case it.what == "THREADID":
		b = appendObjectID(b, threadID(f.v.folder, m, f.known.Texts[maildir.TextThread]))
	case it.what == "SAVEDATE":
		t, e := f.v.folder.SavedDate(m)
		b, err = appendDateTime(b, t), e
	}
	return b, nil, err
}

func (f *fetching) appendFlags(b []byte, m maildir.Message, marks bool) []byte {
	if marks && !f.s.has(condstore) { // with the MODSEQ that is not known yet markSeen tells
		m.Flags |= maildir.Seen
	}
	return f.s.appendFlags(b, m)
}

// markSeen puts on disk what was told, or has to be told yet: the messages sent
// are \Seen.
func (f *fetching) markSeen() error {
	if len(f.marked) == 0 {
		return nil
	}
	c := maildir.Change{Add: maildir.Seen}
	_, err := f.v.folder.Store(f.marked, c)
	switch {
	case err != nil:
	case f.s.has(condstore):
		f.s.tell(false, nil)
	default:
		f.s.tell(false, newOwn(f.marked, c))
	}
	return err
}

// cut is the part of a text that an item wants.
func (it fetchItem) cut(text []byte) []byte {
	if !it.partial {
		return text
	}
	text = text[min(it.offset, int64(len(text))):]
	return text[:min(it.most, int64(len(text)))]
}

// section appends the answer to one BODY[…]; what is long is returned as a
// stretch to be streamed behind it.
func (f *fetching) section(b []byte, src *source, it fetchItem) ([]byte, streamer, error) {
	if it.binary {
		return appendBinary(b, src, it)
	}
	if it.fields != nil {
		var text []byte
		ok := true
		var err error
		if src == nil {
			text = appendFields(f.fieldsOf[:0], f.known.Texts[maildir.TextFields], it)
			f.fieldsOf = text
		} else {
			text, ok, err = src.headerFields(it)
		}
		if err != nil {
			return b, nil, err
		}
		if !ok {
			return append(b, "NIL"...), nil, nil
		}
		text = it.cut(text)
		b = append(b, '{')
		b = strconv.AppendInt(b, int64(len(text)), 10)
		b = append(b, "}\r\n"...)
		at := len(b)
		b = append(b, text...)
		withoutNUL(b[at:])
		return b, nil, nil
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
