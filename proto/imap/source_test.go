package imap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// mixed is text with all sorts of line ends, longer than several chunks.
func mixed(r *rand.Rand) []byte {
	var b bytes.Buffer
	for b.Len() < 3*chunk {
		b.WriteString(strings.Repeat("x", r.IntN(120)))
		b.WriteString([]string{"\n", "\n", "\r\n", "\r", "\r\r\n", "\n\n"}[r.IntN(6)])
	}
	return b.Bytes()
}

// whole is the plain way to say what a stretch sends.
func whole(text []byte) []byte {
	var b []byte
	for i, c := range text {
		if c == '\n' && (i == 0 || text[i-1] != '\r') {
			b = append(b, '\r')
		}
		b = append(b, c)
	}
	return b
}

func TestStretch(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	text := mixed(r)
	want := whole(text)
	if n := int64(len(text)) + bare(text, false); n != int64(len(want)) {
		t.Fatalf("counted %d octets, want %d", n, len(want))
	}
	memo := &memo{}
	next := int64(0)
	for i := range 300 {
		skip, size := r.Int64N(int64(len(want))), 1+r.Int64N(chunk)
		if i%2 == 0 {
			skip = min(next, int64(len(want))-1) // piece by piece, as clients do
		}
		size = min(size, int64(len(want))-skip)
		next = skip + size
		st := &stretch{r: bytes.NewReader(text), to: int64(len(text)), skip: skip, size: size, memo: memo}
		if i%3 == 0 {
			st.memo = nil
		}
		var out bytes.Buffer
		if err := st.writeTo(&out); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want[skip:skip+size]) {
			t.Fatalf("octets %d to %d are wrong", skip, skip+size)
		}
	}
}

// A message that has become shorter than it was announced is an error, never
// something made up.
func TestStretchTorn(t *testing.T) {
	text := bytes.Repeat([]byte("line\n"), chunk)
	st := &stretch{r: bytes.NewReader(text[:len(text)/2]), to: int64(len(text)), size: int64(len(whole(text)))}
	var out bytes.Buffer
	if err := st.writeTo(&out); !errors.Is(err, errTorn) {
		t.Errorf("%v after %d octets", err, out.Len())
	}
}

func TestHeaderEnd(t *testing.T) {
	for text, want := range map[string]int{
		"a: b\n\nx": 6, "a: b\r\n\r\nx": 8, "\nx": 1, "\r\nx": 2, "a: b\n": 5, "": 0, "a: b\n\r\nx": 7, "a\rb\n\nx": 5,
	} {
		if got, _ := headerEnd([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func BenchmarkStretch(b *testing.B) {
	text := bytes.Repeat([]byte(strings.Repeat("x", 71)+"\n"), 100000)
	size := int64(len(whole(text)))
	b.SetBytes(size)
	for b.Loop() {
		st := &stretch{r: bytes.NewReader(text), to: int64(len(text)), size: size}
		if err := st.writeTo(nothing{}); err != nil {
			b.Fatal(err)
		}
	}
}

type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
