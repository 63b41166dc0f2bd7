package cmd_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// body is a message of some length that tells its name at both ends.
func body(name string) string {
	return fmt.Sprintf("From: alice@crepes.fr\r\nSubject: %s\r\n\r\n%sthe end of %s\r\n", name, strings.Repeat("Do you like ketchup?\r\n", 400), name)
}

// rounds is how often each program is killed: KILL_ROUNDS, or a few times.
func rounds(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("KILL_ROUNDS")); err == nil {
		return n
	}
	if testing.Short() {
		return 3
	}
	return 8
}

// A daemon killed with -9 in the middle of deliveries: what was acknowledged
// is there once and whole, the rest is absent or whole.
func TestKilledDaemonsLoseNothing(t *testing.T) {
	for _, program := range []string{"smtpd", "imapd"} {
		t.Run(program, func(t *testing.T) {
			o := newOffice(t, "bob")
			acked, tried := map[string]bool{}, map[string]bool{}
			var mu sync.Mutex
			for round := range rounds(t) {
				d := o.start(program)
				var clients sync.WaitGroup
				for c := range 4 {
					clients.Go(func() {
						converse := bySMTP
						if program == "imapd" {
							converse = byAPPEND
						}
						converse(d.port, func(i int) string {
							name := fmt.Sprintf("%s-%d-%d-%d", program, round, c, i)
							mu.Lock()
							defer mu.Unlock()
							tried[name] = true
							return name
						}, func(name string) {
							mu.Lock()
							defer mu.Unlock()
							acked[name] = true
						})
					})
				}
				time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
				d.kill()
				clients.Wait()
			}
			check(t, o, acked, tried)
		})
	}
}

// bySMTP and byAPPEND hand in messages over one connection until it breaks.
// Each has the name that next gives; acked hears which were acknowledged.
func bySMTP(port int, next func(int) string, acked func(string)) {
	c := talk(port)
	if !c.ask("220", "") || !c.ask("250", "HELO crepes.fr") {
		return
	}
	for i := 0; ; i++ {
		name := next(i)
		if !c.ask("250", "MAIL FROM:<alice@crepes.fr>") || !c.ask("250", "RCPT TO:<bob@hamburger.edu>") ||
			!c.ask("354", "DATA") || !c.ask("250", body(name)+".") {
			return
		}
		acked(name)
	}
}

func byAPPEND(port int, next func(int) string, acked func(string)) {
	c := talk(port)
	if !c.ask("* OK", "") || !c.ask("a OK", "a LOGIN bob hungry") {
		return
	}
	for i := 0; ; i++ {
		name := next(i)
		if !c.ask("+ ", fmt.Sprintf("b APPEND INBOX {%d}", len(body(name)))) || !c.ask("b OK", body(name)) {
			return
		}
		acked(name)
	}
}

// A fragile is a conversation that may break at any moment.
type fragile struct {
	net.Conn
	*bufio.Reader
}

func talk(port int) fragile {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fragile{}
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	return fragile{c, bufio.NewReader(c)}
}

// ask says a line and waits for one that begins with want. When the
// conversation has broken it hangs up and says false.
func (f fragile) ask(want, line string) bool {
	if f.Conn == nil {
		return false
	}
	if line != "" {
		if _, err := io.WriteString(f.Conn, line+"\r\n"); err != nil {
			f.Close()
			return false
		}
	}
	for {
		got, err := f.ReadString('\n')
		if err != nil {
			f.Close()
			return false
		}
		if strings.HasPrefix(got, want) && (len(got) < 4 || got[3] != '-') {
			return true
		}
	}
}

// sendmail killed while it takes a message: what exited with 0 is there. A
// queue runner killed while it relays: everything arrives.
func TestKilledSendmailLosesNothing(t *testing.T) {
	o := newOffice(t, "bob")
	acked, tried := map[string]bool{}, map[string]bool{}
	for i := range 4 * rounds(t) {
		name := fmt.Sprint("sendmail-", i)
		tried[name] = true
		cmd := o.command("sendmail", "-i", "-f", "alice@crepes.fr", "bob@hamburger.edu")
		cmd.Stdin = strings.NewReader(body(name))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rand.IntN(12000))*time.Microsecond, func() { cmd.Process.Kill() })
		if cmd.Wait() == nil {
			acked[name] = true
		}
		timer.Stop()
	}
	check(t, o, acked, tried)
}

func TestKilledQueueRunnersLoseNothing(t *testing.T) {
	o, far := newOffice(t, "alice"), newOffice(t, "bob")
	d := far.start("smtpd")
	if err := os.WriteFile(filepath.Join(o.dir, "me"), []byte("crepes.fr\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(o.dir, "domains", "hamburger.edu"), filepath.Join(o.dir, "domains", "crepes.fr")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "routes"), fmt.Appendf(nil, "hamburger.edu 127.0.0.1:%d\n", d.port), 0o644); err != nil {
		t.Fatal(err)
	}
	acked, tried := map[string]bool{}, map[string]bool{}
	for i := range 4 * rounds(t) {
		name := fmt.Sprint("relayed-", i)
		o.run(body(name), "sendmail", "-i", "-f", "alice@crepes.fr", "bob@hamburger.edu")
		acked[name], tried[name] = true, true
		cmd := o.command("sendmail", "-q")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(15000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	for range 100 {
		if strings.Contains(o.run("", "mailq"), "empty") {
			break
		}
		o.run("", "sendmail", "-q")
		time.Sleep(50 * time.Millisecond)
	}
	if out := o.run("", "mailq"); !strings.Contains(out, "empty") {
		t.Fatalf("the queue keeps:\n%s", out)
	}
	// A runner that dies while the peer stores a message cannot know that it has
	// been taken, and sends it again: the one double that SMTP cannot avoid (RFC
	// 5321 §6.1), one for each connection that a kill has cut.
	const connections = 5
	found, doubles := contents(t, far), 0
	for name := range acked {
		if found[name] == 0 {
			t.Errorf("%s is lost", name)
		} else {
			doubles += found[name] - 1
		}
	}
	if most := 4 * rounds(t) * connections; doubles > most {
		t.Errorf("%d doubles, %d at most cannot be avoided", doubles, most)
	}
}

// check looks for every message that bob has or should have.
func check(t *testing.T, o *office, acked, tried map[string]bool) {
	t.Helper()
	if len(acked) == 0 {
		t.Error("nothing was acknowledged: the test tries nothing")
	}
	found := contents(t, o)
	for name := range acked {
		if found[name] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", name, found[name])
		}
	}
	for name, n := range found {
		if n > 1 || !tried[name] {
			t.Errorf("%s is there %d times", name, n)
		}
	}
	t.Logf("%d tried, %d acknowledged, %d there", len(tried), len(acked), len(found))
}

// contents counts bob's messages by name; a message that is not whole is an
// error.
func contents(t *testing.T, o *office) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, file := range o.messages("bob") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, subject, _ := strings.Cut(string(text), "\nSubject: ")
		name, _, _ := strings.Cut(subject, "\n")
		if !strings.HasSuffix(string(text), "\nthe end of "+name+"\n") || strings.Count(string(text), "ketchup") != 400 {
			t.Errorf("%s is not whole", file)
		}
		found[name]++
	}
	return found
}
