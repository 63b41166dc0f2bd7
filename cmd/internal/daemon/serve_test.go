package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pennypost/proto/prototest"
)

func newServer(t *testing.T, p Program) *server {
	t.Helper()
	if p.Name == "" {
		p.Name, p.Roles = "echod", map[string]Role{"echo": {Port: 7}, "echos": {77, true}}
	}
	return &server{
		Program: p, log: slog.New(slog.DiscardHandler), idle: time.Minute,
		live: map[net.Conn]netip.Addr{}, of: map[netip.Addr]int{},
	}
}

// echo repeats lines, and says bye when it has to go.
func echo(ctx context.Context, c *Client) {
	io.WriteString(c, "hello\n")
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			io.WriteString(c, "bye\n")
		}
		if err != nil {
			return
		}
		if line == "panic\n" {
			panic("as asked for")
		}
		io.WriteString(c, line)
	}
}

// up serves on a loopback port until the test ends; done tells when.
func (s *server) up(t *testing.T, spec string) (addr string, stop func(), done <-chan struct{}) {
	t.Helper()
	if err := s.listen(spec); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); s.serve(ctx, 0) }()
	t.Cleanup(func() { cancel(); <-over })
	return s.listeners[len(s.listeners)-1].Addr().String(), cancel, over
}

type talk struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) talk {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return talk{c, bufio.NewReader(c)}
}

func (c talk) hears(t *testing.T, want string) {
	t.Helper()
	got, err := c.r.ReadString('\n')
	if got != want && (want != "" || err != io.EOF) {
		t.Fatalf("heard %q (%v), want %q", got, err, want)
	}
}

func (c talk) gone(t *testing.T) {
	t.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		t.Fatalf("heard %q, want to be alone", b)
	}
}

func TestLimits(t *testing.T) {
	s := newServer(t, Program{})
	s.Serve, s.Busy = echo, "busy\n"
	s.most, s.mostOf = 3, 2
	addr, _, _ := s.up(t, "127.0.0.1:0")
	a, b := dial(t, addr), dial(t, addr)
	a.hears(t, "hello\n")
	b.hears(t, "hello\n")
	c := dial(t, addr)
	c.hears(t, "busy\n")
	c.gone(t)
	a.Close()
	for { // the place is free soon
		d := dial(t, addr)
		if line, _ := d.r.ReadString('\n'); line == "hello\n" {
			break
		}
	}
	other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	far, err := other.Dial("tcp", addr)
	if err != nil {
		t.Skip("no second loopback address:", err)
	}
	defer far.Close()
	if line, _ := bufio.NewReader(far).ReadString('\n'); line != "hello\n" {
		t.Errorf("another address hears %q", line)
	}
	full, _ := other.Dial("tcp", addr)
	defer full.Close()
	if line, _ := bufio.NewReader(full).ReadString('\n'); line != "busy\n" {
		t.Errorf("one too many in all hears %q", line)
	}
}

// At the end a session still gets to say its farewell, and one that hangs is
// cut off in time.
func TestDrain(t *testing.T) {
	s := newServer(t, Program{})
	s.Serve = func(ctx context.Context, c *Client) {
		io.WriteString(c, "hello\n")
		c.SetDeadline(time.Now().Add(time.Hour))
		buf := make([]byte, 100)
		for {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		if ctx.Err() != nil {
			c.SetDeadline(time.Now().Add(time.Hour))
			io.WriteString(c, "bye\n")
		}
	}
	addr, stop, done := s.up(t, "127.0.0.1:0")
	a, b := dial(t, addr), dial(t, addr)
	a.hears(t, "hello\n")
	b.hears(t, "hello\n")
	stop()
	a.hears(t, "bye\n")
	b.hears(t, "bye\n")
	a.gone(t)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("still there")
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

func TestDrainOfTheDeaf(t *testing.T) {
	s := newServer(t, Program{})
	s.Serve = func(ctx context.Context, c *Client) {
		for { // writes for ever to who never reads
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}
	addr, stop, done := s.up(t, "127.0.0.1:0")
	dial(t, addr)
	time.Sleep(100 * time.Millisecond)
	begun := time.Now()
	stop()
	<-done
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// A mistake in one session is not felt in another.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, Program{})
	s.Serve = echo
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	addr, stop, done := s.up(t, "127.0.0.1:0")
	a, b := dial(t, addr), dial(t, addr)
	a.hears(t, "hello\n")
	b.hears(t, "hello\n")
	io.WriteString(a, "panic\n")
	a.gone(t)
	io.WriteString(b, "still here\n")
	b.hears(t, "still here\n")
	stop()
	<-done
	if !strings.Contains(log.String(), "as asked for") || !strings.Contains(log.String(), "peer=127.0.0.1") {
		t.Error(log.String())
	}
}

// The last words arrive, also at a client who has said more than anybody wanted
// to hear.
func TestLastWords(t *testing.T) {
	s := newServer(t, Program{})
	s.Serve = func(_ context.Context, c *Client) {
		time.Sleep(50 * time.Millisecond) // until its octets are here
		io.WriteString(c, "enough\n")
	}
	addr, _, _ := s.up(t, "127.0.0.1:0")
	for range 5 {
		c := dial(t, addr)
		c.Write(make([]byte, 100_000))
		c.hears(t, "enough\n")
		c.gone(t)
		c.Close()
	}
}

// Somebody who does not shake hands keeps nobody else waiting.
func TestTLSFromTheStart(t *testing.T) {
	s := newServer(t, Program{})
	s.tls.Store(prototest.Certificate(t))
	secure := make(chan bool, 1)
	s.Serve = func(ctx context.Context, c *Client) {
		_, isTLS := c.Conn.(*tls.Conn)
		secure <- c.Secure && isTLS && c.TLS == nil && c.Role == "echos"
		echo(ctx, c)
	}
	addr, _, _ := s.up(t, "tls:127.0.0.1:0")
	silent := dial(t, addr)
	defer silent.Close()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	talk{c, bufio.NewReader(c)}.hears(t, "hello\n")
	if !<-secure {
		t.Error("the session does not know that it is secure")
	}
}

// failing is a listener whose Accept fails some times before it works.
type failing struct {
	net.Listener
	mu   sync.Mutex
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left > 0 {
		f.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	s := newServer(t, Program{})
	s.Serve = echo
	if err := s.listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l := s.listeners[0]
	s.listeners = []listener{{&failing{Listener: l.Listener, left: 4}, "echo", false}}
	addr, _, _ := s.up(t, "127.0.0.1:0")
	_ = addr
	dial(t, l.Addr().String()).hears(t, "hello\n")
}

func TestReload(t *testing.T) {
	first, second := &tls.Config{}, &tls.Config{}
	give, fail := first, error(nil)
	s := newServer(t, Program{})
	s.TLS = func() (*tls.Config, error) { return give, fail }
	if err := s.loadTLS(); err != nil || s.tls.Load() != first {
		t.Fatal(err)
	}
	give = second
	s.reload()
	if s.tls.Load() != second {
		t.Error("the new certificate is not used")
	}
	give, fail = nil, errors.New("half written")
	s.reload()
	if s.tls.Load() != second {
		t.Error("the old certificate was dropped for a bad one")
	}
}

func TestNotify(t *testing.T) {
	path := t.TempDir() + "/notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	os.Unsetenv("WATCHDOG_PID")
	s := newServer(t, Program{})
	s.Serve = echo
	_, stop, done := s.up(t, "127.0.0.1:0")
	seen := map[string]bool{}
	hear := func(want string) {
		t.Helper()
		buf := make([]byte, 1000)
		l.SetReadDeadline(time.Now().Add(5 * time.Second))
		for !seen[want] {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			for line := range strings.Lines(string(buf[:n])) {
				seen[strings.TrimSpace(line)] = true
			}
		}
	}
	hear("READY=1")
	hear("WATCHDOG=1")
	stop()
	hear("STOPPING=1")
	<-done
}

// A loop that is stuck does not ring, and the dog keeps silent.
func TestWatchdogOfAStuckLoop(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	if d := newWatchdog(1); d.every != 0 {
		t.Error("another process is watched")
	}
	os.Unsetenv("WATCHDOG_PID")
	path := t.TempDir() + "/notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	d := newWatchdog(2)
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	d.bell(0)
	go d.bell(1)
	go func() {
		for ctx.Err() == nil {
			d.bells[0].rung.Store(true)
			time.Sleep(time.Millisecond)
		}
	}()
	d.watch(ctx)
	l.SetReadDeadline(time.Now())
	if n, err := l.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d octets to systemd", n)
	}
}
