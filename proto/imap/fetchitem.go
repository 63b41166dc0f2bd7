package imap

import (
	"strconv"
	"strings"
)

// A fetchItem is one fetch-att (RFC 9051 §6.4.5).
type fetchItem struct {
	what    string          // as it is named in the answer; for a section without the partial
	section bool            // octets of the message; number and text say which
	binary  bool            // … without their transfer encoding (RFC 3516)
	counted bool            // … and only how many
	number  string          // "1.2", "" for the message itself
	text    string          // "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME
	fields  map[string]bool // in lower case
	peek    bool            // does not set \Seen
	lazy    bool            // only if it is known
	partial bool
	plain   bool  // the answer does not tell the offset (RFC 1730 §6.4.6)
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
	return listOf(p, maxItems, "too many items", "items missing", p.fetchAtt)
}

// fetchAtt is the rule fetch-att.
func (p *parser) fetchAtt() fetchItem {
	name := strings.ToUpper(p.run("item", func(c byte) bool { return c != '[' && isAtom(c) }))
	if strings.HasPrefix(p.rest, "[") {
		switch name {
		case "BODY", "BODY.PEEK":
			return p.bodySection(name == "BODY.PEEK")
		case "BINARY", "BINARY.PEEK", "BINARY.SIZE":
			return p.binarySection(name)
		}
		p.fail("no such item")
	}
	if f, ok := p.oldAtt(name); ok {
		return f
	}
	switch name {
	case "FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ",
		"EMAILID", "THREADID", // RFC 8474 §5.3
		"SAVEDATE": // RFC 8514 §4.2
		return fetchItem{what: name}
	case "PREVIEW":
		return fetchItem{what: name, lazy: p.lazy()}
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

// oldAtt is fetch-att as IMAP4rev1 had it (RFC 3501 §6.4.5), and IMAP4 (RFC
// 1730 §6.4.5).
func (p *parser) oldAtt(name string) (f fetchItem, ok bool) {
	switch name {
	case "RFC822", "RFC822.PEEK": // as BODY[]
		f = fetchItem{what: "RFC822"}
	case "RFC822.HEADER": // as BODY.PEEK[HEADER]
		f = fetchItem{what: name, text: "HEADER", peek: true}
	case "RFC822.TEXT", "RFC822.TEXT.PEEK": // as BODY[TEXT]
		f = fetchItem{what: "RFC822.TEXT", text: "TEXT"}
	case "RFC822.HEADER.LINES", "RFC822.HEADER.LINES.NOT": // as BODY.PEEK[HEADER.FIELDS (…)]
		f = fetchItem{what: "RFC822.HEADER", text: "HEADER.FIELDS" + strings.TrimPrefix(name, "RFC822.HEADER.LINES"), peek: true}
		f.fields = set(p.headerList())
	default:
		return f, false
	}
	f.section = true
	f.peek = f.peek || strings.HasSuffix(name, ".PEEK")
	return f, true
}

// headerList = SP "(" header-fld-name *(SP header-fld-name) ")"
func (p *parser) headerList() []string {
	p.sp()
	return listOf(p, maxFields, "too many fields", "field names missing", p.astring)
}

// set is names for named.
func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[strings.ToLower(name)] = true
	}
	return m
}

// bodySection = section ["<" number "." nz-number ">"]
// section = "[" [section-spec] "]"
func (p *parser) bodySection(peek bool) fetchItem {
	f := fetchItem{section: true, peek: peek}
	p.take("[")
	f.number = p.sectionPart()
	f.what = "BODY[" + f.number
	if strings.HasSuffix(f.number, ".") || f.number == "" && !strings.HasPrefix(p.rest, "]") {
		f.number = strings.TrimSuffix(f.number, ".")
		f.text = strings.ToUpper(p.run("section", func(c byte) bool { return isAtom(c) }))
		f.what += f.text
		switch {
		case f.text == "HEADER", f.text == "TEXT", f.text == "MIME" && f.number != "":
		case f.text == "HEADER.FIELDS", f.text == "HEADER.FIELDS.NOT":
			names := p.headerList()
			f.fields = set(names)
			f.what += " ("
			for i, name := range names {
				if i > 0 {
					f.what += " "
				}
				f.what += astring(name)
			}
			f.what += ")"
		default:
			if p.err == nil {
				p.fail("no such section")
			}
		}
	}
	f.what += "]"
	p.sectionEnd(&f)
	return f
}

// binarySection = section-binary [partial]
// section-binary = "[" [section-part] "]"   (RFC 3516 §7)
func (p *parser) binarySection(name string) fetchItem {
	f := fetchItem{section: true, binary: true, counted: name == "BINARY.SIZE"}
	f.peek = name != "BINARY"
	p.take("[")
	f.number = p.sectionPart()
	if strings.HasSuffix(f.number, ".") {
		p.want("part number")
	}
	f.what = strings.TrimSuffix(name, ".PEEK") + "[" + f.number + "]"
	if p.sectionEnd(&f); f.counted && f.partial {
		p.fail("no size of a part of a part")
	}
	return f
}

// sectionPart = nz-number *("." nz-number); it may be missing, and a dot may
// follow it.
func (p *parser) sectionPart() (number string) {
	for p.rest != "" && isDigit(p.rest[0]) {
		if len(number) > 1000 {
			p.fail("part number too long")
		}
		number += strconv.FormatUint(uint64(p.nzNumber()), 10)
		if !p.take(".") {
			break
		}
		number += "."
	}
	return number
}

// sectionEnd = "]" ["<" number "." nz-number ">"]
func (p *parser) sectionEnd(f *fetchItem) {
	if !p.take("]") {
		p.want("]")
	}
	if !p.take("<") {
		return
	}
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
