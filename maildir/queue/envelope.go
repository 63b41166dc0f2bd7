package queue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of an envelope. A path has at most 256 octets (RFC 5321
// §4.5.3.1.3), an ORCPT parameter 500 (RFC 3461 §4.2); we bear with more.
const (
	maxAddress    = 1024
	maxParameter  = 1024
	maxLine       = 8192
	maxRecipients = 100_000
)

// An Envelope says where a message comes from and where it goes (RFC 5321
// §2.3.1), whatever its header says.
type Envelope struct {
	Created  time.Time // when it was queued, to the second
	From     string    // "" for the null reverse-path
	To       []Recipient
	EightBit bool   // BODY=8BITMIME (RFC 6152 §2)
	SMTPUTF8 bool   // RFC 6531 §3.4
	Envid    string // ENVID, as xtext (RFC 3461 §4.4)
	Ret      string // RET: "", "FULL" or "HDRS" (RFC 3461 §4.3)
}

// A Recipient is one forward-path with what RFC 3461 §4.1 and §4.2 add to it.
type Recipient struct {
	Address string
	Notify  string // "", "NEVER" or a list of SUCCESS, FAILURE, DELAY
	Orcpt   string // "", or address type, ";" and the address as xtext
	Mailbox bool   // it is a mailbox here, to which aliases have led: none is followed any more
}

// Key is the same for two addresses of one mailbox: the case of the domain
// means nothing, that of the local part may (RFC 5321 §2.4).
func (r Recipient) Key() string { return fold(r.Address) }

func fold(addr string) string {
	at := strings.LastIndexByte(addr, '@')
	return addr[:at+1] + strings.ToLower(addr[at+1:])
}

const sizeDigits = 19 // of an int64, so that the size can be filled in at the end

// format writes the envelope with its size yet unknown, and tells where in the
// text the size's digits stand.
func (e *Envelope) format() (text []byte, size int64, err error) {
	if len(e.To) == 0 || len(e.To) > maxRecipients {
		return nil, 0, fmt.Errorf("%w: %d recipients", ErrEnvelope, len(e.To))
	}
	if !isAddress(e.From) || !isParameter(e.Envid) || !isParameter(e.Ret) {
		return nil, 0, fmt.Errorf("%w: sender %.200q", ErrEnvelope, e.From)
	}
	var b []byte
	b = fmt.Appendf(b, "Pennypost-Queue: 1\nCreated: %s\nFrom: <%s>\n", stamp(e.Created), e.From)
	if e.EightBit {
		b = append(b, "Body: 8BITMIME\n"...)
	}
	if e.SMTPUTF8 {
		b = append(b, "Smtputf8: yes\n"...)
	}
	if e.Envid != "" {
		b = fmt.Appendf(b, "Envid: %s\n", e.Envid)
	}
	if e.Ret != "" {
		b = fmt.Appendf(b, "Ret: %s\n", e.Ret)
	}
	for _, r := range e.To {
		if r.Address == "" || !isAddress(r.Address) || !isParameter(r.Notify) || !isParameter(r.Orcpt) {
			return nil, 0, fmt.Errorf("%w: recipient %.200q", ErrEnvelope, r.Address)
		}
		b = fmt.Appendf(b, "To: <%s>", r.Address)
		if r.Notify != "" {
			b = fmt.Appendf(b, " NOTIFY=%s", r.Notify)
		}
		if r.Orcpt != "" {
			b = fmt.Appendf(b, " ORCPT=%s", r.Orcpt)
		}
		if r.Mailbox {
			b = append(b, " MAILBOX"...)
		}
		b = append(b, '\n')
	}
	b = append(b, "Size: "...)
	size = int64(len(b))
	return fmt.Appendf(b, "%0*d\n\n", sizeDigits, 0), size, nil
}

// isAddress says whether an address can stand in angle brackets on one line.
func isAddress(s string) bool {
	if len(s) > maxAddress || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return false
		}
	}
	return bracket("<"+s+">") == len(s)+2
}

func isParameter(s string) bool {
	if len(s) > maxParameter {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// bracket returns the length of the "<address>" at the start of s, 0 if there
// is none. A quoted local part may hold ">" (RFC 5321 §4.1.2).
func bracket(s string) int {
	if s == "" || s[0] != '<' {
		return 0
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i + 1
		}
	}
	return 0
}

func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// parseEnvelope reads an envelope up to and with its empty line, and returns
// the length of that text and the size of the message behind it, in octets.
// Names it does not know are passed over. What is no envelope is ErrDamaged.
func parseEnvelope(r *bufio.Reader) (e Envelope, head, size int64, err error) {
	size = -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		head += int64(len(line))
		if err != nil {
			if err == io.EOF || errors.Is(err, bufio.ErrBufferFull) {
				err = ErrDamaged
			}
			return e, 0, 0, err
		}
		text := string(line[:len(line)-1])
		if text == "" {
			break
		}
		name, value, ok := strings.Cut(text, ": ")
		if !ok || first && text != "Pennypost-Queue: 1" {
			return e, 0, 0, ErrDamaged
		}
		good := true
		switch name {
		case "Created":
			e.Created, err = time.Parse(time.RFC3339, value)
			good = err == nil
		case "From":
			n := bracket(value)
			if good = n > 0 && n == len(value); good {
				e.From = value[1 : n-1]
				good = isAddress(e.From)
			}
		case "To":
			var to Recipient
			if to, good = parseRecipient(value); good {
				e.To = append(e.To, to)
				good = len(e.To) <= maxRecipients
			}
		case "Body":
			e.EightBit = value == "8BITMIME"
		case "Smtputf8":
			e.SMTPUTF8 = value == "yes"
		case "Envid":
			e.Envid, good = value, isParameter(value)
		case "Ret":
			e.Ret, good = value, isParameter(value)
		case "Size":
			size, err = strconv.ParseInt(value, 10, 64)
			good = err == nil && size >= 0
		}
		if !good {
			return e, 0, 0, ErrDamaged
		}
	}
	if size < 0 || len(e.To) == 0 || e.Created.IsZero() {
		return e, 0, 0, ErrDamaged
	}
	return e, head, size, nil
}

func parseRecipient(s string) (r Recipient, ok bool) {
	n := bracket(s)
	if n <= 2 {
		return r, false
	}
	r.Address = s[1 : n-1]
	for p := range strings.FieldsSeq(s[n:]) {
		name, value, _ := strings.Cut(p, "=")
		if !isParameter(value) {
			return r, false
		}
		switch name {
		case "NOTIFY":
			r.Notify = value
		case "ORCPT":
			r.Orcpt = value
		case "MAILBOX":
			r.Mailbox = true
		}
	}
	return r, isAddress(r.Address)
}
