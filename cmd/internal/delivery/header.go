package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"time"
)

// maxHeader bounds the header that is held in memory, in octets. What a longer
// one has beyond it goes through unread.
const maxHeader = 1 << 20

// A Header is the header block at the start of a message, as lines: nothing is
// decoded, nothing is lost.
type Header struct {
	Fields []Field
	Mbox   string // the "From " line of an mbox before it, or ""
	Whole  bool   // false: it was longer than 1 MiB, and more of it follows
	gap    []byte // the empty line that ends it, if it had one
	found  bool   // there was a field
	mended bool   // it is that of a submission
}

// A Field is one header field (RFC 5322 §2.2).
type Field struct {
	Name string // as it is written
	Raw  []byte // the whole of it, name, folding and line ends too
}

// Is says whether the field has this name, in any case.
func (f Field) Is(name string) bool { return strings.EqualFold(f.Name, name) }

// Body is what follows the colon, unfolded (RFC 5322 §2.2.3) and without blanks
// around it.
func (f Field) Body() string {
	_, body, _ := bytes.Cut(f.Raw, []byte(":"))
	body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	return strings.TrimSpace(strings.ReplaceAll(string(body), "\n", ""))
}

// Get returns the body of the first field of this name.
func (h *Header) Get(name string) (string, bool) {
	for _, f := range h.Fields {
		if f.Is(name) {
			return f.Body(), true
		}
	}
	return "", false
}

// Has says whether one of the names is there.
func (h *Header) Has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := h.Get(name); return ok })
}

// ReadHeader takes the header off r, whose lines end in LF or CRLF. A line that
// is no field ends the header: it is the body's first, so that a text without
// any header is all body. Only an error of r is an error.
func ReadHeader(r *bufio.Reader) (*Header, error) {
	h := &Header{Whole: true}
	for total := 0; ; {
		first, err := r.Peek(1)
		if err == io.EOF {
			return h, nil
		}
		if err != nil {
			return nil, err
		}
		if total >= maxHeader {
			h.Whole = false
			return h, nil
		}
		folded := first[0] == ' ' || first[0] == '\t'
		if folded && len(h.Fields) == 0 {
			return h, nil
		}
		var name string
		if !folded {
			n, line := startsField(r)
			switch {
			case line:
				gap, err := r.ReadSlice('\n')
				h.gap = bytes.Clone(gap)
				return h, err
			case n < 0 && total == 0 && h.Mbox == "" && startsMbox(r):
				text, err := readLine(r, maxHeader)
				if err != nil && err != io.EOF {
					return nil, err
				}
				h.Mbox = strings.TrimRight(string(text), "\r\n")
				continue
			case n < 0:
				return h, nil
			}
			start, _ := r.Peek(n)
			name = strings.TrimRight(string(start), " \t")
		}
		text, err := readLine(r, maxHeader-total)
		if err != nil && err != io.EOF {
			return nil, err
		}
		total += len(text)
		if folded {
			f := &h.Fields[len(h.Fields)-1]
			f.Raw = append(f.Raw, text...)
		} else {
			h.Fields, h.found = append(h.Fields, Field{name, text}), true
		}
		if err == nil && text[len(text)-1] != '\n' {
			h.Whole = false // cut at the limit
			return h, nil
		}
	}
}

// startsField looks at the line ahead: n is the length of the field name that
// it begins with, blanks before the colon included, -1 for none; empty says
// that it is an empty line.
func startsField(r *bufio.Reader) (n int, empty bool) {
	const longest = 256
	b, _ := r.Peek(longest)
	if bytes.HasPrefix(b, []byte("\n")) || bytes.HasPrefix(b, []byte("\r\n")) {
		return 0, true
	}
	for i, c := range b {
		switch {
		case c == ':':
			if i == 0 {
				return -1, false
			}
			return i, false
		case c == ' ' || c == '\t': // RFC 5322 §4.5.3
			if len(bytes.TrimLeft(b[i:], " \t")) == 0 || bytes.TrimLeft(b[i:], " \t")[0] != ':' {
				return -1, false
			}
		case c < '!' || c > '~':
			return -1, false
		}
	}
	return -1, false
}

func startsMbox(r *bufio.Reader) bool {
	b, _ := r.Peek(5)
	return string(b) == "From "
}

// readLine returns a line with its end, or the first limit octets of it.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(text) >= limit {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return text, err
		}
	}
}

// Bytes is the header as it was read, the mbox line left out. A text without
// any field gets an empty line in front, so that all of it is body; so does what
// follows the header of a submission.
func (h *Header) Bytes() []byte {
	var b []byte
	for _, f := range h.Fields {
		b = append(b, f.Raw...)
	}
	return append(b, h.end(b)...)
}

// end is what has to stand between the fields and what follows.
func (h *Header) end(b []byte) []byte {
	switch {
	case !h.Whole:
		return nil
	case len(b) > 0 && b[len(b)-1] != '\n': // the input ended inside a field
		return []byte("\n\n")
	case h.gap != nil:
		return h.gap
	case h.found && !h.mended:
		return nil // a line that is no field: who wrote the message may have signed it so
	}
	return []byte("\n")
}

// loops says why the message has come here too often, or "".
func (h *Header) loops(addresses []string) string {
	const hops = 100 // RFC 5321 §6.3
	received := 0
	ours := make(map[string]bool, len(addresses))
	for _, a := range addresses {
		ours[strings.ToLower(a)] = true
	}
	for _, f := range h.Fields {
		switch {
		case f.Is("Received"):
			received++
		case f.Is("Delivered-To"):
			if ours[strings.ToLower(f.Body())] {
				return "it has been delivered to this address before"
			}
		}
	}
	if received > hops {
		return "it has passed too many hosts"
	}
	return ""
}

// drop removes fields.
func (h *Header) drop(names ...string) {
	h.Fields = slices.DeleteFunc(h.Fields, func(f Field) bool {
		return slices.ContainsFunc(names, f.Is)
	})
}

// add appends a field.
func (h *Header) add(name, body string) {
	if n := len(h.Fields); n > 0 {
		if last := &h.Fields[n-1]; !bytes.HasSuffix(last.Raw, []byte("\n")) {
			last.Raw = append(last.Raw, '\n')
		}
	}
	h.Fields = append(h.Fields, Field{name, fmt.Appendf(nil, "%s: %s\n", name, body)})
}

// submit makes a message fit to be sent: what is private or ours to write is
// taken out, and what RFC 5322 §3.6 demands is added (RFC 6409 §8).
func (h *Header) submit(m *Message, me, id string, now time.Time) {
	h.mended = true
	h.drop("Bcc", "Resent-Bcc", "Return-Path", "Content-Length")
	if m.Gateway {
		return
	}
	if !h.Has("From") {
		from := m.From
		if from == "" {
			from = "MAILER-DAEMON@" + me
		}
		h.add("From", Mailbox(m.Name, from))
	}
	if !h.Has("Date") {
		h.add("Date", now.Format(time.RFC1123Z))
	}
	if !h.Has("Message-ID") {
		h.add("Message-ID", "<"+id+"@"+me+">")
	}
	if !h.Has("To", "Cc", "Resent-To", "Resent-Cc") {
		h.add("To", "undisclosed-recipients:;")
	}
}

// Mailbox writes a name and an address as a header field has them (RFC 5322
// §3.4, RFC 2047 §5).
func Mailbox(name, address string) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, name)), " ")
	switch {
	case name == "":
		return address
	case strings.IndexFunc(name, func(r rune) bool { return r > '~' }) >= 0:
		return mime.QEncoding.Encode("utf-8", name) + " <" + address + ">"
	case strings.ContainsAny(name, `()<>[]:;@\,."`):
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" <` + address + ">"
	}
	return name + " <" + address + ">"
}
