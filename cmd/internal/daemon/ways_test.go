package daemon

import (
	"net"
	"os"
	"testing"

	"pennypost/cmd/internal/status"
)

// The rules, in their order.
func TestDecide(t *testing.T) {
	file := []*os.File{nil}
	two := []*os.File{nil, nil}
	tests := []struct {
		name string
		f    facts
		want way // 0: usage
	}{
		{"1: systemd passes listening sockets", facts{passed: file, kinds: []kind{kindListening}, people: true}, wayListen},
		{"1: before 4 and 5", facts{passed: file, kinds: []kind{kindListening}, stdin: kindInet, launcher: true}, wayListen},
		{"1: systemd passes the client", facts{passed: file, kinds: []kind{kindInet}, people: true}, wayPassed},
		{"1: a Unix client", facts{passed: file, kinds: []kind{kindSocket}, root: true}, wayPassed},
		{"1: two clients", facts{passed: two, kinds: []kind{kindInet, kindInet}}, 0},
		{"1: a pipe", facts{passed: file, kinds: []kind{kindOther}}, 0},
		{"1: with --listen, too", facts{passed: file, kinds: []kind{kindListening}, listen: []string{":1"}}, wayListen},
		{"2: --listen", facts{listen: []string{":1"}, stdin: kindDevice, root: true}, wayListen},
		{"2: before 4", facts{listen: []string{":1"}, stdin: kindInet}, wayListen},
		{"2: nobody is let in unasked", facts{listen: []string{":1"}, preauth: true, people: true}, 0},
		{"2: nor into a Maildir", facts{listen: []string{":1"}, args: []string{"Maildir"}, people: true}, 0},
		{"3: inetd wait", facts{stdin: kindListening, people: true}, wayListen},
		{"4: inetd nowait", facts{stdin: kindInet, people: true}, wayLogin},
		{"4: as root", facts{stdin: kindInet, people: true, root: true}, wayLogin},
		{"5: a TLS wrapper with pipes", facts{stdin: kindOther, launcher: true, people: true}, wayLogin},
		{"5: socat", facts{stdin: kindSocket, launcher: true, people: true, root: true}, wayLogin},
		{"6: a Maildir", facts{args: []string{"Maildir"}, people: true, root: true}, wayPreauth},
		{"6: at the end of a checkpassword chain", facts{args: []string{"Maildir"}, people: true, stdin: kindInet, launcher: true}, wayPreauth},
		{"6: smtpd has none", facts{args: []string{"Maildir"}}, 0},
		{"6: one only", facts{args: []string{"a", "b"}, people: true}, 0},
		{"7: a pipe", facts{stdin: kindOther, people: true}, wayPreauth},
		{"7: sshd's socket pair", facts{stdin: kindSocket, people: true}, wayPreauth},
		{"7: a terminal", facts{stdin: kindTerminal, people: true}, wayPreauth},
		{"7: -L", facts{stdin: kindOther, people: true, login: true}, wayLogin},
		{"8: root", facts{stdin: kindOther, people: true, root: true}, 0},
		{"8: root with -L", facts{stdin: kindOther, people: true, root: true, login: true}, wayLogin},
		{"8: root with -P", facts{stdin: kindOther, people: true, root: true, preauth: true}, wayPreauth},
		{"8: root with a post office", facts{stdin: kindOther, people: true, root: true, office: true}, wayLogin},
		{"8: root with a post office, nobody there", facts{stdin: kindDevice, people: true, root: true, office: true}, 0},
		{"-L and -P", facts{stdin: kindOther, people: true, login: true, preauth: true}, 0},
		{"-L and a Maildir", facts{stdin: kindOther, people: true, login: true, args: []string{"x"}}, 0},
		{"-P over 4: somebody says so", facts{stdin: kindInet, people: true, preauth: true}, wayPreauth},
		{"smtpd on a pipe, root", facts{stdin: kindOther, root: true}, wayLogin},
		{"smtpd on a terminal", facts{stdin: kindTerminal, root: true}, wayLogin},
		{"smtpd on /dev/null", facts{stdin: kindDevice}, 0},
	}
	for _, tt := range tests {
		got, err := tt.f.decide()
		if got != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: way %d (%v), want %d", tt.name, got, err, tt.want)
		}
		if err != nil && status.Code(err) != status.Usage {
			t.Errorf("%s: exit %d", tt.name, status.Code(err))
		}
	}
}

func TestMailboxOfAPerson(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("MAILDIR", "")
	t.Setenv("MAIL", "/nowhere")
	is := func(f facts, want string) {
		t.Helper()
		pre, err := f.mailbox()
		if err != nil || pre.Maildir != want || pre.User == "" {
			t.Errorf("%+v, %v, want %s", pre, err, want)
		}
	}
	is(facts{}, dir+"/Maildir")
	t.Setenv("MAIL", dir)
	is(facts{}, dir)
	t.Setenv("MAILDIR", "/other")
	is(facts{}, "/other")
	is(facts{args: []string{"/argument"}}, "/argument")
}

func TestRoles(t *testing.T) {
	pop := Program{Name: "pop3d", Roles: map[string]Role{"pop3": {Port: 110}, "pop3s": {995, true}}}
	smtp := Program{Name: "smtpd", Roles: map[string]Role{"smtp": {Port: 25}, "submission": {Port: 587}, "submissions": {465, true}, "lmtp": {Port: 24}}}
	for _, tt := range []struct {
		p    Program
		port int
		want string
	}{{pop, 110, "pop3"}, {pop, 995, "pop3s"}, {pop, 8110, "pop3"}, {smtp, 587, "submission"}, {smtp, 465, "submissions"}, {smtp, 24, "lmtp"}, {smtp, 2525, "smtp"}} {
		if got := tt.p.roleAt(&net.TCPAddr{Port: tt.port}); got != tt.want {
			t.Errorf("%s at port %d: %s, want %s", tt.p.Name, tt.port, got, tt.want)
		}
	}
	if got := pop.encrypted() + " " + smtp.encrypted(); got != "pop3s submissions" {
		t.Error(got)
	}
	if got := smtp.roleAt(&net.UnixAddr{}); got != "smtp" {
		t.Error(got)
	}
}

type addrConn struct {
	net.Conn
	remote net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.remote }

func TestPeer(t *testing.T) {
	tcp := func(s string) net.Conn {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return addrConn{remote: a}
	}
	for _, name := range launchers {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	is := func(c net.Conn, want string) {
		t.Helper()
		if got := peerOf(c); got != want {
			t.Errorf("peer %q, want %q", got, want)
		}
	}
	pipe := addrConn{remote: pipeAddr{}}
	is(tcp("192.0.2.1:5"), "192.0.2.1")
	is(tcp("[::ffff:192.0.2.1]:5"), "192.0.2.1")
	is(tcp("[2001:db8::1]:5"), "2001:db8::1")
	is(pipe, "")
	t.Setenv("REMOTE_HOST", "mallory\nroot login") // a name: no address
	is(pipe, "")
	t.Setenv("REMOTE_HOST", "192.0.2.9") // stunnel
	is(tcp("127.0.0.1:5"), "192.0.2.9")
	is(tcp("192.0.2.1:5"), "192.0.2.1")
	is(pipe, "192.0.2.9")
	t.Setenv("SOCAT_PEERADDR", "[0000:0000:0000:0000:0000:0000:0000:0001]")
	is(pipe, "::1")
	t.Setenv("TCPREMOTEADDR", "192.0.2.7:31")
	t.Setenv("SOCAT_PEERADDR", "")
	is(pipe, "192.0.2.7")
}

func TestListenSpecs(t *testing.T) {
	s := newServer(t, Program{Name: "smtpd", Roles: map[string]Role{"smtp": {Port: 2525}, "submission": {Port: 587}, "submissions": {465, true}}})
	path := t.TempDir() + "/sock"
	for _, tt := range []struct{ spec, role string }{
		{"127.0.0.1:0", "smtp"},
		{"[::1]:0", "smtp"},
		{"submission=127.0.0.1:0", "submission"},
		{"unix:" + path, "smtp"},
	} {
		n := len(s.listeners)
		if err := s.listen(tt.spec); err != nil {
			t.Errorf("%s: %v", tt.spec, err)
			continue
		}
		l := s.listeners[n]
		defer l.Close()
		if l.role != tt.role || l.tls {
			t.Errorf("%s: role %s, tls %v", tt.spec, l.role, l.tls)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("socket: %v %v", fi, err)
	}
	for spec, code := range map[string]int{
		"tls:127.0.0.1:0":      status.Config, // no certificate
		"submissions=[::1]:0":  status.Config,
		"pop3=127.0.0.1:0":     status.Usage,
		"127.0.0.1:no-such":    status.Usage,
		"192.0.2.77:0":         status.OSErr,
		"unix:" + path:         status.Usage, // in use
		"unix:" + t.TempDir():  status.Usage, // no socket
		"/nowhere/at/all/sock": status.OSErr,
	} {
		if err := s.listen(spec); status.Code(err) != code {
			t.Errorf("%s: %v (exit %d), want exit %d", spec, err, status.Code(err), code)
		}
	}
	if got := addresses([]string{":1 :2,tls::3", ":4"}); len(got) != 4 || got[2] != "tls::3" {
		t.Error(got)
	}
}

// What a killed predecessor left is no reason not to start.
func TestStaleSocket(t *testing.T) {
	path := t.TempDir() + "/sock"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s := newServer(t, Program{Name: "smtpd", Roles: map[string]Role{"smtp": {}}})
	if err := s.listen("unix:" + path); err != nil {
		t.Error(err)
	}
	s.listeners[0].Close()
}
