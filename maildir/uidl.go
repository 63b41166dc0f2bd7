package maildir

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// UIDL gives the message's unique id for POP3 (RFC 1939 §7) as Dovecot would: the one noted for the message, else
// by the folder's own format, else eight digits each of UID and UIDVALIDITY in lower-case hex.
func (f *Folder) UIDL(m Message) string {
	b, err := f.enter()
	if err != nil {
		return ""
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.needExts()
	if id, ok := extField(b.exts[m.UID], 'P'); ok && validUIDL(id) {
		return id
	}
	if format := b.head.field('P'); format != "" {
		if id, ok := b.expandUIDL(format, m); ok && validUIDL(id) {
			return id
		}
	}
	return fmt.Sprintf("%08x%08x", m.UID, b.head.validity)
}

// POP3Order gives the messages of a State in the order in which POP3 counts them: by UID, but those first to which Dovecot
// (or who has converted a mailbox for it) has given an order.
func (f *Folder) POP3Order(st *State) []Message {
	list := st.List()
	b, err := f.enter()
	if err != nil {
		return list
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.needExts()
	if len(b.exts) == 0 {
		return list
	}
	place := func(m Message) uint64 {
		if o, ok := extField(b.exts[m.UID], 'O'); ok {
			if v, n := number(o); n > 0 && n == len(o) {
				return v
			}
		}
		return 1<<32 + uint64(m.UID)
	}
	slices.SortStableFunc(list, func(x, y Message) int { return cmp.Compare(place(x), place(y)) })
	return list
}

// validUIDL: one to 70 characters from 0x21 to 0x7E.
func validUIDL(id string) bool {
	if id == "" || len(id) > 70 {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
}

// expandUIDL follows a format of Dovecot's pop3_uidl_format: % [0] [width] [modifiers] variable, with the variables u (UID),
// v (UIDVALIDITY), f (base name), g (GUID), and the modifiers X (hex) and L, U (case).
func (b *box) expandUIDL(format string, m Message) (string, bool) {
	var text strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			text.WriteByte(format[i])
			continue
		}
		if i++; i < len(format) && format[i] == '%' {
			text.WriteByte('%')
			continue
		}
		zero := i < len(format) && format[i] == '0'
		width, n := number(format[i:])
		if i += n; width > 64 {
			return "", false
		}
		hex, upper, lower := false, false, false
		for ; i < len(format) && strings.IndexByte("XUL", format[i]) >= 0; i++ {
			hex, upper, lower = hex || format[i] == 'X', upper || format[i] == 'U', lower || format[i] == 'L'
		}
		if i >= len(format) {
			return "", false
		}
		var value string
		base := 10
		if hex {
			base = 16
		}
		switch format[i] {
		case 'u':
			value = strconv.FormatUint(uint64(m.UID), base)
		case 'v':
			value = strconv.FormatUint(uint64(b.head.validity), base)
		case 'f':
			value = m.base
		case 'g':
			value = m.base
			if id, ok := extField(b.exts[m.UID], 'G'); ok {
				value = id
			}
		default:
			return "", false
		}
		if pad := int(width) - len(value); pad > 0 && zero {
			value = strings.Repeat("0", pad) + value
		}
		if upper {
			value = strings.ToUpper(value)
		} else if lower {
			value = strings.ToLower(value)
		}
		text.WriteString(value)
	}
	return text.String(), true
}
