package delivery

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pennypost/cmd/internal/account"
)

func TestCheck(t *testing.T) {
	p := newPost(t, nil)
	for addr, want := range map[string]error{
		"alice@crepes.fr":      nil,
		"ALICE@Crepes.FR":      nil,
		"both@crepes.fr":       nil,
		"away@crepes.fr":       nil,
		"postmaster":           nil,
		"postmaster@crepes.fr": nil,
		"who@crepes.fr":        account.ErrUnknown,
		"who@far.org":          ErrRemote,
	} {
		if err := p.Check(addr); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	var refusal *Refusal
	if err := p.Check("program@crepes.fr"); !errors.As(err, &refusal) || !refusal.Temporary() {
		t.Errorf("a program: %v", err)
	}
}

func TestSendSpreadsTheMail(t *testing.T) {
	p := newPost(t, nil)
	m := Message{From: "al@hamburger.edu", Trace: "Received: by crepes.fr; now\n"}
	for _, to := range []string{"both@crepes.fr", "bob@crepes.fr", "al@hamburger.edu", "half@crepes.fr", "nobody@crepes.fr", "who@crepes.fr"} {
		m.To = append(m.To, Recipient{Address: to})
	}
	receipt, err := p.Take(t.Context(), m, strings.NewReader("Return-Path: <forged>\r\nSubject: x\r\n\r\nbody\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "Return-Path: <al@hamburger.edu>\nReceived: by crepes.fr; now\nSubject: x\n\nbody\n"
	for _, user := range []string{"alice", "bob"} {
		if got := mail(t, p, user); len(got) != 1 || got[0] != want {
			t.Errorf("%s has %q", user, got)
		}
	}
	q, _ := p.Queue()
	var to []string
	for _, id := range receipt.Queued {
		e, _ := q.Find(id)
		i, err := q.Look(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range i.To {
			to = append(to, r.Address)
		}
		text, _ := io.ReadAll(i.Message())
		if forwarded := strings.HasPrefix(string(text), "Delivered-To: half@crepes.fr\n"); forwarded != (len(i.To) == 1) {
			t.Errorf("for %v: %q", i.To, text)
		}
		i.Close()
	}
	if got := fmt.Sprint(to); got != "[al@hamburger.edu who@crepes.fr al@hamburger.edu]" {
		t.Errorf("queued for %s", got)
	}
	// Alone, somebody gets his name on top.
	sendTo(t, p, "Subject: y\n\n", "alice@crepes.fr")
	if got := mail(t, p, "alice"); len(got) != 2 || !strings.Contains(strings.Join(got, ""), "Return-Path: <alice@crepes.fr>\nDelivered-To: alice@crepes.fr\nSubject: y\n") {
		t.Errorf("%q", got)
	}
}

func TestSendRefuses(t *testing.T) {
	p := newPost(t, nil)
	hops := strings.Repeat("Received: from a by b; now\n", 150)
	for name, c := range map[string]struct {
		text, to, want string
	}{
		"too many hosts":     {hops + "\nx\n", "alice@crepes.fr", "554 5.4.6"},
		"here before":        {"Delivered-To: Alice@crepes.fr\n\nx\n", "alice@crepes.fr", "554 5.4.6"},
		"here, as an alias":  {"Delivered-To: half@crepes.fr\n\nx\n", "half@crepes.fr", "554 5.4.6"},
		"nobody":             {"x\n", "who@crepes.fr", account.ErrUnknown.Error()},
		"a program":          {"x\n", "program@crepes.fr", "451 4.3.5"},
		"no such far domain": {"x\n", "al@hamburger.edu\n", "553 5.1.3"},
	} {
		m := Message{From: "al@hamburger.edu", To: []Recipient{{Address: c.to}}}
		if _, err := p.Send(t.Context(), m, strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Send(t.Context(), Message{}, strings.NewReader("x\n")); err == nil {
		t.Error("without recipients")
	}
	if len(mail(t, p, "alice"))+len(waiting(t, p)) > 0 {
		t.Error("something was delivered")
	}
}

// A message that cannot be read to its end goes to nobody.
func TestHalfAMessageIsNone(t *testing.T) {
	p := newPost(t, nil)
	for _, text := range []string{"", "Subject: x\n", "Subject: x\n\nhalf of", strings.Repeat("x\n", 100000)} {
		m := Message{To: []Recipient{{Address: "alice@crepes.fr"}, {Address: "bob@crepes.fr"}, {Address: "al@hamburger.edu"}, {Address: "half@crepes.fr"}}}
		r := io.MultiReader(strings.NewReader(text), failing{})
		if _, err := p.Send(t.Context(), m, r); !errors.Is(err, errHangUp) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
	if len(mail(t, p, "alice"))+len(mail(t, p, "bob"))+len(waiting(t, p)) > 0 {
		t.Error("something was delivered")
	}
	if left, _ := filepath.Glob(filepath.Join(p.Office.Spool(), "tmp", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

var errHangUp = errors.New("hung up")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errHangUp }

// Who cannot be served now, while others can, is served later.
func TestTroubleWithOneMailbox(t *testing.T) {
	p := newPost(t, nil)
	u, _ := p.Office.Lookup("bob@crepes.fr")
	os.MkdirAll(filepath.Dir(u.Maildir), 0o755)
	if err := os.WriteFile(u.Maildir, nil, 0o644); err != nil { // no directory
		t.Fatal(err)
	}
	sendTo(t, p, ketchup, "bob@crepes.fr", "alice@crepes.fr")
	if len(mail(t, p, "alice")) != 1 || len(waiting(t, p)) != 1 {
		t.Errorf("in the queue: %v", waiting(t, p))
	}
	m := Message{To: []Recipient{{Address: "bob@crepes.fr"}}}
	if _, err := p.Send(t.Context(), m, strings.NewReader(ketchup)); err == nil || len(waiting(t, p)) != 1 {
		t.Errorf("alone: %v", err)
	}
	os.Remove(u.Maildir)
	if err := (&Runner{Post: p}).Pass(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := mail(t, p, "bob"); len(got) != 1 || len(waiting(t, p)) != 0 {
		t.Errorf("bob has %q, in the queue: %v", got, waiting(t, p))
	}
}

// A mailbox that breaks at the last moment, when others have the message: it is
// queued for that user, from the file of one who has it.
func TestTroubleAtTheLastMoment(t *testing.T) {
	for _, broken := range []string{"alice", "bob"} {
		p := newPost(t, nil)
		sendTo(t, p, ketchup, "alice@crepes.fr", "bob@crepes.fr") // makes the Maildirs
		u, _ := p.Office.Lookup(broken + "@crepes.fr")
		box := filepath.Join(u.Maildir, "new")
		r := io.MultiReader(strings.NewReader("Subject: second\n\nx\n"), last(func() { os.RemoveAll(box); os.WriteFile(box, nil, 0o600) }))
		m := Message{From: "al@hamburger.edu", To: []Recipient{{Address: "alice@crepes.fr"}, {Address: "bob@crepes.fr"}}}
		receipt, err := p.Take(t.Context(), m, r)
		if err != nil || len(receipt.Queued) != 1 {
			t.Fatalf("%+v, %v", receipt, err)
		}
		os.Remove(box)
		os.Mkdir(box, 0o700)
		if err := (&Runner{Post: p}).Pass(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for user, n := range map[string]int{"alice": 2, "bob": 2} {
			if user == broken {
				n = 1
			}
			got := mail(t, p, user)
			if text := strings.Join(got, ""); len(got) != n || strings.Count(text, "Subject: second") != 1 || strings.Count(text, "Return-Path: <al@hamburger.edu>") != 1 {
				t.Errorf("%s has %q", user, got)
			}
		}
	}
}

// last does something when everything before it has been read.
type last func()

func (l last) Read([]byte) (int, error) {
	l()
	return 0, io.EOF
}

func TestSubmission(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 24, 9, 0, time.UTC)
	const added = "From: Alice <alice@crepes.fr>\nDate: Mon, 23 Nov 2026 12:24:09 +0000\nMessage-ID: <x7@crepes.fr>\nTo: undisclosed-recipients:;\n"
	for in, want := range map[string]string{
		"":                                    added + "\n",
		"Do you like ketchup?\nx: y\n":        added + "\nDo you like ketchup?\nx: y\n",
		"\nbody\n":                            added + "\nbody\n",
		"From x@y Mon\nSubject: a\n\nFrom me": "Subject: a\n" + added + "\nFrom me",
		"From: a@b\nDate: now\nMessage-Id: <1>\nCc: c@d\n\nx":                                                                       "From: a@b\nDate: now\nMessage-Id: <1>\nCc: c@d\n\nx",
		"from : a@b\ndate:\nmessage-id:x\nTO: c@d\nBcc: e@f,\n\tg@h\nResent-bcc: i\nreturn-path: <x>\nContent-Length: 7\nX: y\n\nx": "from : a@b\ndate:\nmessage-id:x\nTO: c@d\nX: y\n\nx",
		"To: c@d\nFrom: a@b\nDate: now\nMessage-Id: <1>":                                                                            "To: c@d\nFrom: a@b\nDate: now\nMessage-Id: <1>\n\n",
		"To: c@d\r\nFrom: a@b\r\n c\r\nDate: now\r\nMessage-Id: <1>\r\n\r\nx\r\n":                                                   "To: c@d\r\nFrom: a@b\r\n c\r\nDate: now\r\nMessage-Id: <1>\r\n\r\nx\r\n",
		" leading blank: x\n":           added + "\n leading blank: x\n",
		":x\n":                          added + "\n:x\n",
		"Subject: x\nno field\nTo: y\n": "Subject: x\n" + added + "\nno field\nTo: y\n",
	} {
		r := bufio.NewReader(strings.NewReader(in))
		h, err := ReadHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		h.submit(&Message{From: "alice@crepes.fr", Name: "Alice"}, "crepes.fr", "x7", at)
		rest, _ := io.ReadAll(r)
		if got := string(h.Bytes()) + string(rest); got != want {
			t.Errorf("%q became\n%q, not\n%q", in, got, want)
		}
	}
}

func TestMailbox(t *testing.T) {
	for name, want := range map[string]string{
		"":                "a@b",
		"Alice":           "Alice <a@b>",
		"Alice B. Crepe":  `"Alice B. Crepe" <a@b>`,
		`A "B" \`:         `"A \"B\" \\" <a@b>`,
		"Crêpe":           "=?utf-8?q?Cr=C3=AApe?= <a@b>",
		"x\nBcc: y\r\n z": `"x Bcc: y z" <a@b>`,
	} {
		if got := Mailbox(name, "a@b"); got != want {
			t.Errorf("%q: %s, not %s", name, got, want)
		}
	}
}

// A header over 1 MiB is not held in memory; nothing of it is lost.
func TestLongHeader(t *testing.T) {
	text := "Subject: x\nX: " + strings.Repeat("y", 3<<20) + "\nTo: z\n\nbody\n"
	r := bufio.NewReader(strings.NewReader(text))
	h, err := ReadHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	head := h.Bytes()
	rest, _ := io.ReadAll(r)
	if h.Whole || len(head) > maxHeader+64<<10 || string(head)+string(rest) != text {
		t.Errorf("whole %v, %d octets of header, %d in all of %d", h.Whole, len(head), len(head)+len(rest), len(text))
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("From a\nSubject: x\n y\n\nbody")
	f.Add("A : b\r\nC:d\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := bufio.NewReader(strings.NewReader(text))
		h, err := ReadHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(r)
		got := string(h.Bytes()) + string(rest)
		again, err := ReadHeader(bufio.NewReader(strings.NewReader(got)))
		if err != nil || h.Mbox == "" && len(again.Fields) != len(h.Fields) {
			t.Fatalf("%q: %d fields, then %d in %q", text, len(h.Fields), len(again.Fields), got)
		}
		for _, f := range h.Fields {
			if strings.ContainsAny(f.Body(), "\n") || f.Name == "" {
				t.Fatalf("%q: field %q", text, f)
			}
		}
		h.submit(&Message{From: "a@b"}, "me", "id", time.Unix(0, 0))
		if h.Has("Bcc") || h.Whole && !h.Has("From") {
			t.Fatalf("%q: %q", text, h.Bytes())
		}
	})
}

func BenchmarkSend(b *testing.B) {
	p := newPost(b, nil)
	text := ketchup + strings.Repeat("Do you like ketchup?\n", 100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		sendTo(b, p, text, "alice@crepes.fr")
	}
}

// What stands beyond the part of a header that is read may be a Bcc.
func TestSubmitLongHeader(t *testing.T) {
	p := newPost(t, nil)
	text := strings.Repeat("X-Filler: "+strings.Repeat("x", 990)+"\n", 1100) + "Bcc: secret@far.org\n\nbody\n"
	m := Message{From: "al@hamburger.edu", To: []Recipient{{Address: "bob@crepes.fr"}}, Submission: true}
	var refusal *Refusal
	if _, err := p.Take(t.Context(), m, strings.NewReader(text)); !errors.As(err, &refusal) || refusal.Temporary() {
		t.Errorf("submission: %v", err)
	}
	m.Submission = false
	if _, err := p.Take(t.Context(), m, strings.NewReader(text)); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	if got := mail(t, p, "bob"); len(got) != 1 || !strings.HasSuffix(got[0], text) {
		t.Errorf("%d messages", len(got))
	}
}

// Where we may not deliver, the queue runner may.
func TestSendPatiently(t *testing.T) {
	p := newPost(t, nil)
	u, err := p.Office.Lookup("bob@crepes.fr")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.Maildir, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := Message{From: "al@hamburger.edu", To: []Recipient{{Address: "bob@crepes.fr"}}}
	if r, err := p.Take(t.Context(), m, strings.NewReader(ketchup)); err == nil {
		t.Errorf("in haste: %v", r)
	}
	m.Patient = true
	if r, err := p.Take(t.Context(), m, strings.NewReader(ketchup)); err != nil || len(r.Queued) != 1 {
		t.Errorf("patiently: %v, %v", r, err)
	}
	m.To = []Recipient{{Address: "program@crepes.fr"}}
	if r, err := p.Take(t.Context(), m, strings.NewReader(ketchup)); err == nil {
		t.Errorf("a program: %v", r)
	}
	if err := os.Remove(u.Maildir); err != nil {
		t.Fatal(err)
	}
	if err := (&Runner{Post: p}).Pass(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := mail(t, p, "bob"); len(got) != 1 || !strings.HasSuffix(got[0], ketchup) {
		t.Errorf("bob has %q", got)
	}
}
