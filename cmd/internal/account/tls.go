package account

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pennypost/cmd/internal/status"
)

// A keyring holds the certificates of the folder "tls": the pair cert.pem and key.pem
// in it, and one such pair in each folder that is named for a host.
type keyring struct {
	office *Office
	dir    string

	mu    sync.Mutex
	names stamp // of the folder, when hosts were listed
	hosts map[string]*pair
	plain *pair
}

// A pair is a certificate with its key, read again when either file changes.
type pair struct {
	cert, key string // paths
	stamps    [2]stamp
	bad       [2]stamp         // of what could not be used, so that it is told once
	now       *tls.Certificate // nil: there is none
}

// TLS returns the server's side of TLS: at least version 1.2, the certificate chosen
// by the name the client asks for, and read again when its files change; while a
// pair is half written or does not match, the one before stays. It returns nil and
// no error when the post office has no certificate.
func (o *Office) TLS() (*tls.Config, error) {
	if o.dir == "" {
		return nil, nil
	}
	if o.Offers().Scram {
		o.saltKey() // while we may still write the spool
	}
	o.tlsOnce.Do(func() {
		dir := o.path("tls")
		o.keys = &keyring{office: o, dir: dir, hosts: map[string]*pair{}, plain: newPair(dir)}
	})
	any, err := o.keys.load()
	if err != nil || !any {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: o.keys.certificate}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return o.forClients(c) }
	return c, nil
}

func newPair(dir string) *pair {
	return &pair{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
}

// load reads every pair once; it tells whether there is any.
func (k *keyring) load() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.list(); err != nil {
		return false, err
	}
	found := false
	for _, p := range append([]*pair{k.plain}, sorted(k.hosts)...) {
		if err := p.refresh(); err != nil && p.now == nil {
			return false, err
		} else if err != nil {
			k.office.log().Warn("certificate could not be read, the one before stays in force", "file", p.cert, "err", err)
		}
		found = found || p.now != nil
	}
	return found, nil
}

func sorted(hosts map[string]*pair) []*pair {
	var all []*pair
	for _, p := range hosts {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pair) int { return strings.Compare(a.cert, b.cert) })
	return all
}

// list finds the folders that are named for a host; mu is held.
func (k *keyring) list() error {
	s, err := look(k.dir)
	if err != nil || s == k.names {
		return err
	}
	entries, err := os.ReadDir(k.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hosts := map[string]*pair{}
	for _, e := range entries {
		path := filepath.Join(k.dir, e.Name())
		wild, name := "", e.Name()
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			wild, name = "*.", rest
		}
		key, err := domainKey(name)
		if fi, statErr := os.Stat(path); err != nil || statErr != nil || !fi.IsDir() {
			continue
		}
		p := k.hosts[wild+key]
		if p == nil {
			p = newPair(path)
		}
		hosts[wild+key] = p
	}
	if k.hosts, k.names = hosts, s; fresh(s) {
		k.names = stamp{} // a folder made right now would not change it
	}
	return nil
}

// refresh reads the pair if it changed. On an error the pair stays what it was.
func (p *pair) refresh() error {
	cert, err1 := look(p.cert)
	key, err2 := look(p.key)
	if err := errors.Join(err1, err2); err != nil {
		return status.With(status.Config, err)
	}
	stamps := [2]stamp{cert, key}
	if stamps == p.stamps || stamps == p.bad && p.now != nil {
		return nil
	}
	if !cert.there && !key.there && p.now == nil {
		p.stamps = stamps
		return nil
	}
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		if !fresh(cert) && !fresh(key) {
			p.bad = stamps
		}
		return status.Errorf(status.Config, "%s: %w", p.cert, err)
	}
	p.now, p.stamps = &c, stamps
	return nil
}

// fresh tells whether a file was written so recently that it may be in the middle
// of being written, with a stamp that will not change when it is whole.
func fresh(s stamp) bool {
	age := time.Since(time.Unix(0, s.mtime))
	return age >= 0 && age < 5*settled
}

// certificate chooses for one handshake.
func (k *keyring) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.list(); err != nil {
		k.office.log().Warn("certificates could not be listed", "file", k.dir, "err", err)
	}
	var choice []*pair
	if name, err := domainKey(hello.ServerName); err == nil {
		choice = append(choice, k.hosts[name])
		if _, parent, ok := strings.Cut(name, "."); ok {
			choice = append(choice, k.hosts["*."+parent])
		}
	}
	choice = append(choice, k.plain, k.hosts[k.office.Me()])
	choice = append(choice, sorted(k.hosts)...)
	for _, p := range choice {
		if p == nil {
			continue
		}
		if err := p.refresh(); err != nil {
			k.office.log().Warn("certificate could not be read, the one before stays in force", "file", p.cert, "err", err)
		}
		if p.now != nil {
			return p.now, nil
		}
	}
	return nil, errors.New("no certificate")
}
