package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A listener is one place where clients come in.
type listener struct {
	net.Listener
	role string
	tls  bool
}

// main is the role of a connection that nothing else tells about: "pop3" of
// pop3d.
func (p Program) main() string { return strings.TrimSuffix(p.Name, "d") }

// encrypted is the role of one that is only known to be TLS from the start.
func (p Program) encrypted() string {
	if r, ok := p.Roles[p.main()+"s"]; ok && r.TLS {
		return p.main() + "s"
	}
	for _, name := range slices.Sorted(maps.Keys(p.Roles)) {
		if p.Roles[name].TLS {
			return name
		}
	}
	return p.main()
}

// roleAt is the role that is usually found at the port of a.
func (p Program) roleAt(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		for name, r := range p.Roles {
			if r.Port == t.Port {
				return name
			}
		}
	}
	return p.main()
}

// addresses takes values apart that hold several addresses, as those of an
// environment variable do.
func addresses(values []string) []string {
	var list []string
	for _, v := range values {
		list = append(list, strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' })...)
	}
	return list
}

// open binds every listener: passed ones, those asked for, descriptor 0.
func (s *server) open(ask facts) error {
	for i, file := range ask.passed {
		if ask.kinds[i] != kindListening {
			return usage("%s: not a listening socket", file.Name())
		}
		l, err := net.FileListener(file)
		file.Close() // l has a duplicate
		if err != nil {
			return system("%s: %w", file.Name(), err)
		}
		role := s.roleAt(l.Addr())
		if i < len(ask.names) {
			if _, known := s.Roles[ask.names[i]]; known {
				role = ask.names[i]
			}
		}
		if err := s.add(l, role, s.Roles[role].TLS); err != nil {
			return err
		}
	}
	for _, spec := range ask.listen {
		if err := s.listen(spec); err != nil {
			return err
		}
	}
	if len(s.listeners) > 0 {
		return nil
	}
	l, err := net.FileListener(os.Stdin)
	if err != nil {
		return system("descriptor 0: %w", err)
	}
	forsake(0, 1)
	role := s.roleAt(l.Addr())
	return s.add(l, role, s.Roles[role].TLS)
}

// add takes l into service.
func (s *server) add(l net.Listener, role string, encrypted bool) error {
	if encrypted && s.tls.Load() == nil {
		l.Close()
		return noCertificate(l.Addr())
	}
	s.listeners = append(s.listeners, listener{l, role, encrypted})
	return nil
}

func noCertificate(at net.Addr) error {
	return config("%s wants TLS from the start, and there is no certificate: the post office has to have tls/cert.pem and tls/key.pem", at)
}

// listen binds one address of --listen: [ROLE=][tls:]ADDR.
func (s *server) listen(spec string) error {
	rest, role := spec, ""
	if name, after, found := strings.Cut(rest, "="); found {
		if _, known := s.Roles[name]; !known {
			return usage("--listen %s: no role %q, want one of %s", spec, name, strings.Join(slices.Sorted(maps.Keys(s.Roles)), ", "))
		}
		role, rest = name, after
	}
	rest, encrypted := strings.CutPrefix(rest, "tls:")
	if role == "" && encrypted {
		role = s.encrypted()
	}
	encrypted = encrypted || s.Roles[role].TLS

	network, addr := "tcp", rest
	if path, ok := strings.CutPrefix(rest, "unix:"); ok || strings.HasPrefix(rest, "/") {
		network, addr = "unix", rest
		if ok {
			addr = path
		}
		if err := removeStale(addr); err != nil {
			return usage("--listen %s: %w", spec, err)
		}
	} else if _, _, err := net.SplitHostPort(addr); err != nil {
		r := role
		if r == "" {
			r = s.main()
		}
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), strconv.Itoa(s.Roles[r].Port))
	}

	lc := net.ListenConfig{KeepAlive: -1, Control: keepAlive}
	lc.SetMultipathTCP(false) // confinement rules for TCP do not cover it
	l, err := lc.Listen(context.Background(), network, addr)
	if err != nil {
		var at *net.AddrError
		var dns *net.DNSError
		if errors.As(err, &at) || errors.As(err, &dns) {
			return usage("--listen %s: %w", spec, err)
		}
		return system("--listen %s: %w", spec, err)
	}
	if network == "unix" && !strings.HasPrefix(addr, "@") {
		if err := os.Chmod(addr, 0o666); err != nil { // who comes has to log in, as over TCP
			l.Close()
			return system("--listen %s: %w", spec, err)
		}
	}
	if role == "" {
		role = s.roleAt(l.Addr())
		encrypted = s.Roles[role].TLS
	}
	return s.add(l, role, encrypted)
}

// keepAlive sets on a listening socket what its connections inherit: a client that has
// vanished is noticed within three minutes, at no cost to each connection.
func keepAlive(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	return c.Control(func(fd uintptr) {
		for option, value := range map[int]int{unix.TCP_KEEPIDLE: 15, unix.TCP_KEEPINTVL: 15, unix.TCP_KEEPCNT: 9} {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
		}
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	})
}

// removeStale removes the socket that a killed predecessor left at path, and
// nothing else.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || strings.HasPrefix(path, "@") {
		return nil
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: %w", path, syscall.EADDRINUSE)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return os.Remove(path)
	}
	return nil
}

// one makes a connection of the one conversation there is.
func (s *server) one(ask facts, w way) (conn net.Conn, role, peer string, err error) {
	if w == wayPassed {
		conn, err = net.FileConn(ask.passed[0])
		if err != nil {
			return nil, "", "", system("%s: %w", ask.passed[0].Name(), err)
		}
	} else if conn, err = stdio(ask.stdin); err != nil {
		return nil, "", "", system("descriptor 0: %w", err)
	}
	if t, ok := conn.(*net.TCPConn); ok {
		// What net does for connections it accepts itself.
		t.SetNoDelay(true)
		t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
	}
	role = s.roleAt(conn.LocalAddr())
	if w == wayPassed && len(ask.names) > 0 {
		if _, known := s.Roles[ask.names[0]]; known {
			role = ask.names[0]
		}
	}
	if s.Roles[role].TLS && s.tls.Load() == nil {
		conn.Close()
		return nil, "", "", noCertificate(conn.LocalAddr())
	}
	return conn, role, peerOf(conn), nil
}

// closeAll closes what net has its own duplicates of.
func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// forsake puts /dev/null in the place of descriptors, so that nobody takes
// what they were for the client's.
func forsake(fds ...int) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	for _, fd := range fds {
		dup2(null, fd)
	}
}
