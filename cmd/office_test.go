package cmd_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An office is a post office hamburger.edu in a directory of its own; every
// user's password is hungry.
type office struct {
	t   *testing.T
	dir string
}

func newOffice(t *testing.T, users ...string) *office {
	o := &office{t, t.TempDir()}
	for name, text := range map[string]string{"mail": "mailbox boxes/%n\nspool spool\n", "me": "hamburger.edu\n"} {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range users {
		o.run("hungry\n", "mailuser", "add", u+"@hamburger.edu")
	}
	return o
}

func (o *office) maildir(user string) string { return filepath.Join(o.dir, "boxes", user) }

// messages lists the files in new and cur of a user's Maildir.
func (o *office) messages(user string) []string {
	var all []string
	for _, sub := range []string{"new", "cur"} {
		found, err := filepath.Glob(filepath.Join(o.maildir(user), sub, "*"))
		if err != nil {
			o.t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func (o *office) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PENNYPOST="+o.dir)
	return cmd
}

// run runs a program that has to succeed, and returns what it printed.
func (o *office) run(stdin, name string, args ...string) string {
	o.t.Helper()
	cmd := o.command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

var listening = regexp.MustCompile(`msg=listening.* addr="?[^ "]*:(\d+)`)

// A daemon is a server of ours that listens on one port of loopback.
type daemon struct {
	cmd  *exec.Cmd
	port int
	done sync.WaitGroup
	mu   sync.Mutex
	log  strings.Builder
}

// start starts a daemon on a free port; it ends with the test.
func (o *office) start(name string, args ...string) *daemon {
	o.t.Helper()
	d := &daemon{cmd: o.command(name, append([]string{"--listen", "127.0.0.1:0", "--cleartext-login"}, args...)...)}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	ready := make(chan int, 1)
	d.done.Go(func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			d.mu.Lock()
			d.log.WriteString(lines.Text() + "\n")
			d.mu.Unlock()
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				port, _ := strconv.Atoi(m[1])
				select {
				case ready <- port:
				default:
				}
			}
		}
		close(ready)
	})
	d.port = <-ready
	o.t.Cleanup(func() { d.kill() })
	if d.port == 0 {
		o.t.Fatalf("%s does not listen:\n%s", name, d.said())
	}
	return d
}

// kill ends the daemon at once, as kill -9 does.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	d.done.Wait()
	d.cmd.Wait()
}

func (d *daemon) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// A client speaks lines to a daemon.
type client struct {
	t *testing.T
	net.Conn
	*bufio.Reader
}

func dial(t *testing.T, port int) *client {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// say sends a line, hear reads one.
func (c *client) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.Conn, format+"\r\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) hear() string {
	c.t.Helper()
	line, err := c.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%v after %q", err, line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// ask says a line and expects an answer that begins with want; it reads an
// SMTP reply to its last line.
func (c *client) ask(want, format string, args ...any) string {
	c.t.Helper()
	if format != "" {
		c.say(format, args...)
	}
	for {
		got := c.hear()
		if len(got) > 3 && got[3] == '-' {
			continue
		}
		if !strings.HasPrefix(got, want) {
			c.t.Fatalf("said %.80q, heard %q, not %s", fmt.Sprintf(format, args...), got, want)
		}
		return got
	}
}

// block reads a multi-line POP3 response and takes the stuffing out.
func (c *client) block() []byte {
	c.t.Helper()
	var all []byte
	for {
		line, err := c.ReadBytes('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if string(line) == ".\r\n" {
			return all
		}
		if line[0] == '.' {
			line = line[1:]
		}
		all = append(all, line...)
	}
}

// literal reads a line that ends in a literal, and the literal.
func (c *client) literal() (string, []byte) {
	c.t.Helper()
	line := c.hear()
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		c.t.Fatalf("no literal in %q", line)
	}
	n, err := strconv.Atoi(line[open+1 : len(line)-1])
	if err != nil {
		c.t.Fatal(err)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(c, data); err != nil {
		c.t.Fatal(err)
	}
	return line, data
}
