package imap

import (
	"errors"
	"strings"
)

// languages are those of the texts in responses. English is what i-default is
// here (RFC 5255 §3.1), so that none of the two need be remembered.
var languages = []string{"EN", "i-default"}

// language = "LANGUAGE" *(SP lang-range-quoted)   (RFC 5255 §3.5)
func (s *Session) language(p *parser) reply {
	var ranges []string
	for p.err == nil && p.rest != "" {
		p.sp()
		ranges = append(ranges, p.astring())
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if len(ranges) == 0 {
		s.untagged("LANGUAGE (%s)", strings.Join(languages, " "))
		return ok("these are all")
	}
	for _, r := range ranges {
		if !isLanguageRange(r) {
			return bad(errors.New("no language range"))
		}
		if tag := languageFor(r); tag != "" {
			s.untagged("LANGUAGE (%s)", tag)
			return ok("done")
		}
	}
	return no("", "none of these languages")
}

// isLanguageRange: language-range = (1*8ALPHA *("-" 1*8alphanum)) / "*"   (RFC
// 4647 §2.1), and "default" is one, too.
func isLanguageRange(r string) bool {
	if r == "*" {
		return true
	}
	for i, tag := range strings.Split(r, "-") {
		if tag == "" || len(tag) > 8 {
			return false
		}
		for _, c := range []byte(tag) {
			if letter := 'a' <= c|0x20 && c|0x20 <= 'z'; !letter && (i == 0 || !isDigit(c)) {
				return false
			}
		}
	}
	return true
}

// languageFor gives what there is for a language range: itself, or what is left
// of it when its last words are taken away one by one (RFC 4647 §3.4); "" for
// none.
func languageFor(r string) string {
	if r == "*" || strings.EqualFold(r, "default") {
		return "i-default"
	}
	for {
		for _, tag := range languages {
			if strings.EqualFold(tag, r) {
				return tag
			}
		}
		i := strings.LastIndexByte(r, '-')
		if i < 0 {
			return ""
		}
		if r = r[:i]; i > 1 && r[i-2] == '-' { // nor may a single letter be the last
			r = r[:i-2]
		}
	}
}
