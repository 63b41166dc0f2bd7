package daemon

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/status"
)

// With ECHOD set the test binary is a small daemon itself.
func TestMain(m *testing.M) {
	if os.Getenv("ECHOD") == "" {
		os.Exit(m.Run())
	}
	Main(&cli.App{
		Name:  "echod",
		Flags: append(Flags("echod"), &cli.StringFlag{Name: "post-office"}),
		Action: func(c *cli.Context) error {
			return Run(c, Program{
				Name: "echod", Preauth: os.Getenv("ECHOD") == "people",
				Roles: map[string]Role{"echo": {Port: 7}, "echos": {77, true}},
				Serve: func(ctx context.Context, c *Client) {
					c.Log.Info("login", "user", "somebody")
					fmt.Fprintf(c, "role=%s peer=%s preauth=%v\n", c.Role, c.Peer, c.Preauth != nil)
					echo(ctx, c)
				},
			})
		},
	})
}

// start prepares a run of the daemon with nothing of the tester's environment.
func start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "Maildir", "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{"ECHOD=people", "PATH=" + os.Getenv("PATH"), "HOME=" + home}
	return cmd
}

// pair is a connected TCP socket for the daemon, and the client's end.
func pair(t *testing.T) (*os.File, talk) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, l.Addr().String())
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	f, err := far.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, c
}

// Under inetd descriptors 0, 1 and 2 are the client; nothing but the
// conversation reaches it.
func TestInetd(t *testing.T) {
	sock, c := pair(t)
	cmd := start(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = sock, sock, sock
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sock.Close()
	c.hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
	c.hears(t, "hello\n")
	io.WriteString(c, "one\n")
	c.hears(t, "one\n")
	cmd.Process.Signal(syscall.SIGTERM)
	c.hears(t, "bye\n")
	c.gone(t)
	if err := cmd.Wait(); err != nil {
		t.Error("not a normal end:", err)
	}
}

// Even what the command line has wrong is not the client's business.
func TestInetdUsage(t *testing.T) {
	sock, c := pair(t)
	cmd := start(t, "--no-such-flag")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = sock, sock, sock
	err := cmd.Run()
	sock.Close()
	c.gone(t)
	if cmd.ProcessState.ExitCode() != status.Usage {
		t.Error(err)
	}
}

func TestInetdWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := start(t)
	cmd.Stdin = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 2 {
		c := dial(t, addr)
		c.hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
		c.Close()
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Descriptor 0 of any kind holds one conversation.
func TestDescriptorZero(t *testing.T) {
	mail := t.TempDir()
	if err := os.Mkdir(filepath.Join(mail, "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	os.WriteFile(script, []byte("one\ntwo\n"), 0o600)
	for _, tt := range []struct {
		name string
		args []string
		env  string
		said string
		code int
	}{
		{"pipe", []string{"-L"}, "", "role=echo peer= preauth=false\nhello\none\ntwo\n", 0},
		{"file", []string{"-L"}, "", "role=echo peer= preauth=false\nhello\none\ntwo\n", 0},
		{"file", []string{mail}, "", "role=echo peer= preauth=true\nhello\none\ntwo\n", 0},
		{"file", []string{mail + "/none"}, "", "role=echo peer= preauth=true\nhello\none\ntwo\n", 66},
		{"pipe", nil, "TCPREMOTEIP=192.0.2.5", "role=echo peer=192.0.2.5 preauth=false\nhello\none\ntwo\n", 0},
		{"pipe", nil, "UNIXREMOTEEUID=0", "role=echo peer= preauth=false\nhello\none\ntwo\n", 0},
		{"pipe", []string{"a", "b"}, "", "", 64},
		{"pipe", []string{"-L", "-P"}, "", "", 64},
		{"pipe", []string{"--log-level=loud", "-L"}, "", "", 64},
		{"pipe", []string{"--idle=-1s", "-L"}, "", "", 64},
		{"pipe", []string{"-L", "--user=no-such-user"}, "", "", 78},
		{"pipe", nil, "LISTEN_FDS=1", map[bool]string{true: "", false: "role=echo peer= preauth=true\nhello\none\ntwo\n"}[os.Geteuid() == 0], map[bool]int{true: 64}[os.Geteuid() == 0]},
	} {
		cmd := start(t, tt.args...)
		if tt.env != "" {
			cmd.Env = append(cmd.Env, tt.env)
		}
		if tt.name == "pipe" {
			cmd.Stdin = strings.NewReader("one\ntwo\n")
		} else {
			f, err := os.Open(script)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.Stdin = f
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, _ := cmd.Output()
		if string(out) != tt.said || cmd.ProcessState.ExitCode() != tt.code {
			t.Errorf("%s %v %s: exit %d, %q, want exit %d, %q\n%s", tt.name, tt.args, tt.env, cmd.ProcessState.ExitCode(), out, tt.code, tt.said, &errs)
		}
	}
}

// With 2>&1 the log would be in the middle of the conversation.
func TestStderrIsTheClient(t *testing.T) {
	cmd := start(t, "-L")
	cmd.Stdin = strings.NewReader("one\n")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "role=echo peer= preauth=false\nhello\none\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// A client that stops reading its end of a pipe ends the session, not by a
// signal.
func TestBrokenPipe(t *testing.T) {
	cmd := start(t, "-L")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	out.Close()
	io.WriteString(in, "one\n")
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Descriptors that are closed are not reused for something that output for the
// client goes to by mistake.
func TestClosedDescriptors(t *testing.T) {
	for script, want := range map[string]string{
		`exec "$0" -L <&- 2>&-`:            "role=echo peer= preauth=false\nhello\n",
		`printf 'one\n' | "$0" -L 2>&-`:    "role=echo peer= preauth=false\nhello\none\n",
		`exec "$0" -L <&- >&- 2>/dev/null`: "",
	} {
		cmd := start(t)
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script, os.Args[0]}
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
}

var listening = regexp.MustCompile(`msg=listening addr=(\S+) role=(\S+)`)

// daemonize starts the daemon and waits until it says where it listens.
func daemonize(t *testing.T, cmd *exec.Cmd) (addr string, log *strings.Builder) {
	t.Helper()
	r, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log = new(strings.Builder)
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		log.WriteString(line)
		if m := listening.FindStringSubmatch(line); m != nil {
			return m[1], log
		}
		if err != nil {
			t.Fatalf("it never listened:\n%s", log)
		}
	}
}

func TestOwnListener(t *testing.T) {
	cmd := start(t, "--listen", "127.0.0.1:0", "--max-per-address", "2")
	addr, _ := daemonize(t, cmd)
	c := dial(t, addr)
	c.hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
	c.hears(t, "hello\n")
	cmd.Process.Signal(syscall.SIGHUP)
	io.WriteString(c, "still here\n")
	c.hears(t, "still here\n")
	cmd.Process.Signal(syscall.SIGTERM)
	c.hears(t, "bye\n")
	c.gone(t)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestListenByEnvironment(t *testing.T) {
	cmd := start(t)
	cmd.Env = append(cmd.Env, "ECHOD_LISTEN=127.0.0.1:0 127.0.0.1:0")
	addr, _ := daemonize(t, cmd)
	dial(t, addr).hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
}

// s6 reads a newline from a descriptor of its choice.
func TestNotificationFD(t *testing.T) {
	r, w := osPipe(t)
	cmd := start(t, "--listen", "127.0.0.1:0", "-N", "3")
	cmd.ExtraFiles = []*os.File{w}
	daemonize(t, cmd)
	w.Close()
	b, err := io.ReadAll(r)
	if err != nil || string(b) != "\n" {
		t.Errorf("%q, %v", b, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
}

// systemd passes sockets, with names.
func TestSocketActivation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	// LISTEN_PID is that of the daemon: let a shell tell its own before it becomes it.
	cmd := start(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=echo exec "$0"`, os.Args[0]}
	cmd.ExtraFiles = []*os.File{f}
	daemonize(t, cmd)
	f.Close()
	dial(t, addr).hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}

	sock, c := pair(t)
	cmd = start(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0"`, os.Args[0]}
	cmd.ExtraFiles = []*os.File{sock}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sock.Close()
	c.hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
	c.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Rights are given up for good before the first client is read.
func TestBecome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	cmd := start(t, "--listen", "127.0.0.1:0", "--user", "nobody")
	addr, _ := daemonize(t, cmd)
	dial(t, addr).hears(t, "role=echo peer=127.0.0.1 preauth=false\n")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	m := regexp.MustCompile(`(?m)^([UG]id|Groups|CapEff):\s+(.*)$`).FindAllSubmatch(text, -1)
	for _, f := range m {
		value := strings.Fields(string(f[2]))
		switch string(f[1]) {
		case "Uid", "Gid":
			for _, v := range value {
				if v == "0" {
					t.Errorf("%s", f[0])
				}
			}
		case "Groups":
			if len(value) == 0 || value[0] == "0" {
				t.Errorf("%s", f[0])
			}
		case "CapEff":
			if strings.Trim(value[0], "0") != "" {
				t.Errorf("%s", f[0])
			}
		}
	}
	if err := become("root"); err != nil { // who is it already
		t.Error(err)
	}
}

func TestBecomeNobodyKnown(t *testing.T) {
	if err := become("no-such-user"); status.Code(err) != status.Config {
		t.Error(err)
	}
	if err := become(""); err != nil {
		t.Error(err)
	}
}

// How little an idle client costs is a promise; see it with -v.
func BenchmarkIdle(b *testing.B) {
	s := &server{Program: Program{Name: "echod", Roles: map[string]Role{"echo": {}}, Serve: echo}, log: slog.New(slog.DiscardHandler), idle: time.Minute}
	if err := s.listen("127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	addr := s.listeners[0].Addr().String()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.serve(ctx, 0) }()
	for b.Loop() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		bufio.NewReader(c).ReadString('\n')
		c.Close()
	}
	cancel()
	<-done
}
