package imap

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"pennypost/maildir"
)

// A sortKey is something that messages are sorted or threaded by.
type sortKey uint8

const (
	sortArrival sortKey = iota
	sortDate
	sortSize
	sortSubject
	sortFrom
	sortTo
	sortCc
	sortDisplayFrom
	sortDisplayTo
	sortRelevancy // of one search alone
	threadLinks
	sortKeyCount
)

// level is what has to be known of a message.
func (k sortKey) level() maildir.Level {
	if k == sortArrival || k == sortSize {
		return maildir.Sizes
	}
	return maildir.Header
}

// keys are what messages are sorted by, a row for each.
type keys interface {
	// add adds the row of a message, of which nothing is known when it is gone.
	add(e *maildir.Entry)
	// join adds the rows of others of this kind.
	join(with keys)
	// snapshot gives the rows there are, to be read while others are added.
	snapshot() keys
	// octets is the memory that they take.
	octets() int64
}

// sortable are keys that messages are sorted by, not threaded.
type sortable interface {
	keys
	// values gives numbers that compare as these rows do.
	values(rows []uint32) []int64
}

func newKeys(k sortKey) keys {
	switch k {
	case sortArrival:
		return &numberKeys{of: func(e *maildir.Entry) int64 { return e.Date().Unix() }}
	case sortDate:
		return &numberKeys{of: sentDate}
	case sortSize:
		return &numberKeys{of: func(e *maildir.Entry) int64 { return e.Size }}
	case sortSubject:
		return &textKeys{text: maildir.TextSubject}
	case sortFrom:
		return &textKeys{text: maildir.TextFrom}
	case sortTo:
		return &textKeys{text: maildir.TextTo}
	case sortCc:
		return &textKeys{text: maildir.TextCc}
	case sortDisplayFrom:
		return &textKeys{text: maildir.TextFrom, shown: true}
	case sortDisplayTo:
		return &textKeys{text: maildir.TextTo, shown: true}
	}
	return &linkKeys{}
}

// sentDate is when a message says that it was sent, else when it came (RFC 5256
// §2.2).
func sentDate(e *maildir.Entry) int64 {
	if e.HasSent {
		return e.Sent
	}
	return e.Date().Unix()
}

// numberKeys are dates or sizes.
type numberKeys struct {
	of   func(e *maildir.Entry) int64
	rows []int64
}

func (c *numberKeys) add(e *maildir.Entry) {
	n := int64(0)
	if e != nil {
		n = c.of(e)
	}
	c.rows = append(c.rows, n)
}

func (c *numberKeys) join(with keys) { c.rows = append(c.rows, with.(*numberKeys).rows...) }
func (c *numberKeys) octets() int64  { return 8 * int64(cap(c.rows)) }

func (c *numberKeys) snapshot() keys {
	now := *c
	return &now
}

func (c *numberKeys) values(rows []uint32) []int64 {
	values := make([]int64, len(rows))
	for i, r := range rows {
		values[i] = c.rows[r]
	}
	return values
}

// textKeys are texts, collated.
type textKeys struct {
	text  maildir.Text
	shown bool // what stands behind NUL (RFC 5957 §3)
	all   []byte
	ends  []uint32
}

// maxText is how many octets of a text are compared.
const maxText = 500

func (c *textKeys) add(e *maildir.Entry) {
	if e != nil {
		text, shown, _ := bytes.Cut(e.Texts[c.text], []byte{0})
		if c.shown {
			text = shown
		}
		at := len(c.all)
		c.all = collate(c.all, text[:min(len(text), maxText)])
		c.all = c.all[:min(len(c.all), at+maxText)]
	}
	c.ends = append(c.ends, uint32(len(c.all)))
}

func (c *textKeys) join(with keys) {
	w := with.(*textKeys)
	at := uint32(len(c.all))
	c.all = append(c.all, w.all...)
	for _, end := range w.ends {
		c.ends = append(c.ends, at+end)
	}
}

func (c *textKeys) octets() int64 { return int64(cap(c.all)) + 4*int64(cap(c.ends)) }

func (c *textKeys) snapshot() keys {
	now := *c
	return &now
}

func (c *textKeys) row(i uint32) []byte {
	from := uint32(0)
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.all[from:c.ends[i]]
}

// values are the ranks of the texts.
func (c *textKeys) values(rows []uint32) []int64 {
	o := &textOrder{keys: c, ranks: make([]int64, len(rows))}
	texts := make([]textAt, len(rows))
	for i, r := range rows {
		texts[i] = textAt{row: r, i: int32(i)}
	}
	o.sort(texts, 0)
	return o.ranks
}

// A textOrder ranks texts, eight octets at a time: many begin alike, and each
// octet is looked at once.
type textOrder struct {
	keys  *textKeys
	ranks []int64
	next  int64
}

type textAt struct {
	head uint64 // the next octets, as a number that compares as they do
	row  uint32
	i    int32
}

// sort ranks texts that are alike in the octets before from.
func (o *textOrder) sort(texts []textAt, from int) {
	more := false
	if len(texts) > 1 {
		for k := range texts {
			text := o.keys.row(texts[k].row)
			more = more || len(text) > from
			texts[k].head = head(text[min(from, len(text)):])
		}
	}
	if !more {
		for _, t := range texts {
			o.ranks[t.i] = o.next
		}
		o.next++
		return
	}
	slices.SortFunc(texts, func(a, b textAt) int { return cmp.Compare(a.head, b.head) })
	for len(texts) > 0 {
		n := 1
		for n < len(texts) && texts[n].head == texts[0].head {
			n++
		}
		o.sort(texts[:n], from+8)
		texts = texts[n:]
	}
}

// head is how a text begins. What is shorter is filled up with NUL, which no
// text has in it.
func head(text []byte) uint64 {
	if len(text) >= 8 {
		return binary.BigEndian.Uint64(text)
	}
	var b [8]byte
	copy(b[:], text)
	return binary.BigEndian.Uint64(b[:])
}

// linkKeys are what THREAD asks for. Ids and subjects are told apart by hashes
// that nobody outside can know.
type linkKeys struct {
	raw []uint64 // a row: subject, own id, ids of the references

	sent []int64

	// In keys that others have joined numbers from 1 on stand for the hashes.
	rows          []uint32
	numbers       *linkNumbers
	ids, subjects int // how many numbers there are

	ends    []uint32 // of the rows in raw, or in rows
	scratch []byte
}

type linkNumbers struct{ ids, subjects map[uint64]uint32 }

var linkSeed = maphash.MakeSeed()

// isReply is set in the number of the subject of a message that answers or
// forwards another one.
const isReply = 1

func (c *linkKeys) add(e *maildir.Entry) {
	sent := int64(0)
	if e == nil {
		e = &maildir.Entry{}
	} else {
		sent = sentDate(e)
	}
	c.sent = append(c.sent, sent)
	subject, _, reply := bytes.Cut(e.Texts[maildir.TextSubject], []byte{0})
	c.scratch = collate(c.scratch[:0], subject)
	h := hashLink(c.scratch) &^ isReply
	if reply {
		h |= isReply
	}
	own, refs, _ := bytes.Cut(e.Texts[maildir.TextThread], []byte{0})
	c.raw = append(c.raw, h, hashLink(own))
	for len(refs) > 0 {
		var id []byte
		id, refs, _ = bytes.Cut(refs, []byte{0})
		c.raw = append(c.raw, hashLink(id))
	}
	c.ends = append(c.ends, uint32(len(c.raw)))
}

// hashLink is 0 for no text.
func hashLink(text []byte) uint64 {
	if len(text) == 0 {
		return 0
	}
	return maphash.Bytes(linkSeed, text) | 1<<63
}

// numberOf gives the number of a hash, a new one for a new hash.
func numberOf(of map[uint64]uint32, h uint64) uint32 {
	if h == 0 {
		return 0
	}
	n, ok := of[h]
	if !ok {
		n = uint32(len(of) + 1)
		of[h] = n
	}
	return n
}

func (c *linkKeys) join(with keys) {
	if c.numbers == nil {
		c.numbers = &linkNumbers{map[uint64]uint32{}, map[uint64]uint32{}}
	}
	w := with.(*linkKeys)
	c.sent = append(c.sent, w.sent...)
	from := uint32(0)
	for _, end := range w.ends {
		row := w.raw[from:end]
		from = end
		c.rows = append(c.rows, numberOf(c.numbers.subjects, row[0]&^isReply)<<1|uint32(row[0]&isReply))
		for _, h := range row[1:] {
			c.rows = append(c.rows, numberOf(c.numbers.ids, h))
		}
		c.ends = append(c.ends, uint32(len(c.rows)))
	}
	c.ids, c.subjects = len(c.numbers.ids), len(c.numbers.subjects)
}

func (c *linkKeys) octets() int64 {
	return 8*int64(cap(c.sent)) + 4*int64(cap(c.rows)+cap(c.ends)) + 32*int64(c.ids+c.subjects)
}

func (c *linkKeys) snapshot() keys {
	now := *c
	now.numbers = nil
	return &now
}

// leaf is a row as THREAD wants it.
func (c *linkKeys) leaf(i uint32) leaf {
	from := uint32(0)
	if i > 0 {
		from = c.ends[i-1]
	}
	row := c.rows[from:c.ends[i]]
	return leaf{sent: c.sent[i], subject: row[0] >> 1, reply: row[0]&isReply != 0, id: row[1], refs: row[2:]}
}
