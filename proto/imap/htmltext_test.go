package imap

import (
	"strings"
	"testing"
)

func TestHTMLText(t *testing.T) {
	for _, c := range [][2]string{
		{"a<b>b</b>c", "abc"},
		{"one<br>two<P>three</P>", "one two three "},
		{"<style>p { x: y }</style >a<script>if (1 < 2)</script>b", " a b"},
		{"x<!-- <b>no</b> -->y", "xy"},
		{"1 < 2 <3 &lt;b&gt; &amp", "1 < 2 <3 <b> &"},
		{"caf&eacute; &#x41;&#66; &nosuch;", "café AB &nosuch;"},
		{"<a href=\"x\">link", "link"},
		{"<title>T</title><td>1<td>2", " T  1 2"},
		{"<", "<"},
		{"a<b", "a"},
	} {
		for step := 1; step <= len(c[0]); step++ {
			var h htmlText
			var out []byte
			for rest := []byte(c[0]); len(rest) > 0; {
				n := min(step, len(rest))
				out = h.appendText(out, rest[:n], n == len(rest))
				rest = rest[n:]
			}
			if got := string(out); got != c[1] {
				t.Errorf("%q by %d: %q, want %q", c[0], step, got, c[1])
			}
		}
	}
}

// What is cut in two is bounded, whatever comes.
func FuzzHTMLText(f *testing.F) {
	for _, s := range []string{"a<b>b</b>c&amp;<!-- x -->", "<style>", "<script>a</SCRIPT x>b", "&#x", "<<<>>>&&;", strings.Repeat("<", 100)} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, s string, step uint8) {
		var whole, pieces htmlText
		want := string(whole.appendText(nil, []byte(s), true))
		var got []byte
		for rest := []byte(s); ; {
			n := min(int(step)+1, len(rest))
			got = pieces.appendText(got, rest[:n], n == len(rest))
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
			if len(pieces.rest) > 2*maxEntity {
				t.Fatalf("%d octets are held back", len(pieces.rest))
			}
		}
		if string(got) != want {
			t.Errorf("%q, in pieces of %d %q", want, step+1, got)
		}
	})
}
