package imap

import (
	"strconv"
	"strings"
)

// A fetchItem is one fetch-att (RFC 9051 §6.4.5).
type fetchItem struct {
	what    string          // as it is named in the answer; for a section without the partial
	section bool            // octets of the message; number and text say which
	number  string          // "1.2", "" for the message itself
	text    string          // "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME
	fields  map[string]bool // in lower case
	peek    bool            // does not set \Seen
	lazy    bool            // only if it is known
	partial bool
	offset  int64 // octets as sent
	most    int64
}

// named tells whether a field is one of a set of names in lower case.
func named(set map[string]bool, name []byte) bool {
	var room [64]byte
	low := room[:0]
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		low = append(low, c)
	}
	return set[string(low)]
}

// usual tells whether an item is header fields that the cache has.
func (it fetchItem) usual() bool {
	if it.number != "" || it.text != "HEADER.FIELDS" {
		return false
	}
	for name := range it.fields {
		if !usualFields[name] {
			return false
		}
	}
	return true
}

// maxItems bounds the items of one FETCH, maxFields the names in one of them.
const maxItems, maxFields = 1000, 1000

// The macros of RFC 9051 §6.4.5, RFC 3501 §6.4.5.
var macros = map[string][]string{
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

// fetchItems = "ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")"
func (p *parser) fetchItems() (items []fetchItem) {
	for name, atts := range macros {
		if p.word(name) {
			for _, a := range atts {
				items = append(items, fetchItem{what: a})
			}
			return items
		}
	}
	if !strings.HasPrefix(p.rest, "(") {
		return []fetchItem{p.fetchAtt()}
	}
	p.list(func() {
		if len(items) == maxItems {
			p.fail("too many items")
			return
		}
		items = append(items, p.fetchAtt())
	})
	if p.err == nil && len(items) == 0 {
		p.fail("items missing")
	}
	return items
}

// fetchAtt is the rule fetch-att.
func (p *parser) fetchAtt() fetchItem {
	name := strings.ToUpper(p.run("item", func(c byte) bool { return c != '[' && isAtom(c) }))
	if strings.HasPrefix(p.rest, "[") {
		switch name {
		case "BODY":
			return p.bodySection(false)
		case "BODY.PEEK":
			return p.bodySection(true)
		}
		p.fail("no such item")
	}
	switch name {
	case "FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ",
		"EMAILID", "THREADID", // RFC 8474 §5.3
		"SAVEDATE": // RFC 8514 §4.2
		return fetchItem{what: name}
	case "PREVIEW":
		return fetchItem{what: name, lazy: p.lazy()}
	case "RFC822": // RFC 3501 §6.4.5: as BODY[]
		return fetchItem{what: name, section: true}
	case "RFC822.HEADER": // as BODY.PEEK[HEADER]
		return fetchItem{what: name, section: true, text: "HEADER", peek: true}
	case "RFC822.TEXT": // as BODY[TEXT]
		return fetchItem{what: name, section: true, text: "TEXT"}
	}
	if p.err == nil {
		p.fail("no such item")
	}
	return fetchItem{}
}

// lazy = [SP "(" preview-mod *(SP preview-mod) ")"]
// preview-mod = "LAZY"   (RFC 8970 §6)
func (p *parser) lazy() bool {
	if !strings.HasPrefix(p.rest, " (") {
		return false
	}
	p.sp()
	n := 0
	p.list(func() {
		if n++; !p.word("LAZY") || n > maxItems {
			p.want("LAZY")
		}
	})
	if n == 0 && p.err == nil {
		p.want("LAZY")
	}
	return true
}

// bodySection = section ["<" number "." nz-number ">"]
// section = "[" [section-spec] "]"
func (p *parser) bodySection(peek bool) fetchItem {
	f := fetchItem{section: true, peek: peek}
	p.take("[")
	for p.rest != "" && isDigit(p.rest[0]) {
		if len(f.number) > 1000 {
			p.fail("part number too long")
		}
		f.number += strconv.FormatUint(uint64(p.nzNumber()), 10)
		if !p.take(".") {
			break
		}
		f.number += "."
	}
	f.what = "BODY[" + f.number
	if strings.HasSuffix(f.number, ".") || f.number == "" && !strings.HasPrefix(p.rest, "]") {
		f.number = strings.TrimSuffix(f.number, ".")
		f.text = strings.ToUpper(p.run("section", func(c byte) bool { return isAtom(c) }))
		f.what += f.text
		switch {
		case f.text == "HEADER", f.text == "TEXT", f.text == "MIME" && f.number != "":
		case f.text == "HEADER.FIELDS", f.text == "HEADER.FIELDS.NOT":
			p.sp()
			var names []string
			p.list(func() {
				if len(names) == maxFields {
					p.fail("too many fields")
					return
				}
				names = append(names, p.astring())
			})
			if p.err == nil && len(names) == 0 {
				p.fail("field names missing")
			}
			f.what += " ("
			f.fields = make(map[string]bool, len(names))
			for i, name := range names {
				if i > 0 {
					f.what += " "
				}
				f.what += astring(name)
				f.fields[strings.ToLower(name)] = true
			}
			f.what += ")"
		default:
			if p.err == nil {
				p.fail("no such section")
			}
		}
	}
	f.what += "]"
	if !p.take("]") {
		p.want("]")
	}
	if p.take("<") {
		f.partial = true
		f.offset = p.number64()
		if !p.take(".") {
			p.want(".")
		}
		f.most = p.number64()
		if f.most == 0 && p.err == nil {
			p.fail("a part of no octets")
		}
		if !p.take(">") {
			p.want(">")
		}
	}
	return f
}
