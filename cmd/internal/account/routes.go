package account

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// How a route wants TLS.
const (
	TLSNone   = "none"   // never
	TLSMay    = "may"    // if it is offered, whatever the certificate
	TLSMust   = "must"   // always, whatever the certificate
	TLSVerify = "verify" // always, with a certificate that holds for the host
)

// A Route says by which host mail for a destination leaves.
type Route struct {
	Host string // a name, looked up by its address records only, an IP address, or the path of a socket
	Port int    // 25, or 24 for LMTP, if none was said
	TLS  string // TLSNone, TLSMay, TLSMust or TLSVerify
	LMTP bool   // it speaks LMTP (RFC 2033)

	User, Password string // to log in with; "" not at all

	// Err is why the login could not be read; the mail has to wait.
	Err error

	auth string // the file with the login
}

// A routeTable maps destinations: domains, ".domain" for those below it, "*".
type routeTable map[string]Route

// credentials are what a file named by auth= says.
type credentials struct{ user, password string }

// parseRoutes reads the lines "destination host[:port] [options]".
func parseRoutes(path, dir string, data []byte) (routeTable, error) {
	table := routeTable{}
	for n, text := range lines(data) {
		f := strings.Fields(text)
		if len(f) < 2 {
			return nil, bad(path, n, "a destination and a host are wanted")
		}
		to := f[0]
		if to != "*" {
			below := strings.HasPrefix(to, ".")
			key, err := domainKey(strings.TrimPrefix(to, "."))
			if err != nil {
				return nil, bad(path, n, "%q is neither a domain nor *", f[0])
			}
			if to = key; below {
				to = "." + key
			}
		}
		if _, twice := table[to]; twice {
			return nil, bad(path, n, "there is a route to %s already", to)
		}
		r := Route{TLS: TLSMay}
		for _, option := range f[2:] {
			key, value, _ := strings.Cut(option, "=")
			switch {
			case option == "lmtp":
				r.LMTP = true
			case key == "tls" && (value == TLSNone || value == TLSMay || value == TLSMust || value == TLSVerify):
				r.TLS = value
			case key == "auth" && value != "":
				if !filepath.IsAbs(value) {
					value = filepath.Join(dir, value)
				}
				r.auth = filepath.Clean(value)
			default:
				return nil, bad(path, n, "unknown option %q", option)
			}
		}
		var err error
		if r.Host, r.Port, err = hostPort(f[1]); err != nil {
			return nil, bad(path, n, "%v", err)
		}
		if r.Port == 0 {
			r.Port = 25
			if r.LMTP {
				r.Port = 24
			}
		}
		table[to] = r
	}
	return table, nil
}

// hostPort reads host, host:port, [address], [address]:port or the path of a socket.
func hostPort(text string) (host string, port int, err error) {
	if strings.HasPrefix(text, "/") {
		return filepath.Clean(text), 0, nil
	}
	wrong := fmt.Errorf("%q is not host[:port]", text)
	host = text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		host = text[1 : len(text)-1]
	} else if strings.Contains(text, ":") {
		var p string
		if host, p, err = net.SplitHostPort(text); err != nil {
			return "", 0, wrong
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, wrong
		}
		port = int(n)
	}
	if a, err := netip.ParseAddr(strings.TrimPrefix(host, "IPv6:")); err == nil {
		return a.String(), port, nil
	}
	if host, err = domainKey(host); err != nil {
		return "", 0, wrong
	}
	return host, port, nil
}

// Route returns the route for mail to a domain: its own, else that of the nearest
// domain above it written with a dot in front, else the smarthost "*". false: there
// is none, and DNS decides.
func (o *Office) Route(name string) (Route, bool) {
	table, err := o.routes.get()
	if err != nil {
		return Route{Err: err}, true
	}
	r, ok := table.find(name)
	if ok && r.auth != "" {
		var c credentials
		c, r.Err = o.login(r.auth)
		r.User, r.Password = c.user, c.password
	}
	return r, ok
}

func (t routeTable) find(name string) (Route, bool) {
	if key, err := domainKey(name); err == nil {
		if r, ok := t[key]; ok {
			return r, true
		}
		for i := strings.IndexByte(key, '.'); i >= 0; {
			if r, ok := t[key[i:]]; ok {
				return r, true
			}
			next := strings.IndexByte(key[i+1:], '.')
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	r, ok := t["*"]
	return r, ok
}

// login reads a file that auth= names.
func (o *Office) login(path string) (credentials, error) {
	o.mu.Lock()
	f := o.authors[path]
	if f == nil {
		f = newFile(o, path, parseCredentials)
		o.authors[path] = f
	}
	o.mu.Unlock()
	return f.get()
}

// parseCredentials reads two lines: the name and the password. Here "#" is a letter
// like any other, except at the beginning of the file.
func parseCredentials(path string, data []byte) (credentials, error) {
	if data == nil {
		return credentials{}, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	var said []string
	for text := range strings.Lines(string(data)) {
		text = strings.TrimRight(text, "\r\n")
		if len(said) == 0 && (text == "" || text[0] == '#') {
			continue
		}
		said = append(said, text)
	}
	for len(said) > 2 && said[len(said)-1] == "" {
		said = said[:len(said)-1]
	}
	if len(said) != 2 || said[0] == "" || said[1] == "" || strings.ContainsRune(said[0]+said[1], 0) {
		return credentials{}, fmt.Errorf("%s: %w", path, errors.New("two lines are wanted, a name and a password"))
	}
	return credentials{said[0], said[1]}, nil
}
