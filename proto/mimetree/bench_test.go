package mimetree

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	r.Read(b)
	return b
}

func BenchmarkBase64Encode(b *testing.B) {
	p := noise(1 << 20)
	b.SetBytes(int64(len(p)))
	w := NewBase64Writer(io.Discard)
	for b.Loop() {
		w.Write(p)
	}
}

// The same with the standard library, line by line, to see whether the vector code is worth it.
func BenchmarkBase64EncodeStandard(b *testing.B) {
	p := noise(1 << 20)
	b.SetBytes(int64(len(p)))
	line := make([]byte, 77)
	for b.Loop() {
		for q := p; len(q) > 0; {
			n := min(57, len(q))
			base64.StdEncoding.Encode(line, q[:n])
			io.Discard.Write(line)
			q = q[n:]
		}
	}
}

func encoded(n int) []byte {
	var b bytes.Buffer
	w := NewBase64Writer(&b)
	w.Write(noise(n))
	w.Close()
	return b.Bytes()
}

func BenchmarkBase64Decode(b *testing.B) {
	p := encoded(1 << 20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		d, _ := NewDecoder(io.Discard, "base64")
		d.Write(p)
		d.Close()
	}
}

func BenchmarkQPDecode(b *testing.B) {
	p := bytes.Repeat([]byte("Ein Gru=C3=9F aus der K=C3=BCche, und noch etwas mehr Text bis zum Ende der=\n Zeile.\n"), 10000)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		d, _ := NewDecoder(io.Discard, "quoted-printable")
		d.Write(p)
		d.Close()
	}
}

// A large attachment: the cost of looking for boundaries.
func BenchmarkParseLarge(b *testing.B) {
	msg := "Content-Type: multipart/mixed; boundary=\"=_a\"\n\n--=_a\nContent-Transfer-Encoding: base64\n\n" + string(encoded(16<<20)) + "--=_a--\n"
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if _, err := Parse(strings.NewReader(msg), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// An ordinary message: what IMAP's first FETCH costs.
func BenchmarkParseSmall(b *testing.B) {
	msg := "From: alice@crepes.fr\nTo: bob@hamburger.edu\nSubject: x\nDate: Mon, 23 Nov 2026 12:00:00 +0000\n" +
		"Content-Type: multipart/alternative; boundary=\"=_a\"\n\n--=_a\n\n" + strings.Repeat("text\n", 50) +
		"--=_a\nContent-Type: text/html; charset=utf-8\n\n" + strings.Repeat("<p>text\n", 50) + "--=_a--\n"
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(strings.NewReader(msg), nil); err != nil {
			b.Fatal(err)
		}
	}
}
