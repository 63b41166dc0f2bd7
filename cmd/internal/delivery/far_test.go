package delivery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pennypost/cmd/internal/account"
)

// newPost makes the post office crepes.fr with alice and bob in it.
func newPost(t testing.TB, more map[string]string) *Post {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"me":                        "crepes.fr\n",
		"mail":                      "mailbox box/%n\nspool spool\n",
		"domains/crepes.fr/users":   "alice:{PLAIN}hungry::::::\nbob:{PLAIN}hungry::::::\n",
		"domains/crepes.fr/aliases": "both: alice, bob\naway: al@hamburger.edu\nhalf: bob, al@hamburger.edu\nnobody: /dev/null\nprogram: |cat\n",
		"box/.keep":                 "",
	}
	maps.Copy(files, more)
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return openPost(t, dir)
}

func openPost(t testing.TB, dir string) *Post {
	t.Helper()
	office, err := account.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	office.Log = slog.New(slog.DiscardHandler)
	return &Post{Office: office}
}

// mail is what lies in a user's Maildir.
func mail(t testing.TB, p *Post, user string) (all []string) {
	t.Helper()
	u, err := p.Office.Lookup(user + "@crepes.fr")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(u.Maildir, "new", "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	if left, _ := filepath.Glob(filepath.Join(u.Maildir, "tmp", "*")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	return all
}

// waiting is what lies in the queue.
func waiting(t testing.TB, p *Post) (ids []string) {
	t.Helper()
	q, err := p.Queue()
	if err != nil {
		t.Fatal(err)
	}
	list, err := q.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

func sendTo(t testing.TB, p *Post, text string, to ...string) {
	t.Helper()
	m := Message{From: "alice@crepes.fr"}
	for _, addr := range to {
		m.To = append(m.To, Recipient{Address: addr})
	}
	if _, err := p.Send(t.Context(), m, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// A world is a fake internet: names, and hosts that take mail.
type world struct {
	mx    map[string][]*net.MX
	addr  map[string]string
	down  map[string]bool // no connection to this address
	dns   error           // what every question gets
	hosts map[string]*far // by address

	mu    sync.Mutex
	dials []string
}

func (w *world) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if w.dns != nil {
		return nil, w.dns
	}
	if mx := w.mx[strings.TrimSuffix(name, ".")]; mx != nil {
		return mx, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *world) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	if w.dns != nil {
		return nil, w.dns
	}
	if a := w.addr[strings.TrimSuffix(name, ".")]; a != "" {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *world) dial(_ context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	w.dials = append(w.dials, addr)
	w.mu.Unlock()
	h := w.hosts[addr]
	if h == nil || w.down[addr] {
		return nil, errors.New("connection refused")
	}
	us, them := net.Pipe()
	go h.serve(them)
	return us, nil
}

func (w *world) runner(p *Post) *Runner {
	return &Runner{Post: p, Resolver: w, Dial: w.dial}
}

// A far host takes mail, or does otherwise: answer may give any reply of its
// own to a line; "hang up" leaves the client alone, "" is the usual.
type far struct {
	mu     sync.Mutex
	taken  map[string][]string // recipient -> messages
	lines  []string
	answer func(f *far, line string) string
	extra  []string // of EHLO
}

func (f *far) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	var to []string
	say := func(s string) bool {
		_, err := io.WriteString(nc, s+"\r\n")
		return err == nil
	}
	reply := func(line, usual string) (string, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lines = append(f.lines, line)
		if f.answer != nil {
			if s := f.answer(f, line); s == "hang up" {
				return "", false
			} else if s != "" {
				return s, true
			}
		}
		return usual, true
	}
	s, ok := reply("greeting", "220 far")
	for ok && say(s) {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, _, _ := strings.Cut(line, " ")
		usual := "250 ok"
		switch verb {
		case "EHLO":
			to = nil
			usual = "250-far"
			for _, e := range f.extra {
				usual += "\r\n250-" + e
			}
			usual += "\r\n250 HELP"
		case "DATA":
			usual = "354 go"
		case "QUIT":
			say("221 bye")
			return
		case "RSET", "MAIL":
			to = nil
		}
		if s, ok = reply(line, usual); !ok {
			return
		}
		if verb == "RCPT" && s[0] == '2' {
			_, addr, _ := strings.Cut(line, "<")
			addr, _, _ = strings.Cut(addr, ">")
			to = append(to, addr)
		}
		if verb == "DATA" && s[0] == '3' {
			say(s)
			var text strings.Builder
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(l, "."))
			}
			if s, ok = reply(".", "250 taken"); ok && s[0] == '2' {
				f.mu.Lock()
				for _, addr := range to {
					if f.taken == nil {
						f.taken = map[string][]string{}
					}
					f.taken[addr] = append(f.taken[addr], text.String())
				}
				f.mu.Unlock()
			}
			to = nil
		}
	}
}

// got is how often each recipient has the message.
func (f *far) got() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var s []string
	for _, addr := range slices.Sorted(maps.Keys(f.taken)) {
		s = append(s, fmt.Sprintf("%s %d", addr, len(f.taken[addr])))
	}
	return strings.Join(s, ", ")
}
