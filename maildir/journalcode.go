package maildir

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (h *journalHead) encode() []byte {
	b := make([]byte, 0, headSize)
	b = append(b, journalMagic...)
	b = binary.LittleEndian.AppendUint32(b, journalVersion)
	b = binary.LittleEndian.AppendUint32(b, h.validity)
	b = append(b, h.generation[:]...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decode reads a file head, and gives the crc that the first record continues.
func (h *journalHead) decode(b []byte) (crc uint32, err error) {
	if len(b) < headSize || string(b[:8]) != journalMagic {
		return 0, errors.New("this is no journal")
	}
	crc = binary.LittleEndian.Uint32(b[36:])
	if crc32.Checksum(b[:36], castagnoli) != crc {
		return 0, errDamaged
	}
	if binary.LittleEndian.Uint32(b[8:]) != journalVersion {
		return 0, errors.New("the journal is of another version")
	}
	h.validity = binary.LittleEndian.Uint32(b[12:])
	copy(h.generation[:], b[16:])
	return crc, nil
}

// seal fills in the head of a record, of which b holds all but the pieces that follow, and gives its crc.
func seal(b []byte, kind byte, before uint32, more ...[]byte) uint32 {
	size := len(b) - recordHead
	for _, m := range more {
		size += len(m)
	}
	binary.LittleEndian.PutUint32(b, uint32(size))
	b[4] = kind
	crc := crc32.Update(before, castagnoli, b[:8])
	crc = crc32.Update(crc, castagnoli, b[recordHead:])
	for _, m := range more {
		crc = crc32.Update(crc, castagnoli, m)
	}
	binary.LittleEndian.PutUint32(b[8:], crc)
	return crc
}

// cutRecord takes the first record off b. False when it is not whole, or not what was written behind before.
func cutRecord(b []byte, before uint32) (kind byte, payload, rest []byte, crc uint32, ok bool) {
	if len(b) < recordHead {
		return 0, nil, nil, 0, false
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size > int64(len(b)-recordHead) {
		return 0, nil, nil, 0, false
	}
	payload, rest = b[recordHead:recordHead+size], b[recordHead+size:]
	crc = crc32.Update(crc32.Update(before, castagnoli, b[:8]), castagnoli, payload)
	return b[4], payload, rest, crc, crc == binary.LittleEndian.Uint32(b[8:])
}

func uint32s(b []byte) []uint32 {
	list := make([]uint32, len(b)/4)
	for i := range list {
		list[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return list
}

func uint64s(b []byte) []uint64 {
	list := make([]uint64, len(b)/8)
	for i := range list {
		list[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return list
}

// An encoder appends.
type encoder struct{ b []byte }

func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

func (e *encoder) text(s string) {
	e.b = append(binary.LittleEndian.AppendUint16(e.b, uint16(len(s))), s...)
}

// attribute writes one whose value do writes.
func (e *encoder) attribute(tag byte, do func()) {
	e.b = append(e.b, tag, 0, 0, 0, 0)
	at := len(e.b)
	do()
	binary.LittleEndian.PutUint32(e.b[at-4:], uint32(len(e.b)-at))
}

func (e *encoder) where(w where) {
	e.b = append(e.b, w.dir)
	e.b = appendName(e.b, w.text)
	e.b = binary.LittleEndian.AppendUint16(e.b, uint16(len(w.more)))
	for _, k := range w.more {
		e.b = binary.LittleEndian.AppendUint16(e.b, k)
	}
}

func (e *encoder) keywords(names []string) {
	if len(names) == 0 {
		return
	}
	e.attribute(tagKeywords, func() {
		for _, k := range names {
			e.b = appendName(e.b, k)
		}
	})
}

func (e *encoder) ids(list []ident) {
	if len(list) == 0 {
		return
	}
	e.attribute(tagEmailIDs, func() {
		for _, id := range list {
			e.u32(id.uid)
			e.b = append(e.b, id.email[:]...)
		}
	})
}

func (e *encoder) by(name string) {
	if name != "" {
		e.attribute(tagBy, func() { e.b = append(e.b, name...) })
	}
}

func (e *encoder) stamp(s stamp) {
	e.u64(s.ino)
	e.u64(uint64(s.sec))
	e.u32(uint32(s.nsec))
	e.u64(uint64(s.size))
}

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.u64(0)
	} else {
		e.u64(uint64(t.UnixNano()))
	}
}

func (e *encoder) views(v *views) {
	dir := func(tag byte, d *dirView) {
		if d == nil {
			return
		}
		e.attribute(tag, func() {
			e.stamp(d.stamp)
			e.time(d.since)
			e.time(d.read)
			e.time(d.own)
			e.u64(uint64(d.cost))
		})
	}
	dir(tagNew, v.new)
	dir(tagCur, v.cur)
	if l := v.list; l != nil {
		e.attribute(tagList, func() {
			e.stamp(l.stamp)
			e.u64(uint64(l.end))
			e.text(l.tail)
		})
	}
	if v.letters != nil {
		e.attribute(tagLetters, func() { e.stamp(*v.letters) })
	}
}

// A decoder takes values off b, zero ones after the first mistake.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// join makes a mistake in a part one of the whole.
func (d *decoder) join(part decoder) {
	if part.bad || len(part.b) > 0 {
		d.bad, d.b = true, nil
	}
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) text() string { return string(d.take(int(d.u16()))) }
func (d *decoder) name() string { return string(d.take(int(d.u8()))) }

// count reads how many items follow, each of size octets at least.
func (d *decoder) count(size int) int {
	n := d.u32()
	if int64(n)*int64(size) > int64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) attribute() (tag byte, value decoder) {
	tag = d.u8()
	return tag, decoder{b: d.take(int(d.u32()))}
}

func (d *decoder) where() where {
	w := where{dir: d.u8(), text: d.name()}
	if w.dir != inNew && w.dir != inCur || w.text != "" && w.text[0] != ':' || strings.ContainsAny(w.text, "/\x00") {
		d.bad = true
	}
	if n := int(d.u16()); n > 0 {
		b := d.take(2 * n)
		w.more = make([]uint16, len(b)/2)
		for i := range w.more {
			w.more[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
	}
	return w
}

func (d *decoder) keywords() (names []string) {
	for len(d.b) > 0 {
		k := d.name()
		if !validKeyword(k) {
			d.bad = true
		}
		names = append(names, k)
	}
	return names
}

func (d *decoder) ids() []ident {
	list := make([]ident, len(d.b)/14)
	for i := range list {
		list[i].uid = d.u32()
		copy(list[i].email[:], d.take(len(list[i].email)))
	}
	return list
}

func (d *decoder) stamp() stamp {
	return stamp{ino: d.u64(), sec: int64(d.u64()), nsec: int64(d.u32()), size: int64(d.u64())}
}

func (d *decoder) time() time.Time {
	n := int64(d.u64())
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// view takes over one of the views; other tags are passed over.
func (d *decoder) view(v *views, tag byte, value decoder) {
	switch tag {
	case tagNew, tagCur:
		w := &dirView{stamp: value.stamp(), since: value.time(), read: value.time(), own: value.time(), cost: time.Duration(value.u64())}
		if tag == tagNew {
			v.new = w
		} else {
			v.cur = w
		}
	case tagList:
		v.list = &listView{stamp: value.stamp(), end: int64(value.u64()), tail: value.text()}
		value.bad = value.bad || v.list.end < int64(len(v.list.tail))
	case tagLetters:
		s := value.stamp()
		v.letters = &s
	default:
		return
	}
	d.join(value)
}
