package wire

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// squeezed is text as a client sends it that flushes behind each line.
func squeezed(t testing.TB, text string, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		io.WriteString(w, line)
		w.Flush()
	}
	return b.Bytes()
}

func TestInflateAtAnyBit(t *testing.T) {
	text := strings.Repeat("a1 FETCH 1:* (FLAGS UID)\r\na2 NOOP\r\n", 3000)
	noise := make([]byte, 100000)
	rand.New(rand.NewSource(1)).Read(noise)
	for _, level := range []int{flate.NoCompression, flate.HuffmanOnly, 1, 9} {
		for _, want := range []string{"", "x", text, string(noise)} {
			in := squeezed(t, want, level)
			for _, chunk := range []int{1, 2, 3, 1000, len(in)} {
				var f inflater
				var got []byte
				buf := make([]byte, 777)
				for p := in; ; {
					n, used, err := f.read(buf, p[:min(chunk, len(p))])
					if err != nil {
						t.Fatal(err)
					}
					got, p = append(got, buf[:n]...), p[used:]
					if n == 0 && len(p) == 0 {
						break
					}
				}
				if string(got) != want {
					t.Fatalf("level %d, chunks of %d: %d octets, want %d", level, chunk, len(got), len(want))
				}
			}
		}
	}
}

// What zlib sends at a Z_PARTIAL_FLUSH ends in an empty block of fixed codes:
// all before it can be read, and nothing more is needed for that.
func TestPartialFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := New(server, 100, time.Minute)
		if err := c.Compress(); err != nil {
			t.Fatal(err)
		}
		// zlib.compressobj(wbits=-15): "a NOOP\r\n", Z_PARTIAL_FLUSH, "b NOOP\r\n", Z_PARTIAL_FLUSH, "c NOOP\r\n", Z_SYNC_FLUSH
		for i, sent := range []string{partial1, partial2, partial3} {
			go io.WriteString(client, sent)
			line, err := c.ReadLine()
			if want := string("abc"[i]) + " NOOP"; line != want || err != nil {
				t.Fatalf("read %q, %v; want %q", line, err, want)
			}
		}
		if spoke, err := c.Await(time.Minute); spoke || err != nil {
			t.Errorf("what is left of a flush is something said: %v, %v", spoke, err)
		}
	})
}

func TestCompress(t *testing.T) {
	for _, chunk := range []int{1, 1000, 1 << 20} {
		long := strings.Repeat("a line that comes again and again\n", 5000)
		said := squeezed(t, "one\r\ntwo {170000}\r\n"+long+"\r\nthree\r\n", 6)
		h := &heard{in: said, chunk: chunk}
		c := New(h, 100, time.Minute)
		c.Printf("clear")
		if err := c.Compress(); err != nil {
			t.Fatal(err)
		}
		clear, ok := strings.CutPrefix(h.out.String(), "clear\r\n")
		if !ok || clear != "" {
			t.Fatalf("sent %q", h.out.String())
		}
		h.out.Reset()
		for _, want := range []string{"one", "two {170000}"} {
			if line, err := c.ReadLine(); line != want || err != nil {
				t.Fatalf("read %q, %v", line, err)
			}
		}
		if b, err := io.ReadAll(c.Literal(170000)); string(b) != long || err != nil {
			t.Fatalf("literal of %d octets, %v", len(b), err)
		}
		for _, want := range []string{"", "three"} {
			if line, err := c.ReadLine(); line != want || err != nil {
				t.Fatalf("read %q, %v", line, err)
			}
		}
		c.Printf("first reply")
		c.Flush()
		c.WriteString(long)
		c.Flush()
		c.Printf("first reply")
		c.Flush()
		if n := h.out.Len(); n > 5000 {
			t.Errorf("sent %d octets", n)
		}
		got, err := io.ReadAll(flate.NewReader(&h.out))
		if want := "first reply\r\n" + long + "first reply\r\n"; string(got) != want || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("sent %d octets, %v; want %d", len(got), err, len(want))
		}
	}
}

// Half a gigabyte in half a megabyte: no more of it is inflated than a line may
// have, and then some.
func TestBomb(t *testing.T) {
	h := &heard{in: bomb(t, 64<<20), chunk: 1 << 20}
	c := New(h, 100, time.Minute)
	c.Compress()
	if _, err := c.ReadLine(); !errors.Is(err, ErrEndless) {
		t.Error(err)
	}
	if n := len(c.squeeze.window); n > maxWindow {
		t.Error(n)
	}
}

func bomb(t *testing.T, n int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	io.CopyN(w, zeros{}, int64(n))
	w.Flush()
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestGarbledCompression(t *testing.T) {
	for _, in := range []string{"a NOOP\r\n\xff\xff\xff\xff", "\x06", "\x00\x01\x00\x00\x00", "\x03\x02\x00"} {
		c := New(&heard{in: []byte(in), chunk: 100}, 100, time.Minute)
		c.Compress()
		for range 2 {
			if _, err := c.ReadLine(); !errors.Is(err, ErrGarbled) {
				t.Errorf("%q: %v", in, err)
			}
		}
	}
	c := New(&heard{in: []byte("\x03\x00more"), chunk: 100}, 100, time.Minute)
	c.Compress()
	if _, err := c.ReadLine(); err != io.EOF {
		t.Errorf("behind the last block: %v", err)
	}
}

func FuzzInflate(f *testing.F) {
	for level := -2; level < 10; level++ {
		f.Add(squeezed(f, "a1 NOOP\r\na2 FETCH 1:* (FLAGS UID)\r\na2 FETCH 1:* (FLAGS UID)\r\n", level), 3)
	}
	f.Add([]byte(partial1+partial2+partial3), 1)
	f.Fuzz(func(t *testing.T, in []byte, chunk int) {
		if len(in) > 100000 || chunk < 1 {
			return
		}
		var z inflater
		var got []byte
		var failed error
		buf := make([]byte, 1000)
		for p := in; len(got) < 1<<20; {
			n, used, err := z.read(buf[:1+chunk%1000], p[:min(chunk, len(p))])
			got, p = append(got, buf[:n]...), p[used:]
			if failed = err; err != nil || n == 0 && len(p) == 0 {
				break
			}
			if n == 0 && used == 0 {
				t.Fatalf("stands still before %d octets", len(p))
			}
		}
		if len(z.window) > maxWindow {
			t.Fatalf("%d octets of window", len(z.window))
		}
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(in)), int64(len(got))+1))
		if !bytes.HasPrefix(got, want) && len(want) <= len(got) {
			t.Fatalf("inflated %q, want %q", got, want)
		}
		switch {
		case len(got) >= 1<<20:
		case err == nil && (failed != io.EOF || len(want) != len(got)): // it ends well
			t.Fatalf("%v after %d octets, and should end well after %d", failed, len(got), len(want))
		case errors.Is(err, io.ErrUnexpectedEOF) && failed != nil:
			t.Fatalf("%v where more may come", failed)
		}
	})
}

// Said by zlib: see TestPartialFlush.
const (
	partial1 = "\x4a\x54\xf0\xf3\xf7\x0f\xe0\xe5\x02\x08"
	partial2 = "\xa0\x24\x28\x0d\x10"
	partial3 = "\x40\xc9\x50\x1a\x00\x00\x00\xff\xff"
)
