package delivery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir/queue"
)

// hamburgers is a world with one far host, the only one of hamburger.edu.
func hamburgers() (*world, *far) {
	f := &far{}
	return &world{
		mx:    map[string][]*net.MX{"hamburger.edu": {{Host: "mx.hamburger.edu.", Pref: 10}}},
		addr:  map[string]string{"mx.hamburger.edu": "192.0.2.1"},
		hosts: map[string]*far{"192.0.2.1:25": f},
	}, f
}

// after runs the queue for some (unreal) time.
func after(t *testing.T, r *Runner, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
}

const ketchup = "From: alice@crepes.fr\nSubject: ketchup\n\nDo you like ketchup?\n.\n.x\n"

func TestRelay(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(f *far, line string) string
		extra  []string
		got    string // by the far host
		after  time.Duration
		bounce string // a regular expression; "" if there is to be none
	}{
		"at once":     {nil, nil, "al@hamburger.edu 1, bo@hamburger.edu 1", time.Second, ""},
		"in a group":  {nil, []string{"PIPELINING", "SIZE", "8BITMIME", "DSN"}, "al@hamburger.edu 1, bo@hamburger.edu 1", time.Second, ""},
		"grey listed": {times(2, "RCPT", "450 4.7.1 come again"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"one of two later": {func(f *far, line string) string {
			if line == "RCPT TO:<al@hamburger.edu>" && count(f, line) < 4 {
				return "452 4.2.2 full"
			}
			return ""
		}, []string{"PIPELINING"}, "al@hamburger.edu 1, bo@hamburger.edu 1", time.Hour, ""},
		"one of two never": {func(_ *far, line string) string {
			if line == "RCPT TO:<al@hamburger.edu>" {
				return "550 5.1.1 no al"
			}
			return ""
		}, []string{"PIPELINING"}, "bo@hamburger.edu 1", time.Minute, `(?s)Final-Recipient: rfc822; al@.*Status: 5.1.1.*Remote-MTA: dns; mx.hamburger.edu\nDiagnostic-Code: smtp; 550 5.1.1 no al\n`},
		"down after the greeting":    {times(1, "greeting", "hang up"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"down after EHLO":            {times(1, "EHLO", "hang up"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"down after MAIL":            {times(1, "MAIL", "hang up"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"down after RCPT":            {times(1, "RCPT TO:<bo", "hang up"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"down after DATA":            {times(1, "DATA", "hang up"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"down after the dot":         {times(1, ".", "hang up"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"busy":                       {times(1, "greeting", "421 4.3.2 busy"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", 10 * time.Minute, ""},
		"not now":                    {times(3, ".", "451 4.3.0 not now"), nil, "al@hamburger.edu 1, bo@hamburger.edu 1", time.Hour, ""},
		"spam":                       {times(9, ".", "554 5.7.1 spam"), nil, "", time.Minute, `(?s)al@.*Status: 5.7.1.*bo@.*554 5.7.1 spam`},
		"no sender, all of it never": {times(1000, "RCPT", "451 4.3.0 never ever"), nil, "", 13 * time.Hour, `(?s)Status: 4.3.0.*never ever \(given up after 12 hours\)`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPost(t, nil)
			synctest.Test(t, func(t *testing.T) {
				w, f := hamburgers()
				f.answer, f.extra = c.answer, c.extra
				sendTo(t, p, ketchup, "al@hamburger.edu", "bo@hamburger.edu")
				r := w.runner(p)
				r.GiveUp = 12 * time.Hour
				after(t, r, c.after)
				if got := f.got(); got != c.got {
					t.Errorf("the far host has %q, not %q", got, c.got)
				}
				for addr, texts := range f.taken {
					if want := strings.ReplaceAll(ketchup, "\n", "\r\n"); texts[0] != want {
						t.Errorf("%s has %q", addr, texts[0])
					}
				}
				if left := waiting(t, p); len(left) > 0 {
					t.Errorf("in the queue: %v", left)
				}
				back := mail(t, p, "alice")
				switch {
				case c.bounce == "" && len(back) > 0:
					t.Errorf("a report without need:\n%s", back[0])
				case c.bounce != "" && len(back) != 1:
					t.Errorf("%d reports", len(back))
				case c.bounce != "" && !regexp.MustCompile(c.bounce).MatchString(back[0]):
					t.Errorf("report without %s:\n%s", c.bounce, back[0])
				case c.bounce != "" && !strings.HasPrefix(back[0], "Return-Path: <>\n"):
					t.Errorf("a report that can be answered:\n%s", back[0])
				}
			})
		})
	}
}

// times answers the first n lines that begin with what.
func times(n int, what, reply string) func(*far, string) string {
	return func(_ *far, line string) string {
		if strings.HasPrefix(line, what) && n > 0 {
			n--
			return reply
		}
		return ""
	}
}

func count(f *far, line string) (n int) {
	for _, l := range f.lines {
		if l == line {
			n++
		}
	}
	return n
}

func TestHostsAreFoundByTheirRecords(t *testing.T) {
	far := map[string]string{"a": "192.0.2.1", "b": "192.0.2.2", "c": "2001:db8::3", "hamburger.edu": "192.0.2.9", "crepes.fr": "192.0.2.7"}
	for name, c := range map[string]struct {
		mx     []*net.MX
		domain string
		want   string // hosts, or the refusal
	}{
		"by preference":     {[]*net.MX{{Host: "b.", Pref: 20}, {Host: "a.", Pref: 10}, {Host: "c.", Pref: 30}}, "x.org", "a 192.0.2.1, b 192.0.2.2, c 2001:db8::3"},
		"the domain itself": {nil, "hamburger.edu", "hamburger.edu 192.0.2.9"},
		"no mail here":      {[]*net.MX{{Host: ".", Pref: 0}}, "x.org", "556 5.1.10"},
		"no such domain":    {nil, "x.org", "550 5.1.2"},
		"no address":        {[]*net.MX{{Host: "z.", Pref: 1}}, "x.org", "550 5.4.4"},
		"we are the second": {[]*net.MX{{Host: "a.", Pref: 1}, {Host: "crepes.fr.", Pref: 2}, {Host: "b.", Pref: 2}, {Host: "c.", Pref: 3}}, "x.org", "a 192.0.2.1"},
		"we are the best":   {[]*net.MX{{Host: "CREPES.FR.", Pref: 1}, {Host: "b.", Pref: 2}}, "x.org", "554 5.4.6"},
		"a literal":         {nil, "[192.0.2.77]", "[192.0.2.77] 192.0.2.77"},
		"an IPv6 literal":   {nil, "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1] 2001:db8::1"},
		"a bad literal":     {nil, "[nonsense]", "501 5.1.3"},
	} {
		w := &world{mx: map[string][]*net.MX{"x.org": c.mx}, addr: far}
		for range 10 {
			hosts, err := exchangers(t.Context(), w, c.domain, "crepes.fr", 25)
			var got []string
			for _, h := range hosts {
				got = append(got, h.name+" "+h.addr.Addr().String())
			}
			if s := strings.Join(got, ", "); err == nil && s != c.want || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: %q, %v", name, s, err)
			}
		}
	}
	w := &world{dns: &net.DNSError{Err: "timeout", IsTimeout: true}}
	if _, err := exchangers(t.Context(), w, "x.org", "crepes.fr", 25); err == nil || !strings.HasPrefix(err.Error(), "451 4.4.3") {
		t.Errorf("no answer: %v", err)
	}
	// Equal ones take turns.
	first := map[string]bool{}
	for range 100 {
		first[order([]*net.MX{{Host: "a."}, {Host: "b."}}, "")[0]] = true
	}
	if len(first) != 2 {
		t.Errorf("always %v", first)
	}
}

// The next host is asked when one cannot be reached, and when it breaks off.
func TestNextHost(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		one, two := &far{answer: times(100, "DATA", "hang up")}, &far{}
		w := &world{
			mx:    map[string][]*net.MX{"hamburger.edu": {{Host: "down.", Pref: 1}, {Host: "one.", Pref: 2}, {Host: "two.", Pref: 3}}},
			addr:  map[string]string{"down": "192.0.2.9", "one": "192.0.2.1", "two": "192.0.2.2"},
			hosts: map[string]*far{"192.0.2.1:25": one, "192.0.2.2:25": two},
		}
		sendTo(t, p, ketchup, "al@hamburger.edu")
		after(t, w.runner(p), time.Second)
		if two.got() != "al@hamburger.edu 1" || len(waiting(t, p)) > 0 {
			t.Errorf("%s, %v", two.got(), w.dials)
		}
	})
}

// TLS that does not come about is done without, unless the route wants it.
func TestBrokenTLS(t *testing.T) {
	for options, sent := range map[string]bool{"": true, "tls=may": true, "tls=none": true, "tls=must": false, "tls=verify": false} {
		for _, reply := range []string{"220 go on", "454 4.7.0 not now", "502 no"} {
			p := newPost(t, map[string]string{"routes": "hamburger.edu 192.0.2.1 " + options + "\n"})
			synctest.Test(t, func(t *testing.T) {
				w, f := hamburgers()
				f.extra = []string{"STARTTLS"}
				f.answer = func(_ *far, line string) string {
					if line == "STARTTLS" {
						return reply
					}
					return ""
				}
				sendTo(t, p, ketchup, "al@hamburger.edu")
				after(t, w.runner(p), 30*time.Minute)
				if got := f.got() == "al@hamburger.edu 1"; got != sent {
					t.Errorf("%s, %s: sent %v", options, reply, got)
				}
				if asked := count(f, "STARTTLS") > 0; asked != (options != "tls=none") {
					t.Errorf("%s, %s: asked for TLS %v %q", options, reply, asked, f.lines)
				}
				if !sent && (len(waiting(t, p)) != 1 || count(f, "MAIL FROM:<alice@crepes.fr>") > 0) {
					t.Errorf("%s, %s: %q", options, reply, f.lines)
				}
			})
		}
	}
}

// Many messages for one host share a connection.
func TestConnectionsAreUsedAgain(t *testing.T) {
	p := newPost(t, map[string]string{"routes": "* 192.0.2.5:2525 tls=none\n"})
	synctest.Test(t, func(t *testing.T) {
		f := &far{}
		w := &world{hosts: map[string]*far{"192.0.2.5:2525": f}}
		for i := range 20 {
			sendTo(t, p, ketchup, fmt.Sprintf("al@host%d.edu", i))
		}
		r := w.runner(p)
		r.Workers = 1
		if err := r.Pass(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if len(w.dials) != 1 || len(f.taken) != 20 {
			t.Errorf("%d connections for %d messages", len(w.dials), len(f.taken))
		}
	})
}

func TestPauses(t *testing.T) {
	r := &Runner{}
	var last time.Duration
	for tries := 1; tries < 50; tries++ {
		low, high := time.Duration(1<<62), time.Duration(0)
		for range 100 {
			d := r.pause(tries)
			low, high = min(low, d), max(high, d)
		}
		want := min(5*time.Minute<<min(tries-1, 10), 4*time.Hour)
		if low < want*7/8-time.Second || high > want*9/8+time.Second || low == high {
			t.Errorf("after %d tries %v to %v, not about %v", tries, low, high, want)
		}
		if high < last {
			t.Errorf("after %d tries shorter", tries)
		}
		last = low
	}
}

// A report that cannot be delivered is not reported.
func TestNoReportOnAReport(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		f.answer = times(100, "RCPT", "550 5.1.1 nobody")
		m := Message{From: "al@hamburger.edu", To: []Recipient{{Address: "bo@hamburger.edu"}, {Address: "co@hamburger.edu", Notify: "NEVER"}}}
		if _, err := p.Send(t.Context(), m, strings.NewReader(ketchup)); err != nil {
			t.Fatal(err)
		}
		after(t, w.runner(p), time.Hour)
		if left := waiting(t, p); len(left) > 0 || count(f, "RCPT TO:<al@hamburger.edu>") != 1 || count(f, "MAIL FROM:<>") != 1 {
			t.Errorf("%v, %q", left, f.lines)
		}
	})
}

// What comes back is a multipart/report of three parts (RFC 3464, RFC 6522).
func TestReportIsWellFormed(t *testing.T) {
	for _, ret := range []string{"FULL", "HDRS"} {
		p := newPost(t, nil)
		synctest.Test(t, func(t *testing.T) {
			w, f := hamburgers()
			f.answer = times(100, "RCPT", "550-5.1.1 first line\r\n550 5.1.1 second line")
			m := Message{From: "alice@crepes.fr", Envid: "Q+3D1", Ret: ret, To: []Recipient{{Address: "al@hamburger.edu", Orcpt: "rfc822;big+2Bal@x.org"}}}
			if _, err := p.Send(t.Context(), m, strings.NewReader(ketchup)); err != nil {
				t.Fatal(err)
			}
			after(t, w.runner(p), time.Minute)
			back := mail(t, p, "alice")
			if len(back) != 1 {
				t.Fatalf("%d reports", len(back))
			}
			h, err := ReadHeader(bufio.NewReader(strings.NewReader(back[0])))
			if err != nil {
				t.Fatal(err)
			}
			kind, _ := h.Get("Content-Type")
			_, boundary, _ := strings.Cut(kind, `boundary="`)
			boundary = strings.TrimSuffix(boundary, `"`)
			parts := strings.Split(back[0], "\n--"+boundary)
			if !strings.HasPrefix(kind, "multipart/report; report-type=delivery-status;") || len(parts) != 5 || parts[4] != "--\n" {
				t.Fatalf("%s, %d parts:\n%s", kind, len(parts), back[0])
			}
			for _, want := range []string{
				"\nOriginal-Envelope-Id: Q=1\nReporting-MTA: dns; crepes.fr\n",
				"\n\nOriginal-Recipient: rfc822;big+al@x.org\nFinal-Recipient: rfc822; al@hamburger.edu\nAction: failed\nStatus: 5.1.1\n",
				"Diagnostic-Code: smtp; 550 5.1.1 first line / second line\n",
			} {
				if !strings.Contains(parts[2], want) {
					t.Errorf("no %q in\n%s", want, parts[2])
				}
			}
			if whole := strings.Contains(parts[3], "Do you like ketchup?"); whole != (ret == "FULL") || !strings.Contains(parts[3], "Subject: ketchup") {
				t.Errorf("with RET=%s\n%s", ret, parts[3])
			}
			for _, f := range []string{"Auto-Submitted", "Date", "Message-ID", "From", "To", "Subject", "MIME-Version"} {
				if !h.Has(f) {
					t.Errorf("no %s", f)
				}
			}
		})
	}
}

// Mail of the queue for this host goes into its Maildirs, by all the ways an
// alias can lead.
func TestQueuedMailForThisHost(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		m := Message{From: "al@hamburger.edu", QueueOnly: true}
		for _, to := range []string{"alice@crepes.fr", "both@CREPES.FR", "half@crepes.fr", "away@crepes.fr", "nobody@crepes.fr", "who@crepes.fr"} {
			m.To = append(m.To, Recipient{Address: to})
		}
		if _, err := p.Send(t.Context(), m, strings.NewReader("Return-Path: <x@y>\nSubject: x\n\nbody\n")); err != nil {
			t.Fatal(err)
		}
		after(t, w.runner(p), time.Hour)
		if a, b := len(mail(t, p, "alice")), len(mail(t, p, "bob")); a != 2 || b != 2 {
			t.Errorf("alice has %d, bob %d", a, b)
		}
		// al has two copies, and a report on who.
		if got := len(f.taken["al@hamburger.edu"]); got != 3 || len(waiting(t, p)) > 0 {
			t.Errorf("al has %d; in the queue: %v", got, waiting(t, p))
		}
		for _, text := range mail(t, p, "alice") {
			if !strings.HasPrefix(text, "Return-Path: <al@hamburger.edu>\nDelivered-To: ") || strings.Contains(text, "x@y") {
				t.Errorf("%s", text)
			}
		}
	})
}

// SIGTERM lets a transaction in progress finish, and starts no other.
func TestStopFinishesTheTransaction(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		ctx, stop := context.WithCancel(t.Context())
		f.answer = func(_ *far, line string) string {
			if line == "DATA" {
				stop()
				time.Sleep(5 * time.Second)
			}
			return ""
		}
		sendTo(t, p, ketchup, "al@hamburger.edu")
		sendTo(t, p, ketchup, "bo@hamburger.edu")
		r := w.runner(p)
		r.Workers = 1
		if err := r.Pass(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if f.got() == "" || len(waiting(t, p)) != 1 {
			t.Errorf("%q, %v", f.got(), waiting(t, p))
		}
	})
}

// A message that is none does not stop the others.
func TestDamagedMessagesAreSetAside(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		sendTo(t, p, ketchup, "al@hamburger.edu")
		q, _ := p.Queue()
		bad := filepath.Join(q.Dir(), "new", "bad")
		os.WriteFile(bad, []byte("Hello\n"), 0o600)
		after(t, w.runner(p), time.Minute)
		if f.got() != "al@hamburger.edu 1" {
			t.Error(f.got())
		}
		if _, err := os.Stat(filepath.Join(q.Dir(), "cur", "bad")); err != nil {
			t.Error(err)
		}
	})
}

// A runner that is killed while it lays mail into a Maildir neither loses a
// message nor doubles it.
func TestKilledRunners(t *testing.T) {
	if dir := os.Getenv("DELIVERY_TEST_OFFICE"); dir != "" {
		if err := (&Runner{Post: openPost(t, dir), Workers: 4}).Pass(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return
	}
	p := newPost(t, nil)
	const n = 60
	for i := range n {
		m := Message{From: "alice@crepes.fr", QueueOnly: true, To: []Recipient{{Address: "bob@crepes.fr"}, {Address: "alice@crepes.fr"}}}
		if i%10 == 0 {
			m.To = append(m.To, Recipient{Address: "who@crepes.fr"})
		}
		if _, err := p.Send(t.Context(), m, strings.NewReader(fmt.Sprintf("Subject: message %d\n\nx\n", i))); err != nil {
			t.Fatal(err)
		}
	}
	kills := 0
	for len(waiting(t, p)) > 0 {
		cmd := exec.Command(os.Args[0], "-test.run=TestKilledRunners$")
		cmd.Env = append(os.Environ(), "DELIVERY_TEST_OFFICE="+p.Office.Dir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kills++; kills < 200 {
			time.Sleep(time.Duration(10+rand.IntN(50)) * time.Millisecond)
			cmd.Process.Kill()
		}
		cmd.Wait()
	}
	// What the dead have left in tmp is cleaned up one day: only new counts.
	for user, reports := range map[string]int{"bob": 0, "alice": n / 10} {
		u, _ := p.Office.Lookup(user + "@crepes.fr")
		files, _ := filepath.Glob(filepath.Join(u.Maildir, "new", "*"))
		seen := map[string]int{}
		for _, f := range files {
			text, _ := os.ReadFile(f)
			_, subject, _ := strings.Cut(string(text), "\nSubject: ")
			subject, _, _ = strings.Cut(subject, "\n")
			seen[subject]++
		}
		for i := range n {
			if subject := fmt.Sprintf("message %d", i); seen[subject] != 1 {
				t.Errorf("%s has %q %d times", user, subject, seen[subject])
			}
		}
		if seen["Undelivered mail returned to sender"] != reports {
			t.Errorf("%s has %d reports", user, seen["Undelivered mail returned to sender"])
		}
	}
	t.Logf("killed %d times", kills)
}

// Two runners on one queue send nothing twice.
func TestTwoRunners(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		for i := range 30 {
			sendTo(t, p, ketchup, fmt.Sprintf("u%d@hamburger.edu", i))
		}
		done := make(chan error)
		for range 2 {
			go func() { done <- w.runner(p).Pass(t.Context(), nil) }()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(f.taken) != 30 || len(waiting(t, p)) > 0 || slices.ContainsFunc(slices.Collect(valuesOf(f.taken)), func(m []string) bool { return len(m) != 1 }) {
			t.Errorf("%s; %v", f.got(), waiting(t, p))
		}
	})
}

func valuesOf[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// After a crash between the note and the rename, or the rename and the note.
func TestSettle(t *testing.T) {
	for _, crash := range []string{"before the rename", "after the rename", "Maildir gone"} {
		p := newPost(t, nil)
		m := Message{From: "alice@crepes.fr", QueueOnly: true, To: []Recipient{{Address: "bob@crepes.fr"}}}
		receipt, err := p.Take(t.Context(), m, strings.NewReader(ketchup))
		if err != nil {
			t.Fatal(err)
		}
		q, _ := p.Queue()
		e, _ := q.Find(receipt.Queued[0])
		i, err := q.Take(e)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := p.Office.Lookup("bob@crepes.fr")
		box := filepath.Join(u.Maildir)
		for _, sub := range []string{"tmp", "new", "cur"} {
			os.MkdirAll(filepath.Join(box, sub), 0o700)
		}
		os.WriteFile(filepath.Join(box, map[bool]string{true: "tmp", false: "new"}[crash == "before the rename"], "1.x.y"), []byte("Subject: x\n"), 0o600)
		i.Note(time.Now(), queue.Note{To: 0, Word: queue.Storing, Text: filepath.Join(box, "new", "1.x.y")})
		i.Close()
		if crash == "Maildir gone" {
			os.RemoveAll(box)
		}
		if err := (&Runner{Post: p}).Pass(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if crash == "Maildir gone" {
			if err := (&Runner{Post: p}).Pass(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(mail(t, p, "bob")); got != 1 || len(waiting(t, p)) > 0 {
			t.Errorf("%s: %d messages, in the queue %v", crash, got, waiting(t, p))
		}
	}
}

// Another runner is killed with a message in hand: nothing in the directory
// changes, and yet the message goes on its way.
func TestRunTakesOver(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		sendTo(t, p, ketchup, "al@hamburger.edu")
		q, _ := p.Queue()
		list, _ := q.List()
		i, err := q.Take(list[0])
		if err != nil {
			t.Fatal(err)
		}
		past := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(q.Dir(), "new"), past, past); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Minute, func() { i.Close() })
		after(t, w.runner(p), 12*time.Minute)
		if got := f.got(); got != "al@hamburger.edu 1" {
			t.Errorf("arrived: %s", got)
		}
	})
}

// The clock was some years fast when a message was put off.
func TestRunClockWasWrong(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		for range 3 {
			sendTo(t, p, ketchup, "al@hamburger.edu")
		}
		q, _ := p.Queue()
		list, _ := q.List()
		for n, years := range []int{0, 4, 5} {
			i, err := q.Take(list[n])
			if err != nil {
				t.Fatal(err)
			}
			if err := i.Later(time.Now().AddDate(years, 0, 0).Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			i.Close()
		}
		after(t, w.runner(p), time.Minute)
		if got := f.got(); got != "al@hamburger.edu 2" {
			t.Errorf("arrived: %s", got)
		}
	})
}

// A spool that cannot be made is not so for ever, one that is taken away is made
// again, and another one that the post office names is used at once.
func TestSpoolChanges(t *testing.T) {
	p := newPost(t, map[string]string{"spool": "in the way"})
	spool := p.Office.Spool()
	m := Message{From: "alice@crepes.fr", To: []Recipient{{Address: "al@hamburger.edu"}}}
	try := func() error {
		_, err := p.Take(t.Context(), m, strings.NewReader(ketchup))
		return err
	}
	if err := try(); err == nil {
		t.Fatal("a file is no spool")
	}
	if err := os.Remove(spool); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(spool); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Office.Dir(), "mail"), []byte("mailbox box/%n\nspool elsewhere\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{spool, filepath.Join(p.Office.Dir(), "elsewhere")} {
		if list, _ := os.ReadDir(filepath.Join(dir, "new")); len(list) != 1 {
			t.Errorf("%s: %v", dir, list)
		}
	}
}

// No part of a report has more bits than the whole says (RFC 2045 §6.4).
func TestReportEncoding(t *testing.T) {
	for text, want := range map[string]string{"plain": "7bit", "cr\u00eape": "8bit"} {
		t.Run(want, func(t *testing.T) {
			p := newPost(t, nil)
			synctest.Test(t, func(t *testing.T) {
				w, f := hamburgers()
				f.answer = times(9, "RCPT", "550 5.1.1 no")
				sendTo(t, p, "Subject: "+text+"\n\n"+text+"\n", "al@hamburger.edu")
				after(t, w.runner(p), time.Minute)
			})
			got := mail(t, p, "alice")
			if len(got) != 1 {
				t.Fatalf("%d reports", len(got))
			}
			top, parts, _ := strings.Cut(got[0], "\n\n")
			if strings.Contains(top, "8bit") != (want == "8bit") {
				t.Errorf("the whole:\n%s", top)
			}
			if strings.Count(parts, "Content-Transfer-Encoding: "+want+"\n") != 2 || strings.Count(parts, "Encoding: ") != 2 {
				t.Errorf("the parts:\n%s", parts)
			}
		})
	}
}

// On a full disk nobody gets a message whose delivery could not be noted, and
// that would be sent again and again.
func TestRunFullDisk(t *testing.T) {
	p := newPost(t, map[string]string{"spool/.keep": ""})
	spool := p.Office.Spool()
	if err := unix.Mount("tmpfs", spool, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("needs a file system of its own:", err)
	}
	t.Cleanup(func() { unix.Unmount(spool, unix.MNT_DETACH) })
	// The file ends just before a page does.
	sendTo(t, p, ketchup, "al@hamburger.edu")
	q, _ := p.Queue()
	list, _ := q.List()
	fi, err := os.Stat(filepath.Join(spool, "new", list[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(spool, "new", list[0].ID))
	sendTo(t, p, ketchup+strings.Repeat("x", int(4096-fi.Size()%4096)-3)+"\n", "al@hamburger.edu")
	full := filepath.Join(spool, "fill")
	if err := os.WriteFile(full, make([]byte, 64<<10), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	w, f := hamburgers()
	for range 3 {
		if err := w.runner(p).Pass(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.got(); got != "" {
		t.Errorf("arrived: %s", got)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if err := w.runner(p).Pass(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := f.got(); got != "al@hamburger.edu 1" {
		t.Errorf("arrived: %s", got)
	}
}
