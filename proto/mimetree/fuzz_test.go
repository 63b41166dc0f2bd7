package mimetree

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var seeds = []string{
	"", "\n", "a: b\n\nc\n", "From x\n>From y\nSubject: =?utf-8?q?a?=\n\n",
	"Content-Type: multipart/mixed; boundary=a\n\n--a\nDear Bob\n--a\nContent-Type: message/rfc822\n\nX: y\n\nz\n--a--\n",
	"Content-Type: multipart/digest; boundary=\"a b\"\r\n\r\n--a b \r\n\r\nSubject: x\r\n\r\ny\r\n--a b--\r\n",
	"Content-Type: multipart/mixed; boundary=a\n--a\nContent-Type: multipart/mixed; boundary=a\n\n--a\n--a--\n--a--",
}

// Whatever the message: the tree's spans lie in it and in each other, in order, the sizes are
// right, and pieces make no difference.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, msg []byte, step uint8) {
		o := &Options{Depth: 8, Parts: 30, Header: 200}
		root, err := Parse(bytes.NewReader(msg), o)
		if err != nil {
			t.Fatal(err)
		}
		if root.Header.Start != 0 || root.Body.End != int64(len(msg)) {
			t.Fatalf("the tree is of %d to %d", root.Header.Start, root.Body.End)
		}
		check(t, msg, root)
		plain, err := Parse(&stepReader{msg, int(step) + 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text := ParseText(msg); !reflect.DeepEqual(text, plain) {
			t.Fatal("differs when it is in memory")
		}
		if lean := Outline(msg); places(lean) != places(plain) {
			t.Fatalf("the outline is\n%s, and not\n%s", places(lean), places(plain))
		}
		n := 0
		for number, p := range root.All() {
			n++
			if strings.HasSuffix(number, "TEXT") {
				continue
			}
			if s, ok := root.Section(number); !ok || s != p.Body && (p.Envelope == nil || s.Start != p.Body.Start) {
				t.Errorf("section %s is %v, want %v", number, s, p.Body)
			}
		}
		if n > 30+2*8+1 {
			t.Errorf("%d parts", n)
		}
		var pieces []*Part
		bodies := map[*Part]*bytes.Buffer{}
		o.Begin = func(_ string, p *Part, _ Header) io.Writer {
			pieces = append(pieces, p)
			bodies[p] = new(bytes.Buffer)
			return bodies[p]
		}
		if _, err := Parse(&stepReader{msg, int(step) + 1}, o); err != nil {
			t.Fatal(err)
		}
		i := 0
		for number, p := range root.All() {
			if i >= len(pieces) || pieces[i].Body != p.Body || pieces[i].Header != p.Header {
				t.Fatalf("%s: differs when it comes in pieces of %d", number, step+1)
			}
			if !bytes.Equal(bodies[pieces[i]].Bytes(), msg[p.Body.Start:p.Body.End]) {
				t.Fatalf("%s: the writer got %q, the body is %q", number, bodies[pieces[i]], msg[p.Body.Start:p.Body.End])
			}
			i++
		}
	})
}

func check(t *testing.T, msg []byte, p *Part) {
	for _, s := range []Span{p.Header, p.Body} {
		if s.Start > s.End || s.Start < 0 || s.End > int64(len(msg)) {
			t.Fatalf("span %v of %d octets", s, len(msg))
		}
		b := msg[s.Start:s.End]
		bare := bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
		if s.Size != int64(len(b)+bare) || s.Lines != int64(bytes.Count(b, []byte("\n"))) {
			t.Fatalf("span %v of %q", s, b)
		}
	}
	if p.Header.End != p.Body.Start {
		t.Fatalf("header %v, body %v", p.Header, p.Body)
	}
	at := p.Body.Start
	for _, q := range append(slices.Clone(p.Parts), p.Message) {
		if q == nil {
			continue
		}
		if q.Header.Start < at || q.Body.End > p.Body.End {
			t.Fatalf("part %v %v is not in %v", q.Header, q.Body, p.Body)
		}
		at = q.Body.End
		check(t, msg, q)
	}
}

// A stepReader gives so many octets at a time.
type stepReader struct {
	b []byte
	n int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b[:min(s.n, len(s.b))])
	s.b = s.b[n:]
	return n, nil
}

// places prints where the parts of a tree are, and what they are.
func places(root *Part) string {
	var b strings.Builder
	for number, p := range root.All() {
		fmt.Fprintf(&b, "%s %s %s %d %d %d %d\n", number, p.MediaType(), p.Encoding, p.Header.Start, p.Header.End, p.Body.Start, p.Body.End)
	}
	return b.String()
}

func FuzzHeader(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, h []byte) {
		end := 0
		for field := range Header(h).All() {
			i := bytes.Index(h[end:], field.Raw)
			if i < 0 || len(field.Name) == 0 || len(field.Raw) == 0 {
				t.Fatalf("field %q after %d of %q", field.Raw, end, h)
			}
			end += i + len(field.Raw)
			if strings.ContainsAny(field.Text(), "\r\n") {
				t.Fatalf("%q is not unfolded", field.Text())
			}
		}
	})
}

func FuzzDecodeWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?q?a_b=C3=A4?= =?utf-8?b?w6Q=?=", "=?iso-2022-jp?b?GyRCJCIbKEI=?=", "=?utf-7?q?+AOQ-?=", "=?x?q??=", "=?=?=?", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := DecodeWords(s); !utf8.ValidString(d) {
			t.Errorf("%q is not UTF-8", d)
		}
		// What we encode is what was meant.
		if CheckValue(s) == nil && !strings.Contains(s, "\ufffd") {
			want := strings.Trim(s, " \t")
			h := Header(FoldText("Subject", want))
			for line := range strings.Lines(string(h)) {
				if len(line) > 220 {
					t.Errorf("a line of %d octets", len(line))
				}
			}
			if got := h.Decoded("Subject"); got != want {
				t.Errorf("%q became %q by %q", want, got, h)
			}
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{
		`text/plain; charset=utf-8`, `a/b; name="x\"y"; name*0*=utf-8''%41; name*1=b`, `multipart/mixed; boundary=a b; x`, `t/p (c) ; a=b (c (d)) ; e="`,
		`a/b; filename=my (1).pdf`, `a/b; charset="utf-8" format=flowed`, `(((`, `;=;`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		value, params := ParseParams(s)
		for _, p := range params {
			if !utf8.ValidString(params.Get(p.Name)) {
				t.Errorf("%q is not UTF-8", params.Get(p.Name))
			}
		}
		params.Joined()
		if CheckValue(s) != nil || strings.Contains(s, "=?") {
			return
		}
		// A name of a file is read as it was written.
		_, back := ParseParams(strings.TrimPrefix(strings.ReplaceAll(FoldParams("X", "a/b", Params{{"filename", s}}), "\n ", " "), "X: "))
		if got, want := back.Get("filename"), s; got != want {
			t.Errorf("%q became %q (%q), value %q", want, got, back, value)
		}
	})
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{
		`Bob <bob@x.org>, "Doe, Jane" <j@x>, Friends: a@b, c@d;, bob@x (Bob)`, `<@a,@b:c@d>`, `=?utf-8?q?a,b?= <c@d>`, `"a b"@c`, `a@[1.2.3.4]`, `a b c`, `,,;:<>`, `(((`, "0@[\n]", "a@[1.2.3.4\r\nBcc: x@y]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := ParseAddresses(s)
		for _, a := range list {
			if !utf8.ValidString(a.Display()) {
				t.Errorf("%q is not UTF-8", a.Display())
			}
		}
		out, err := FoldAddresses("To", list)
		if err != nil {
			return
		}
		if strings.Contains(strings.ReplaceAll(out, "\n ", ""), "\n") != strings.HasSuffix(out, "\n") || strings.Count(strings.ReplaceAll(out, "\n ", ""), "\n") != 1 {
			t.Errorf("more than one field: %q", out)
		}
		if again, err := FoldAddresses("To", ParseAddresses(Header(out).Get("To"))); err != nil || again != out {
			t.Errorf("%q\nthen %q, %v", out, again, err)
		}
	})
}

// decode runs a decoder over pieces.
func decode(encoding string, b []byte, step int) []byte {
	var out bytes.Buffer
	d, _ := NewDecoder(&out, encoding)
	io.Copy(struct{ io.Writer }{d}, &stepReader{b, step})
	d.Close()
	return out.Bytes()
}

func FuzzDecoders(f *testing.F) {
	f.Add([]byte("aGVs\nbG8=\n"), uint8(1))
	f.Add([]byte("a=C3=\r\n b  \r\n=zz="), uint8(2))
	f.Add([]byte("begin 644 x\n#86)C\n`\nend\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		for _, e := range []string{"base64", "quoted-printable", "x-uuencode"} {
			whole, pieces := decode(e, b, len(b)+1), decode(e, b, int(step)+1)
			if !bytes.Equal(whole, pieces) {
				t.Errorf("%s: %q, in pieces of %d %q", e, whole, step+1, pieces)
			}
			if all := AppendDecoded([]byte("x"), b, e); string(all) != "x"+string(whole) {
				t.Errorf("%s: %q, appended %q", e, whole, all)
			}
		}
		var b64, qp bytes.Buffer
		w := NewBase64Writer(&b64)
		io.Copy(struct{ io.Writer }{w}, &stepReader{b, int(step) + 1})
		w.Close()
		if got := decode("base64", b64.Bytes(), 7); !bytes.Equal(got, b) {
			t.Errorf("base64: %q became %q", b, got)
		}
		w = NewQPWriter(&qp)
		io.Copy(struct{ io.Writer }{w}, &stepReader{b, int(step) + 1})
		w.Close()
		if got := decode("quoted-printable", qp.Bytes(), 7); !bytes.Equal(got, b) {
			t.Errorf("quoted-printable: %q became %q by %q", b, got, qp.Bytes())
		}
		for line := range bytes.Lines(qp.Bytes()) {
			if len(line) > 77 || bytes.HasPrefix(line, []byte("From ")) || string(line) == ".\n" {
				t.Errorf("line %q", line)
			}
		}
	})
}

func FuzzDate(f *testing.F) {
	f.Add("Mon, 23 Nov 2026 12:00:00 +0100 (CET)")
	f.Add("Thu Nov 24 18:22:48 1986")
	f.Add("1 Nov 10001 0:0")
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := ParseDate(s); ok && (d.Year() < 0 || d.Year() > 9999+1) {
			t.Errorf("%q is %v", s, d)
		}
	})
}

func FuzzCharsets(f *testing.F) {
	f.Add("utf-7", []byte("+AOQ-x"), uint8(1))
	f.Add("iso-2022-kr", []byte("\x1b$)C\x0e0!\x0f"), uint8(2))
	f.Add("viscii", []byte("\x80\x02"), uint8(2))
	f.Add("", []byte("\xe4\xc3\xa4"), uint8(0))
	f.Fuzz(func(t *testing.T, charset string, b []byte, step uint8) {
		var whole, pieces bytes.Buffer
		for out, n := range map[*bytes.Buffer]int{&whole: len(b) + 1, &pieces: int(step) + 1} {
			w, _ := NewTextWriter(out, charset)
			if _, err := io.Copy(struct{ io.Writer }{w}, &stepReader{b, n}); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(whole.Bytes(), pieces.Bytes()) || !utf8.Valid(whole.Bytes()) {
			t.Errorf("%s: %q, in pieces of %d %q", charset, whole.Bytes(), step+1, pieces.Bytes())
		}
	})
}
