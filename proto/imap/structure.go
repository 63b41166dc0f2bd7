package imap

import (
	"slices"
	"strconv"
	"strings"

	"pennypost/proto/mimetree"
)

// appendEnvelope appends the ENVELOPE of a message (RFC 9051 §7.5.2): a text is
// NIL without its field, and "" if the field is empty.
//
// What it reads of address lists is known to all.
func appendEnvelope(b []byte, e *mimetree.Envelope, all *addressLists) []byte {
	if e == nil {
		e = &mimetree.Envelope{}
	}
	b = append(b, '(')
	b = appendNString(b, e.Date, e.HasDate)
	b = append(b, ' ')
	b = appendNString(b, e.Subject, e.HasSubject)
	lists := [...]string{e.From, or(e.Sender, e.From), or(e.ReplyTo, e.From), e.To, e.Cc, e.Bcc}
	from, to := 0, 0 // where the answer for From stands
	for i, list := range lists {
		b = append(b, ' ')
		if i > 0 && list == e.From {
			b = append(b, b[from:to]...)
			continue
		}
		at := len(b)
		if b = appendAddresses(b, all.read(list)); i == 0 {
			from, to = at, len(b)
		}
	}
	b = append(b, ' ')
	b = appendNString(b, e.InReplyTo, e.HasInReplyTo)
	b = append(b, ' ')
	b = appendNString(b, e.MessageID, e.HasMessageID)
	return append(b, ')')
}

// or is a, or b if a is blank: an absent or empty Sender and Reply-To are
// From's (RFC 9051 §7.5.2).
func or(a, b string) string {
	if strings.TrimSpace(a) == "" {
		return b
	}
	return a
}

func appendNonEmpty(b []byte, s string) []byte { return appendNString(b, s, s != "") }

// addressLists are those of one header that were read already.
type addressLists struct {
	texts []string
	lists [][]mimetree.Address
}

// read reads a list, once; a nil receiver reads it anew.
func (l *addressLists) read(text string) []mimetree.Address {
	if l == nil {
		return mimetree.ParseAddresses(text)
	}
	if i := slices.Index(l.texts, text); i >= 0 {
		return l.lists[i]
	}
	l.texts, l.lists = append(l.texts, text), append(l.lists, mimetree.ParseAddresses(text))
	return l.lists[len(l.lists)-1]
}

// reset forgets them.
func (l *addressLists) reset() {
	clear(l.texts)
	clear(l.lists)
	l.texts, l.lists = l.texts[:0], l.lists[:0]
}

// appendAddresses appends an address list of an ENVELOPE, or NIL for none. A
// host of NIL would be the mark of a group, so a missing one is "".
func appendAddresses(b []byte, all []mimetree.Address) []byte {
	if len(all) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, a := range all {
		switch a.Kind {
		case mimetree.GroupStart:
			b = append(b, "(NIL NIL "...)
			b = appendString(b, a.Local)
			b = append(b, " NIL)"...)
		case mimetree.GroupEnd:
			b = append(b, "(NIL NIL NIL NIL)"...)
		default:
			b = append(b, '(')
			b = appendNonEmpty(b, a.Name)
			b = append(b, ' ')
			b = appendNonEmpty(b, a.Route)
			b = append(b, ' ')
			b = appendString(b, a.Local)
			b = append(b, ' ')
			b = appendString(b, a.Domain)
			b = append(b, ')')
		}
	}
	return append(b, ')')
}

// noBody stands where the grammar wants a body and there is none: a multipart
// without parts, a message that is not looked into.
const noBody = `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0`

func appendNoBody(b []byte, more bool) []byte {
	b = append(b, noBody...)
	if more {
		b = append(b, " NIL NIL NIL NIL"...)
	}
	return append(b, ')')
}

// appendStructure appends BODY, or with more BODYSTRUCTURE (RFC 9051 §7.5.2).
func appendStructure(b []byte, p *mimetree.Part, more bool) []byte {
	b = append(b, '(')
	if p.IsMultipart() {
		for _, q := range p.Parts {
			b = appendStructure(b, q, more)
		}
		if len(p.Parts) == 0 {
			b = appendNoBody(b, more)
		}
		b = append(b, ' ')
		b = appendString(b, p.Subtype)
		if more {
			b = append(b, ' ')
			b = appendParams(b, p.Params)
			b = appendDisposition(b, p)
		}
		return append(b, ')')
	}
	b = appendString(b, p.Type)
	b = append(b, ' ')
	b = appendString(b, p.Subtype)
	b = append(b, ' ')
	params := p.Params
	if _, told := params.Lookup("charset"); p.Type == "text" && !told {
		params = append(params[:len(params):len(params)], mimetree.Param{Name: "charset", Value: "us-ascii"})
	}
	b = appendParams(b, params)
	b = append(b, ' ')
	b = appendNonEmpty(b, p.ID)
	b = append(b, ' ')
	b = appendNonEmpty(b, p.Description)
	b = append(b, ' ')
	b = appendString(b, orWord(p.Encoding, "7bit"))
	b = append(b, ' ')
	b = strconv.AppendInt(b, p.Body.Size, 10)
	switch {
	case p.Type == "text":
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Body.Lines, 10)
	case p.Type == "message" && p.Subtype == "rfc822":
		b = append(b, ' ')
		if p.Message != nil {
			b = appendEnvelope(b, p.Message.Envelope, nil)
			b = append(b, ' ')
			b = appendStructure(b, p.Message, more)
		} else {
			b = appendEnvelope(b, nil, nil)
			b = append(b, ' ')
			b = appendNoBody(b, more)
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Body.Lines, 10)
	}
	if more {
		b = append(b, ' ')
		b = appendNonEmpty(b, p.MD5)
		b = appendDisposition(b, p)
	}
	return append(b, ')')
}

func orWord(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// appendDisposition appends the extension data that all bodies have.
func appendDisposition(b []byte, p *mimetree.Part) []byte {
	b = append(b, ' ')
	if p.Disposition == "" {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		b = appendString(b, p.Disposition)
		b = append(b, ' ')
		b = appendParams(b, p.DispositionParams)
		b = append(b, ')')
	}
	b = append(b, ' ')
	n := 0
	for tag := range strings.SplitSeq(p.Language, ",") {
		if tag = strings.TrimSpace(tag); tag == "" {
			continue
		}
		if n++; n == 1 {
			b = append(b, '(')
		} else {
			b = append(b, ' ')
		}
		b = appendString(b, tag)
	}
	if n > 0 {
		b = append(b, ')')
	} else {
		b = append(b, "NIL"...)
	}
	b = append(b, ' ')
	return appendNonEmpty(b, p.Location)
}

func appendParams(b []byte, params mimetree.Params) []byte {
	params = params.Joined()
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, p := range params {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendString(b, p.Name)
		b = append(b, ' ')
		b = appendString(b, p.Value)
	}
	return append(b, ')')
}
