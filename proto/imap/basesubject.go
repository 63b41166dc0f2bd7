package imap

import "strings"

// baseSubject takes from a decoded subject what mailing lists and answers put
// around it (RFC 5256 §2.1). reply says that something of it told of an answer
// or a forwarded message (RFC 5256 §3, REFERENCES). Time is linear in the
// length of the subject.
func baseSubject(s string) (base string, reply bool) {
	s = strings.Join(strings.FieldsFunc(s, isBlank), " ") // (1)
	for {
		for { // (2)
			t := strings.TrimRight(s, " ")
			if n := len(t) - len("(fwd)"); n >= 0 && strings.EqualFold(t[n:], "(fwd)") {
				t, reply = t[:n], true
			}
			if len(t) == len(s) {
				break
			}
			s = t
		}
		var led bool
		s, led = withoutLeaders(s)
		reply = reply || led
		const fwd = "[fwd:" // (6)
		if len(s) <= len(fwd) || !strings.EqualFold(s[:len(fwd)], fwd) || s[len(s)-1] != ']' {
			return s, reply
		}
		s, reply = s[len(fwd):len(s)-1], true
	}
}

// isBlank: a tab, a continuation or a space.
func isBlank(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

// withoutLeaders is steps (3) to (5). led says that there was a subj-refwd.
func withoutLeaders(s string) (rest string, led bool) {
	for {
		s = strings.TrimLeft(s, " ")
		// All blobs that stand here go with the "Re:" behind them; without one
		// they go as long as something is left.
		last := s
		rest = s
		for {
			n := blob(rest)
			if n == 0 {
				break
			}
			last, rest = rest, rest[n:]
		}
		if n := refwd(rest); n > 0 {
			s, led = rest[n:], true
			continue
		}
		if rest == "" {
			return last, led
		}
		return rest, led
	}
}

// blob is the length of the subj-blob that s begins with, 0 if there is none.
func blob(s string) int {
	if !strings.HasPrefix(s, "[") {
		return 0
	}
	n := strings.IndexAny(s[1:], "[]")
	if n < 0 || s[1+n] == '[' {
		return 0
	}
	n += 2
	return n + len(s[n:]) - len(strings.TrimLeft(s[n:], " "))
}

// refwd is the length of the subj-refwd that s begins with, 0 if there is none.
func refwd(s string) int {
	n := 0
	for _, word := range []string{"re", "fwd", "fw"} {
		if len(s) >= len(word) && strings.EqualFold(s[:len(word)], word) {
			n = len(word)
			break
		}
	}
	if n == 0 {
		return 0
	}
	n += len(s[n:]) - len(strings.TrimLeft(s[n:], " "))
	n += blob(s[n:])
	if !strings.HasPrefix(s[n:], ":") {
		return 0
	}
	return n + 1
}
