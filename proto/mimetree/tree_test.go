package mimetree

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// outline prints a tree: section, type, body; with CRLF sizes and lines.
func outline(t *testing.T, msg string, o *Options) string {
	t.Helper()
	root, err := Parse(strings.NewReader(msg), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for section, p := range root.All() {
		fmt.Fprintf(&b, "%s %s", section, p.MediaType())
		if len(p.Parts) == 0 && p.Message == nil {
			fmt.Fprintf(&b, " %q %d/%d", msg[p.Body.Start:p.Body.End], p.Body.Size, p.Body.Lines)
		}
		for _, q := range p.Problems {
			fmt.Fprintf(&b, " !%s", q.Code)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestTree(t *testing.T) {
	for _, tt := range []struct{ name, msg, want string }{
		{
			"simple", "Subject: x\n\nDo you like ketchup?\nHow about pickles?\n",
			`1 text/plain "Do you like ketchup?\nHow about pickles?\n" 42/2` + "\n",
		},
		{
			"no header at all", "Do you like ketchup?\nHow about pickles?\n",
			`1 text/plain "Do you like ketchup?\nHow about pickles?\n" 42/2` + "\n",
		},
		{
			"textbook", "From: alice@crepes.fr\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=StartOfNextPart\n\n" +
				"--StartOfNextPart\nDear Bob, Please find a picture of a crepe.\n" +
				"--StartOfNextPart\nContent-Transfer-Encoding: base64\nContent-Type: image/jpeg\n\nAAAA\nBBBB\n" +
				"--StartOfNextPart\nDo you want the recipe?\n",
			"TEXT multipart/mixed !missing-close-boundary\n" +
				`1 text/plain "Dear Bob, Please find a picture of a crepe." 43/0` + "\n" +
				`2 image/jpeg "AAAA\nBBBB" 10/1` + "\n" +
				`3 text/plain "Do you want the recipe?\n" 25/1` + "\n",
		},
		{
			"textbook, CRLF", "Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nDear Bob,\r\nhere it is.\r\n--B\r\n\r\nx\r\n--B--\r\nepilogue\r\n",
			"TEXT multipart/mixed\n" +
				`1 text/plain "Dear Bob,\r\nhere it is." 22/1` + "\n" + `2 text/plain "x" 1/0` + "\n",
		},
		{
			"not closed inside", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\n1\n--a\n\n2\n--a--\n",
			"TEXT multipart/mixed\n1 multipart/alternative !missing-close-boundary\n" + `1.1 text/plain "1" 1/0` + "\n" + `2 text/plain "2" 1/0` + "\n",
		},
		{
			"the same boundary twice", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=a\n\n--a\n\n1\n--a--\n--a\n\n2\n--a--\n",
			"TEXT multipart/mixed\n1 multipart/alternative\n" + `1.1 text/plain "1" 1/0` + "\n" + `2 text/plain "2" 1/0` + "\n",
		},
		{
			"a longer boundary", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\n--ab\n--a-\n--a  \n\n2\n--a-- \n",
			"TEXT multipart/mixed\n" + `1 text/plain "--ab\n--a-" 10/1` + "\n" + `2 text/plain "2" 1/0` + "\n",
		},
		{
			"embedded message", "Content-Type: message/rfc822\n\nSubject: in\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\n1\n--a--\n",
			"1 message/rfc822\n1.TEXT multipart/mixed\n" + `1.1 text/plain "1" 1/0` + "\n",
		},
		{
			"digest", "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: in\n\nx\n--a\nContent-Type: text/html\n\ny\n--a--\n",
			"TEXT multipart/digest\n1 message/rfc822\n" + `1.1 text/plain "x" 1/0` + "\n" + `2 text/html "y" 1/0` + "\n",
		},
		{
			"boundary behind a header", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n--a\n\n2\n--a--",
			"TEXT multipart/mixed\n" + `1 text/html "" 0/0 !no-blank-line` + "\n" + `2 text/plain "2" 1/0` + "\n",
		},
		{
			"no blank line before the first part", "Content-Type: multipart/mixed; boundary=a\n--a\n\n1\n--a--\n",
			"TEXT multipart/mixed !no-blank-line\n" + `1 text/plain "1" 1/0` + "\n",
		},
		{"bad lines", "\xef\xbb\xbfFrom: a\nrubbish\nContent-Type: text/html\n\nx", `1 text/html "x" 1/0 !bad-header-line` + "\n"},
		{"mbox", "From bob Mon Jan  1 00:00:00 2024\nContent-Type: text/html\n\nx", `1 text/html "x" 1/0` + "\n"},
		{"empty", "", `1 text/plain "" 0/0` + "\n"},
		{"preamble only", "Content-Type: multipart/mixed; boundary=a\n\nhello\n", `TEXT multipart/mixed "hello\n" 7/1 !missing-close-boundary` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := outline(t, tt.msg, nil); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// A message that comes octet by octet has the same tree, and the writers get the same bodies.
func TestPieces(t *testing.T) {
	long := strings.Repeat("x", 3*bufferSize) + "\r"
	msg := "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n" + long + "\r\n--a\nno header" + "\n\n\n--a\nContent-Type: message/rfc822\n\nSubject: s\n\n" +
		strings.Repeat("-- \n--ab\r\n", 20000) + "\n--a--\n"
	for name, r := range map[string]io.Reader{
		"at once": strings.NewReader(msg), "octets": iotest.OneByteReader(strings.NewReader(msg)),
		"with EOF": iotest.DataErrReader(strings.NewReader(msg)),
	} {
		bodies, sections := map[*Part]*strings.Builder{}, map[*Part]string{}
		ended := 0
		root, err := Parse(r, &Options{
			Begin: func(section string, p *Part, h Header) io.Writer {
				sections[p], bodies[p] = section, &strings.Builder{}
				return bodies[p]
			},
			End: func(p *Part, w io.Writer) error { ended++; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for section, p := range root.All() {
			n++
			if sections[p] != section {
				t.Errorf("%s: section %q, Begin said %q", name, section, sections[p])
			}
			if got, want := bodies[p].String(), msg[p.Body.Start:p.Body.End]; got != want {
				t.Errorf("%s: %s: writer got %d octets, the body has %d", name, section, len(got), len(want))
			}
			if want := int64(len(strings.ReplaceAll(strings.ReplaceAll(msg[p.Body.Start:p.Body.End], "\r\n", "\n"), "\n", "\r\n"))); p.Body.Size != want {
				t.Errorf("%s: %s: size %d, want %d", name, section, p.Body.Size, want)
			}
		}
		if n != 5 || ended != n {
			t.Errorf("%s: %d parts, %d ended", name, n, ended)
		}
	}
}

func TestSection(t *testing.T) {
	msg := "Subject: x\nContent-Type: multipart/mixed; boundary=a\n\n--a\nA: b\n\nI\n--a\nContent-Type: message/rfc822\n\nSubject: in\n\nbody\n--a\n" +
		"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n--a--\n"
	root, err := Parse(strings.NewReader(msg), nil)
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"": msg, "HEADER": msg[:strings.Index(msg, "--a")], "text": msg[strings.Index(msg, "--a"):],
		"1": "I", "1.MIME": "A: b\n\n", "2": "Subject: in\n\nbody", "2.HEADER": "Subject: in\n\n", "2.TEXT": "body", "2.1": "body",
		"2.MIME": "Content-Type: message/rfc822\n\n", "3.1": "one", "3.1.MIME": "\n", "2.1.mime": "Subject: in\n\n",
		"1.1": "none", "1.TEXT": "none", "MIME": "none", "4": "none", "0": "none", "1.": "none", "3.2": "none", "x": "none", "1..1": "none",
	} {
		got := "none"
		if s, ok := root.Section(spec); ok {
			got = msg[s.Start:s.End]
			if s.Size != int64(len(strings.ReplaceAll(got, "\n", "\r\n"))) {
				t.Errorf("%q: size %d", spec, s.Size)
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", spec, got, want)
		}
	}
	simple, _ := Parse(strings.NewReader("A: b\n\nx"), nil)
	for spec, want := range map[string]bool{"1": true, "TEXT": true, "1.MIME": true, "1.1": false, "2": false, "1.HEADER": false} {
		if _, ok := simple.Section(spec); ok != want {
			t.Errorf("simple %q: %v", spec, ok)
		}
	}
}

func TestLimits(t *testing.T) {
	var deep strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=%d\n\n--%d\n", i, i)
	}
	wide := "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("--a\n\nx\n", 100) + "--a--\n"
	for name, tt := range map[string]struct {
		msg  string
		n    int
		code string
	}{
		"deep":       {deep.String(), 100, "too-deep"},
		"rfc822":     {strings.Repeat("Content-Type: message/rfc822\n\n", 1000), 100, "too-deep"},
		"wide":       {wide, 51, "too-many-parts"},
		"inner wide": {"Content-Type: multipart/mixed; boundary=o\n\n--o\n" + wide + "--o\n\nlast\n--o--\n", 52, "too-many-parts"},
	} {
		o := &Options{}
		if strings.Contains(name, "wide") {
			o.Parts = 50
		}
		root, err := Parse(strings.NewReader(tt.msg), o)
		if err != nil {
			t.Fatal(err)
		}
		n, code := 0, ""
		for _, p := range root.All() {
			n++
			for _, q := range p.Problems {
				if strings.HasPrefix(q.Code, "too-") {
					code = q.Code
				}
			}
		}
		if n != tt.n || code != tt.code {
			t.Errorf("%s: %d parts, problem %q; want %d, %q", name, n, code, tt.n, tt.code)
		}
	}
}
