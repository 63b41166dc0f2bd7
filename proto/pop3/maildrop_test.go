package pop3

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TOP takes the header, the blank line and so many lines, wherever the reads
// end.
func TestTop(t *testing.T) {
	const mail = "A: b\nC: d\n\none\n\ntwo\nlast"
	for _, tt := range []struct {
		mail  string
		lines int64
		want  string
	}{
		{mail, 0, "A: b\nC: d\n\n"},
		{mail, 1, "A: b\nC: d\n\none\n"},
		{mail, 2, "A: b\nC: d\n\none\n\n"},
		{mail, 3, "A: b\nC: d\n\none\n\ntwo\n"},
		{mail, 4, mail},
		{mail, 1<<63 - 1, mail},
		{mail, -1, mail},
		{"A: b\r\n\r\none\r\ntwo\r\n", 1, "A: b\r\n\r\none\r\n"},
		{"A: b\r\n\r\none\r\ntwo\r\n", 0, "A: b\r\n\r\n"},
		{"\nbody\n", 0, "\n"},
		{"\nbody\n", 1, "\nbody\n"},
		{"A: b\n", 0, "A: b\n"},
		{"A: b", 5, "A: b"},
		{"A: \r\nB:\r\n\r\nx", 0, "A: \r\nB:\r\n\r\n"},
		{"", 3, ""},
	} {
		for name, r := range map[string]io.Reader{
			"whole":   strings.NewReader(tt.mail),
			"octets":  iotest.OneByteReader(strings.NewReader(tt.mail)),
			"dataerr": iotest.DataErrReader(strings.NewReader(tt.mail)),
		} {
			var b strings.Builder
			if err := send(&b, r, tt.lines); err != nil || b.String() != tt.want {
				t.Errorf("%s: top %d of %q: %q (%v), want %q", name, tt.lines, tt.mail, b.String(), err, tt.want)
			}
		}
	}
}

// It reads no further than it has to.
func TestTopReadsLittle(t *testing.T) {
	rest := strings.NewReader(strings.Repeat("line\n", 100000))
	var b strings.Builder
	if err := send(&b, io.MultiReader(strings.NewReader("A: b\n\n"), rest), 2); err != nil {
		t.Fatal(err)
	}
	if n := int(rest.Size()) - rest.Len(); n > 8<<10 {
		t.Errorf("read %d octets", n)
	}
}

func TestSendErrors(t *testing.T) {
	away := errors.New("disk away")
	if err := send(io.Discard, iotest.ErrReader(away), -1); !errors.Is(err, away) {
		t.Error(err)
	}
	r, w := io.Pipe()
	r.CloseWithError(away)
	if err := send(w, strings.NewReader("x"), -1); !errors.Is(err, away) {
		t.Error(err)
	}
}

func TestNatural(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "007": 7, "99999999999999999999": 1<<63 - 1, "": -1, "-1": -1, "+1": -1, "1 ": -1, "one": -1, "1_0": -1, "٣": -1} {
		n, err := natural(text)
		if err != nil {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", text, n, want)
		}
	}
}

func TestDecode(t *testing.T) {
	for text, want := range map[string]string{"=": "", "": "", "AGJvYgBodW5ncnk=": "\x00bob\x00hungry"} {
		if b, err := decode(text); err != nil || b == nil || string(b) != want {
			t.Errorf("%q: %q, %v", text, b, err)
		}
	}
	for _, text := range []string{"=AAA", "AAA=BBB", "AA", "AAAA\nAAAA", "AAA-", "AB==", " AAAA"} { // RFC 5034 §4
		if b, err := decode(text); err == nil {
			t.Errorf("%q: %q", text, b)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	name := filepath.Join(b.TempDir(), "mail")
	os.WriteFile(name, []byte(strings.Repeat(strings.Repeat("x", 70)+"\n", 10000)), 0o600)
	b.SetBytes(710000)
	for b.Loop() {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		if err := send(io.Discard, f, -1); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
