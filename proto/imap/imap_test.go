package imap_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/prototest"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

func TestMain(m *testing.M) {
	maildir.PollOnly(true) // transcripts have a clock of their own
	os.Exit(m.Run())
}

// Transcripts whose name begins with login start with LOGIN, those with tls
// offer STARTTLS, those with auth offer every mechanism (prototest.SASL) and
// STARTTLS, all others are PREAUTH; in those with limit a command has three
// messages at most.
func TestTranscripts(t *testing.T) {
	prototest.Run(t, "testdata/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := &imap.Session{
			Conn:    wire.New(c, 8192, 30*time.Minute),
			MaxSize: 4000,
			Admin:   "mailto:postmaster@example.org",
			Log:     slog.New(slog.DiscardHandler),
		}
		open := func() *imap.User {
			store, err := maildir.Create(dir, maildir.Options{})
			if err != nil {
				t.Error(err)
				return nil
			}
			return &imap.User{Name: "bob", Store: store}
		}
		switch name, _, _ := strings.Cut(filepath.Base(t.Name()), "-"); name {
		case "limit":
			s.MessageLimit = 3
			s.Preauth = open()
		case "login":
			s.Cleartext = true
			s.Login = login(open)
		case "tls":
			s.TLS = prototest.Certificate(t)
			s.Login = login(open)
		case "auth":
			s.Cleartext = true
			s.TLS = prototest.Certificate(t)
			prototest.AskCertificate(t, s.TLS)
			s.SASL = prototest.SASL()
			s.Login = func(c sasl.Claim) (*imap.User, error) {
				if err := prototest.Login(c); err != nil {
					return nil, err
				}
				return open(), nil
			}
		default:
			s.Preauth = open()
		}
		s.Serve(ctx)
	})
}

func login(open func() *imap.User) func(sasl.Claim) (*imap.User, error) {
	return func(c sasl.Claim) (*imap.User, error) {
		switch {
		case c.Name == "broken":
			return nil, context.DeadlineExceeded
		case c.Name != "bob" || c.Secret != "hungry":
			return nil, imap.ErrRefused
		}
		return open(), nil
	}
}

// A mailbox has room for so many keywords, and then no more.
func TestKeywordLimit(t *testing.T) {
	store, err := maildir.Create(t.TempDir(), maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var says strings.Builder
	says.WriteString("0 APPEND INBOX {1+}\r\nx\r\n1 SELECT INBOX\r\n")
	for i := range maildir.MaxKeywords {
		says.WriteString(fmt.Sprintf("2 STORE 1 +FLAGS.SILENT (key%d)\r\n", i))
	}
	says.WriteString("3 STORE 1 FLAGS (more)\r\n4 STORE 1 FLAGS (key7 Key200)\r\n5 FETCH 1 FLAGS\r\n6 LOGOUT\r\n")
	c := &script{Reader: strings.NewReader(says.String())}
	s := &imap.Session{Conn: wire.New(c, 8192, time.Minute), MaxSize: 4000, Preauth: &imap.User{Name: "bob", Store: store}, Log: slog.New(slog.DiscardHandler)}
	s.Serve(t.Context())
	told := c.String()
	for _, want := range []string{"3 NO [LIMIT]", "4 OK", "FLAGS (\\Recent key7 key200)", "6 OK"} {
		if !strings.Contains(told, want) {
			t.Errorf("no %q", want)
		}
	}
	if n := strings.Count(told, "2 OK"); n != maildir.MaxKeywords {
		t.Errorf("%d keywords", n)
	}
	if !strings.Contains(told, `key255)] flags stay`) {
		t.Error("no word that there can be no more")
	}
}

// Each capability is announced once.
func TestCapabilitiesOnce(t *testing.T) {
	store, err := maildir.Create(t.TempDir(), maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*imap.Session{
		"before login": {},
		"after it":     {Preauth: &imap.User{Name: "bob", Store: store}, MessageLimit: 10},
	} {
		client, server := net.Pipe()
		s.Conn = wire.New(server, 4096, time.Minute)
		go func() { s.Serve(t.Context()); server.Close() }()
		line, err := bufio.NewReader(client).ReadString('\n')
		client.Close()
		_, list, _ := strings.Cut(line, "[CAPABILITY ")
		list, _, _ = strings.Cut(list, "]")
		words := strings.Fields(list)
		slices.Sort(words)
		if once := slices.Compact(slices.Clone(words)); err != nil || len(once) != len(words) || len(words) < 20 {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
}
