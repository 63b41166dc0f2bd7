package smtp

import (
	"errors"
	"strings"
)

var (
	errParameter        = errors.New("malformed parameter")
	errTwice            = errors.New("parameter given twice")
	errUnknownParameter = errors.New("unknown parameter")
	errTooBig           = errors.New("message too big")
)

// parameterReply is what RFC 5321 §4.1.1.11 and RFC 1870 §6.1 say to err.
func parameterReply(err error) reply {
	switch {
	case errors.Is(err, errTooBig):
		return say(552, "5.3.4", errTooBig.Error())
	case errors.Is(err, errUnknownParameter):
		return say(555, "5.5.4", errUnknownParameter.Error())
	case errors.Is(err, errTwice):
		return say(501, "5.5.4", errTwice.Error())
	}
	return say(501, "5.5.4", errParameter.Error())
}

// parameters calls take for each parameter of MAIL or RCPT, with the keyword in
// upper case (RFC 5321 §4.1.2):
//
//	Mail-parameters = esmtp-param *(SP esmtp-param)
//	esmtp-param     = esmtp-keyword ["=" esmtp-value]
//	esmtp-keyword   = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
//	esmtp-value     = 1*(%d33-60 / %d62-126)
func parameters(arg string, take func(key, value string) error) error {
	seen := map[string]bool{}
	for word := range strings.FieldsSeq(arg) {
		key, value, has := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		for i := range len(key) {
			if c := key[i]; !alnum(c) && (c != '-' || i == 0) {
				return errParameter
			}
		}
		for i := range len(value) {
			if c := value[i]; c <= ' ' || c == '=' || c > '~' {
				return errParameter
			}
		}
		switch {
		case key == "" || has && value == "":
			return errParameter
		case seen[key]:
			return errTwice
		}
		seen[key] = true
		if err := take(key, value); err != nil {
			return err
		}
	}
	return nil
}

// authMailbox looks whether value is "<>" or a mailbox as xtext (RFC 4954 §5).
func authMailbox(value string) error {
	if value == "<>" {
		return nil
	}
	text, ok := unxtext(value)
	if !ok || text == "" {
		return errParameter
	}
	return nil
}

// unxtext reads RFC 3461 §4:
//
//	xtext   = *( xchar / hexchar )
//	xchar   = any CHAR between "!" (33) and "~" (126) inclusive, but for "+" and "="
//	hexchar = "+" two upper case hexadecimal digits
func unxtext(s string) (text string, ok bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c <= ' ' || c > '~' || c == '=':
			return "", false
		case c == '+':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		out.WriteByte(c)
	}
	return out.String(), true
}

const upperHex = "0123456789ABCDEF"
