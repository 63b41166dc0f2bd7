package pop3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/maildir"
	"pennypost/proto/pop3"
	"pennypost/proto/prototest"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// session makes one of bob, whose password is hungry, and of alice, whose
// password has spaces; the disk with carol's mail is away.
func session(c net.Conn, dir string) *pop3.Session {
	passwords := map[string]string{"bob": "hungry", "alice": " a  b ", "bob@hamburger.edu": "hungry"}
	return &pop3.Session{
		Conn: wire.New(c, 255, 10*time.Minute),
		Log:  slog.New(slog.DiscardHandler),
		Login: func(_ context.Context, c sasl.Claim) (*maildir.Store, error) {
			if c.Name == "carol" {
				return nil, errors.New("disk away")
			}
			if want, known := passwords[c.Name]; !known || c.Secret != want || c.Authzid != "" && c.Authzid != c.Name {
				return nil, pop3.ErrRefused
			}
			return maildir.Open(filepath.Join(dir, c.Name))
		},
	}
}

// Passwords in the clear are accepted.
func TestPlain(t *testing.T) {
	prototest.Run(t, "testdata/plain/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := session(c, dir)
		s.Cleartext = true
		s.Serve(ctx)
	})
}

// There are more ways to log in than passwords.
func TestSASL(t *testing.T) {
	config := prototest.Certificate(t)
	prototest.AskCertificate(t, config)
	prototest.Run(t, "testdata/sasl/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := session(c, dir)
		s.Cleartext, s.TLS, s.SASL = true, config, prototest.SASL()
		s.Login = func(_ context.Context, c sasl.Claim) (*maildir.Store, error) {
			if err := prototest.Login(c); err != nil {
				return nil, err
			}
			return maildir.Open(filepath.Join(dir, "bob"))
		}
		s.Serve(ctx)
	})
}

// Passwords in the clear are not accepted, but there is TLS.
func TestTLS(t *testing.T) {
	config := prototest.Certificate(t)
	prototest.Run(t, "testdata/tls/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := session(c, dir)
		s.TLS = config
		s.Serve(ctx)
	})
}

// Nobody has to log in.
func TestPreauth(t *testing.T) {
	prototest.Run(t, "testdata/preauth/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := session(c, dir)
		s.User = "bob"
		s.Open = func() (*maildir.Store, error) { return maildir.Open(filepath.Join(dir, "bob")) }
		s.Serve(ctx)
	})
}

// TLS from the start needs no STLS and allows passwords.
func TestImplicitTLS(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	config := prototest.Certificate(t)
	go func() {
		s := session(tls.Server(server, config), t.TempDir())
		s.TLS = config
		s.Serve(t.Context())
		s.Conn.Close()
	}()
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	go io.WriteString(c, "CAPA\r\nSTLS\r\nQUIT\r\n")
	heard, _ := io.ReadAll(c)
	if text := string(heard); strings.Contains(text, "\nSTLS") || !strings.Contains(text, "\nUSER\r\n") || !strings.Contains(text, "-ERR") {
		t.Error(text)
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever the client says, each line gets one status line or the session
// ends; it never hangs past its idle time and never panics.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"USER bob\r\nPASS hungry\r\nSTAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 1 1\r\nDELE 1\r\nRSET\r\nNOOP\r\nQUIT\r\n",
		"USER\r\n\r\nRETR 0\r\n",
		"AUTH PLAIN AGJvYgBodW5ncnk=\r\nUIDL 2\r\nTOP 2 99999999999999999999\r\nLIST -1\r\nRETR 1 2\r\n",
		"AUTH LOGIN\r\nYm9i\r\naHVuZ3J5\r\nDELE 2\r\nDELE 2\r\nQUIT\r\n",
		"auth plain\r\n*\r\nCAPA\r\nSTLS\r\nGET / HTTP/1.1\r\n",
		"USER bob\x00\r\nPASS \xff\r\n",
	} {
		f.Add([]byte(seed))
	}
	mail := map[string]string{
		"bob/new/1.a.host":     "Subject: one\n\n.dot\n..\n.\nlast",
		"bob/cur/2.b.host:2,S": "no header at all",
		"bob/cur/3.c.host:2,T": "\n.",
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				client.Write(said)
				client.SetReadDeadline(time.Now().Add(time.Hour))
				time.Sleep(time.Minute)
				client.Close()
			}()
			var heard bytes.Buffer
			go io.Copy(&heard, client)
			s := session(server, "")
			s.Cleartext = true
			s.Login = func(_ context.Context, c sasl.Claim) (*maildir.Store, error) {
				if c.Name != "bob" || c.Secret != "hungry" {
					return nil, pop3.ErrRefused
				}
				dir := t.TempDir()
				for name, text := range mail {
					write(t, filepath.Join(dir, name), text)
				}
				return maildir.Open(filepath.Join(dir, "bob"))
			}
			s.Serve(t.Context())
			server.Close()
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			check(t, said, heard.String())
		})
	})
}

// check holds the rules for what a server says: status lines, challenges, and
// blocks in which lines of a dot are stuffed.
func check(t *testing.T, said []byte, heard string) {
	for line := range strings.Lines(heard) {
		if !strings.HasSuffix(line, "\r\n") {
			t.Errorf("said %q, heard %q", said, line)
		}
	}
	if !strings.HasPrefix(heard, "+OK ") {
		t.Errorf("said %q, heard %q", said, heard)
	}
	if n, m := strings.Count(heard, "\n.\r\n"), strings.Count(heard, "follow")+strings.Count(heard, "octets"); n > m {
		t.Errorf("said %q, heard %d ends of blocks in %q", said, n, heard)
	}
}
