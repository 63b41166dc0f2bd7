package smtp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"pennypost/proto/smtp"
)

// RFC 5321 §4.5.3.1.8, .10: a thousand recipients, and 452 for those who come
// too late; the message goes to the others.
func TestManyRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		s := hamburger(server, "")
		delivered := 0
		s.Deliver = func(_ context.Context, e *smtp.Envelope, r io.Reader) (string, error) {
			delivered = len(e.To)
			_, err := io.Copy(io.Discard, r)
			return "1", err
		}
		var in strings.Builder
		in.WriteString("EHLO a\r\nMAIL FROM:<>\r\n")
		for i := range 1002 {
			fmt.Fprintf(&in, "RCPT TO:<list%d@hamburger.edu>\r\n", i)
		}
		in.WriteString("RCPT TO:<list0@hamburger.edu>\r\nDATA\r\n.\r\nQUIT\r\n")
		replies := talk(t, s, client, in.String(), 1<<20)
		count := map[string]int{}
		for _, r := range replies {
			count[r[:3]]++
		}
		if delivered != 1000 || count["452"] != 2 || !strings.HasPrefix(replies[len(replies)-2], "250 2.0.0 ") {
			t.Errorf("delivered to %d: %v", delivered, count)
		}
	})
}

// A session has an end, for whoever brings message after message too.
func TestManyMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		replies := talk(t, hamburger(server, ""), client,
			"EHLO a\r\n"+strings.Repeat("MAIL FROM:<>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n.\r\n", 10_001), 1<<20)
		if last := replies[len(replies)-1]; len(replies) != 2+4*10_000+1 || !strings.HasPrefix(last, "421 ") {
			t.Errorf("%d replies, at last %q", len(replies), last)
		}
	})
}

// Every message has one line in the log, every refusal another, and no client
// writes any of its own.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		s := hamburger(server, "")
		s.Login, s.ClearLogin = login, true
		s.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		talk(t, s, client, "EHLO x\"y=z\r\nAUTH PLAIN AGJvYgBodW5ncnk=\r\n"+
			"MAIL FROM:<\"a\\\" level=ERROR\"@crepes.fr>\r\nRCPT TO:<eve@hamburger.edu>\r\n"+
			"RCPT TO:<carol@hamburger.edu>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\nSubject: hi\r\n\r\n.\r\n"+
			"NOOP \x1b[2J\x00 time=2000\rlevel=ERROR\r\nNOOP \u2028\xff\r\nQUIT\r\n", 1<<20)
	})
	text := out.String()
	for _, want := range []string{
		`level=INFO msg=login user=bob@hamburger.edu mechanism=PLAIN`,
		`level=WARN msg="recipient refused" from="\"a\\\" level=ERROR\"@crepes.fr" to=eve@hamburger.edu err="550 5.1.1 no such user here"`,
		`level=WARN msg="recipient refused" from="\"a\\\" level=ERROR\"@crepes.fr" to=carol@hamburger.edu err="disk trouble"`,
		`user=bob@hamburger.edu helo="x\"y=z" from="\"a\\\" level=ERROR\"@crepes.fr" to=[bob@hamburger.edu] size=15 verdict="250 2.0.0" as=1 took=0s`,
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("not once in the log: %s", want)
		}
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "time=2000-01-01T00:00:00.000Z level=") {
			t.Errorf("not ours: %q", line)
		}
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) || strings.Contains(text, "AGJvYgBodW5ncnk") {
		t.Errorf("log has what it must not have: %q", text)
	}
}

// BenchmarkSession is a hundred pipelined transactions, without a disk.
func BenchmarkSession(b *testing.B) {
	const messages = 100
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			line := strings.Repeat("x", 76) + "\r\n"
			text := []byte("EHLO crepes.fr\r\n" + strings.Repeat("MAIL FROM:<alice@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"+
				strings.Repeat(line, size/len(line))+".\r\n", messages) + "QUIT\r\n")
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				client, server := net.Pipe()
				s := hamburger(server, "")
				delivered := 0
				s.Deliver = func(_ context.Context, e *smtp.Envelope, r io.Reader) (string, error) {
					_, err := io.Copy(io.Discard, r)
					delivered++
					return "1", err
				}
				go client.Write(text)
				go io.Copy(io.Discard, client)
				if err := s.Serve(b.Context()); err != nil || delivered != messages {
					b.Fatal(delivered, err)
				}
				server.Close()
			}
		})
	}
}
