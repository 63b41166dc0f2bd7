package account

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"pennypost/cmd/internal/status"
)

// loginFile is what the file "login" says: the ways to log in beside passwords.
type loginFile struct {
	tokens   []string // command that judges tokens, with arguments; nil: there are none
	roots    string   // path of the certificates that sign those of clients; "": clients have none
	byCommon bool     // a certificate is for the login name that is its common name, not for its addresses
	scram    *bool    // offered always or never; nil: when everybody can
}

// parseLogin reads the lines "tokens COMMAND", "certificates FILE [address | name]" and
// "scram always | never".
func parseLogin(path, dir string, data []byte) (loginFile, error) {
	var l loginFile
	seen := map[string]bool{}
	for n, text := range lines(data) {
		f := strings.Fields(text)
		if seen[f[0]] {
			return l, bad(path, n, "%s is said twice", f[0])
		}
		seen[f[0]] = true
		switch args := f[1:]; f[0] {
		case "tokens":
			if len(args) == 0 {
				return l, bad(path, n, "tokens: by which command?")
			}
			l.tokens = args
			if strings.Contains(args[0], "/") {
				l.tokens[0] = within(dir, args[0])
			}
		case "certificates":
			if len(args) == 0 || len(args) > 2 {
				return l, bad(path, n, "certificates: in which file?")
			}
			l.roots = within(dir, args[0])
			switch {
			case len(args) == 1 || args[1] == "address":
			case args[1] == "name":
				l.byCommon = true
			default:
				return l, bad(path, n, "certificates stand for the address or the name in them, not for %q", args[1])
			}
		case "scram":
			if len(args) != 1 || args[0] != "always" && args[0] != "never" {
				return l, bad(path, n, "scram: always or never?")
			}
			always := args[0] == "always"
			l.scram = &always
		default:
			return l, bad(path, n, "unknown word %q", f[0])
		}
	}
	return l, nil
}

// within makes a path absolute that begins at the post office.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// clients is what TLS needs to know of clients' certificates.
type clients struct {
	mu     sync.Mutex
	roots  *file[*x509.CertPool]
	config *tls.Config // that asks for certificates of pool
	pool   *x509.CertPool
}

// roots returns the certificates that sign those of clients.
func (o *Office) roots(l loginFile) (*x509.CertPool, error) {
	o.clients.mu.Lock()
	if o.clients.roots == nil || o.clients.roots.path != l.roots {
		o.clients.roots = newFile(o, l.roots, parseRoots)
	}
	f := o.clients.roots
	o.clients.mu.Unlock()
	return f.get()
}

func parseRoots(path string, data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, status.Errorf(status.Config, "%s: no certificates", path)
	}
	return pool, nil
}

// forClients returns what a handshake goes by: base, or where the post office knows who
// signs clients' certificates, one that asks for them.
func (o *Office) forClients(base *tls.Config) (*tls.Config, error) {
	l, err := o.ways.get()
	if err != nil || l.roots == "" {
		return nil, nil
	}
	pool, err := o.roots(l)
	if err != nil {
		return nil, nil // told about when it was read; clients come in by password
	}
	o.clients.mu.Lock()
	defer o.clients.mu.Unlock()
	if o.clients.pool != pool {
		c := base.Clone()
		c.GetConfigForClient = nil
		c.ClientCAs, c.ClientAuth = pool, tls.VerifyClientCertIfGiven
		o.clients.config, o.clients.pool = c, pool
	}
	return o.clients.config, nil
}

// Names returns those of our users that a client's certificate stands for, which TLS
// has verified; nil where certificates are nobody's.
func (o *Office) Names(c *x509.Certificate) []string {
	l, err := o.ways.get()
	if err != nil || l.roots == "" {
		return nil
	}
	names := c.EmailAddresses
	if l.byCommon {
		names = []string{c.Subject.CommonName}
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		u, err := o.candidate(name)
		return err != nil || u.user.System && u.user.UID == 0
	})
}

// Shown returns the certificate that a client sees who asks for a host; nil where there
// is none.
func (o *Office) Shown(host string) *x509.Certificate {
	if o.keys == nil {
		return nil
	}
	c, err := o.keys.certificate(&tls.ClientHelloInfo{ServerName: host})
	if err != nil {
		return nil
	}
	return c.Leaf
}
