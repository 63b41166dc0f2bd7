// Package mimetree reads a message as a tree of parts (RFC 2045, RFC 2046): what each part is, where
// it begins and ends, and how large it is as IMAP counts. It reads once, front to back, keeps
// offsets and not octets, and refuses nothing: mail that is broken has a tree too, and the
// problems found are listed in it. Around the tree stand the readers of what headers hold
// (encoded words, parameters, addresses, dates), and the transfer encodings both ways.
package mimetree

import (
	"iter"
	"strconv"
	"strings"
)

// A Span is a stretch of the message.
type Span struct {
	Start, End int64 // offsets in the message as it is stored; End is that of the octet after the last
	Size       int64 // octets when each line end is sent as CRLF, as IMAP and POP3 count
	Lines      int64 // line ends in it; a last line without one is not counted
}

// Len is the number of octets as stored.
func (s Span) Len() int64 { return s.End - s.Start }

// join is the span of two that touch.
func (s Span) join(t Span) Span {
	return Span{Start: s.Start, End: t.End, Size: s.Size + t.Size, Lines: s.Lines + t.Lines}
}

// A Part is one entity: the message itself, a body part, or the message inside a message/rfc822
// part.
type Part struct {
	*Content // what the header says of the body; never nil, shared, not to be changed

	Header Span // from the first octet to the blank line, which is in it (IMAP's HEADER and MIME)
	Body   Span // what follows; the line end before a boundary is the boundary's (RFC 2046 §5.1.1)

	Parts    []*Part   // of a multipart; none when it has no boundary or its content is past a limit
	Message  *Part     // the message in a message/rfc822 part, nil otherwise
	Envelope *Envelope // of the root and of every Message; nil for other parts
	Opaque   bool      // a multipart or message whose content is not looked into: Problems says why
	Problems []Problem // what is wrong with this part, in the order found
}

// Content is what the Content- fields of a header say (RFC 2045, RFC 2183, RFC 3282, RFC 2557).
type Content struct {
	Type, Subtype string // lower case; the default of the place where no usable Content-Type stands
	Params        Params // those of Content-Type, as they stand
	Given         bool   // a usable Content-Type stands in the header: Type is not a default
	badType       bool   // one stands there that cannot be read

	Encoding          string // Content-Transfer-Encoding: lower case, bare word, "" when absent
	Disposition       string // lower case, "" when absent
	DispositionParams Params

	ID, Description, MD5, Location string // unfolded, not decoded
	Language                       string // unfolded: a list with commas
}

// MediaType is "type/subtype" in lower case.
func (c *Content) MediaType() string { return c.Type + "/" + c.Subtype }

// Charset is the charset parameter, "" when there is none.
func (c *Content) Charset() string { return c.Params.Get("charset") }

// Filename is the name that the sender gave the part, decoded to UTF-8: the filename of
// Content-Disposition (RFC 2183 §2.3), else the name of Content-Type; "" when there is neither.
// It comes from outside and is no path.
func (c *Content) Filename() string {
	if name := c.DispositionParams.Get("filename"); name != "" {
		return name
	}
	return c.Params.Get("name")
}

// Envelope holds the header fields of IMAP's ENVELOPE, unfolded and as they stand: encoded words are
// not decoded. A field that is absent is ""; of a field that stands more than once, address
// lists are joined by commas and of the others the first counts.
type Envelope struct {
	Date, Subject                        string
	From, Sender, ReplyTo, To, Cc, Bcc   string
	InReplyTo, MessageID, References     string
	HasSender, HasReplyTo, HasBcc, HasCc bool // present, if only as an empty field

	HasDate, HasSubject, HasInReplyTo, HasMessageID bool // likewise
}

// A Problem is something wrong with a message that is read all the same. Code is a constant word for
// programs, Text is for people; neither holds anything of the message.
type Problem struct{ Code, Text string }

// All walks the tree in document order. Each part comes with its section number as IMAP has it (RFC
// 9051 §6.4.5.1): "1" is the body of a message that is not multipart; a multipart that is
// the body of a message has no number in IMAP and is here called "TEXT", or "2.TEXT" in the
// message at 2.
func (p *Part) All() iter.Seq2[string, *Part] {
	return func(yield func(string, *Part) bool) { p.walk("", true, yield) }
}

func (p *Part) walk(prefix string, message bool, yield func(string, *Part) bool) bool {
	section := prefix // of this part
	inner := prefix   // what the numbers of its parts begin with
	if message {
		if p.IsMultipart() {
			section = dot(prefix, "TEXT")
		} else {
			section = dot(prefix, "1")
			inner = section
		}
	}
	if !yield(section, p) {
		return false
	}
	for i, q := range p.Parts {
		if !q.walk(dot(inner, strconv.Itoa(i+1)), false, yield) {
			return false
		}
	}
	return p.Message == nil || p.Message.walk(inner, true, yield)
}

func dot(prefix, s string) string {
	if prefix == "" {
		return s
	}
	return prefix + "." + s
}

// IsMultipart reports whether the type is multipart, whether or not parts were found.
func (c *Content) IsMultipart() bool { return c.Type == "multipart" }

// IsMessage reports whether the type is that of a whole message inside a part.
func (c *Content) IsMessage() bool {
	return c.Type == "message" && (c.Subtype == "rfc822" || c.Subtype == "global")
}

// Find returns the part with an IMAP number: "1", "2.3". A number that is no part's gives nil. "" is
// the message itself. p is the root or a Message.
func (p *Part) Find(number string) *Part {
	message := true // p is a message: its numbers are those of its parts, or 1 its own body
	for number != "" {
		var digits string
		digits, number, _ = strings.Cut(number, ".")
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 {
			return nil
		}
		if !message && p.Message != nil {
			p, message = p.Message, true
		}
		switch {
		case n <= uint64(len(p.Parts)):
			p, message = p.Parts[n-1], false
		case n == 1 && message && len(p.Parts) == 0:
			message = false // the body of a message with one part
		default:
			return nil
		}
	}
	return p
}

// Section returns the octets that IMAP calls BODY[spec] (RFC 9051 §6.4.5.1): "" the whole message,
// "HEADER", "TEXT", "1.2", "1.2.MIME", "2.HEADER" and "2.TEXT" of an embedded message; case does not
// matter. It reports false where there is no such part. p is the root.
func (p *Part) Section(spec string) (Span, bool) {
	number, what := strings.ToUpper(spec), ""
	if i := strings.LastIndexByte(number, '.') + 1; i < len(number) && (number[i] < '0' || number[i] > '9') {
		number, what = strings.TrimSuffix(number[:i], "."), number[i:]
	} else if i == len(number) && i > 0 {
		return Span{}, false // a dot at the end
	}
	q := p.Find(number)
	if q == nil {
		return Span{}, false
	}
	if number != "" && (what == "HEADER" || what == "TEXT") {
		if q = q.Message; q == nil {
			return Span{}, false
		}
	}
	switch {
	case what == "HEADER", what == "MIME" && number != "":
		return q.Header, true
	case what == "TEXT", what == "" && number != "":
		return q.Body, true
	case what == "":
		return q.Header.join(q.Body), true
	}
	return Span{}, false
}
