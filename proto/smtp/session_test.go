package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pennypost/proto/prototest"
	"pennypost/proto/sasl"
	"pennypost/proto/smtp"
	"pennypost/proto/wire"
)

func TestTranscripts(t *testing.T) {
	config := prototest.Certificate(t)
	prototest.Run(t, "testdata/*.txt", func(ctx context.Context, t *testing.T, dir string, c net.Conn) {
		s := hamburger(c, dir)
		options, _ := os.ReadFile(filepath.Join(dir, "options"))
		for word := range strings.FieldsSeq(string(options)) {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "tls":
				s.TLS = config
			case "login":
				s.Login = login
			case "clear-login":
				s.Login, s.ClearLogin = login, true
			case "sasl":
				s.SASL, s.ClearLogin = prototest.SASL(), true
				s.TLS = prototest.Certificate(t)
				prototest.AskCertificate(t, s.TLS)
				s.Login = func(_ context.Context, c sasl.Claim) (string, error) { return c.Name, prototest.Login(c) }
			case "need-login":
				s.NeedLogin = true
			case "trusted":
				s.Trusted = true
			case "max":
				s.MaxSize, _ = strconv.ParseInt(value, 10, 64)
			case "peer":
				s.Peer = value
			default:
				t.Errorf("option %s?", word)
			}
		}
		if err := s.Serve(ctx); err != nil {
			os.WriteFile(filepath.Join(dir, "lost"), []byte(err.Error()+"\n"), 0o600)
		}
		s.Conn.Close()
	})
}

// hamburger is a session of hamburger.edu, where alice, bob and postmaster
// live, carol's disk is broken and dave's is full. What is delivered goes to
// the file dir/mail, envelopes first; dir "" for nowhere.
func hamburger(c net.Conn, dir string) *smtp.Session {
	return &smtp.Session{
		Conn:    wire.New(c, 512, 5*time.Minute),
		Name:    "hamburger.edu",
		Log:     slog.New(slog.DiscardHandler),
		Check:   check,
		Deliver: func(_ context.Context, e *smtp.Envelope, r io.Reader) (string, error) { return deliver(dir, e, r) },
	}
}

func login(_ context.Context, c sasl.Claim) (string, error) {
	switch {
	case c.Name == "bob" && c.Secret == "hungry" && c.Authzid != "" && c.Authzid != "bob":
		return "", sasl.ErrAuthzid
	case c.Name == "bob" && c.Secret == "hungry":
		return "bob@hamburger.edu", nil
	case c.Name == "carol":
		return "", errors.New("disk trouble")
	}
	return "", sasl.ErrRefused
}

func check(_ context.Context, e *smtp.Envelope, rcpt string) error {
	local, domain, _ := strings.Cut(rcpt, "@")
	switch {
	case rcpt == "postmaster", strings.HasPrefix(local, "list"):
		return nil
	case domain != "hamburger.edu" && e.User == "":
		return &smtp.Error{Code: 550, Status: "5.7.1", Text: "relaying denied; log in first"}
	case domain != "hamburger.edu":
		return nil
	case local == "carol":
		return errors.New("disk trouble")
	case local != "alice" && local != "bob" && local != "dave":
		return &smtp.Error{Code: 550, Status: "5.1.1", Text: "no such user here"}
	}
	return nil
}

var id = regexp.MustCompile(` id [a-z0-9]{13}`)

func deliver(dir string, e *smtp.Envelope, r io.Reader) (string, error) {
	text, err := io.ReadAll(r)
	switch {
	case err != nil:
		return "", err
	case e.To[0] == "dave@hamburger.edu":
		return "", &smtp.Error{Code: 452, Status: "4.3.1", Text: "no room\r\n250 for the message\u00e9", Err: errors.New("disk full")}
	case e.To[0] == "list@hamburger.edu":
		return "", errors.New("disk trouble")
	case dir == "":
		return "1", nil
	}
	f, err := os.OpenFile(filepath.Join(dir, "mail"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	trace := id.ReplaceAllString(e.Trace, " id ID")
	_, err = fmt.Fprintf(f, "<%s> %v size=%d 8bit=%v user=%q\n%s%s--\n", e.From, e.To, e.Size, e.EightBit, e.User, trace,
		strings.ReplaceAll(string(text), "\r\n", "\n"))
	return "1", err
}
