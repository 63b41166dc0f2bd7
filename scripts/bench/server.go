package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const nobody = 65534 // the uid and gid the servers work as when we are root

// A server is one of the programs compared, listening on a port of 127.0.0.1.
type server struct {
	name   string
	addr   string
	tls    string // directory of its certificate; "": it does without
	secure string // addr with TLS from the start, once there is a certificate
	inetd  string // where each connection has a process
	cmd    *exec.Cmd
	begin  func(*server) error // sets cmd, addr and secure; nil where no memory of a process outlives a session
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// restart lets the server begin with nothing in its memory.
func (s *server) restart() error {
	if s.begin == nil || s.addr == s.inetd {
		return nil
	}
	s.stop()
	return s.begin(s)
}

// begin starts imapd, and Dovecot where there is one. Each user's Maildir is dir/NAME/USER. What it returns is to
// be stopped even after an error.
func begin(dir, imapd string) ([]*server, error) {
	ours, err := beginImapd(dir, imapd)
	if err != nil {
		return nil, err
	}
	servers := []*server{ours}
	path, err := exec.LookPath("dovecot")
	if err != nil || os.Geteuid() != 0 {
		fmt.Println("without Dovecot: it is not installed, or we are not root")
		return servers, nil
	}
	dovecot, err := beginDovecot(dir, path)
	if err != nil {
		return servers, err
	}
	return append(servers, dovecot), nil
}

func beginImapd(dir, imapd string) (*server, error) {
	office := filepath.Join(dir, "office")
	users := filepath.Join(office, "domains", "hamburger.edu", "users")
	if err := os.MkdirAll(filepath.Dir(users), 0o755); err != nil {
		return nil, err
	}
	var list strings.Builder
	for _, n := range []int{10, 100, 1000, 10000, 100000, 1000000} {
		fmt.Fprintf(&list, "u%d:{PLAIN}hungry::::::\n", n)
	}
	for i := range idleUsers {
		fmt.Fprintf(&list, "i%d:{PLAIN}hungry::::::\n", i)
	}
	for name, text := range map[string]string{
		users: list.String(), filepath.Join(office, "me"): "hamburger.edu\n",
		filepath.Join(office, "mail"): fmt.Sprintf("mailbox %s/pennypost/%%n\nspool %s/spool\n", dir, dir),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"pennypost", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
		if err := own(filepath.Join(dir, d)); err != nil {
			return nil, err
		}
	}
	path, err := filepath.Abs(imapd)
	if err != nil {
		return nil, err
	}
	common := []string{path, "--post-office", office, "--cleartext-login"}
	s := &server{name: "pennypost", tls: filepath.Join(office, "tls"), begin: func(s *server) error { return s.listen(common) }}
	if s.inetd, err = inetd(common); err != nil {
		return nil, err
	}
	return s, s.begin(s)
}

// asNobody makes a command that runs without rights.
func asNobody(args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// listen starts imapd with a listener of its own.
func (s *server) listen(common []string) error {
	ports := []string{"imap=127.0.0.1:0"}
	if _, err := os.Stat(s.tls); err == nil {
		ports = append(ports, "imaps=127.0.0.1:0")
	}
	cmd := asNobody(slices.Concat(common, []string{"--listen", strings.Join(ports, ","), "--max-connections", "0", "--max-per-address", "0"}))
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(said)
	port := regexp.MustCompile(`msg=listening.* addr="?([^ "]+)`)
	var addrs []string
	for lines.Scan() {
		if m := port.FindStringSubmatch(lines.Text()); m != nil {
			if addrs = append(addrs, m[1]); len(addrs) < len(ports) {
				continue
			}
			go func() {
				for lines.Scan() {
					if strings.Contains(lines.Text(), "level=ERROR") {
						fmt.Println(lines.Text())
					}
				}
			}()
			s.cmd, s.addr, s.secure = cmd, addrs[0], addrs[len(addrs)-1]
			return nil
		}
	}
	return errors.New("imapd does not listen")
}

// inetd gives each connection a process of its own, as inetd and systemd do.
func inetd(args []string) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if err := hand(c.(*net.TCPConn), asNobody(args)); err != nil {
				fmt.Println("inetd:", err)
			}
		}
	}()
	return l.Addr().String(), nil
}

// hand starts a program on a connection.
func hand(c *net.TCPConn, cmd *exec.Cmd) error {
	defer c.Close()
	file, err := c.File()
	if err != nil {
		return err
	}
	defer file.Close()
	cmd.Stdin, cmd.Stdout = file, file
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	return nil
}

func beginDovecot(dir, path string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	run := filepath.Join(dir, "run")
	for _, d := range []string{"run", "dovecot"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := own(filepath.Join(dir, "dovecot")); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`base_dir = %[1]s
state_dir = %[1]s
log_path = %[2]s/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
mail_location = maildir:%[2]s/dovecot/%%n
mail_max_userip_connections = 10000
default_process_limit = 10000
default_client_limit = 12000
passdb {
  driver = static
  args = password=hungry
}
userdb {
  driver = static
  args = uid=%[3]d gid=%[3]d home=%[2]s/dovecot/%%n
}
service imap-login {
  service_count = 0
  inet_listener imap {
    port = %[4]s
  }
  inet_listener imaps {
    port = 0
  }
}
`, run, dir, nobody, port)
	file := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "-F", "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{name: "dovecot", addr: addr, inetd: addr, cmd: cmd}
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return nil, errors.New("dovecot does not listen")
}
