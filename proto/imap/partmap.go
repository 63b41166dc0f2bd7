package imap

import (
	"encoding/binary"

	"pennypost/proto/mimetree"
)

// A part map says where the parts of a message begin and end, so that a
// section is found without reading what lies before it. For each part, in
// document order: 1 if there is a message in it; the number of its parts;
// header and body, each as where it begins after the one before, how many
// octets it has as stored, and how many more as sent.

func appendPartMap(b []byte, p *mimetree.Part) []byte {
	last := int64(0)
	return appendParts(b, p, &last)
}

func appendParts(b []byte, p *mimetree.Part, last *int64) []byte {
	inside := byte(0)
	if p.Message != nil {
		inside = 1
	}
	b = append(b, inside)
	b = binary.AppendUvarint(b, uint64(len(p.Parts)))
	for _, s := range []mimetree.Span{p.Header, p.Body} {
		b = binary.AppendVarint(b, s.Start-*last)
		b = binary.AppendUvarint(b, uint64(s.Len()))
		b = binary.AppendUvarint(b, uint64(s.Size-s.Len()))
		*last = s.Start
	}
	for _, q := range p.Parts {
		b = appendParts(b, q, last)
	}
	if p.Message != nil {
		b = appendParts(b, p.Message, last)
	}
	return b
}

// readPartMap gives the tree back, with nothing in it but its spans; nil when
// it can be none.
func readPartMap(b []byte) *mimetree.Part {
	r := partReader{b: b}
	p := r.part(0)
	if r.bad || len(r.b) > 0 {
		return nil
	}
	return p
}

type partReader struct {
	b    []byte
	last int64
	bad  bool
}

// maxNested is deeper than any tree of mimetree.
const maxNested = 300

func (r *partReader) part(depth int) *mimetree.Part {
	if len(r.b) == 0 || depth > maxNested || r.b[0] > 1 {
		r.bad = true
		return nil
	}
	inside := r.b[0] == 1
	r.b = r.b[1:]
	p := &mimetree.Part{}
	n := r.number()
	p.Header, p.Body = r.span(), r.span()
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	for range n {
		q := r.part(depth + 1)
		if r.bad {
			return nil
		}
		p.Parts = append(p.Parts, q)
	}
	if inside {
		p.Message = r.part(depth + 1)
	}
	return p
}

func (r *partReader) span() mimetree.Span {
	step, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return mimetree.Span{}
	}
	r.b = r.b[n:]
	octets, more := r.number(), r.number()
	start := r.last + step
	const most = 1 << 40
	if r.bad || start < 0 || start > most || octets > most || more > octets {
		r.bad = true
		return mimetree.Span{}
	}
	r.last = start
	return mimetree.Span{Start: start, End: start + int64(octets), Size: int64(octets + more)}
}

func (r *partReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}
