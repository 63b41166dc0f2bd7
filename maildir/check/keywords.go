package check

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	keywordsName = "dovecot-keywords"
	maxKeywords  = 26
)

// parseKeywords reads dovecot-keywords, lines "n name" with n from 0 to 25, and forgives nothing.
func parseKeywords(text string) (names [maxKeywords]string, faults []fault) {
	bad := func(n int, format string, args ...any) {
		faults = append(faults, fault{line: n, kind: kindKeywords, text: fmt.Sprintf(format, args...)})
	}
	seen := map[string]int{}
	n := 0
	for s := range strings.Lines(text) {
		n++
		s, ended := strings.CutSuffix(s, "\n")
		if !ended {
			bad(n, "the last line of the keywords has no end: %q", short(s))
		}
		s, cr := strings.CutSuffix(s, "\r")
		if cr {
			bad(n, "line %d of the keywords ends in CRLF", n)
		}
		number, name, ok := strings.Cut(s, " ")
		i, err := strconv.ParseUint(number, 10, 8)
		switch {
		case !ok || err != nil:
			bad(n, "line %d of the keywords is not \"number name\": %q", n, short(s))
			continue
		case i >= maxKeywords:
			bad(n, "line %d of the keywords has the number %d, beyond the letters a-z", n, i)
			continue
		case !atom(name):
			bad(n, "line %d of the keywords has a name that no keyword can have: %q", n, short(name))
			continue
		case names[i] != "":
			bad(n, "line %d of the keywords gives letter %c a second name: %q and %q", n, 'a'+byte(i), names[i], short(name))
			continue
		}
		if first, twice := seen[strings.ToLower(name)]; twice {
			bad(n, "line %d of the keywords gives %q, which is letter %c, another letter", n, name, 'a'+byte(first))
			continue
		}
		seen[strings.ToLower(name)] = int(i)
		names[i] = name
	}
	return names, faults
}

// atom tells whether a name may be a keyword (RFC 9051 §9: flag-keyword).
func atom(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`(){%*"\`, c) >= 0 {
			return false
		}
	}
	return true
}
