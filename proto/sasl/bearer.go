package sasl

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// bearerServer is OAUTHBEARER (RFC 7628) and XOAUTH2, its forerunner: one
// response holds a token, which somebody else judges. A token that is refused
// gets words about it, which the client acknowledges before the end.
type bearerServer struct {
	base
	parse func(string) (Claim, error)
	sorry string // the words
}

// What a client hears whose token is no good (RFC 7628 §3.2.2). The status of
// XOAUTH2 is that of HTTP.
const (
	bearerError  = `{"status":"invalid_token"}`
	xoauth2Error = `{"status":"401","schemes":"bearer","scope":"mail"}`
)

func (s *bearerServer) Next(response []byte) ([]byte, bool, error) {
	if s.wait(response) {
		return []byte{}, false, nil
	}
	c, err := s.parse(string(response))
	switch {
	case err != nil:
	case c.Secret == "":
		err = ErrRefused // the client wants to know what token it should have (RFC 7628 §4.3)
	default:
		err = s.admit(c)
	}
	if errors.Is(err, ErrRefused) {
		return []byte(s.sorry), false, err
	}
	return nil, err == nil, err
}

const kvsep = "\x01"

// parseBearer takes a response apart (RFC 7628 §3.1):
//
//	client-resp = (gs2-header kvsep *kvpair kvsep) / kvsep
//	kvpair      = key "=" value kvsep
//
// The second form acknowledges an error, and there is none yet. Host and port
// are the client's idea of where it is; names of hosts are many.
func parseBearer(text string) (Claim, error) {
	g, rest, err := parseGS2(text)
	if err != nil || g.flag[0] == 'p' || !strings.HasPrefix(rest, kvsep) || !strings.HasSuffix(rest, kvsep) || len(rest) < 2 {
		return Claim{}, ErrMalformed
	}
	c, found := Claim{Name: g.authzid}, false
	for pair := range strings.SplitSeq(rest[1:len(rest)-1], kvsep) {
		key, value, pairs := strings.Cut(pair, "=")
		switch {
		case pair == "":
			continue // behind the last one
		case !pairs || !isKey(key) || !isValue(value) || key == "auth" && found:
			return Claim{}, ErrMalformed
		case key == "auth":
			found = true
			if c.Secret, err = bearerToken(value); err != nil {
				return Claim{}, err
			}
		}
	}
	if !found {
		return Claim{}, ErrMalformed
	}
	return c, nil
}

// key = 1*(ALPHA)
func isKey(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !isAlpha(r) })
}

// value = *(VCHAR / SP / HTAB / CR / LF )
func isValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < ' ' || r > '~') && r != '\t' && r != '\r' && r != '\n'
	})
}

// bearerToken reads what stands in an Authorization header, "" if that is empty:
//
//	credentials = "Bearer" 1*SP b64token   (RFC 6750 §2.1)
//	b64token    = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
func bearerToken(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	scheme, token, _ := strings.Cut(value, " ")
	token = strings.TrimLeft(token, " ")
	bare := strings.TrimRight(token, "=")
	if !strings.EqualFold(scheme, "Bearer") || bare == "" || strings.ContainsFunc(bare, func(r rune) bool {
		return !isAlpha(r) && !isDigit(r) && !strings.ContainsRune("-._~+/", r)
	}) {
		return "", ErrMalformed
	}
	return token, nil
}

// parseXOAUTH2 takes a response apart that no RFC describes:
//
//	"user=" name ^A "auth=Bearer " token ^A ^A
func parseXOAUTH2(text string) (Claim, error) {
	text, ok1 := strings.CutSuffix(text, kvsep+kvsep)
	user, auth, ok2 := strings.Cut(text, kvsep)
	name, ok3 := strings.CutPrefix(user, "user=")
	value, ok4 := strings.CutPrefix(auth, "auth=")
	if !ok1 || !ok2 || !ok3 || !ok4 || name == "" || !utf8.ValidString(name) {
		return Claim{}, ErrMalformed
	}
	token, err := bearerToken(value)
	return Claim{Name: name, Secret: token}, err
}

func isAlpha(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isDigit(r rune) bool { return r >= '0' && r <= '9' }
