package imap

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// RFC 5051 §2, and the strings of RFC 5255 §4.6.
func TestCollate(t *testing.T) {
	for text, want := range map[string]string{
		"":             "",
		"Hello, wörld": "HELLO, WO\u0308RLD",
		"ǆ":            "Dz\u030c", // its title case, which decomposes
		"ﬁ":            "fi",
		"ß":            "ß",
		"a  b\tc":      "A  B\tC",
		"\u1f80":       "\u0391\u0313\u0345",
	} {
		if got := string(collate(nil, []byte(text))); got != want {
			t.Errorf("%q: %+q, want %+q", text, got, want)
		}
	}
	for _, pair := range [][2]string{{"Алексей", "сЕРГЕЙ"}, {"a", "B"}, {"", "!"}, {"äa", "Äb"}, {"az", "ä"}} {
		if a, b := collate(nil, []byte(pair[0])), collate(nil, []byte(pair[1])); bytes.Compare(a, b) >= 0 {
			t.Errorf("%q does not come before %q", pair[0], pair[1])
		}
	}
}

// Whatever the case of a text, it compares alike; the time is linear.
func FuzzCollate(f *testing.F) {
	f.Add("Hello, wörld")
	f.Add("\ufdfa\u0390 \uac00")
	f.Fuzz(func(t *testing.T, text string) {
		once := collate(nil, []byte(text))
		if !utf8.Valid(once) {
			t.Errorf("%q became %q", text, once)
		}
		if len(once) > 20*len(text) {
			t.Errorf("%d octets became %d", len(text), len(once))
		}
		if !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
			if lower := collate(nil, []byte(strings.ToLower(text))); !bytes.Equal(once, lower) {
				t.Errorf("%q and %q", once, lower)
			}
		}
	})
}

// Ranks compare as the texts do.
func TestTextRanks(t *testing.T) {
	r := rand.New(rand.NewPCG(5256, 1))
	c := &textKeys{}
	var rows []uint32
	for range 500 {
		n := r.IntN(40)
		for range n {
			c.all = append(c.all, "AB"[r.IntN(20)/19])
		}
		c.ends = append(c.ends, uint32(len(c.all)))
		rows = append(rows, uint32(r.IntN(len(c.ends))))
	}
	ranks := c.values(rows)
	for i, a := range rows {
		for j, b := range rows {
			if want := bytes.Compare(c.row(a), c.row(b)); cmp.Compare(ranks[i], ranks[j]) != want {
				t.Fatalf("%q and %q: %d, %d", c.row(a), c.row(b), ranks[i], ranks[j])
			}
		}
	}
}
