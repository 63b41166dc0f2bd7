package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// undot is what Undotted does, told plainly: the message, how many octets it
// took, and how it ended.
func undot(in string) (text string, used int, err error) {
	var out strings.Builder
	for {
		line, _, ended := strings.Cut(in[used:], "\r\n")
		if !ended {
			if strings.ContainsAny(strings.TrimSuffix(line, "\r"), "\r\n") {
				return "", 0, ErrLineEnd
			}
			return "", 0, io.ErrUnexpectedEOF
		}
		line += "\r\n"
		used += len(line)
		if body := strings.TrimSuffix(line, "\r\n"); strings.ContainsAny(body, "\r\n") {
			return "", 0, ErrLineEnd
		} else if body == "." {
			return out.String(), used, nil
		}
		out.WriteString(strings.TrimPrefix(line, "."))
	}
}

// ways are those in which a reader can be emptied.
var ways = map[string]func(io.Reader) (string, error){
	"WriteTo": func(r io.Reader) (string, error) {
		var out bytes.Buffer
		_, err := r.(io.WriterTo).WriteTo(&out)
		return out.String(), err
	},
	"Read": func(r io.Reader) (string, error) {
		out, err := io.ReadAll(r)
		return string(out), err
	},
	"Read small": func(r io.Reader) (string, error) {
		var out []byte
		for p := make([]byte, 3); ; {
			n, err := r.Read(p)
			out = append(out, p[:n]...)
			if err == io.EOF {
				return string(out), nil
			} else if err != nil {
				return string(out), err
			}
		}
	},
}

func checkUndotted(t *testing.T, in string, chunk int) {
	want, used, wantErr := undot(in)
	for name, read := range ways {
		c := New(&heard{in: []byte(in), chunk: chunk}, 100, time.Minute)
		u := c.Undotted()
		got, err := read(u)
		if !errors.Is(err, wantErr) {
			t.Fatalf("%s of %.100q by %d: %v, want %v", name, in, chunk, err, wantErr)
		}
		if _, again := u.Read(make([]byte, 1)); again != cmpErr(err, io.EOF) {
			t.Errorf("%s of %.100q by %d: then %v", name, in, chunk, again)
		}
		if err != nil {
			continue
		}
		if got != want {
			t.Fatalf("%s of %.100q by %d: got %.100q, want %.100q", name, in, chunk, got, want)
		}
		if rest, _ := io.ReadAll(c.Literal(int64(len(in) - used))); string(rest) != in[used:] {
			t.Fatalf("%s of %.100q by %d: leaves %.100q", name, in, chunk, rest)
		}
	}
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func TestUndotted(t *testing.T) {
	for _, in := range []string{
		".\r\n",
		".\r\nNOOP\r\n",
		"\r\n.\r\n",
		"Subject: hi\r\n\r\nhello\r\n.\r\nQUIT\r\n",
		"..\r\n...\r\n.a\r\n..a\r\na.\r\n.\r\n",
		"\x00\xff\r\n.\r\n",
		"a\r\n.\r\n.\r\n",
		strings.Repeat("x", 3*large) + "\r\n.\r\n",
		strings.Repeat(".", 3*large) + "\r\n.\r\n",
		strings.Repeat(".\r\n", 2),
		strings.Repeat("..\r\n", large) + ".\r\n",
		strings.Repeat(strings.Repeat("x", 76)+"\r\n", 5000) + ".\r\n",
	} {
		for _, chunk := range []int{1, 2, 3, 5, large - 1, large, 1 << 20} {
			if len(in) > 1000 && chunk < 100 {
				continue
			}
			checkUndotted(t, in, chunk)
		}
	}
}

// endings are the ways to end a block that some server somewhere has taken
// for one (VU#302671): none of them is CRLF.CRLF, none of them ends ours.
var endings = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r.\n", "\n.\r", "\n\n.\n\n", "\r\r\n.\r\r\n",
	"\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\n\x00.\r\n",
	"\r\n. \r\n", "\r\n .\r\n", "\r\n.\t\r\n", "\r\n..\r\n", "\r\n.\r\r\n", "\r\n.\n\r\n", "\r\n\r.\r\n", "\r\n\n.\r\n",
	"\x85.\x85", "\u2028.\u2028", "\r\n\uff0e\r\n", "\x0b.\x0b", "\x0c.\x0c", "\r\n.\x1a\r\n", "\x1a",
}

func TestSmuggling(t *testing.T) {
	for _, end := range endings {
		in := "Subject: one\r\n\r\ntext" + end + "MAIL FROM:<a@b>\r\nDATA\r\ntwo\r\n.\r\n"
		for _, chunk := range []int{1, 2, 3, 1 << 20} {
			checkUndotted(t, in, chunk)
			got, err := io.ReadAll(said(in, chunk).Undotted())
			bare := strings.ContainsAny(strings.ReplaceAll(in, "\r\n", ""), "\r\n")
			if bare != errors.Is(err, ErrLineEnd) || !bare && (err != nil || !strings.HasSuffix(string(got), "two\r\n")) {
				t.Errorf("%q: %q, %v", end, got, err)
			}
		}
	}
}

func FuzzUndotted(f *testing.F) {
	for _, end := range endings {
		f.Add("one"+end+"two\r\n.\r\nthree", 1)
	}
	f.Add("..\r\n.x\r\n.\r\n", 2)
	f.Fuzz(func(t *testing.T, in string, chunk int) {
		checkUndotted(t, in, max(1, chunk))
	})
}

// crlf is in as it goes over the wire, but for the dots.
func crlf(in string) string {
	out := strings.ReplaceAll(in, "\r\n", "\n")
	out = strings.ReplaceAll(out, "\n", "\r\n")
	if strings.HasSuffix(out, "\r") { // the last line, whose LF was missing
		out += "\n"
	} else if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\r\n"
	}
	return out
}

func checkDotted(t *testing.T, in string, chunk int) {
	h := &heard{}
	c := New(h, 100, time.Minute)
	err := c.Dotted(func(w io.Writer) error {
		for rest := in; rest != ""; {
			n, err := io.WriteString(w, rest[:min(chunk, len(rest))])
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	want := "\n" + crlf(in)
	want = strings.ReplaceAll(want, "\n.", "\n..")[1:] + ".\r\n"
	if h.out.String() != want {
		t.Fatalf("%.100q by %d: sent %.100q, want %.100q", in, chunk, h.out.String(), want)
	}
	text := crlf(in)
	if strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r") {
		return // a bare CR goes out, and is refused
	}
	got, err := io.ReadAll(said(h.out.String(), 1<<20).Undotted())
	if string(got) != text || err != nil {
		t.Fatalf("%.100q comes back as %.100q, %v", in, got, err)
	}
}

func TestDotted(t *testing.T) {
	for _, in := range []string{
		"", "\n", "\r\n", ".", ".\n", "..", "a", "a\r", "a\r\n", "\r", ".\r\n.\r\n", "a\n.b\n..c\n", "a\rb\n", "\r\r\n", "a\n\n\n.\n",
		"Subject: hi\r\n\r\n.\r\nmixed\n.\n",
		strings.Repeat("x", 3*large),
		strings.Repeat(".", 3*large) + "\n.",
		strings.Repeat(".\n", 2*large),
		strings.Repeat(strings.Repeat("x", 76)+"\n", 5000),
	} {
		for _, chunk := range []int{1, 2, 3, 100, 1 << 20} {
			checkDotted(t, in, chunk)
		}
	}
}

// A message that cannot be read to its end is never sent as if it were whole.
func TestDottedFails(t *testing.T) {
	h := &heard{}
	c := New(h, 100, time.Minute)
	broken := errors.New("broken disk")
	err := c.Dotted(func(w io.Writer) error {
		io.WriteString(w, "half a mess")
		return broken
	})
	c.Close()
	if !errors.Is(err, broken) || strings.Contains(h.out.String(), "\r\n.\r\n") {
		t.Errorf("sent %q, %v", h.out.String(), err)
	}
}

func FuzzDotted(f *testing.F) {
	f.Add("a\n.b\r\n.\r\n", 3)
	f.Add("\r\n\r", 1)
	f.Fuzz(func(t *testing.T, in string, chunk int) { checkDotted(t, in, max(1, chunk)) })
}

// endlessly says the same for ever.
type endlessly struct {
	heard
	text string
	at   int
}

func (e *endlessly) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], e.text[e.at:])
		n += k
		e.at = (e.at + k) % len(e.text)
	}
	return n, nil
}

var texts = map[string]string{
	"base64": strings.Repeat("QWxpY2UgdG8gQm9iOiBkbyB5b3UgbGlrZSBrZXRjaHVwPyBIb3cgYWJvdXQgcGlja2xlcz8gWWVzLi4=\r\n", 12800),
	"prose":  strings.Repeat("Do you like ketchup?\r\nHow about pickles?\r\n\r\n", 25000),
	"long":   strings.Repeat("x", 1<<20) + "\r\n",
}

func BenchmarkUndotted(b *testing.B) {
	for name, text := range texts {
		b.Run(name, func(b *testing.B) {
			c := New(&endlessly{text: text + ".\r\n"}, 1000, time.Minute)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := io.Copy(io.Discard, c.Undotted()); n != int64(len(text)) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

type nowhere struct{ heard }

func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkDotted(b *testing.B) {
	for name, text := range texts {
		for _, end := range []string{"\n", "\r\n"} {
			b.Run(fmt.Sprintf("%s %q", name, end), func(b *testing.B) {
				stored := []byte(strings.ReplaceAll(text, "\r\n", end))
				c := New(new(nowhere), 1000, time.Minute)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					err := c.Dotted(func(w io.Writer) error {
						for p := range bytesChunks(stored, large) {
							if _, err := w.Write(p); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func bytesChunks(p []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(p) > 0 {
			k := min(n, len(p))
			if !yield(p[:k]) {
				return
			}
			p = p[k:]
		}
	}
}

func BenchmarkReadLine(b *testing.B) {
	c := New(&endlessly{text: "RCPT TO:<bob@hamburger.edu>\r\n"}, 1000, time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ReadLine(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrintf(b *testing.B) {
	c := New(new(nowhere), 1000, time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		c.Printf("%d %s %s", 250, "2.1.5", "ok")
	}
}
