package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// heard is a net.Conn whose client has said all of in and hears into out. It
// gives at most chunk octets a read.
type heard struct {
	net.Conn
	in    []byte
	chunk int
	out   bytes.Buffer
}

func (h *heard) Read(p []byte) (int, error) {
	if len(h.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.in[:min(len(h.in), h.chunk)])
	h.in = h.in[n:]
	return n, nil
}

func (h *heard) Write(p []byte) (int, error)      { return h.out.Write(p) }
func (h *heard) Close() error                     { return nil }
func (h *heard) SetDeadline(time.Time) error      { return nil }
func (h *heard) SetReadDeadline(time.Time) error  { return nil }
func (h *heard) SetWriteDeadline(time.Time) error { return nil }

func said(text string, chunk int) *Conn {
	return New(&heard{in: []byte(text), chunk: chunk}, 100, time.Minute)
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 98)
	for _, chunk := range []int{1, 2, 7, 1 << 20} {
		c := said("NOOP\r\n\r\n"+long+"\r\n"+long+"x\r\nok\r\na\rb\r\nc\nd\r\r\ne\x00f\r\n"+
			strings.Repeat(long, 500)+"\r\nend\r\nhalf", chunk)
		for _, want := range []struct {
			line string
			err  error
		}{
			{"NOOP", nil},
			{"", nil},
			{long, nil},
			{"", ErrTooLong},
			{"ok", nil},
			{"", ErrLineEnd},
			{"", ErrLineEnd},
			{"", ErrLineEnd},
			{"e\x00f", nil},
			{"", ErrTooLong},
			{"end", nil},
			{"", io.ErrUnexpectedEOF},
			{"", io.EOF},
		} {
			if line, err := c.ReadLine(); line != want.line || !errors.Is(err, want.err) {
				t.Fatalf("chunks of %d: read %q, %v; want %q, %v", chunk, line, err, want.line, want.err)
			}
		}
	}
}

func TestLineWithoutEnd(t *testing.T) {
	c := said(strings.Repeat("x", endless+2*small), 1<<20)
	if _, err := c.ReadLine(); !errors.Is(err, ErrEndless) {
		t.Error(err)
	}
}

// slowly sends an octet a second until the session is over, and says how long
// that took.
func slowly(t *testing.T, head, octet string, read func(*Conn) error) (lasted time.Duration, err error) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		start := time.Now()
		var sender sync.WaitGroup
		defer sender.Wait()
		sender.Go(func() {
			defer client.Close()
			if _, err := io.WriteString(client, head); err != nil {
				return
			}
			for {
				time.Sleep(time.Second)
				if _, err := io.WriteString(client, octet); err != nil {
					return
				}
			}
		})
		c := New(server, 1<<20, 5*time.Minute)
		err = read(c)
		lasted = time.Since(start)
		c.Close()
	})
	return lasted, err
}

func TestSlowloris(t *testing.T) {
	for _, test := range []struct {
		name, head, octet string
		read              func(*Conn) error
	}{
		{"line", "", "x", func(c *Conn) error { _, err := c.ReadLine(); return err }},
		{"block", "", "x", func(c *Conn) error { _, err := io.Copy(io.Discard, c.Undotted()); return err }},
		{"lines of a block", "", "x\r\n", func(c *Conn) error { _, err := io.Copy(io.Discard, c.Undotted()); return err }},
		{"literal", "", "x", func(c *Conn) error { _, err := io.ReadAll(c.Literal(1 << 20)); return err }},
		{"large literal", "", "x", func(c *Conn) error { _, err := io.ReadFull(c.Literal(1<<20), make([]byte, 1<<20)); return err }},
		// Speed at the beginning does not buy time for ever.
		{"fast at first", strings.Repeat("x", 10<<20), "x", func(c *Conn) error { _, err := io.Copy(io.Discard, c.Undotted()); return err }},
	} {
		t.Run(test.name, func(t *testing.T) {
			lasted, err := slowly(t, test.head, test.octet, test.read)
			if !timedOut(err) {
				t.Errorf("ended with %v", err)
			}
			if lasted < 4*time.Minute || lasted > 6*time.Minute {
				t.Errorf("lasted %v", lasted)
			}
		})
	}
}

// A slow line, but a line: 600 octets a second go through whole.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			defer client.Close()
			for range 1000 {
				time.Sleep(time.Second)
				fmt.Fprintf(client, "%598s\r\n", "x")
			}
			io.WriteString(client, ".\r\n")
		}()
		c := New(server, 1000, 5*time.Minute)
		defer c.Close()
		n, err := io.Copy(io.Discard, c.Undotted())
		if n != 600_000 || err != nil {
			t.Errorf("got %d octets, %v", n, err)
		}
	})
}

// A client that never reads what it asked for is hung up on.
func TestClientThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := New(server, 1000, time.Minute)
		defer c.Close()
		start := time.Now()
		err := c.Dotted(func(w io.Writer) error {
			for range 100_000 {
				if _, err := io.WriteString(w, "Subject: hi\n"); err != nil {
					return err
				}
			}
			return nil
		})
		if !timedOut(err) || time.Since(start) > 2*time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestLiteral(t *testing.T) {
	text := strings.Repeat("\x00\r\n.\r\n\xff", 2000)
	for _, chunk := range []int{1, 4096, 1 << 20} {
		c := said(text+"\r\nNOOP\r\nrest", chunk)
		got, err := io.ReadAll(c.Literal(int64(len(text))))
		if string(got) != text || err != nil {
			t.Errorf("got %d octets, %v", len(got), err)
		}
		for _, want := range []string{"", "NOOP"} {
			if line, err := c.ReadLine(); line != want || err != nil {
				t.Errorf("read %q, %v", line, err)
			}
		}
		if got, err := io.ReadAll(c.Literal(5)); string(got) != "rest" || err != io.ErrUnexpectedEOF {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestPrintfQueues(t *testing.T) {
	h := &heard{in: []byte("x\r\n"), chunk: 100}
	c := New(h, 100, time.Minute)
	c.Printf("+OK %d", 1)
	if h.out.Len() > 0 {
		t.Errorf("sent before its turn: %q", h.out.String())
	}
	c.ReadLine()
	if got := h.out.String(); got != "+OK 1\r\n" {
		t.Errorf("sent %q", got)
	}
	if c.outbuf != nil {
		t.Error("keeps an empty buffer")
	}
}

func TestWriteLarge(t *testing.T) {
	h := &heard{}
	c := New(h, 100, time.Minute)
	var want bytes.Buffer
	for _, n := range []int{0, 1, small, large, large - 1, large + 1, 3*large + 5, 2} {
		p := bytes.Repeat([]byte{byte(n)}, n)
		c.Write(p)
		c.WriteString(string(p))
		want.Write(p)
		want.Write(p)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(h.out.Bytes(), want.Bytes()) {
		t.Errorf("sent %d octets, want %d", h.out.Len(), want.Len())
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := New(server, 100, time.Minute)
		defer c.Close()
		go func() { time.Sleep(time.Second); c.Wake() }()
		if spoke, err := c.Await(time.Minute); spoke || err != nil {
			t.Errorf("woken: %v, %v", spoke, err)
		}
		c.Wake()
		if spoke, err := c.Await(time.Minute); spoke || err != nil {
			t.Errorf("woken before: %v, %v", spoke, err)
		}
		go func() { time.Sleep(time.Second); io.WriteString(client, "DONE\r\n") }()
		if spoke, err := c.Await(time.Minute); !spoke || err != nil {
			t.Errorf("spoken to: %v, %v", spoke, err)
		}
		if spoke, err := c.Await(time.Minute); !spoke || err != nil {
			t.Errorf("still spoken to: %v, %v", spoke, err)
		}
		if line, err := c.ReadLine(); line != "DONE" || err != nil {
			t.Errorf("read %q, %v", line, err)
		}
		start := time.Now()
		if spoke, err := c.Await(2 * time.Minute); spoke || err != nil || time.Since(start) != 2*time.Minute {
			t.Errorf("silence: %v, %v after %s", spoke, err, time.Since(start))
		}
		c.Wake() // and nobody waits
		go io.WriteString(client, "NOOP\r\n")
		if line, err := c.ReadLine(); line != "NOOP" || err != nil {
			t.Errorf("read %q, %v", line, err)
		}
		if spoke, err := c.Await(time.Minute); spoke || err != nil {
			t.Errorf("woken meanwhile: %v, %v", spoke, err)
		}
		client.Close()
		if spoke, err := c.Await(time.Minute); spoke || err != io.EOF {
			t.Errorf("gone: %v, %v", spoke, err)
		}
	})
}

// What Await has been woken by does not disturb the next read, and what wakes
// it is not lost when the client speaks at the same moment.
func TestAwaitThenRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := New(server, 100, time.Minute)
		defer c.Close()
		defer client.Close()
		for range 200 {
			go c.Wake()
			go func() { io.WriteString(client, "A\r\n") }()
			woken, spoken := 0, 0
			for woken == 0 || spoken == 0 {
				spoke, err := c.Await(time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if !spoke {
					woken++
					continue
				}
				if line, err := c.ReadLine(); line != "A" || err != nil {
					t.Fatalf("read %q, %v", line, err)
				}
				spoken++
			}
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := New(server, 100, time.Minute)
		defer c.Close()
		go func() {
			io.WriteString(client, "one\r\ntwo\r\n")
			time.Sleep(time.Second)
			c.Stop()
		}()
		for _, want := range []string{"one", "two"} {
			if line, err := c.ReadLine(); line != want || err != nil {
				t.Errorf("read %q, %v", line, err)
			}
		}
		for range 2 {
			if _, err := c.ReadLine(); !errors.Is(err, ErrStopped) {
				t.Errorf("stopped: %v", err)
			}
		}
		var last sync.WaitGroup
		defer last.Wait()
		last.Go(func() {
			c.Printf("421 bye")
			c.Flush()
		})
		if line, err := bufio.NewReader(client).ReadString('\n'); line != "421 bye\r\n" {
			t.Errorf("heard %q, %v", line, err)
		}
	})
}

func TestStartTLS(t *testing.T) {
	config := selfSigned(t)
	client, server := net.Pipe()
	c := New(server, 100, time.Minute)
	if _, ok := c.TLS(); ok {
		t.Error("encrypted from the start")
	}
	go func() {
		defer c.Close()
		c.ReadLine()
		c.Printf("220 go ahead")
		if err := c.StartTLS(config); err != nil {
			t.Error(err)
			return
		}
		if _, ok := c.TLS(); !ok {
			t.Error("not encrypted")
		}
		line, _ := c.ReadLine()
		c.Printf("250 %s", line)
	}()
	io.WriteString(client, "STARTTLS\r\n")
	if line, _ := bufio.NewReader(client).ReadString('\n'); line != "220 go ahead\r\n" {
		t.Errorf("heard %q", line)
	}
	tc := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	io.WriteString(tc, "hello\r\n")
	if line, err := bufio.NewReader(tc).ReadString('\n'); line != "250 hello\r\n" {
		t.Errorf("heard %q, %v", line, err)
	}
}

func TestStartTLSInjected(t *testing.T) {
	c := said("STARTTLS\r\nNOOP\r\n", 100)
	c.ReadLine()
	if err := c.StartTLS(nil); !errors.Is(err, ErrInjected) {
		t.Error(err)
	}
}

// A client that never begins the handshake does not hold the session.
func TestStartTLSSilence(t *testing.T) {
	config := selfSigned(t)
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := New(server, 100, 30*time.Minute)
		defer c.Close()
		start := time.Now()
		if err := c.StartTLS(config); !timedOut(err) || time.Since(start) > 2*time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestAllowLF(t *testing.T) {
	c := said("one\r\ntwo\n\nth\rree\nfour\r\n", 100)
	c.AllowLF()
	for _, want := range []struct {
		line string
		err  error
	}{{"one", nil}, {"two", nil}, {"", nil}, {"", ErrLineEnd}, {"four", nil}} {
		if line, err := c.ReadLine(); line != want.line || err != want.err {
			t.Errorf("ReadLine = %q, %v, want %q, %v", line, err, want.line, want.err)
		}
	}
}

// A client that is silent costs its buffer for lines and little else, also
// after it has sent a message and heard a reply.
func TestSilentClientIsCheap(t *testing.T) {
	text := "EHLO a\r\n" + strings.Repeat("x", 3*large) + "\r\n.\r\n"
	const n = 200
	conns := make([]*Conn, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range conns {
		h := &heard{in: []byte(text), chunk: 1 << 20}
		c := New(h, 100, time.Minute)
		c.ReadLine()
		c.Printf("250 ok")
		if _, err := io.Copy(io.Discard, c.Undotted()); err != nil {
			t.Fatal(err)
		}
		c.Printf("250 ok")
		c.Peek() // the end of the input
		h.in, h.out = nil, bytes.Buffer{}
		conns[i] = c
	}
	runtime.GC()
	runtime.GC() // a pool gives back at the second
	runtime.ReadMemStats(&after)
	if each := (after.HeapAlloc - before.HeapAlloc) / n; after.HeapAlloc > before.HeapAlloc && each > 6<<10 {
		t.Errorf("%d octets each", each)
	}
	runtime.KeepAlive(conns)
}

// Over a real socket, bare or behind TLS: what is said at once is heard at
// once, nobody's silence holds a buffer, and whoever is woken hears the rest later.
func TestSockets(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := New(nc, 100, 5*time.Second)
		if encrypted {
			client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			go client.(*tls.Conn).Handshake()
			if err := c.StartTLS(selfSigned(t)); err != nil {
				t.Fatal(err)
			}
		}
		line := func(want string) {
			t.Helper()
			if got, err := c.ReadLine(); got != want || err != nil {
				t.Fatalf("read %q, %v; want %q", got, err, want)
			}
		}
		io.WriteString(client, "one\r\ntwo\r\n")
		line("one")
		line("two")
		if encrypted { // two records, which come together
			io.WriteString(client, "1")
			io.WriteString(client, "\r\n2\r\n")
			line("1")
			line("2")
		}
		for range 100 {
			go c.Wake()
			for woken := false; !woken; {
				spoke, err := c.Await(5 * time.Second)
				if err != nil {
					t.Fatal(err)
				}
				woken = !spoke
			}
			if c.in != nil {
				t.Fatal("a buffer, and nothing in it")
			}
			io.WriteString(client, "again\r\n")
			if spoke, err := c.Await(5 * time.Second); !spoke || err != nil {
				t.Fatal(spoke, err)
			}
			line("again")
		}
		if spoke, err := c.Await(20 * time.Millisecond); spoke || err != nil {
			t.Error(spoke, err)
		}
		if err := c.Compress(); err != nil {
			t.Fatal(err)
		}
		client.Write(squeezed(t, "three\r\nfour\r\n", 1))
		line("three")
		line("four")
		if spoke, err := c.Await(20 * time.Millisecond); spoke || err != nil {
			t.Error(spoke, err)
		}
		c.SetIdle(20 * time.Millisecond)
		if _, err := c.ReadLine(); !timedOut(err) {
			t.Error(err)
		}
		c.Stop()
		if _, err := c.Await(time.Minute); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		client.Close()
		c.Close()
	}
}
