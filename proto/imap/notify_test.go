package imap_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A listening client says nothing after NOTIFY, and has the same picture of the mailbox in the end as somebody who
// looks then, whatever others have done.
func TestNotifyKeepsUp(t *testing.T) {
	for _, qresync := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			client := func() *talker {
				near, far := net.Pipe()
				go begin(t, dir, far)
				c := &talker{near, bufio.NewReader(near)}
				c.until(t, "PREAUTH")
				if qresync {
					c.ask(t, "e ENABLE QRESYNC", "e OK")
				}
				c.ask(t, "s SELECT INBOX", "s OK")
				return c
			}
			listener, actor := client(), client()
			listener.ask(t, "n NOTIFY SET (SELECTED (MessageNew (UID FLAGS) MessageExpunge FlagChange))", "n OK")
			p := &picture{}
			done := make(chan bool)
			go func() { defer close(done); p.listen(listener.r) }()
			r := rand.New(rand.NewPCG(1, 2))
			for i := range 300 {
				tag := fmt.Sprint("t", i)
				switch n := r.IntN(10); {
				case n < 4:
					actor.ask(t, tag+" APPEND INBOX (\\Seen) {4+}\r\nx\r\n", tag+" OK")
				case n < 8:
					actor.ask(t, fmt.Sprintf("%s UID STORE %d %cFLAGS (\\Flagged k%d)", tag, 1+r.IntN(i+1), "+-"[r.IntN(2)], r.IntN(3)), tag+" OK")
				default:
					actor.ask(t, fmt.Sprintf("%s UID STORE %d:%d +FLAGS (\\Deleted)", tag, 1+r.IntN(i+1), 1+r.IntN(i+1)), tag+" OK")
					if n == 9 {
						actor.ask(t, tag+"x EXPUNGE", tag+"x OK")
					}
				}
				if r.IntN(5) == 0 {
					time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
				}
			}
			time.Sleep(5 * time.Second)
			listener.Close()
			<-done
			late := client()
			truth := &picture{}
			go io.WriteString(late, "u UID FETCH 1:* (FLAGS)\r\nz LOGOUT\r\n")
			truth.listen(late.r)
			if len(truth.messages) == 0 || !slices.Equal(p.messages, truth.messages) {
				t.Errorf("heard %q\ntruth %q", p.messages, truth.messages)
			}
			late.Close()
			actor.Close()
		})
	}
}

// A picture is a mailbox as untagged responses tell of it: "UID FLAGS" of each message.
type picture struct{ messages []string }

var (
	exists   = regexp.MustCompile(`^\* (\d+) EXISTS`)
	expunge  = regexp.MustCompile(`^\* (\d+) EXPUNGE`)
	vanished = regexp.MustCompile(`^\* VANISHED (\S+)`)
	fetched  = regexp.MustCompile(`^\* (\d+) FETCH \(UID (\d+) FLAGS \(([^)]*)\)`)
)

func (p *picture) listen(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if m := exists.FindStringSubmatch(line); m != nil {
			for n, _ := strconv.Atoi(m[1]); len(p.messages) < n; {
				p.messages = append(p.messages, "")
			}
		}
		if m := expunge.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			p.messages = slices.Delete(p.messages, n-1, n)
		}
		if m := vanished.FindStringSubmatch(line); m != nil {
			for r := range strings.SplitSeq(m[1], ",") {
				from, to, two := strings.Cut(r, ":")
				if !two {
					to = from
				}
				lo, _ := strconv.Atoi(from)
				hi, _ := strconv.Atoi(to)
				p.messages = slices.DeleteFunc(p.messages, func(m string) bool {
					uid, _, _ := strings.Cut(m, " ")
					n, _ := strconv.Atoi(uid)
					return lo <= n && n <= hi
				})
			}
		}
		if m := fetched.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			flags := slices.DeleteFunc(strings.Fields(m[3]), func(f string) bool { return f == `\Recent` })
			for len(p.messages) < n {
				p.messages = append(p.messages, "")
			}
			p.messages[n-1] = m[2] + " " + strings.Join(flags, " ")
		}
	}
}
