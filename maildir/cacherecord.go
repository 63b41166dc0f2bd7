package maildir

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"
)

// A Level says how much an Entry knows of its message.
type Level uint8

// The levels. Each knows what those before it know.
const (
	Sizes  Level = 1 + iota // how large it is, and when it came
	Header                  // what stands in its header
	Whole                   // what it is made of
)

// A Text is one of the texts of an Entry. What they look like is the business of who makes them.
type Text uint8

// The texts of the levels Header (as far as TextThread) and Whole.
const (
	TextEnvelope  Text = iota // IMAP's ENVELOPE
	TextFields                // the header fields that are often asked for
	TextSubject               // base subject
	TextFrom                  // of the first address of From: what is sorted by
	TextTo                    // likewise
	TextCc                    // likewise
	TextThread                // the message's own id and those it refers to
	TextStructure             // IMAP's BODYSTRUCTURE
	TextParts                 // where the parts begin and end
	TextPreview               // how its text begins
	textCount
)

// An Entry is what is known of one message without looking at its file.
type Entry struct {
	Level    Level
	Octets   int64 // of the file
	Size     int64 // with each line end as CRLF, as sent
	Lacks    uint8 // octets that the last line lacks of its CRLF
	Modified int64 // nanoseconds since 1970: the time of the file, which is INTERNALDATE
	Sent     int64 // seconds since 1970: the time of its Date field
	Zone     int16 // minutes east of Greenwich in the Date field
	HasSent  bool  // there is such a field and it can be read

	// Texts that are not known are nil; one that is known and empty is not.
	Texts [textCount][]byte
}

// Date gives INTERNALDATE.
func (e *Entry) Date() time.Time { return time.Unix(0, e.Modified) }

// The file: a head, then records one behind the other. Numbers are little endian. See pennypost-cache(5).
const (
	cacheMagic   = "pnycache"
	cacheVersion = 1
	cacheHead    = 64 // octets of the head of the file
	pointerAt    = 32 // where in it the place of the last index stands
	pointerLen   = 16

	recHead   = 32
	maxEntry  = 64 << 10 // octets of an entry's record; a message of which there is more to say has none
	entryHead = 40       // octets of an entry before its texts
	indexHead = 24
	locLen    = 16

	recMark = "\xd0pC\x9e"
)

// What a record is.
const (
	entryRec  byte = 1 + iota
	indexRec       // where records lie
	wishRec        // Level is what clients of this folder ask for
	forgetRec      // the entry of this UID is void
)

// An identity says what a cache file is about. It never changes.
type identity struct {
	validity uint32 // UIDVALIDITY
	maker    uint16 // version of the texts
	salt     uint64 // of this file, for the checks: nobody can send us a message that holds a valid record
}

// is tells whether the file is what somebody looks for. Maker 0 stands for all.
func (id identity) is(validity uint32, maker uint16) bool {
	return id.validity == validity && (maker == 0 || id.maker == maker)
}

func (id identity) sum(b []byte) uint32 { return crc32.Update(uint32(id.salt), castagnoli, b) }

// head prints the head of a file without an index.
func (id identity) head() []byte {
	b := make([]byte, cacheHead)
	copy(b, cacheMagic)
	binary.LittleEndian.PutUint16(b[8:], cacheVersion)
	binary.LittleEndian.PutUint16(b[10:], id.maker)
	binary.LittleEndian.PutUint32(b[12:], id.validity)
	binary.LittleEndian.PutUint64(b[16:], id.salt)
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	copy(b[pointerAt:], id.pointer(0))
	return b
}

// pointer prints where the last index lies.
func (id identity) pointer(at int64) []byte {
	b := make([]byte, pointerLen)
	binary.LittleEndian.PutUint64(b, uint64(at))
	binary.LittleEndian.PutUint32(b[12:], id.sum(b[:12]))
	return b
}

// parseCacheHead reads the head of a file. at is the place of the last index, 0 when there is none or when it is not
// known.
func parseCacheHead(b []byte) (id identity, at int64, ok bool) {
	if len(b) < cacheHead || string(b[:8]) != cacheMagic || binary.LittleEndian.Uint16(b[8:]) != cacheVersion ||
		binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return id, 0, false
	}
	id.maker = binary.LittleEndian.Uint16(b[10:])
	id.validity = binary.LittleEndian.Uint32(b[12:])
	id.salt = binary.LittleEndian.Uint64(b[16:])
	p := b[pointerAt:][:pointerLen]
	if v := binary.LittleEndian.Uint64(p); v <= math.MaxInt64 && binary.LittleEndian.Uint32(p[12:]) == id.sum(p[:12]) {
		at = int64(v)
	}
	return id, at, true
}

// A cacheRec is the head of one.
type cacheRec struct {
	kind  byte
	level Level
	size  uint32 // octets that follow
	uid   uint32
	hash  uint64 // of the base name
	sum   uint32 // of what follows
}

// len is the octets of the whole.
func (r cacheRec) len() int64 { return recHead + int64(r.size) }

// seal fills in the head of the record that begins at a place of b and ends with it.
func (id identity) seal(b []byte, at int, r cacheRec) []byte {
	h, body := b[at:at+recHead], b[at+recHead:]
	copy(h, recMark)
	h[4], h[5], h[6], h[7] = r.kind, byte(r.level), 0, 0
	binary.LittleEndian.PutUint32(h[8:], uint32(len(body)))
	binary.LittleEndian.PutUint32(h[12:], r.uid)
	binary.LittleEndian.PutUint64(h[16:], r.hash)
	binary.LittleEndian.PutUint32(h[24:], id.sum(body))
	binary.LittleEndian.PutUint32(h[28:], id.sum(h[:28]))
	return b
}

var noHead [recHead]byte

// open begins a record.
func openRec(b []byte) []byte { return append(b, noHead[:]...) }

// parseRec reads the head of a record.
func (id identity) parseRec(h []byte) (r cacheRec, ok bool) {
	if len(h) < recHead || string(h[:4]) != recMark || binary.LittleEndian.Uint32(h[28:]) != id.sum(h[:28]) {
		return r, false
	}
	r.kind, r.level = h[4], Level(h[5])
	r.size = binary.LittleEndian.Uint32(h[8:])
	r.uid = binary.LittleEndian.Uint32(h[12:])
	r.hash = binary.LittleEndian.Uint64(h[16:])
	r.sum = binary.LittleEndian.Uint32(h[24:])
	if r.kind == entryRec && (r.len() > maxEntry || r.level < Sizes || r.level > Whole) {
		return r, false
	}
	return r, r.len() <= recHead+indexHead+maxIndex
}

// hashBase is the 64-bit FNV-1a hash of a base name.
func hashBase(base string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(base) {
		h = (h ^ uint64(base[i])) * 0x100000001b3
	}
	return h
}

// appendEntry appends an entry as a record; false, and nothing, for one that is too large.
func (id identity) appendEntry(b []byte, uid uint32, base string, e *Entry) ([]byte, bool) {
	at := len(b)
	b = openRec(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Octets))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Modified))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Sent))
	b = binary.LittleEndian.AppendUint16(b, uint16(e.Zone))
	has := byte(0)
	if e.HasSent {
		has = 1
	}
	b = append(b, e.Lacks, has, 0, 0, 0, 0)
	for i, t := range e.Texts {
		if t == nil {
			continue
		}
		if len(b)-at+len(t) > maxEntry-8 {
			return b[:at], false
		}
		b = append(b, byte(i))
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	return id.seal(b, at, cacheRec{kind: entryRec, level: e.Level, uid: uid, hash: hashBase(base)}), true
}

// parseEntry reads a whole record, whose texts the entry then shares. It says no unless every octet is as it was
// written for this message.
func (id identity) parseEntry(b []byte, uid uint32, hash uint64, e *Entry) bool {
	r, ok := id.parseRec(b)
	if !ok || r.kind != entryRec || r.uid != uid || r.hash != hash || r.len() != int64(len(b)) {
		return false
	}
	b = b[recHead:]
	return r.sum == id.sum(b) && e.parse(b, r.level)
}

func (e *Entry) parse(b []byte, level Level) bool {
	if len(b) < entryHead {
		return false
	}
	*e = Entry{
		Level:    level,
		Octets:   int64(binary.LittleEndian.Uint64(b)),
		Size:     int64(binary.LittleEndian.Uint64(b[8:])),
		Modified: int64(binary.LittleEndian.Uint64(b[16:])),
		Sent:     int64(binary.LittleEndian.Uint64(b[24:])),
		Zone:     int16(binary.LittleEndian.Uint16(b[32:])),
		Lacks:    b[34],
		HasSent:  b[35] == 1,
	}
	for b = b[entryHead:]; len(b) > 0; {
		n, k := binary.Uvarint(b[1:])
		if k <= 0 || n > uint64(len(b)-1-k) {
			return false
		}
		end := 1 + k + int(n)
		if i := b[0]; i < byte(textCount) { // others are those of a later version
			e.Texts[i] = b[1+k : end : end]
		}
		b = b[end:]
	}
	return true
}

// A loc says where the record of a message lies.
type loc struct {
	uid  uint32
	size uint32 // octets of the record, 0: there is none any more; the level stands in the upper two bits
	at   uint64
}

const sizeMask = 1<<30 - 1

// maxIndex bounds the octets of all indexes of a file that are believed.
const maxIndex = 1 << 26

func (l loc) len() int     { return int(l.size & sizeMask) }
func (l loc) level() Level { return Level(l.size >> 30) }

func locOf(r cacheRec, at int64) loc {
	l := loc{uid: r.uid, at: uint64(at)}
	if r.kind == entryRec {
		l.size = uint32(r.len()) | uint32(r.level)<<30
	}
	return l
}

// appendIndex appends a record that says where the records lie that begin behind those of the index at prev and before
// to.
func (id identity) appendIndex(b []byte, prev, to int64, wish Level, locs []loc) []byte {
	at := len(b)
	b = openRec(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(prev))
	b = binary.LittleEndian.AppendUint64(b, uint64(to))
	b = append(b, byte(wish), 0, 0, 0, 0, 0, 0, 0)
	for _, l := range locs {
		b = binary.LittleEndian.AppendUint32(b, l.uid)
		b = binary.LittleEndian.AppendUint32(b, l.size)
		b = binary.LittleEndian.AppendUint64(b, l.at)
	}
	return id.seal(b, at, cacheRec{kind: indexRec})
}

// parseIndex reads what follows the head of an index record that lies at a place of the file.
func parseIndex(b []byte, at int64) (prev, to int64, wish Level, locs []byte, ok bool) {
	if len(b) < indexHead || (len(b)-indexHead)%locLen != 0 {
		return 0, 0, 0, nil, false
	}
	prev = int64(binary.LittleEndian.Uint64(b))
	to = int64(binary.LittleEndian.Uint64(b[8:]))
	if prev != 0 && prev < cacheHead || prev >= at || to < cacheHead || to > at || prev >= to {
		return 0, 0, 0, nil, false
	}
	return prev, to, min(Level(b[16]), Whole), b[indexHead:], true
}

// appendLocs reads the places of an index; those that can be none are of no entry.
func appendLocs(locs []loc, b []byte) []loc {
	for ; len(b) >= locLen; b = b[locLen:] {
		l := loc{
			uid:  binary.LittleEndian.Uint32(b),
			size: binary.LittleEndian.Uint32(b[4:]),
			at:   binary.LittleEndian.Uint64(b[8:]),
		}
		if l.len() > maxEntry || l.at > math.MaxInt64/2 {
			l.size = 0
		}
		locs = append(locs, l)
	}
	return locs
}

// resync gives the place of what may be the next record behind the beginning of b, -1 when there is none.
func resync(b []byte) int {
	if i := bytes.Index(b[1:], []byte(recMark)); i >= 0 {
		return 1 + i
	}
	return -1
}
