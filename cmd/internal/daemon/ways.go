package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// kind is what a descriptor is, as far as it matters for where the client is.
type kind uint8

const (
	kindOther     kind = iota // pipe, regular file
	kindListening             // a socket that accepts
	kindInet                  // a connected socket with an address
	kindSocket                // any other socket
	kindTerminal
	kindDevice // a character device that nobody types at, like /dev/null
)

// way is how a program came by its clients.
type way uint8

const (
	wayListen  way = iota + 1 // accept loops
	wayPassed                 // one connected socket in LISTEN_FDS
	wayLogin                  // one conversation on descriptor 0, with login
	wayPreauth                // the same without login
)

// facts are what decides between the ways.
type facts struct {
	passed   []*os.File // LISTEN_FDS
	names    []string   // LISTEN_FDNAMES
	kinds    []kind     // of passed
	listen   []string   // --listen
	stdin    kind
	launcher bool     // a variable of inetd, tcpserver, socat … is set
	args     []string // of which the first is a Maildir
	root     bool
	login    bool // -L
	preauth  bool // -P
	office   bool // --post-office or $PENNYPOST
	people   bool // Program.Preauth
}

// launchers set one of these for the programs they start for a client. The
// first that holds an address tells the peer.
var launchers = []string{
	"TCPREMOTEIP", "REMOTE_ADDR", "SOCAT_PEERADDR", "NCAT_REMOTE_ADDR", "TCPREMOTEADDR", "REMOTE_HOST",
	"TCPREMOTEHOST", "TCPREMOTEPORT", "REMOTE_PORT", "SOCAT_PEERPORT", "PROTO",
	"UNIXREMOTEPATH", "UNIXREMOTEEUID", "UNIXREMOTEPID", "IPCREMOTEPATH", "IPCREMOTEEUID",
}

// look gathers the facts. It takes LISTEN_FDS out of the environment, so that
// no child takes the sockets for its own.
func look(c *cli.Context, p Program) (facts, error) {
	f := facts{
		listen: addresses(c.StringSlice("listen")),
		stdin:  kindOf(0),
		args:   c.Args().Slice(),
		root:   os.Geteuid() == 0,
		office: c.String("post-office") != "" || os.Getenv("PENNYPOST") != "",
		people: p.Preauth,
	}
	if p.Preauth {
		f.login, f.preauth = c.Bool("login"), c.Bool("preauth")
	}
	f.launcher = slices.ContainsFunc(launchers, func(name string) bool {
		_, set := os.LookupEnv(name)
		return set
	})
	var err error
	f.passed, f.names, err = inherited()
	for _, file := range f.passed {
		f.kinds = append(f.kinds, kindOf(int(file.Fd())))
	}
	return f, err
}

// decide applies the rules in their order: the sockets that systemd passed, our
// own listeners, a listening descriptor 0, a Maildir argument, a client's
// socket or a launcher's word for it, the person at the other end of the pipe.
//
// Whether somebody has to log in never depends on the kind of descriptor 0 or
// on a loopback address alone: a launcher's variables come before the user id.
func (f facts) decide() (way, error) {
	listening := slices.Contains(f.kinds, kindListening) || len(f.listen) > 0 || len(f.passed) == 0 && f.stdin == kindListening
	switch {
	case f.login && f.preauth:
		return 0, usage("-L and -P exclude each other")
	case len(f.args) > 1 || len(f.args) > 0 && !f.people:
		return 0, usage("unexpected argument %q", f.args[len(f.args)-1])
	case listening && (f.preauth || len(f.args) > 0):
		return 0, usage("whoever comes to a listening socket has to log in: no -P and no Maildir with it")
	case f.login && len(f.args) > 0:
		return 0, usage("-L and a Maildir exclude each other")
	}
	switch {
	case len(f.passed) > 0 && !listening: // rule 1, connected
		if len(f.passed) > 1 {
			return 0, usage("LISTEN_FDS: %d connected sockets, want one", len(f.passed))
		}
		if f.kinds[0] != kindInet && f.kinds[0] != kindSocket {
			return 0, usage("LISTEN_FDS: descriptor 3 is no socket")
		}
		return wayPassed, nil
	case listening: // rules 1, 2, 3
		return wayListen, nil
	case len(f.args) > 0, f.preauth: // rule 6: somebody said so
		return wayPreauth, nil
	case f.stdin == kindInet, f.launcher, f.login: // rules 4, 5
		return wayLogin, nil
	case !f.people: // anybody may talk to smtpd
		if f.stdin == kindDevice {
			return 0, usage("%w", errNobody)
		}
		return wayLogin, nil
	case !f.root: // rule 7
		return wayPreauth, nil
	case f.office && f.stdin != kindDevice:
		return wayLogin, nil
	}
	return 0, usage("%w", errNobody) // rule 8
}

// mailbox is whose mail a person reads without login: the Maildir of the
// argument, else $MAILDIR, else $MAIL if it is a directory, else ~/Maildir.
func (f facts) mailbox() (*Preauth, error) {
	name := os.Getenv("USER")
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		name = u.Username
	}
	dir := ""
	if len(f.args) > 0 {
		dir = f.args[0]
	} else if dir = os.Getenv("MAILDIR"); dir != "" {
	} else if mail := os.Getenv("MAIL"); isDir(mail) {
		dir = mail
	} else {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, config("no Maildir: %w", err)
		}
		dir = filepath.Join(home, "Maildir")
	}
	if dir == "" {
		return nil, usage("the Maildir has an empty name")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, system("%w", err)
	}
	return &Preauth{User: name, Maildir: dir}, nil
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

// kindOf looks at a descriptor without changing it.
func kindOf(fd int) kind {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return kindDevice
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && n == 1 {
			return kindListening
		}
		switch sa, _ := unix.Getpeername(fd); sa.(type) {
		case *unix.SockaddrInet4, *unix.SockaddrInet6:
			return kindInet
		}
		return kindSocket
	case unix.S_IFCHR:
		if isTerminal(fd) {
			return kindTerminal
		}
		return kindDevice
	}
	return kindOther
}

// inherited returns the sockets that systemd passed (sd_listen_fds(3)), marked
// close-on-exec, and their names.
func inherited() ([]*os.File, []string, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(name)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1000 {
		return nil, nil, usage("LISTEN_FDS: %q is no number of sockets", count)
	}
	var files []*os.File
	for fd := 3; fd < 3+n; fd++ {
		unix.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), fmt.Sprintf("LISTEN_FDS descriptor %d", fd)))
	}
	return files, strings.Split(names, ":"), nil
}

// peerOf tells the client's address: that of its socket, unless the launcher
// stands in between, as a TLS wrapper on the loopback interface does.
func peerOf(conn net.Conn) string {
	told := ""
	for _, name := range launchers {
		text := os.Getenv(name)
		if ap, err := netip.ParseAddrPort(text); err == nil {
			text = ap.Addr().String()
		}
		if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
			told = a.Unmap().WithZone("").String()
			break
		}
	}
	addr, ok := addrOf(conn.RemoteAddr())
	if ok && (told == "" || !addr.IsLoopback()) {
		return addr.String()
	}
	return told
}

// addrOf is the address in a, without port, zone, or IPv4 dressed up as IPv6.
func addrOf(a net.Addr) (netip.Addr, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr := t.AddrPort().Addr().Unmap().WithZone("")
	return addr, addr.IsValid()
}
