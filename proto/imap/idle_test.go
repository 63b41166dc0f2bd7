package imap_test

import (
	"bufio"
	"compress/flate"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// begin serves a client of the Maildir at dir.
func begin(t *testing.T, dir string, nc net.Conn) {
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	s := &imap.Session{Conn: wire.New(nc, 8192, 30*time.Minute), Preauth: &imap.User{Name: "bob", Store: store}}
	s.Serve(t.Context())
	nc.Close()
}

// A talker is a client that says something and waits for a word.
type talker struct {
	net.Conn
	r *bufio.Reader
}

func (c *talker) until(t *testing.T, word string) {
	t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			t.Fatalf("no %q: %v", word, err)
		}
		if strings.Contains(line, word) {
			return
		}
	}
}

func (c *talker) ask(t *testing.T, command, word string) {
	t.Helper()
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		t.Fatal(err)
	}
	c.until(t, word)
}

// Whoever is idle is one goroutine and little else.
func TestIdleIsCheap(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	maildir.PollOnly(false)
	defer maildir.PollOnly(true)
	const n = 200
	for _, squeezed := range []bool{false, true} {
		before, goroutines := inUse(), runtime.NumGoroutine()
		var clients []*talker
		for range n {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			far, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go begin(t, dir, far)
			c := &talker{nc, bufio.NewReaderSize(nc, 64)}
			c.until(t, "PREAUTH")
			c.ask(t, "a SELECT INBOX", "a OK")
			if squeezed {
				c.ask(t, "b COMPRESS DEFLATE", "b OK")
				w, _ := flate.NewWriter(nc, 1)
				io.WriteString(w, "c IDLE\r\n")
				w.Flush()
				if _, err := c.r.ReadByte(); err != nil {
					t.Fatal(err)
				}
			} else {
				c.ask(t, "c IDLE", "+ ")
			}
			clients = append(clients, c)
		}
		time.Sleep(100 * time.Millisecond)
		each, own := (inUse()-before)/n, runtime.NumGoroutine()-goroutines-n
		t.Logf("squeezed %v: %d octets each, client included", squeezed, each)
		// Until it has been looked whether something is worth noting of the mailbox, there is a second goroutine.
		if own > n+5 || each > 20<<10 {
			t.Errorf("squeezed %v: %d goroutines more than one each, %d octets each", squeezed, own, each)
		}
		for _, c := range clients {
			c.Close()
		}
	}
}

func inUse() int {
	var m runtime.MemStats
	for range 3 { // a pool gives back at the second, and stacks shrink by half
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// Somebody who does not read holds up nobody else.
func TestSlowReader(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var clients []*talker
		for range 3 {
			near, far := net.Pipe()
			defer near.Close()
			go begin(t, dir, far)
			c := &talker{near, bufio.NewReader(near)}
			c.until(t, "PREAUTH")
			c.ask(t, "a SELECT INBOX", "a OK")
			clients = append(clients, c)
		}
		clients[0].ask(t, "b IDLE", "+ ")
		clients[1].ask(t, "b NOTIFY SET (SELECTED (MessageNew (BODY.PEEK[]) MessageExpunge))", "b OK")
		clients[2].ask(t, "b IDLE", "+ ")
		for _, name := range []string{"1.a", "2.b", "3.c"} {
			if err := os.WriteFile(filepath.Join(dir, "new", name), []byte(strings.Repeat("x\n", 1<<20)), 0o600); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			clients[2].until(t, " EXISTS")
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("told after %s", d)
			}
		}
	})
}
