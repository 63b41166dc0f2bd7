package daemon

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// piped makes a connection of two files, and keeps theirs.
func piped(t *testing.T, in, out *os.File) *pipe {
	t.Helper()
	p := new(pipe)
	if err := p.in.open(int(in.Fd())); err != nil {
		t.Fatal(err)
	}
	if err := p.out.open(int(out.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func osPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil { // blocking, as a shell makes them
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fd[0]), "r"), os.NewFile(uintptr(fd[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestPipeDeadlines(t *testing.T) {
	inR, inW := osPipe(t)
	outR, outW := osPipe(t)
	p := piped(t, inR, outW)
	buf := make([]byte, 10)

	p.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := p.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	p.SetReadDeadline(time.Time{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline set meanwhile: %v", err)
		}
	})
	time.Sleep(10 * time.Millisecond)
	p.SetReadDeadline(time.Unix(1, 0))
	wg.Wait()

	p.SetReadDeadline(time.Now().Add(10 * time.Second))
	inW.WriteString("abc")
	if n, err := p.Read(buf); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}

	p.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := p.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("a reader who does not read: %d, %v", n, err)
	}
	for _, f := range []*os.File{inR, outW} {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("O_NONBLOCK is set on what others share (%v)", err)
		}
	}
	outR.Close()
	p.SetWriteDeadline(time.Time{})
	if _, err := p.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("a reader who is gone: %v", err)
	}

	inW.WriteString("last")
	inW.Close()
	if b, err := io.ReadAll(p); string(b) != "last" || err != nil {
		t.Errorf("at the end: %q, %v", b, err)
	}
}

func TestPipeClose(t *testing.T) {
	inR, _ := osPipe(t)
	_, outW := osPipe(t)
	p := piped(t, inR, outW)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
	time.Sleep(10 * time.Millisecond)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := p.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("twice: %v", err)
	}
	if _, err := p.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	p.SetDeadline(time.Now())
}

func TestRegularFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "script")
	os.WriteFile(name, []byte("one\r\ntwo\r\n"), 0o600)
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(name + ".out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := piped(t, in, out)
	p.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(p, p); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(name + ".out"); string(got) != "one\r\ntwo\r\n" {
		t.Errorf("%q", got)
	}
}

// A person presses Return, and the protocol wants CRLF.
func TestTerminalLines(t *testing.T) {
	p := &pipe{terminal: true}
	for in, want := range map[string]string{
		"user bob\n":   "user bob\r\n",
		"user bob\r\n": "user bob\r\n",
		"\n\n":         "\r\n\r\n",
		"no line":      "no line",
		"a\rb\n":       "a\rb\r\n",
		"a\n.\nb\r\nc": "a\r\n.\r\nb\r\nc",
	} {
		p.cr = false
		b := make([]byte, 100)
		n := p.crlf(b, copy(b, in))
		if !bytes.Equal(b[:n], []byte(want)) {
			t.Errorf("%q: %q, want %q", in, b[:n], want)
		}
	}
	p.cr = false
	b := make([]byte, 10)
	first := string(b[:p.crlf(b, copy(b, "a\r"))])
	if got := first + string(b[:p.crlf(b, copy(b, "\nb"))]); got != "a\r\nb" {
		t.Errorf("CRLF in two reads: %q", got)
	}
}
