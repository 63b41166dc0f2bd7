package smtp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/proto/smtp"
	"pennypost/proto/wire"
)

// talk says all of in to a session and returns what it answers. The client
// speaks in pieces of size octets.
func talk(t *testing.T, s *smtp.Session, client net.Conn, in string, size int) (replies []string) {
	var out bytes.Buffer
	var both sync.WaitGroup
	both.Go(func() { io.Copy(&out, client) })
	both.Go(func() {
		for len(in) > 0 {
			n := min(size, len(in))
			if _, err := io.WriteString(client, in[:n]); err != nil {
				return
			}
			in = in[n:]
		}
		time.Sleep(time.Hour) // until it hangs up, or has nothing more to wait for
		client.Close()
	})
	s.Serve(t.Context())
	s.Conn.Close()
	both.Wait()
	for line := range strings.Lines(out.String()) {
		text, whole := strings.CutSuffix(line, "\r\n")
		if !whole || len(line) > 512 || len(text) < 4 || text[3] != ' ' && text[3] != '-' {
			t.Errorf("not a reply line: %q", line)
		} else if text[3] == ' ' {
			replies = append(replies, text)
		}
	}
	return replies
}

// endings are what some server somewhere has taken for CRLF.CRLF (VU#302671).
var endings = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r.\n", "\n.\r", "\n\n.\n\n", "\r\r\n.\r\r\n",
	"\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\n\x00.\r\n", "\r\n\x00.\x00\r\n",
	"\r\n. \r\n", "\r\n .\r\n", "\r\n.\t\r\n", "\r\n..\r\n", "\r\n.\r\r\n", "\r\n.\n\r\n", "\r\n\r.\r\n", "\r\n\n.\r\n",
	"\x85.\x85", "\u2028.\u2028", "\r\n\uff0e\r\n", "\x0b.\x0b", "\x0c.\x0c", "\r\n.\x1a\r\n", "\r\n\x1a\r\n", "\x04\r\n",
}

// RFC 5321 §4.1.1.4: nothing but CRLF.CRLF ends a message. Behind anything else a
// second message may lie, which some server before or behind us has taken for a
// part of the first.
func TestSmuggling(t *testing.T) {
	const second = "MAIL FROM:<forged@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\nSubject: forged\r\n\r\n"
	for _, end := range endings {
		for _, size := range []int{1, 3, 1 << 20} {
			t.Run(fmt.Sprintf("%q by %d", end, size), func(t *testing.T) {
				dir := t.TempDir()
				var replies []string
				synctest.Test(t, func(t *testing.T) {
					client, server := net.Pipe()
					replies = talk(t, hamburger(server, dir), client,
						"EHLO crepes.fr\r\nMAIL FROM:<alice@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"+
							"Subject: one\r\n\r\ntext"+end+second+"\r\n.\r\nQUIT\r\n", size)
				})
				mail, _ := os.ReadFile(filepath.Join(dir, "mail"))
				accepted := strings.Count(strings.Join(replies, "\n"), "250 2.0.0")
				message := "text" + end + second + "\r\n"
				bare := strings.ContainsAny(strings.ReplaceAll(message, "\r\n", ""), "\r\n")
				want := 7
				if bare {
					want = 6 // without 221
				}
				switch n := len(replies); {
				case n != want:
					t.Errorf("%d replies: %q", n, replies)
				case bare && (accepted > 0 || len(mail) > 0 || !strings.HasPrefix(replies[n-1], "521 ")):
					t.Errorf("not refused: %q", replies)
				case !bare && (accepted != 1 || bytes.Count(mail, []byte("--\n")) != 1 || !bytes.Contains(mail, []byte("MAIL FROM:<forged"))):
					t.Errorf("not one message: %q %q", replies, mail)
				}
			})
		}
	}
}

// Whatever a client says, it gets one reply to each command until the session
// is over, and the session is over soon after it has fallen silent.
func FuzzSession(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var in strings.Builder
		for line := range strings.Lines(string(text)) {
			if said, ok := strings.CutPrefix(line, "C: "); ok {
				in.WriteString(strings.TrimSuffix(said, "\n") + "\r\n")
			}
		}
		f.Add([]byte(in.String()), 1<<10)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		if len(in) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			s := hamburger(server, "")
			s.Login, s.ClearLogin, s.MaxSize = login, true, 1000
			messages := 0
			s.Deliver = func(_ context.Context, e *smtp.Envelope, r io.Reader) (string, error) {
				text, err := io.ReadAll(r)
				if len(e.To) == 0 || err == nil && len(text) > 1000 {
					t.Errorf("delivers %d octets to %d", len(text), len(e.To))
				}
				if err == nil {
					messages++
				}
				return "1", err
			}
			replies := talk(t, s, client, string(in), max(1, size))
			if len(replies) == 0 || !strings.HasPrefix(replies[0], "220 ") {
				t.Fatalf("no greeting: %q", replies)
			}
			lines := strings.Count(string(in), "\n")
			if n := len(replies); n > lines+3 {
				t.Errorf("%d replies to %d lines: %q", n, lines, replies)
			}
			if n := strings.Count(strings.Join(replies, "\n"), "250 2.0.0 message accepted"); n != messages {
				t.Errorf("%d messages, %d acknowledged", messages, n)
			}
		})
	})
}

// One reply to one command: lines that are all commands, and none that ends the
// session.
func TestOneReplyEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		s := &smtp.Session{Conn: wire.New(server, 512, time.Minute), Name: "hamburger.edu", Log: hamburger(server, "").Log, Check: check}
		var in strings.Builder
		n := 0
		for _, line := range []string{
			"EHLO a", "HELO a", "NOOP", "RSET", "MAIL FROM:<>", "RCPT TO:<bob@hamburger.edu>", "RCPT TO:<eve@hamburger.edu>",
			"VRFY x", "EXPN x", "HELP", "AUTH PLAIN", "STARTTLS", "WIZ", "", "DATA x", "QUIT x",
		} {
			in.WriteString(line + "\r\n")
			n++
		}
		if replies := talk(t, s, client, in.String(), 1<<20); len(replies) != n+2 { // and the greeting, and 421 for silence
			t.Errorf("%d replies to %d commands: %q", len(replies), n, replies)
		}
	})
}
