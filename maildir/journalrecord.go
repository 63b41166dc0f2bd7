package maildir

import (
	"errors"
	"strings"
	"time"
)

// The journal is a file head, a snapshot of the folder, and a record for each change after it. All numbers are little endian.
//
//	head     magic (8 octets), version u32, UIDVALIDITY u32, generation (16 octets), nothing u32, crc u32
//	record   length u32 (of the payload), kind u8, flags u8, nothing u16, crc u32, payload
//	change   time u64 (µs since 1970), modseq u64, attributes
//	attribute  tag u8, length u32 (of the value), value
//	text     length u16, octets
//	name     length u8, octets
//
// A crc is CRC-32C. Each continues the one before: the file head's is over the head, a record's goes on over the record
// without its crc field. So a record is whole only behind the very records it was written behind, in its own generation.
const (
	journalMagic   = "Pennyjn\n"
	journalVersion = 1
	headSize       = 40
	recordHead     = 12
	changeHead     = 16

	maxJournal = 1 << 30 // octets
)

// Kinds of records. A reader passes over kinds and tags it does not know.
const (
	kindSnapshot = 1
	kindChange   = 2
)

// Tags of attributes.
const (
	tagAdded    = 1
	tagChanged  = 2
	tagVanished = 3
	tagKeywords = 4
	tagEmailIDs = 5
	tagNew      = 6
	tagCur      = 7
	tagList     = 8
	tagLetters  = 9
	tagBy       = 10
	tagInfos    = 11
	tagAfter    = 12 // not given yet, nor are those after it; 12 is kept for THREADIDs
	// 32 to 39 are kept for what undoing a change will need: the infos before it, the names and inodes of what it removed.
)

// A journalHead tells one generation of a journal from all others.
type journalHead struct {
	validity   uint32
	generation [16]byte
}

// A where is where a message lies and under which name behind its base name, as many messages share it: one of new and
// cur, the text from the colon on, and its keywords beyond those with letters: their places in the journal's keywords. In a
// record a place may have no name.
type where struct {
	dir  byte // inNew or inCur
	text string
	more []uint16
}

// A listView is as far as we have read the UID list.
type listView struct {
	stamp stamp
	end   int64  // octets in whole lines
	tail  string // its last octets before end
}

// views are how the files beside the journal looked to whoever wrote a record. What is nil was not looked at.
type views struct {
	new, cur *dirView
	list     *listView
	letters  *stamp // of dovecot-keywords
}

// An addition is a message that got its UID.
type addition struct {
	uid   uint32
	saved uint32 // when: seconds since 1970
	base  string
	where where
}

// A shift is messages that now lie there, under these flags.
type shift struct {
	where where
	uids  []uint32
}

// A record is one change of a folder, and has one modseq.
type record struct {
	time     time.Time // to the microsecond
	modseq   uint64    // 0: no message has changed
	keywords []string  // further names for keywords beyond the letters
	added    []addition
	changed  []shift
	vanished []UIDRange
	ids      []ident
	views    views
	by       string // who did it, "" when that is not known; at most 255 octets
}

// A snapshot is a whole folder. The arrays have a place for each message, UIDs rising.
type snapshot struct {
	time     time.Time
	modseq   uint64 // the highest one given
	next     uint32 // UIDNEXT
	uids     []uint32
	names    string   // of all base names, each behind an octet that holds its length
	offsets  []uint32 // of them in names; not in the file
	wheres   []uint32 // places in table
	saved    []uint32 // seconds since 1970
	modseqs  []uint64
	table    []where
	keywords []string // names of keywords beyond the letters
	ids      idents
	removed  graveyard
	views    views
	by       string
}

// nameAt gives the base name at an offset of a names text.
func nameAt(names string, at uint32) string {
	n := uint32(names[at])
	return names[at+1 : at+1+n]
}

// appendName adds a base name, of 255 octets at most, to a names text.
func appendName[T string | []byte](names []byte, base T) []byte {
	return append(append(names, byte(len(base))), base...)
}

// errDamaged is for a journal, or a part of one, that is not as it was written.
var errDamaged = errors.New("the journal is damaged")

// encode gives the record as it stands in the file behind one whose crc is before, and its own crc.
func (r *record) encode(before uint32) ([]byte, uint32) {
	e := encoder{make([]byte, recordHead, 256)}
	e.u64(uint64(r.time.UnixMicro()))
	e.u64(r.modseq)
	e.keywords(r.keywords)
	if len(r.added) > 0 {
		e.attribute(tagAdded, func() {
			for i := 0; i < len(r.added); {
				// Those that follow one another and lie alike are together.
				n := i + 1
				for n < len(r.added) && r.added[n].where.equal(r.added[i].where) {
					n++
				}
				e.where(r.added[i].where)
				e.u32(uint32(n - i))
				for ; i < n; i++ {
					e.u32(r.added[i].uid)
					e.u32(r.added[i].saved)
					e.b = appendName(e.b, r.added[i].base)
				}
			}
		})
	}
	if len(r.changed) > 0 {
		e.attribute(tagChanged, func() {
			for _, c := range r.changed {
				e.where(c.where)
				e.u32(uint32(len(c.uids)))
				for _, uid := range c.uids {
					e.u32(uid)
				}
			}
		})
	}
	if len(r.vanished) > 0 {
		e.attribute(tagVanished, func() {
			for _, v := range r.vanished {
				e.u32(v.First)
				e.u32(v.Last)
			}
		})
	}
	e.ids(r.ids)
	e.views(&r.views)
	e.by(r.by)
	return e.b, seal(e.b, kindChange, before)
}

func (w where) equal(v where) bool {
	if w.dir != v.dir || w.text != v.text || len(w.more) != len(v.more) {
		return false
	}
	for i := range w.more {
		if w.more[i] != v.more[i] {
			return false
		}
	}
	return true
}

// decode reads the payload of a change.
func (r *record) decode(payload []byte) error {
	d := decoder{b: payload}
	r.time = time.UnixMicro(int64(d.u64()))
	r.modseq = d.u64()
	for len(d.b) > 0 {
		switch tag, v := d.attribute(); tag {
		case tagKeywords:
			r.keywords = v.keywords()
			d.join(v)
		case tagAdded:
			for len(v.b) > 0 {
				w := v.where()
				for range v.count(10) {
					uid, saved := v.u32(), v.u32()
					base := v.name()
					if !validBase(base) || uid == 0 || uid > maxUID {
						v.bad = true
					}
					r.added = append(r.added, addition{uid, saved, base, w})
				}
			}
			d.join(v)
		case tagChanged:
			for len(v.b) > 0 {
				c := shift{where: v.where(), uids: make([]uint32, v.count(4))}
				for i := range c.uids {
					c.uids[i] = v.u32()
				}
				r.changed = append(r.changed, c)
			}
			d.join(v)
		case tagVanished:
			r.vanished = make([]UIDRange, len(v.b)/8)
			for i := range r.vanished {
				u := UIDRange{v.u32(), v.u32()}
				r.vanished[i] = u
				v.bad = v.bad || u.First == 0 || u.First > u.Last
			}
			d.join(v)
		case tagEmailIDs:
			r.ids = v.ids()
			d.join(v)
		case tagBy:
			r.by = string(v.b)
		default:
			d.view(&r.views, tag, v)
		}
	}
	if d.bad {
		return errDamaged
	}
	return nil
}

// encode gives the snapshot as the first record of a file: its beginning, and the names that follow it.
func (s *snapshot) encode(before uint32) (b, names []byte, crc uint32) {
	n := len(s.uids)
	e := encoder{make([]byte, recordHead, recordHead+snapshotHead+20*n+4096+16*len(s.removed.list))}
	e.u32(uint32(len(s.names)))
	e.u32(uint32(n))
	e.u32(s.next)
	e.u32(0)
	e.u64(uint64(s.time.UnixMicro()))
	e.u64(s.modseq)
	e.u64(s.removed.floor)
	for _, array := range [][]uint32{s.uids, s.wheres, s.saved} {
		for _, v := range array {
			e.u32(v)
		}
	}
	for _, v := range s.modseqs {
		e.u64(v)
	}
	e.attribute(tagInfos, func() {
		for _, w := range s.table {
			e.where(w)
		}
	})
	e.keywords(s.keywords)
	e.ids(s.ids)
	if len(s.removed.list) > 0 {
		e.attribute(tagVanished, func() {
			for _, v := range s.removed.list {
				e.u32(v.First)
				e.u32(v.Last)
				e.u64(v.modseq)
			}
		})
	}
	e.views(&s.views)
	e.by(s.by)
	names = octets(s.names)
	return e.b, names, seal(e.b, kindSnapshot, before, names)
}

const snapshotHead = 40

// decode reads the payload of a snapshot: all before the names, and these. The names are kept, they must not be written
// to any more; the rest is not.
func (s *snapshot) decode(payload []byte, names string) error {
	d := decoder{b: payload}
	size, n := int(d.u32()), int(d.u32())
	s.next = d.u32()
	d.u32()
	s.time = time.UnixMicro(int64(d.u64()))
	s.modseq, s.removed.floor = d.u64(), d.u64()
	if d.bad || n > len(d.b)/20 || size != len(names) {
		return errDamaged
	}
	arrays := d.take(20 * n)
	s.uids, s.wheres, s.saved = uint32s(arrays[:4*n]), uint32s(arrays[4*n:8*n]), uint32s(arrays[8*n:12*n])
	s.modseqs = uint64s(arrays[12*n:])
	s.names = names
	for len(d.b) > 0 {
		switch tag, v := d.attribute(); tag {
		case tagInfos:
			for len(v.b) > 0 {
				s.table = append(s.table, v.where())
			}
			d.join(v)
		case tagKeywords:
			s.keywords = v.keywords()
			d.join(v)
		case tagEmailIDs:
			s.ids = v.ids()
			d.join(v)
		case tagVanished:
			s.removed.list = make([]vanishing, len(v.b)/16)
			for i := range s.removed.list {
				u := vanishing{UIDRange{v.u32(), v.u32()}, v.u64()}
				s.removed.list[i] = u
				v.bad = v.bad || u.First == 0 || u.First > u.Last || u.modseq <= s.removed.floor || i > 0 && u.modseq < s.removed.list[i-1].modseq
			}
			d.join(v)
		case tagBy:
			s.by = string(v.b)
		default:
			d.view(&s.views, tag, v)
		}
	}
	if d.bad || !s.sound() {
		return errDamaged
	}
	return nil
}

// sound finds the names, and tells whether they and the numbers fit together: whoever uses a snapshot need not look again.
func (s *snapshot) sound() bool {
	last := uint32(0)
	s.offsets = make([]uint32, len(s.uids))
	at, slashes := 0, 0
	for i, uid := range s.uids {
		if uid <= last || s.wheres[i] >= uint32(len(s.table)) || at >= len(s.names) {
			return false
		}
		last = uid
		s.offsets[i] = uint32(at)
		n := int(s.names[at])
		if n == '/' {
			slashes++
		}
		if n == 0 || at+n >= len(s.names) || s.names[at+1] == '.' {
			return false
		}
		at += 1 + n
	}
	if last > maxUID || last != 0 && s.next <= last || at != len(s.names) {
		return false
	}
	for i := 1; i < len(s.ids); i++ {
		if s.ids[i].uid <= s.ids[i-1].uid {
			return false
		}
	}
	for _, w := range s.table {
		for _, k := range w.more {
			if int(k) >= len(s.keywords) {
				return false
			}
		}
	}
	// No name may lead elsewhere: all octets that look like a slash are lengths.
	return strings.IndexByte(s.names, 0) < 0 && strings.Count(s.names, "/") == slashes
}
