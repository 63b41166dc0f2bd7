package account

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// certify returns a certificate for name, and its key, as PEM.
func certify(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8)
}

// shows makes a handshake and returns the name in the certificate.
func shows(t *testing.T, config *tls.Config, ask string, version uint16) (string, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(b, config).Handshake()
	c := tls.Client(a, &tls.Config{ServerName: ask, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
	if err := c.Handshake(); err != nil {
		return "", err
	}
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestTLS(t *testing.T) {
	o := office(t, "-- post/me --\nmail.hamburger.edu\n")
	var said bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	if c, err := o.TLS(); c != nil || err != nil {
		t.Fatal("no certificate:", c, err)
	}
	put := func(dir, name string) {
		cert, key := certify(t, name)
		write(t, filepath.Join(o.dir, "tls", dir, "cert.pem"), cert)
		write(t, filepath.Join(o.dir, "tls", dir, "key.pem"), key)
	}
	put("", "plain")
	put("mail.crepes.fr", "crepes")
	put("*.example.org", "wild")
	config, err := o.TLS()
	if err != nil || config == nil {
		t.Fatal(config, err)
	}
	for ask, want := range map[string]string{
		"": "plain", "mail.hamburger.edu": "plain", "mail.crepes.fr": "crepes", "MAIL.crepes.FR": "crepes",
		"a.example.org": "wild", "b.a.example.org": "plain", "../mail.crepes.fr": "plain",
	} {
		if got, err := shows(t, config, ask, 0); got != want || err != nil {
			t.Errorf("%s: %s, %v", ask, got, err)
		}
	}
	if _, err := shows(t, config, "", tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if _, err := shows(t, config, "", tls.VersionTLS12); err != nil {
		t.Error("TLS 1.2:", err)
	}

	put("new.example", "new")
	if got, err := shows(t, config, "new.example", 0); got != "new" || err != nil {
		t.Error("a new name:", got, err)
	}
	put("", "second")
	if got, err := shows(t, config, "", 0); got != "second" || err != nil {
		t.Error("changed:", got, err)
	}
	// A pair that does not match, is cut or is gone leaves the one before in force.
	cert, key := certify(t, "third")
	time.Sleep(6 * settled)
	write(t, filepath.Join(o.dir, "tls/cert.pem"), cert)
	time.Sleep(6 * settled)
	for range 3 {
		if got, err := shows(t, config, "", 0); got != "second" || err != nil {
			t.Error("half changed:", got, err)
		}
	}
	if n := strings.Count(said.String(), "level=WARN"); n != 1 {
		t.Errorf("told %d times: %s", n, &said)
	}
	write(t, filepath.Join(o.dir, "tls/key.pem"), key[:len(key)/2])
	if got, err := shows(t, config, "", 0); got != "second" || err != nil {
		t.Error("half written:", got, err)
	}
	if err := os.Remove(filepath.Join(o.dir, "tls/key.pem")); err != nil {
		t.Fatal(err)
	}
	if got, err := shows(t, config, "", 0); got != "second" || err != nil {
		t.Error("removed:", got, err)
	}
	write(t, filepath.Join(o.dir, "tls/key.pem"), key)
	if got, err := shows(t, config, "", 0); got != "third" || err != nil {
		t.Error("whole again:", got, err)
	}
}

// P26: the pair is replaced under load, and no handshake fails.
func TestCertificateChangesUnderLoad(t *testing.T) {
	o := office(t, "-- post/me --\nmail.hamburger.edu\n")
	o.Log = slog.New(slog.DiscardHandler)
	put := func() {
		cert, key := certify(t, "plain")
		write(t, filepath.Join(o.dir, "tls/cert.pem"), cert)
		write(t, filepath.Join(o.dir, "tls/key.pem"), key)
	}
	put()
	config, err := o.TLS()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := shows(t, config, "plain", 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		put()
	}
	close(stop)
	wg.Wait()
}
