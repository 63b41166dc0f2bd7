package cmd_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hostileMemory is what imapd.8 says that imapd needs at most for 100 clients
// that mean harm, in octets.
const hostileMemory = 512 << 20

// hostileMail is what makes parsers slow or large, 1 to 4 MB each.
var hostileMail = []func() string{
	func() string { return strings.Repeat("X-A: b\r\n", 300000) + "\r\nx" },
	func() string { return "To: " + strings.Repeat("a@b.c,\r\n ", 200000) + "\r\n\r\nx" },
	func() string { return "Subject: " + strings.Repeat("[a] ", 250000) + "\r\n\r\nx" },
	func() string { return "References: " + strings.Repeat("<a@b>\r\n ", 200000) + "\r\n\r\nx" },
	func() string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 300000)
	},
	func() string {
		var b strings.Builder
		for i := range 20000 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String()
	},
	func() string {
		return strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 50000) + "Subject: x\r\n\r\nx"
	},
	func() string {
		return "Content-Type: text/html; charset=iso-2022-jp\r\n\r\n" + strings.Repeat("<b>&amp;\x1b$B", 300000)
	},
	func() string {
		return "Content-Type: text/plain; " + strings.Repeat("a*0*=x; ", 300000) + "\r\n\r\n" + strings.Repeat("=?a?q?", 100000)
	},
	func() string {
		return "From: " + strings.Repeat("(", 1000000) + "\r\nSubject: " + strings.Repeat("=?utf-8?b?", 100000) + "\r\n\r\n" + strings.Repeat("\r\n", 500000)
	},
}

// A hundred clients that mean harm cost imapd no more memory than its manual
// says, and somebody else is served meanwhile (PROMISES P13, P14).
func TestHostileMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of hard work")
	}
	o := newOffice(t, "bob", "alice")
	d := o.start("imapd", "--max-per-address", "0")
	var busy, done sync.WaitGroup
	held := make(chan struct{})
	for i := range 100 {
		busy.Add(1)
		done.Go(func() {
			c := dial(t, d.port)
			c.harm(i)
			busy.Done()
			<-held
			c.Close()
		})
	}
	worst := time.Duration(0)
	served := make(chan struct{})
	go func() { busy.Wait(); close(served) }()
	for over := false; !over; {
		select {
		case <-served:
			over = true
		case <-time.After(200 * time.Millisecond):
		}
		began := time.Now()
		c := dial(t, d.port)
		c.hear()
		c.ask("a OK", `a LOGIN alice hungry`)
		c.say("b SELECT INBOX")
		for !strings.HasPrefix(c.hear(), "b OK") {
		}
		c.Close()
		worst = max(worst, time.Since(began))
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	peak, _ := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1]))
	t.Logf("%d MB at most, another user waited %v at most", peak>>10, worst.Round(time.Millisecond))
	if peak<<10 > hostileMemory {
		t.Errorf("imapd needed %d MB, and its manual says %d", peak>>10, hostileMemory>>20)
	}
	close(held)
	done.Wait()
	if strings.Contains(d.said(), "panic") {
		t.Errorf("log:\n%s", d.said())
	}
}

// harm does what client number i has in mind, and leaves the connection open.
func (c *client) harm(i int) {
	c.hear()
	switch i % 5 {
	case 0: // before login: much, and never an end
		c.push("a LOGIN " + strings.Repeat("(", 15000))
		return
	case 1: // literals, as large and as many as are taken
		c.push("a LOGIN {4096+}\r\n" + strings.Repeat("x", 4096) + " {4096+}\r\n" + strings.Repeat("y", 4000))
		return
	}
	c.ask("a OK", "a LOGIN bob hungry")
	box := fmt.Sprintf("h%d", i)
	c.ask("b OK", "b CREATE %s", box)
	mail := hostileMail[i%len(hostileMail)]()
	c.push(fmt.Sprintf("c APPEND %s {%d+}\r\n%s\r\n", box, len(mail), mail))
	c.say("d SELECT %s", box)
	c.until("d ")
	switch i % 5 {
	case 2: // every way to look into the message
		for _, ask := range []string{"FETCH 1 (ENVELOPE BODYSTRUCTURE)", "SEARCH TEXT zzz", "SEARCH SUBJECT zzz BODY yyy", "SORT (SUBJECT FROM) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "FETCH 1 (BODY[1.1.1.1] BODY[HEADER.FIELDS (TO)])"} {
			c.say("e %s", ask)
			c.until("e ")
		}
	case 3: // asks for all of it, again and again, and never reads
		c.push(strings.Repeat("e FETCH 1 (ENVELOPE BODY[] BODYSTRUCTURE)\r\n", 500))
	case 4: // a command as long as a command may be, without an end
		c.push("e SEARCH " + strings.Repeat("OR NOT (", 90) + strings.Repeat("TEXT {60000+}\r\n"+strings.Repeat("x", 60000)+" ", 15))
	}
}

// push writes what the other side may never read.
func (c *client) push(text string) {
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	io.Copy(c.Conn, strings.NewReader(text))
	c.SetWriteDeadline(time.Now().Add(5 * time.Minute))
}

// until reads lines up to one that begins so, or to the end; long ones are not
// kept.
func (c *client) until(prefix string) {
	for {
		line, err := c.ReadSlice('\n')
		if bytes.HasPrefix(line, []byte(prefix)) || err != nil && len(line) == 0 {
			return
		}
	}
}
