package mimetree

import (
	"bytes"
	"strings"
)

// What a part is when its header does not say (RFC 2045 §5.2, RFC 2046 §5.1.5), and what is left
// unread past a limit.
var (
	plainText = &Content{Type: "text", Subtype: "plain"}
	rfc822    = &Content{Type: "message", Subtype: "rfc822"}
	opaque    = &Content{Type: "application", Subtype: "octet-stream"}
)

const (
	maxHeaderLine = 32 << 10 // octets of a header line looked at as one; the rest is read on as a part of it
	maxOwnLooks   = 8        // lines of a header compared with the boundary that the header itself names
)

// entity reads the header of the part that begins here, and opens its body; of a message in a
// part also the message's.
func (s *scanner) entity(p *Part, message bool, kind *Content) error {
	for {
		e, err := s.readHeader(p, message, kind)
		if err != nil {
			return err
		}
		h := Header(s.header)
		body := s.header[e.header:]
		if e.header < len(s.header) {
			h = h[:e.header]
		}
		opened := entity{part: p, start: e.body}
		switch {
		case p.IsMultipart() && len(s.open)+1 >= s.o.Depth:
			p.Opaque = true
			p.problem("too-deep", "nested too deep: the content is left as it is")
		case p.IsMultipart():
			opened.boundary = strings.TrimRight(p.Params.Get("boundary"), " \t")
			if opened.boundary == "" {
				p.Opaque = true
				p.problem("no-boundary", "a multipart that names no boundary")
			} else if len(opened.boundary) > maxDelimiter/2 {
				p.Opaque = true
				p.problem("long-boundary", "a boundary too long to be looked for")
				opened.boundary = ""
			}
		}
		if p.IsMessage() && e.body == s.here {
			s.descend(p)
		}
		if err := s.push(opened, h); err != nil {
			return err
		}
		last := &s.open[len(s.open)-1]
		if last.boundary != "" {
			last.outer = s.delimiters[last.boundary]
			s.delimiters[last.boundary] = len(s.open)
		}
		if n := len(body) - 2; n > 0 && last.w != nil { // the last two may be a boundary's line end
			if _, err := last.w.Write(body[:n]); err != nil {
				return err
			}
			last.written += int64(n)
		}
		if p.Message == nil {
			return nil
		}
		p, message, kind = p.Message, true, plainText
	}
}

// descend gives a part of type message/rfc822 the message in it, when that can be looked into.
func (s *scanner) descend(p *Part) {
	p.Opaque = true
	switch p.Encoding {
	case "base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue":
		p.problem("encoded-message", "a message may not be encoded (RFC 2046 §5.2.1): it is not looked into")
		return
	}
	switch {
	case len(s.open)+1 >= s.o.Depth:
		p.problem("too-deep", "nested too deep: the content is left as it is")
	case s.parts >= s.o.Parts:
		p.problem("too-many-parts", "the message in this part is not looked into")
	default:
		s.parts++
		p.Message, p.Opaque = &Part{}, false
	}
}

// A headerEnd says where the header that was read ends and the body begins.
type headerEnd struct {
	header int  // octets of scanner.header that are header; what follows is body already passed over
	body   mark // of the first octet of the body
}

// readHeader reads a header block up to the blank line, or to what must be body: a boundary, or, in a
// header with no field at all, the first line that is no field. It fills in the part.
func (s *scanner) readHeader(p *Part, message bool, kind *Content) (headerEnd, error) {
	start, root := s.here, len(s.open) == 0
	first := s.pos
	inPlace := s.base == 0 && s.eof // buf holds all of the message, and is not moved
	s.header = s.room[:0]
	if inPlace {
		s.header = s.buf[first:first]
	}
	var (
		fields, looks int
		cut           bool
		bad           = -1 // octets of header before the first line that is no field
		badAt         mark
		blank         bool
	)
	for !blank {
		line, err := s.line(maxHeaderLine)
		if err != nil {
			return headerEnd{}, err
		}
		if len(line) == 0 {
			break
		}
		if !s.inner {
			if bytes.HasPrefix(line, []byte("--")) {
				if _, ok := s.match(line); ok {
					break
				}
				if looks++; looks <= maxOwnLooks && s.own(line) {
					break
				}
			}
			what, _ := classify(line, message && s.here == start)
			switch what {
			case blankLine:
				blank = true
			case fieldLine:
				fields++
			case mboxLine:
			case foldedLine:
				if fields > 0 {
					break
				}
				fallthrough
			default:
				if bad < 0 && !cut {
					bad, badAt = len(s.header), s.here
				}
			}
			if bad == 0 && !message {
				break // text without a header, as the textbook writes it
			}
			if blank && fields == 0 && bad >= 0 && root {
				break // text without a header
			}
		}
		n := len(line)
		if room := s.o.Header - len(s.header); room < n {
			n, cut = room, true
		}
		if inPlace { // the lines follow each other, up to where it is cut
			s.header = s.buf[first : first+len(s.header)+n]
		} else {
			s.header = append(s.header, line[:n]...)
		}
		s.pass(line)
	}
	if cut {
		p.problem("long-header", "a header block longer than the limit: what is past it is not read")
	}
	if !inPlace {
		s.room = s.header
	}
	end := headerEnd{header: len(s.header), body: s.here}
	if bad >= 0 && !cut && (fields == 0 && root || !blank && !message) {
		end = headerEnd{header: bad, body: badAt}
		if bad > 0 || fields > 0 {
			p.problem("no-blank-line", "the header does not end in a blank line")
		}
	} else {
		if bad >= 0 {
			p.problem("bad-header-line", "a line in the header that is no field")
		}
		if !blank && s.here.off > start.off {
			p.problem("no-blank-line", "the header does not end in a blank line")
		}
	}
	p.Header = span(start, end.body)
	s.describe(p, Header(s.header[:end.header]), message, kind)
	return end, nil
}

// own reports whether a line is the boundary that the header being read has named: the blank line
// before the first part is missing.
func (s *scanner) own(line []byte) bool {
	var c Content
	c.read(Header(s.header))
	b := strings.TrimRight(c.Params.Get("boundary"), " \t")
	return b != "" && c.IsMultipart() && string(bytes.TrimRight(line[2:], " \t\r\n")) == b
}

// describe fills in what a header says.
func (s *scanner) describe(p *Part, h Header, message bool, kind *Content) {
	p.Content = kind
	var c Content
	if kept := c.read(h); kept > 0 {
		if s.kept += kept; s.kept > maxKept {
			p.problem("long-headers", "the headers of this message are longer than the limit: this one is not read")
			return
		}
		if !c.Given {
			c.Type, c.Subtype = kind.Type, kind.Subtype
			if c.badType {
				p.problem("bad-type", "a Content-Type that cannot be read")
			}
		}
		p.Content = &c
	}
	if message && !s.lean {
		p.Envelope = new(Envelope)
		if s.kept += p.Envelope.read(h); s.kept > maxKept {
			p.Envelope = new(Envelope)
		}
	}
}

// read takes the fields that say what the body is, and returns how many octets it keeps: 0 when there
// is none of them. Of fields that stand twice the first counts.
func (c *Content) read(h Header) (kept int) {
	var seen [8]bool
	first := func(i int) bool { was := seen[i]; seen[i] = true; return !was }
	for f := range h.All() {
		if len(f.Name) < 10 || len(f.Name) > shortName || string(f.lower()[:8]) != "content-" {
			continue
		}
		take := func(i int, to *string) {
			if first(i) {
				*to = limited(f.Value)
			}
		}
		switch string(f.lower()[8:]) {
		case "type":
			if !first(0) {
				break
			}
			var media string
			media, c.Params = ParseParams(string(f.Value))
			if t, sub, ok := strings.Cut(media, "/"); ok && isToken(t) && isToken(sub) {
				c.Type, c.Subtype, c.Given = intern(t), intern(sub), true
			} else {
				c.badType = true
			}
		case "disposition":
			if first(1) {
				c.Disposition, c.DispositionParams = ParseParams(string(f.Value))
				c.Disposition = intern(c.Disposition)
			}
		case "transfer-encoding":
			if first(2) {
				c.Encoding = intern(encodingName(f.Text()))
			}
		case "id":
			take(3, &c.ID)
		case "description":
			take(4, &c.Description)
		case "md5":
			take(5, &c.MD5)
		case "location":
			take(6, &c.Location)
		case "language":
			take(7, &c.Language)
		default:
			continue
		}
		kept += min(len(f.Value), 2*maxParam) + 64
	}
	return kept
}

// limited is a field's value unfolded, of at most maxParam octets.
func limited(value []byte) string {
	return Unfold(value[:min(len(value), maxParam)])
}

// intern gives the usual words one string for all parts.
func intern(s string) string {
	switch s {
	case "text":
		return "text"
	case "plain":
		return "plain"
	case "html":
		return "html"
	case "7bit":
		return "7bit"
	case "base64":
		return "base64"
	case "quoted-printable":
		return "quoted-printable"
	case "attachment":
		return "attachment"
	case "inline":
		return "inline"
	}
	return strings.Clone(s)
}

// encodingName is what a Content-Transfer-Encoding names, without quotes and comments, in lower case.
func encodingName(v string) string {
	if i := strings.IndexAny(v, ";("); i >= 0 {
		v = v[:i]
	}
	return strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(v, `"`, "")), " "))
}

// isToken reports whether s may stand as a type or subtype; what RFC 2045 §5.1 forbids but harms
// nobody passes.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '"' || r == '(' }) < 0
}

// Envelope gives what a header says in the fields of IMAP's ENVELOPE.
func (h Header) Envelope() *Envelope {
	e := &Envelope{}
	e.read(h)
	return e
}

// read takes the fields of the envelope, and returns how many octets it keeps.
func (e *Envelope) read(h Header) (kept int) {
	list := func(to *string, f Field) {
		if *to == "" {
			*to = f.Text()
		} else if t := f.Text(); t != "" {
			*to += ", " + t
		}
	}
	lists := 0 // each repeated list is copied: not without end
	once := func(to *string, f Field) {
		if *to == "" {
			*to = f.Text()
		}
	}
	for f := range h.All() {
		if len(f.Name) < 2 || len(f.Name) > len("In-Reply-To") {
			continue
		}
		to, many := (*string)(nil), false
		switch string(f.lower()) {
		case "date":
			to, e.HasDate = &e.Date, true
		case "subject":
			to, e.HasSubject = &e.Subject, true
		case "from":
			to, many = &e.From, true
		case "sender":
			to, many = &e.Sender, true
			e.HasSender = true
		case "reply-to":
			to, many = &e.ReplyTo, true
			e.HasReplyTo = true
		case "to":
			to, many = &e.To, true
		case "cc":
			to, many = &e.Cc, true
			e.HasCc = true
		case "bcc":
			to, many = &e.Bcc, true
			e.HasBcc = true
		case "in-reply-to":
			to, e.HasInReplyTo = &e.InReplyTo, true
		case "message-id":
			to, e.HasMessageID = &e.MessageID, true
		case "references":
			to = &e.References
		default:
			continue
		}
		if !many {
			once(to, f)
		} else if lists++; lists <= maxLists {
			list(to, f)
		}
		kept += len(f.Value)
	}
	return kept
}

const maxLists = 100 // address fields of one header that are read
