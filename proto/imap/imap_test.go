package imap_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/prototest"
	"pennypost/proto/wire"
)

func TestMain(m *testing.M) {
	maildir.PollOnly(true) // transcripts have a clock of their own
	os.Exit(m.Run())
}

// Transcripts whose name begins with login start with LOGIN, those with tls
// offer STARTTLS, all others are PREAUTH.
func TestTranscripts(t *testing.T) {
	prototest.Run(t, "testdata/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := &imap.Session{
			Conn:    wire.New(c, 8192, 30*time.Minute),
			MaxSize: 4000,
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
		case "login":
			s.Cleartext = true
			s.Login = login(open)
		case "tls":
			s.TLS = prototest.Certificate(t)
			s.Login = login(open)
		default:
			s.Preauth = open()
		}
		s.Serve(ctx)
	})
}

func login(open func() *imap.User) func(name, password string) (*imap.User, error) {
	return func(name, password string) (*imap.User, error) {
		switch {
		case name == "broken":
			return nil, context.DeadlineExceeded
		case name != "bob" || password != "hungry":
			return nil, imap.ErrRefused
		}
		return open(), nil
	}
}
