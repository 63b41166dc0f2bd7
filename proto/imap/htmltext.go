package imap

import (
	"bytes"
	"html"
)

// An htmlText takes the text out of HTML that comes in pieces: what stands
// between tags, without styles, scripts and comments, with its entities as
// characters. Where a tag begins a line or a cell there is a blank.
type htmlText struct {
	skip string // what ends what is being left out, in lower case; "" in text
	rest []byte // what is cut in two
}

// maxEntity and maxTagName bound what has to be seen at once.
const maxEntity, maxTagName = 40, 16

// appendText appends the text of p, which follows what came before.
func (h *htmlText) appendText(out, p []byte, last bool) []byte {
	if len(h.rest) > 0 {
		p = append(h.rest, p...)
		h.rest = nil
	}
	for len(p) > 0 {
		if h.skip != "" {
			i := indexFold(p, h.skip)
			if i < 0 {
				if !last {
					h.rest = bytes.Clone(p[max(0, len(p)-len(h.skip)+1):])
				}
				return out
			}
			p = p[i+len(h.skip):]
			if h.skip[0] == '<' { // the rest of the end tag
				h.skip = ">"
			} else {
				h.skip = ""
			}
			continue
		}
		i := bytes.IndexByte(p, '<')
		if i < 0 {
			return h.appendPlain(out, p, last)
		}
		out = h.appendPlain(out, p[:i], true)
		if p = p[i:]; len(p) < maxTagName && !last {
			h.rest = bytes.Clone(p)
			return out
		}
		out, p = h.tag(out, p)
	}
	return out
}

// appendPlain appends text without tags.
func (h *htmlText) appendPlain(out, p []byte, last bool) []byte {
	for {
		i := bytes.IndexByte(p, '&')
		if i < 0 {
			return append(out, p...)
		}
		out, p = append(out, p[:i]...), p[i:]
		n := 1
		for n < len(p) && n < maxEntity && (p[n] == '#' || isAlphanumeric(p[n])) {
			n++
		}
		if n == len(p) && n < maxEntity && !last {
			h.rest = bytes.Clone(p)
			return out
		}
		if n < len(p) && p[n] == ';' {
			n++
		}
		out, p = append(out, html.UnescapeString(string(p[:n]))...), p[n:]
	}
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// tag begins to leave out the tag at the beginning of p. What begins no tag is
// text.
func (h *htmlText) tag(out, p []byte) (_, rest []byte) {
	if len(p) < 2 || p[1] != '!' && p[1] != '?' && p[1] != '/' && (!isAlphanumeric(p[1]) || isDigit(p[1])) {
		return append(out, '<'), p[1:]
	}
	h.skip = ">"
	if bytes.HasPrefix(p, []byte("<!--")) {
		h.skip = "-->"
		return out, p[2:]
	}
	var room [maxTagName]byte
	name := room[:0]
	for _, c := range bytes.TrimPrefix(p[1:min(len(p), maxTagName)], []byte("/")) {
		if !isAlphanumeric(c) {
			break
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		name = append(name, c)
	}
	switch string(name) {
	case "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins",
		"kbd", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr":
		return out, p[1:] // they stand within words
	case "style", "script":
		if p[1] != '/' {
			h.skip = "</" + string(name)
		}
	}
	return append(out, ' '), p[1:]
}

// indexFold is bytes.Index for an ASCII text in lower case that begins with
// none of the letters, whatever the case in p.
func indexFold(p []byte, lower string) int {
	for at := 0; ; at++ {
		i := bytes.IndexByte(p[at:], lower[0])
		if i < 0 || at+i+len(lower) > len(p) {
			return -1
		}
		at += i
		k := 1
		for k < len(lower) && (p[at+k] == lower[k] || 'A' <= p[at+k] && p[at+k] <= 'Z' && p[at+k]|0x20 == lower[k]) {
			k++
		}
		if k == len(lower) {
			return at
		}
	}
}
