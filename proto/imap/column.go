package imap

import (
	"bytes"
	"errors"
	"math"
	"sort"
	"sync/atomic"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// A column is one thing of all messages of a mailbox, held in memory while it is
// searched: the texts of a header field, folded, or a number.
type column struct {
	state  *maildir.State // it has all of these messages
	uids   []uint32
	text   []byte // of text: a mark, and what one of the fields says, one behind the other
	ends   []uint32
	values []int64 // of numbers
	used   int64
}

// fieldMark stands before each text of a field; it is no octet of UTF-8.
const fieldMark = 0xff

// The columns of numbers.
const (
	columnDate = "\x00date" // INTERNALDATE, in nanoseconds
	columnSize = "\x00size"
	columnSent = "\x00sent" // seconds, as its sender's clock had it; noDate without a date
)

// noDate is before all dates.
const noDate = math.MinInt64

func (c *column) octets() int64 {
	return int64(cap(c.uids))*4 + int64(cap(c.text)) + int64(cap(c.ends))*4 + int64(cap(c.values))*8
}

// levelOf is what has to be known of messages for a column.
func levelOf(name string) maildir.Level {
	if name == columnDate || name == columnSize {
		return maildir.Sizes
	}
	return maildir.Header
}

// has says whether a column need not be extended for a state.
func (c *column) has(st *maildir.State) bool {
	return c.state == st || st.HighestModSeq < c.state.HighestModSeq && st.UIDNext <= c.state.UIDNext
}

// column gives a column with all messages of the view in it. nil: it cannot be
// had. Unless make says so it is not made anew.
func (a *asking) column(name string, make bool) (*column, error) {
	m, st := a.v.memory(), a.v.state
	m.enter(st.UIDValidity)
	defer m.mu.Unlock()
	c := m.columns[name]
	if c != nil && c.has(st) {
		c.used = m.clock
		return c, nil
	}
	from := 0
	if c != nil {
		d := st.Since(c.state)
		if from = d.Fresh; len(d.Late) > 0 || st.Len() < len(c.uids)/2 {
			m.shrink(c.octets())
			delete(m.columns, name)
			c, from = nil, 0
		}
	}
	if c == nil {
		if !make {
			return nil, nil
		}
		c = &column{}
	}
	more, err := a.pieces(name, from)
	if err != nil || more == nil {
		return nil, err
	}
	grown := *c
	grown.state, grown.used = st, m.clock
	for _, p := range more {
		at := uint32(len(grown.text))
		grown.uids = append(grown.uids, p.uids...)
		grown.text = append(grown.text, p.text...)
		grown.values = append(grown.values, p.values...)
		for _, e := range p.ends {
			grown.ends = append(grown.ends, at+e)
		}
	}
	if m.columns[name] != nil {
		m.shrink(c.octets())
		delete(m.columns, name)
	}
	if m.grow(grown.octets()) {
		m.columns[name] = &grown
	}
	return &grown, nil
}

// errPiece reports a message that could not be read: there is no column then.
var errPiece = errors.New("not all messages can be read")

// pieceLen is how many messages there are in a piece.
const pieceLen = 4 * together

// pieces makes a column of the messages of the view from place from on, by
// pieces, on all cores. It gives nil when one of them cannot be read.
func (a *asking) pieces(name string, from int) ([]column, error) {
	st := a.v.state
	pieces := make([]column, (st.Len()-from+pieceLen-1)/pieceLen)
	errs := make([]error, len(pieces))
	var next atomic.Int64
	work := func(bool) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(pieces) {
				return
			}
			if errs[i] = a.ctx.Err(); errs[i] == nil {
				first := from + i*pieceLen
				errs[i] = a.piece(name, first, min(first+pieceLen, st.Len()), &pieces[i])
			}
			if errs[i] != nil {
				next.Store(int64(len(pieces)))
			}
		}
	}
	onAllCores(len(pieces), work)
	for _, err := range errs {
		if isGone(err) || errors.Is(err, errPiece) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	return pieces, nil
}

// piece fills a column with the messages from one place to another.
func (a *asking) piece(name string, from, to int, c *column) error {
	msgs := make([]maildir.Message, 0, to-from)
	for i, m := range a.v.state.From(from) {
		if i == to {
			break
		}
		msgs = append(msgs, m)
	}
	c.uids = make([]uint32, 0, len(msgs))
	e := a.v.folder.Entries(levelOf(name), entries)
	defer e.Close()
	for i, known := range e.All(msgs) {
		if known.Err != nil {
			return known.Err
		}
		c.uids = append(c.uids, msgs[i].UID)
		if name[0] == 0 {
			c.values = append(c.values, number(name, known))
			continue
		}
		fields := known.Texts[maildir.TextFields]
		if fields == nil {
			return errPiece
		}
		for f := range mimetree.Header(fields).All() {
			if f.Is(name) {
				c.text = append(c.text, fieldMark)
				c.text = fold(c.text, fieldText(f))
			}
		}
		c.ends = append(c.ends, uint32(len(c.text)))
	}
	return nil
}

// number is what a message has in a column of numbers.
func number(name string, known maildir.Known) int64 {
	switch {
	case name == columnDate:
		return known.Modified
	case name == columnSize:
		return known.Size
	case !known.HasSent:
		return noDate
	}
	return known.Sent + 60*int64(known.Zone)
}

// find gives the messages in whose text the needle is.
func (c *column) find(n *needle) uidBits {
	found := uidBits{}
	if n.empty() {
		from := uint32(0)
		for i, end := range c.ends {
			if end > from {
				found.add(c.uids[i])
			}
			from = end
		}
		return found
	}
	text := []byte(n.text)
	for at := 0; ; {
		i := bytes.Index(c.text[at:], text)
		if i < 0 {
			return found
		}
		k := sort.Search(len(c.ends), func(k int) bool { return int(c.ends[k]) > at+i })
		found.add(c.uids[k])
		at = int(c.ends[k])
	}
}

// which gives the messages whose number is as wanted.
func (c *column) which(is func(int64) bool) uidBits {
	found := uidBits{}
	for i, v := range c.values {
		if is(v) {
			found.add(c.uids[i])
		}
	}
	return found
}

// among is a key of which it is known which messages match.
type among uidBits

func (among) cost() cost                         { return free }
func (a among) match(c *candidate) (bool, error) { return uidBits(a).has(c.m.UID), nil }

// byColumns gives a key with columns in the place of what else would be asked
// of each message. Unless make says so, only of those that are there.
func (a *asking) byColumns(k key, make bool) (key, error) {
	switch k := k.(type) {
	case and:
		for i := range k {
			var err error
			if k[i], err = a.byColumns(k[i], make); err != nil {
				return nil, err
			}
		}
		return k.sorted(), nil
	case or2:
		x, err := a.byColumns(k.a, make)
		if err != nil {
			return nil, err
		}
		y, err := a.byColumns(k.b, make)
		return or2{x, y}.sorted(), err
	case not:
		x, err := a.byColumns(k.key, make)
		return not{x}, err
	case columned:
		name := k.column()
		if name == "" {
			return k, nil
		}
		c, err := a.column(name, make)
		if err != nil || c == nil {
			return k, err
		}
		return among(k.find(c)), nil
	}
	return k, nil
}

// A columned is a key that can be answered from a column; "" is none.
type columned interface {
	key
	column() string
	find(*column) uidBits
}
