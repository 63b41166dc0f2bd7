package imap

import (
	"slices"
	"strings"

	"pennypost/maildir"
)

// flagNames pairs the letters of a file name with IMAP's names (RFC 9051
// §2.3.2), in the order of RFC 3501 §9.
var flagNames = []struct {
	flag maildir.Flags
	name string
}{
	{maildir.Replied, `\Answered`},
	{maildir.Flagged, `\Flagged`},
	{maildir.Trashed, `\Deleted`},
	{maildir.Seen, `\Seen`},
	{maildir.Draft, `\Draft`},
}

// appendFlags appends the flags of m, as FETCH gives them.
func (s *Session) appendFlags(b []byte, m maildir.Message) []byte {
	return append(appendFlagNames(append(b, '('), m.Flags, m.Keywords(), s.recent(m.UID)), ')')
}

// recent says whether a message is \Recent here (RFC 3501 §2.3.2); IMAP4rev2
// knows nothing of it (RFC 9051 appendix E).
func (s *Session) recent(uid uint32) bool { return !s.has(rev2) && s.view.folder.Recent(uid) }

func flagString(flags maildir.Flags, keywords []string, recent bool) string {
	return string(appendFlagNames(nil, flags, keywords, recent))
}

func appendFlagNames(b []byte, flags maildir.Flags, keywords []string, recent bool) []byte {
	at := len(b)
	for _, f := range flagNames {
		if flags&f.flag != 0 {
			b = append(append(b, f.name...), ' ')
		}
	}
	if recent {
		b = append(b, `\Recent `...)
	}
	for _, k := range keywords {
		b = append(append(b, k...), ' ')
	}
	if len(b) > at {
		b = b[:len(b)-1] // the blank
	}
	return b
}

// letters sorts the flags of a command into those of the file name and
// keywords.
func letters(names []string) (flags maildir.Flags, keywords []string) {
next:
	for _, n := range names {
		for _, f := range flagNames {
			if strings.EqualFold(n, f.name) {
				flags |= f.flag
				continue next
			}
		}
		if !slices.ContainsFunc(keywords, func(k string) bool { return strings.EqualFold(k, n) }) {
			keywords = append(keywords, n)
		}
	}
	return flags, keywords
}
