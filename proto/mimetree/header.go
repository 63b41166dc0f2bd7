package mimetree

import (
	"bytes"
	"iter"
	"strings"
)

// A Header is a header block as it stands, with LF or CRLF, with or without its blank line. It is
// read anew at each call, which costs less than to keep it in another form.
type Header []byte

// A Field is one header field. Its slices lie in the Header.
type Field struct {
	Name  []byte // as written, without blanks before the colon
	Value []byte // after the colon, folded as it stands, without the last line end
	Raw   []byte // the whole, with the last line end
}

// Is reports whether the field has this name; case does not matter.
func (f Field) Is(name string) bool {
	return len(f.Name) == len(name) && strings.EqualFold(string(f.Name), name)
}

// shortName is longer than the names of all fields that are looked for.
const shortName = 32

// lower is the name of a field in lower case, without what is longer than shortName.
func (f Field) lower() []byte {
	b := make([]byte, 0, shortName) // does not escape
	for _, c := range f.Name[:min(len(f.Name), shortName)] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// Text is the value unfolded and trimmed, not decoded.
func (f Field) Text() string { return Unfold(f.Value) }

// All iterates over the fields in their order. Lines that are no field (the From line of an mbox,
// a line without a colon, a byte order mark) are passed over; it ends at a blank line.
func (h Header) All() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		var f Field
		start, colon := -1, 0 // of the field being read
		end := 0
		flush := func() bool {
			if start < 0 {
				return true
			}
			f.Raw = h[start:end]
			f.Name = bytes.TrimRight(h[start:colon], " \t")
			f.Value = bytes.TrimRight(h[colon+1:end], "\r\n")
			start = -1
			return yield(f)
		}
		for pos := 0; pos < len(h); pos = end {
			line := h[pos:]
			if i := bytes.IndexByte(line, '\n'); i >= 0 {
				line = line[:i+1]
			}
			switch k, c := classify(line, pos == 0); k {
			case blankLine:
				flush()
				return
			case foldedLine:
			case fieldLine:
				if !flush() {
					return
				}
				start, colon = pos, pos+c
				if pos == 0 && bytes.HasPrefix(line, bom) {
					start = len(bom)
				}
			default: // an intruder: what is folded after it belongs to it
				if !flush() {
					return
				}
			}
			end = pos + len(line)
		}
		flush()
	}
}

// Get returns the value of the first field of this name, unfolded and not decoded; "" when there is
// none.
func (h Header) Get(name string) string {
	for f := range h.All() {
		if f.Is(name) {
			return f.Text()
		}
	}
	return ""
}

// Values returns the values of all fields of this name, unfolded and not decoded.
func (h Header) Values(name string) []string {
	var v []string
	for f := range h.All() {
		if f.Is(name) {
			v = append(v, f.Text())
		}
	}
	return v
}

// Decoded is Get, with the encoded words decoded to UTF-8.
func (h Header) Decoded(name string) string { return DecodeWords(h.Get(name)) }

// Unfold takes the line ends out of a field's value and trims it (RFC 5322 §2.2.3). The blanks of the
// folding stay.
func Unfold(value []byte) string {
	value = bytes.Trim(value, " \t\r\n")
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return string(value)
	}
	b := make([]byte, 0, len(value))
	for _, c := range value {
		if c != '\r' && c != '\n' {
			b = append(b, c)
		}
	}
	return string(b)
}

var bom = []byte("\xef\xbb\xbf")

// The kinds of line in a header block.
type lineKind int

const (
	fieldLine  lineKind = iota // name, colon, value
	foldedLine                 // begins with a blank: goes on
	blankLine                  // the end of the header
	mboxLine                   // "From " or ">From ", of an mbox
	badLine                    // none of these
)

// classify says what a line of a header is; for a field also where its colon stands.
func classify(line []byte, first bool) (kind lineKind, colon int) {
	if first {
		if n := len(line); bytes.HasPrefix(line, bom) {
			line = line[len(bom):]
			colon = n - len(line)
		}
		from, ok := bytes.CutPrefix(bytes.TrimPrefix(line, []byte(">")), []byte("From "))
		if ok && !bytes.HasPrefix(bytes.TrimLeft(from, " \t"), []byte(":")) {
			return mboxLine, 0
		}
	}
	rest := bytes.TrimRight(line, "\r\n")
	if len(rest) == 0 {
		return blankLine, 0
	}
	if rest[0] == ' ' || rest[0] == '\t' {
		return foldedLine, 0
	}
	i := 0
	for i < len(rest) && rest[i] > ' ' && rest[i] != ':' && rest[i] != 0x7f {
		i++
	}
	name := i
	for i < len(rest) && (rest[i] == ' ' || rest[i] == '\t') { // RFC 5322 §4.5: blanks before the colon
		i++
	}
	if name == 0 || i == len(rest) || rest[i] != ':' {
		return badLine, 0
	}
	return fieldLine, colon + i
}
