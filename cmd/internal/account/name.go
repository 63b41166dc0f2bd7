package account

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

const (
	maxLocal  = 64  // octets of a local part (RFC 5321 §4.5.3.1.1)
	maxDomain = 255 // octets of a domain (RFC 5321 §4.5.3.1.2)
)

var errName = errors.New("a name that cannot be a user's")

// toASCII maps U-labels to A-labels (RFC 5891 §5) and letters to lower case. It
// lets underscores pass: there are such hosts.
var toASCII = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))

// domainKey returns the one spelling of a domain: lower case, A-labels, without a
// final dot. What it returns is safe as one element of a path.
func domainKey(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxDomain || !utf8.ValidString(name) {
		return "", ErrSyntax
	}
	ascii := true
	for i := range len(name) {
		ascii = ascii && name[i] < utf8.RuneSelf
	}
	if ascii {
		name = strings.ToLower(name)
		if strings.Contains(name, "xn--") {
			// An A-label that stands for nothing, or not in this spelling, is not refused: it
			// may be somebody's domain all the same. It only has no other spelling.
			if u, err := toASCII.ToASCII(name); err == nil {
				name = u
			}
		}
	} else {
		var err error
		if name, err = toASCII.ToASCII(name); err != nil {
			return "", ErrSyntax
		}
	}
	if len(name) > maxDomain {
		return "", ErrSyntax
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", ErrSyntax
		}
		for i := range len(label) {
			c := label[i]
			switch {
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			case c == '-' && i > 0 && i < len(label)-1:
			default:
				return "", ErrSyntax
			}
		}
	}
	return name, nil
}

// localKey returns the one spelling of a user's name: NFC, lower case. What it
// returns is safe as one element of a path and as one field of a file: no "/", ":" or
// "@", no control character, not "." or "..", no blanks around it, at most 64 octets.
func localKey(name string) (string, error) {
	if name == "" || len(name) > maxLocal || !utf8.ValidString(name) {
		return "", errName
	}
	plain := true
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			plain = false
		}
	}
	if !plain {
		name = norm.NFC.String(strings.ToLower(norm.NFC.String(name)))
	}
	if len(name) > maxLocal || name == "." || name == ".." || strings.TrimSpace(name) != name {
		return "", errName
	}
	for _, r := range name {
		switch {
		case r == '/', r == ':', r == '@', r == '\\', r < ' ', r == 0x7f:
			return "", errName
		case r < utf8.RuneSelf:
		case r == utf8.RuneError, unicode.IsControl(r), unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			return "", errName
		}
	}
	return name, nil
}

// split takes an address apart at its last "@" and takes the quotes off the local
// part (RFC 5321 §4.1.2). Without "@" the domain is "".
func split(addr string) (local, domain string, err error) {
	local = addr
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		local, domain = addr[:i], addr[i+1:]
		if domain == "" {
			return "", "", ErrSyntax
		}
	}
	if strings.HasPrefix(local, `"`) {
		if local, err = unquote(local); err != nil {
			return "", "", err
		}
	}
	if local == "" {
		return "", "", ErrSyntax
	}
	return local, domain, nil
}

// unquote reads a Quoted-string that is all of s.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", ErrSyntax
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '"':
			return "", ErrSyntax
		case '\\':
			if i++; i == len(s)-1 {
				return "", ErrSyntax
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// base cuts the detail off a sub-address (RFC 5233): "bob+lists" is for "bob".
func base(local string) (string, bool) {
	i := strings.IndexByte(local, '+')
	if i <= 0 {
		return local, false
	}
	return local[:i], true
}
