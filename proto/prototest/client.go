package prototest

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A client speaks when the transcript says so, and writes down what it hears.
type client struct {
	conn net.Conn

	mu     sync.Mutex
	heard  bytes.Buffer
	closed bool      // the server has hung up, and nobody has been told
	left   bool      // we have
	stream *tls.Conn // from the handshake on
	raw    *io.PipeWriter

	squeezed *flate.Writer  // from compression on
	swollen  *io.PipeWriter // where what comes is inflated
}

// listen takes down what comes from conn until it ends. Once the handshake
// begins the octets go to TLS instead.
func (c *client) listen(conn net.Conn) {
	p := make([]byte, 4096)
	for {
		n, err := conn.Read(p)
		c.mu.Lock()
		raw := c.raw
		c.mu.Unlock()
		if raw == nil {
			c.hear(p[:n], err)
		} else {
			raw.Write(p[:n])
			if err != nil {
				raw.CloseWithError(io.EOF)
			}
		}
		if err != nil {
			return
		}
	}
}

// hear takes down what came, and that nothing more comes if err is not nil.
func (c *client) hear(p []byte, err error) {
	c.mu.Lock()
	to := c.swollen
	if to == nil {
		c.heard.Write(p)
	}
	c.closed = err != nil && !c.left
	c.mu.Unlock()
	if to != nil {
		to.Write(p)
		if err != nil {
			to.Close()
		}
	}
}

// compress begins to compress what is said, and to inflate what is heard
// (RFC 4978).
func (c *client) compress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var to io.Writer = c.conn
	if c.stream != nil {
		to = c.stream
	}
	c.squeezed, _ = flate.NewWriter(to, flate.DefaultCompression) // a level that there is
	r, w := io.Pipe()
	c.swollen = w
	go func() {
		in := flate.NewReader(r)
		p := make([]byte, 4096)
		for {
			n, err := in.Read(p)
			c.mu.Lock()
			c.heard.Write(p[:n])
			c.mu.Unlock()
			if err != nil {
				r.CloseWithError(err)
				return
			}
		}
	}()
}

// say sends text in one piece. That the server has hung up shows in what it
// said.
func (c *client) say(text string) {
	c.mu.Lock()
	to := c.conn
	if c.stream != nil {
		to = c.stream
	}
	squeezed := c.squeezed
	c.mu.Unlock()
	if squeezed != nil {
		io.WriteString(squeezed, text)
		squeezed.Flush()
		return
	}
	io.WriteString(to, text)
}

// leave hangs up.
func (c *client) leave() {
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	c.conn.Close()
}

// encrypt shakes hands; everything later goes through TLS.
func (c *client) encrypt(ctx context.Context) error {
	r, w := io.Pipe()
	c.mu.Lock()
	c.raw = w
	c.mu.Unlock()
	t := tls.Client(turned{c.conn, r}, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: showOwn})
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.stream = t
	c.mu.Unlock()
	go func() {
		p := make([]byte, 4096)
		for {
			n, err := t.Read(p)
			c.hear(p[:n], err)
			if err != nil {
				io.Copy(io.Discard, r)
				return
			}
		}
	}()
	return nil
}

// clientCertificate is what clients show to a server that asks for one.
var clientCertificate = sync.OnceValues(func() (tls.Certificate, error) { return selfSigned("bob") })

func showOwn(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, err := clientCertificate()
	return &cert, err
}

// turned is a connection that is read elsewhere.
type turned struct {
	net.Conn
	r io.Reader
}

func (t turned) Read(p []byte) (int, error) { return t.r.Read(p) }

// take returns what was heard since the last time, a line each.
func (c *client) take(who string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for line := range strings.Lines(c.heard.String()) {
		text, whole := strings.CutSuffix(line, "\r\n")
		if whole && plain(text) {
			out = append(out, strings.TrimRight(who+": "+text, " "))
		} else {
			out = append(out, fmt.Sprintf("%s| %q", who, line))
		}
	}
	c.heard.Reset()
	if c.closed {
		out = append(out, who+".")
		c.closed = false
	}
	return out
}

// plain says whether text survives in a transcript as it is.
func plain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r == 0x85 })
}

// selfSigned makes a certificate for host that is good for the clock of a
// transcript and for the real one.
func selfSigned(host string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: host},
		DNSNames:     []string{host},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),

		BasicConstraintsValid: true, // it is the root of itself
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
