package cmd_test

import (
	"bytes"
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
						for i := range 1000 {
							name := fmt.Sprintf("%s-%d-%d-%d", program, round, c, i)
							mu.Lock()
							tried[name] = true
							mu.Unlock()
							deliver := bySMTP
							if program == "imapd" {
								deliver = byAPPEND
							}
							if !deliver(d.port, name) {
								return
							}
							mu.Lock()
							acked[name] = true
							mu.Unlock()
						}
					})
				}
				time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond)
				d.kill()
				clients.Wait()
			}
			check(t, o, acked, tried)
		})
	}
}

// bySMTP and byAPPEND hand in one message and say whether it was acknowledged.
func bySMTP(port int, name string) bool {
	return dialogue(port, []string{"", "HELO crepes.fr", "MAIL FROM:<alice@crepes.fr>", "RCPT TO:<bob@hamburger.edu>", "DATA", body(name) + "."},
		[]string{"220", "250", "250", "250", "354", "250"})
}

func byAPPEND(port int, name string) bool {
	return dialogue(port, []string{"", "a LOGIN bob hungry", fmt.Sprintf("b APPEND INBOX {%d}", len(body(name))), body(name)},
		[]string{"* OK", "a OK", "+ ", "b OK"})
}

// dialogue says each line and waits for an answer that begins as it should;
// any other, or none, ends it.
func dialogue(port int, say, hear []string) bool {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	var buf []byte
	p := make([]byte, 4096)
	for i, line := range say {
		if line != "" {
			if _, err := io.WriteString(c, line+"\r\n"); err != nil {
				return false
			}
		}
		for !answered(buf, hear[i]) {
			n, err := c.Read(p)
			if err != nil {
				return false
			}
			buf = append(buf, p[:n]...)
		}
		buf = buf[:0]
	}
	return true
}

// answered says whether a whole line in buf begins with want.
func answered(buf []byte, want string) bool {
	for line := range bytes.Lines(buf) {
		if bytes.HasPrefix(line, []byte(want)) && bytes.HasSuffix(line, []byte("\r\n")) && !(len(line) > 3 && line[3] == '-') {
			return true
		}
	}
	return false
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
