package mimetree

import (
	"io"
	"strings"
	"testing"
)

// work counts what a parse reads and writes: it must not grow faster than the message.
type work struct{ octets int64 }

func (w *work) Write(p []byte) (int, error) { w.octets += int64(len(p)); return len(p), nil }

// bombs are messages whose cost grew with the square of their length in other programs.
var bombs = map[string]func(n int) string{
	"parts": func(n int) string {
		return "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("--a\n\nx\n", n)
	},
	"levels":   func(n int) string { return strings.Repeat("Content-Type: multipart/mixed; boundary=a\n\n--a\n", n) },
	"messages": func(n int) string { return strings.Repeat("Content-Type: message/rfc822\n\n", n) },
	"boundary-alikes": func(n int) string {
		return "Content-Type: multipart/mixed; boundary=a\n\n--a\n\n" + strings.Repeat("--b\n", n)
	},
	"header lines": func(n int) string { return strings.Repeat("a:b\n", n) + "\n" },
	"part header": func(n int) string {
		return "Content-Type: multipart/mixed; boundary=a\n\n--a\n" + strings.Repeat("a:b\n", n) + "\n"
	},
	"bad lines":  func(n int) string { return "A: b\n" + strings.Repeat("--x\n", n) },
	"folded":     func(n int) string { return "To: a" + strings.Repeat("\n ,a@b", n) + "\n\n" },
	"lists":      func(n int) string { return strings.Repeat("To: aaaaaaaaaaaaaaaaaaaaaaa\n", n) + "\n" },
	"parameters": func(n int) string { return "Content-Type: a/b" + strings.Repeat("; a=b", n) + "\n\n" },
	"comments": func(n int) string {
		return "Content-Type: a/b; c=d " + strings.Repeat("( ", n) + strings.Repeat(")", n) + " x\n\n"
	},
	"open comments": func(n int) string { return "Content-Type: a/b; " + strings.Repeat("( ", n) + "\n\n" },
	"one line":      func(n int) string { return "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("-", 8*n) },
	"digest": func(n int) string {
		return "Content-Type: multipart/digest; boundary=a\n\n" + strings.Repeat("--a\n\nA: b\n\n", n)
	},
	"open words": func(n int) string { return "Subject: " + strings.Repeat("=?a?q?", n) + "\n\n" },
}

// Twice the message is at most a little more than twice the allocation and twice the octets handed on.
func TestLinear(t *testing.T) {
	const n = 4000
	for name, bomb := range bombs {
		cost := func(msg string) (octets int64, allocated float64) {
			var w work
			run := func() {
				w = work{}
				root, err := Parse(strings.NewReader(msg), &Options{Begin: func(_ string, p *Part, h Header) io.Writer {
					w.Write(h)
					DecodeWords(h.Get("Subject"))
					if p.Parts == nil && !p.IsMultipart() && p.Message == nil {
						return &w
					}
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				if root.Envelope != nil {
					ParseAddresses(root.Envelope.To)
				}
			}
			return w.octets, testing.AllocsPerRun(1, run)
		}
		o1, a1 := cost(bomb(n))
		o2, a2 := cost(bomb(2 * n))
		if o2 > o1*5/2+4096 || a2 > a1*5/2+500 {
			t.Errorf("%s: %d octets and %.0f allocations, twice as long %d and %.0f", name, o1, a1, o2, a2)
		}
		if len(bomb(n)) > 0 && a1 > 100*n {
			t.Errorf("%s: %.0f allocations for %d lines", name, a1, n)
		}
	}
}

// The bombs in their full size end soon: a quadratic reader would not be back before the test's time
// is over.
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("long messages")
	}
	for name, bomb := range bombs {
		msg := bomb(200_000)
		root, err := Parse(strings.NewReader(msg), nil)
		if err != nil {
			t.Fatal(err)
		}
		parts := 0
		for range root.All() {
			parts++
		}
		if parts > defaultParts+defaultDepth {
			t.Errorf("%s: %d parts", name, parts)
		}
		_, err = Parse(strings.NewReader(msg), &Options{Parts: 1 << 30, Depth: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
	}
}
