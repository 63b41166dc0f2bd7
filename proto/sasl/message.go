package sasl

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// gs2 is how the messages of SCRAM and OAUTHBEARER begin.
type gs2 struct {
	flag    string // "n", "y" or "p=" and a name
	authzid string
	header  string // all of it, as it came
}

// parseGS2 takes the header off:
//
//	gs2-header     = gs2-cbind-flag "," [ authzid ] ","   (RFC 5802 §7)
//	gs2-cbind-flag = ("p=" cb-name) / "n" / "y"
//	authzid        = "a=" saslname
func parseGS2(text string) (g gs2, rest string, err error) {
	flag, rest, ok1 := strings.Cut(text, ",")
	authzid, rest, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 || !isFlag(flag) {
		return g, "", ErrMalformed
	}
	g.flag, g.header = flag, text[:len(text)-len(rest)]
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if !ok {
			return g, "", ErrMalformed
		}
		if g.authzid, err = saslname(name); err != nil {
			return g, "", err
		}
	}
	return g, rest, nil
}

// cb-name = 1*(ALPHA / DIGIT / "." / "-")
func isFlag(s string) bool {
	if s == "n" || s == "y" {
		return true
	}
	name, ok := strings.CutPrefix(s, "p=")
	return ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !isAlpha(r) && !isDigit(r) && r != '.' && r != '-' })
}

// saslname = 1*(value-safe-char / "=2C" / "=3D")   (RFC 5802 §7)
func saslname(s string) (string, error) {
	if s == "" || !isText(s) {
		return "", ErrMalformed
	}
	var b strings.Builder
	for {
		plain, escaped, found := strings.Cut(s, "=")
		b.WriteString(plain)
		switch {
		case !found:
			return b.String(), nil
		case strings.HasPrefix(escaped, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(escaped, "3D"):
			b.WriteByte('=')
		default:
			return "", ErrMalformed
		}
		s = escaped[2:]
	}
}

// isText says whether s has no NUL and is UTF-8; a comma it cannot have.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// attribute takes the next one off the text of a message:
//
//	attr-val = ALPHA "=" value
//	value    = 1*value-char
func attribute(text string) (name byte, value, rest string, err error) {
	a, rest, more := strings.Cut(text, ",")
	if len(a) < 3 || !isAlpha(rune(a[0])) || a[1] != '=' || !isText(a) || more && rest == "" {
		return 0, "", "", ErrMalformed
	}
	return a[0], a[2:], rest, nil
}

// extensions passes over what follows in a message and is not known (RFC 5802
// §5.1).
func extensions(rest string) (err error) {
	for rest != "" && err == nil {
		_, _, rest, err = attribute(rest)
	}
	return err
}

// errExtension reports one that must be understood, and is not: there are none
// yet.
var errExtension = errors.New("mandatory extension")

// clientFirst is a client-first-message-bare.
type clientFirst struct{ name, nonce string }

// client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
func parseFirst(text string) (m clientFirst, err error) {
	name, value, rest, err := attribute(text)
	switch {
	case err != nil:
		return m, err
	case name == 'm':
		return m, errExtension
	case name != 'n':
		return m, ErrMalformed
	}
	if m.name, err = saslname(value); err != nil {
		return m, err
	}
	if m.nonce, rest, err = nonce(rest); err != nil {
		return m, err
	}
	return m, extensions(rest)
}

// nonce = "r=" c-nonce [s-nonce], of printable ASCII without comma
func nonce(text string) (value, rest string, err error) {
	name, value, rest, err := attribute(text)
	if err != nil || name != 'r' || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", "", ErrMalformed
	}
	return value, rest, nil
}

// clientFinal is a client-final-message.
type clientFinal struct {
	binding []byte // cbind-input
	nonce   string
	proof   []byte
	without string // the message without proof
}

// client-final-message = channel-binding "," nonce ["," extensions] "," proof
func parseFinal(text string) (m clientFinal, err error) {
	name, value, rest, err := attribute(text)
	if err != nil || name != 'c' {
		return m, ErrMalformed
	}
	if m.binding, err = decode(value); err != nil {
		return m, err
	}
	if m.nonce, _, err = nonce(rest); err != nil {
		return m, err
	}
	i := strings.LastIndex(text, ",p=") // base64 has no comma
	if i < 0 {
		return m, ErrMalformed
	}
	m.without = text[:i]
	if m.proof, err = decode(text[i+len(",p="):]); err != nil {
		return m, err
	}
	return m, extensions(m.without)
}

func decode(text string) ([]byte, error) {
	octets, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, ErrMalformed
	}
	return octets, nil
}

// server-first-message = nonce "," salt "," iteration-count
func appendFirst(b []byte, nonce string, v *Verifier) []byte {
	return fmt.Appendf(b, "r=%s,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString(v.Salt), v.Iterations)
}

// verifier = "v=" base64
func appendFinal(b, signature []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(b, "v="...), signature)
}
