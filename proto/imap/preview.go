package imap

import (
	"errors"
	"html"
	"strings"
	"unicode"
	"unicode/utf8"

	"pennypost/proto/mimetree"
)

const (
	previewLength = 200      // characters (RFC 8970 §3.1)
	previewPlain  = 4 << 10  // octets of plain text that are looked at for them
	previewHTML   = 16 << 10 // of HTML, which often begins with its styles
)

// preview is how the text of a message begins (RFC 8970): the first part that
// is plain text, else the first that is HTML, without its marks, and with one
// space for all that is blank. It is "" for a message without text.
func (src *source) preview() (string, error) {
	part := previewPart(src.tree)
	if part == nil {
		return "", nil
	}
	most := int64(previewPlain)
	if part.Subtype == "html" {
		most = previewHTML
	}
	octets, err := src.slice(part.Body.Start, min(part.Body.End, part.Body.Start+most))
	if err != nil {
		return "", err
	}
	if text, enough := previewASCII(part, octets); enough {
		return text, nil
	}
	w := &prefix{}
	c, _ := mimetree.NewTextWriter(w, part.Charset())
	d, _ := mimetree.NewDecoder(c, part.Encoding)
	if part.Subtype != "html" && len(octets) > 1<<10 { // mostly that is enough
		d.Write(octets[:1<<10])
		if text := shorten(string(w.b)); utf8.RuneCountInString(text) >= previewLength-1 {
			return text, nil
		}
		octets = octets[1<<10:]
	}
	if _, err := d.Write(octets); err == nil {
		d.Close()
		c.Close()
	}
	if part.Subtype == "html" {
		return shorten(withoutTags(string(w.b))), nil
	}
	return shorten(string(w.b)), nil
}

// previewASCII is the preview of plain text that begins as ASCII, which most
// does; false for other text.
func previewASCII(part *mimetree.Part, octets []byte) (string, bool) {
	switch part.Encoding {
	case "", "7bit", "8bit":
	default:
		return "", false
	}
	switch strings.ToLower(part.Charset()) {
	case "", "us-ascii", "utf-8":
	default:
		return "", false
	}
	if part.Subtype == "html" {
		return "", false
	}
	octets = octets[:min(len(octets), 1<<9)]
	for _, c := range octets {
		if c >= 0x80 || c == 0 {
			return "", false
		}
	}
	text := shorten(string(octets))
	return text, len(text) >= previewLength-1
}

// previewPart finds the part that the preview is of; attachments are none.
func previewPart(p *mimetree.Part) (found *mimetree.Part) {
	if p.Message != nil || p.Disposition == "attachment" {
		return nil
	}
	if p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html") {
		return p
	}
	for _, q := range p.Parts {
		q = previewPart(q)
		if q != nil && q.Subtype == "plain" {
			return q
		}
		if found == nil {
			found = q
		}
	}
	return found
}

// A prefix keeps the first octets that are written to it, and fails then.
type prefix struct{ b []byte }

var errEnough = errors.New("enough")

func (w *prefix) Write(p []byte) (int, error) {
	room := previewHTML - len(w.b)
	w.b = append(w.b, p[:min(room, len(p))]...)
	if len(p) >= room {
		return room, errEnough
	}
	return len(p), nil
}

// withoutTags is the text of HTML: without what stands between angle brackets,
// and without styles and scripts.
func withoutTags(s string) string {
	low := strings.Map(func(r rune) rune { // of the same length
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.ToValidUTF8(s, "?")
	var b strings.Builder
	for at := 0; ; {
		i := strings.IndexByte(s[at:], '<')
		if i < 0 {
			b.WriteString(s[at:])
			break
		}
		b.WriteString(s[at : at+i])
		b.WriteByte(' ')
		at += i
		end := ">"
		if strings.HasPrefix(low[at:], "<!--") {
			end = "-->"
		}
		for _, name := range []string{"<style", "<script", "<title"} {
			if rest, ok := strings.CutPrefix(low[at:], name); ok && rest != "" && strings.IndexByte(" \t\r\n>/", rest[0]) >= 0 {
				end = "</" + name[1:]
			}
		}
		if i = strings.Index(low[at:], end); i < 0 {
			break
		}
		at += i + len(end)
		if end[0] == '<' { // the rest of the end tag
			if i = strings.IndexByte(s[at:], '>'); i < 0 {
				break
			}
			at += i + 1
		}
	}
	return html.UnescapeString(b.String())
}

// shorten makes one line of at most previewLength characters.
func shorten(s string) string {
	b := make([]byte, 0, 2*previewLength)
	n, blank := 0, false
	for _, r := range s {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			blank = len(b) > 0
			continue
		}
		if blank {
			if b = append(b, ' '); n+1 == previewLength {
				break
			}
			n, blank = n+1, false
		}
		b = utf8.AppendRune(b, r)
		if n++; n == previewLength {
			break
		}
	}
	return strings.TrimRight(string(b), " ")
}
