package smtp

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"time"
)

// received is the field that says how a message came here (RFC 5321 §4.4):
//
//	Stamp           = From-domain By-domain Opt-info [CFWS] ";" FWS date-time
//	Extended-Domain = Domain / ( Domain FWS "(" TCP-info ")" ) / ( address-literal FWS "(" TCP-info ")" )
//	Opt-info        = [Via] [With] [ID] [For] [Additional-Registered-Clauses]
//
// With more than one recipient it names none, since each would read it (§7.2).
func (s *Session) received(e *Envelope, now time.Time) string {
	var b strings.Builder
	b.WriteString("Received: from ")
	known := isDomain(s.helo)
	if known {
		b.WriteString(s.helo)
	} else {
		b.WriteString("unknown")
	}
	if peer := addressLiteral(s.Peer); peer != "" {
		b.WriteString(" (" + peer + ")")
	}
	if !known {
		b.WriteString(" (helo " + word(s.helo) + ")")
	}
	b.WriteString("\n\tby " + s.Name + " with " + s.protocol() + " id " + e.ID)
	if len(e.To) == 1 && strings.Contains(e.To[0], "@") {
		b.WriteString("\n\tfor <" + e.To[0] + ">")
	}
	if t, ok := s.Conn.TLS(); ok { // RFC 8314 §4.3
		b.WriteString("\n\ttls " + tls.CipherSuiteName(t.CipherSuite))
	}
	b.WriteString(";\n\t" + now.Format(time.RFC1123Z) + "\n")
	return b.String()
}

// protocol is the keyword of RFC 3848.
func (s *Session) protocol() string {
	if !s.esmtp {
		return "SMTP"
	}
	p := "ESMTP"
	if s.encrypted() {
		p += "S"
	}
	if s.user != "" {
		p += "A"
	}
	return p
}

// addressLiteral is addr as RFC 5321 §4.1.3 writes it, "" if it is no address.
func addressLiteral(addr string) string {
	a, err := netip.ParseAddr(addr)
	switch a = a.Unmap().WithZone(""); {
	case err != nil:
		return ""
	case a.Is4():
		return "[" + a.String() + "]"
	}
	return "[IPv6:" + a.String() + "]"
}

// word is text as far as it means nothing in a header field.
func word(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && alnum(byte(r)) || strings.ContainsRune(".-_:", r) {
			return r
		}
		return '?'
	}, text)
}
