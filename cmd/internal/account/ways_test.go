package account

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pennypost/cmd/internal/status"
	"pennypost/proto/sasl"
)

func TestLoginFile(t *testing.T) {
	for text, want := range map[string]string{
		"tokens\n":                               ":1: tokens: by which command?",
		"\ntokens a\ntokens b\n":                 ":3: tokens is said twice",
		"certificates\n":                         ":1: certificates: in which file?",
		"certificates ca.pem dns\n":              ":1: certificates stand for the address or the name in them, not for \"dns\"",
		"scram sometimes\n":                      ":1: scram: always or never?",
		"password x\n":                           ":1: unknown word \"password\"",
		"certificates none.pem\n":                "none.pem: no certificates",
		"# nothing\nscram never\ntokens ./x a\n": "",
	} {
		o := office(t, "-- post/me --\nhamburger.edu\n")
		write(t, filepath.Join(o.dir, "login"), text)
		_, err := open(o.dir, o.sys)
		if want == "" && err != nil || want != "" && (err == nil || status.Code(err) != 78 || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// The command judges the token as checkpassword judges a password.
func TestTokens(t *testing.T) {
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:\nshut:::::::nologin\n-- post/login --\ntokens ./judge --strict\n")
	write(t, filepath.Join(o.dir, "judge"), `#!/bin/sh
set -e
shift # --strict
said=$(tr '\000' ' ' <&3)
case $said in
"bob good  "|"shut good  "|"nobody good  ") exec "$@";;
" good  ") USER=bob; export USER; exec "$@";;
"late "*) sleep 60;;
"mech "*) [ "$SERVICE $AUTH_MECH $TCPREMOTEIP" = "imap OAUTHBEARER 192.0.2.1" ] || exit 1; exit 111;;
esac
exit 1
`)
	if err := os.Chmod(filepath.Join(o.dir, "judge"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !o.Offers().Tokens {
		t.Fatal("no tokens")
	}
	trouble := errors.New("trouble")
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"bob", "good", nil},
		{"", "good", nil},
		{"bob", "bad", ErrRefused},
		{"bob", strings.Repeat("x", 12000), ErrRefused},
		{"nobody", "good", ErrRefused},
		{"shut", "good", sasl.ErrBlocked},
		{"mech", "x", trouble},
	} {
		u, err := o.Token(t.Context(), "imap", "192.0.2.1", sasl.Claim{Mechanism: "OAUTHBEARER", Name: c.name, Secret: c.token})
		switch {
		case c.want == nil && (err != nil || u.Address() != "bob@hamburger.edu"):
			t.Errorf("%q %.10q: %v, %v", c.name, c.token, u, err)
		case c.want == trouble && (err == nil || errors.Is(err, ErrRefused)):
			t.Errorf("%q %.10q: %v", c.name, c.token, err)
		case c.want != nil && c.want != trouble && !errors.Is(err, c.want):
			t.Errorf("%q %.10q: %v, want %v", c.name, c.token, err, c.want)
		}
	}
	ctx, cancel := contextFor(t, 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := o.Token(ctx, "imap", "", sasl.Claim{Mechanism: "XOAUTH2", Name: "late", Secret: "x"}); err == nil || errors.Is(err, ErrRefused) || time.Since(start) > 10*time.Second {
		t.Errorf("a command that hangs: %v after %v", err, time.Since(start))
	}
	o = office(t, "-- post/domains/hamburger.edu/users --\nbob:\n")
	if _, err := o.Token(t.Context(), "imap", "", sasl.Claim{Name: "bob", Secret: "x"}); o.Offers().Tokens || !errors.Is(err, ErrRefused) {
		t.Error("somebody judges tokens:", err)
	}
}

// issue makes a certificate, by itself if by is nil.
func issue(t *testing.T, name string, by *tls.Certificate, mail ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, EmailAddresses: mail, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: by == nil, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	c := &tls.Certificate{PrivateKey: key}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c.Certificate = [][]byte{der}
	if c.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func pemOf(c *tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
}

// Certificates of clients are asked for, verified, and stand for users.
func TestCertificates(t *testing.T) {
	ours, theirs := issue(t, "our authority", nil), issue(t, "another authority", nil)
	server := issue(t, "localhost", ours)
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:\nalice:{PLAIN}yummy\n-- post/login --\ncertificates ca.pem\n-- post/ca.pem --\n"+pemOf(ours)+
		"-- post/tls/cert.pem --\n"+pemOf(server)+"-- post/tls/key.pem --\n"+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	config, err := o.TLS()
	if err != nil {
		t.Fatal(err)
	}
	// come shakes hands with a client's certificate and returns as whom it may log in.
	come := func(cert *tls.Certificate) (string, error) {
		near, far := bufferedPipe()
		defer near.Close()
		s := tls.Server(far, config)
		done := make(chan error, 1)
		go func() { done <- s.Handshake(); far.Close() }()
		c := tls.Client(near, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert == nil {
				return &tls.Certificate{}, nil
			}
			return cert, nil
		}})
		if err := c.Handshake(); err != nil {
			return "", err
		}
		go c.Read(make([]byte, 1))
		if err := <-done; err != nil {
			return "", err
		}
		state := s.ConnectionState()
		options := sasl.Options{Names: o.Names, Shown: o.Shown}
		if shown := o.Shown("localhost"); shown == nil || !bytes.Equal(shown.Raw, c.ConnectionState().PeerCertificates[0].Raw) {
			t.Error("the client has seen another certificate than we think")
		}
		if !slices.Contains(options.Mechanisms(&state), "EXTERNAL") {
			return "", nil
		}
		return strings.Join(o.Names(state.PeerCertificates[0]), " "), nil
	}
	for _, c := range []struct {
		cert  *tls.Certificate
		names string
		ok    bool
	}{
		{nil, "", true},
		{issue(t, "x", ours, "bob@hamburger.edu"), "bob@hamburger.edu", true},
		{issue(t, "alice", ours, "eve@example.org", "ALICE@hamburger.edu", "bob@hamburger.edu"), "ALICE@hamburger.edu bob@hamburger.edu", true},
		{issue(t, "bob", ours), "", true},
		{issue(t, "bob", ours, "eve@example.org"), "", true},
		{issue(t, "bob", theirs, "bob@hamburger.edu"), "", false},
	} {
		names, err := come(c.cert)
		if names != c.names || (err == nil) != c.ok {
			t.Errorf("%v: %q, %v", c.cert, names, err)
		}
	}
	if u, err := o.Admit("bob@hamburger.edu"); err != nil || u.Name != "bob" {
		t.Error("bob has no password, and a certificate:", err)
	}
	// Other certificates are good from the next handshake on.
	write(t, filepath.Join(o.dir, "login"), "certificates ca.pem name\n")
	if names, err := come(issue(t, "bob", ours)); names != "bob" || err != nil {
		t.Errorf("by the name: %q, %v", names, err)
	}
	write(t, filepath.Join(o.dir, "ca.pem"), pemOf(theirs))
	if names, err := come(issue(t, "bob", theirs)); names != "bob" || err != nil {
		t.Errorf("of the new authority: %q, %v", names, err)
	}
	o.Log = slog.New(slog.DiscardHandler)
	write(t, filepath.Join(o.dir, "ca.pem"), "nothing")
	if names, err := come(issue(t, "bob", theirs)); names != "bob" || err != nil {
		t.Errorf("while the file is bad: %q, %v", names, err)
	}
	write(t, filepath.Join(o.dir, "login"), "")
	if names, err := come(issue(t, "bob", theirs)); names != "" || err != nil {
		t.Errorf("when nobody wants certificates: %q, %v", names, err)
	}
}

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// bufferedPipe is a connection on which a write does not wait for its reader.
func bufferedPipe() (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		panic(err)
	}
	if far, err = l.Accept(); err != nil {
		panic(err)
	}
	return near, far
}
