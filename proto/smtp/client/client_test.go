package client

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/proto/sasl"
)

// play is a server that follows a script, line by line: "S:" it says, "C:" it
// expects, "S|" it says without a line end, "tls" shakes hands, "wait" stays
// silent, and at the end it hangs up.
func play(t *testing.T, nc net.Conn, script string) {
	t.Helper()
	defer func() { nc.Close() }()
	r := bufio.NewReader(nc)
	for line := range strings.Lines(script) {
		line = strings.Trim(line, "\t\n")
		what, text, _ := strings.Cut(line, " ")
		switch what {
		case "":
		case "S:":
			io.WriteString(nc, text+"\r\n")
		case "S|":
			io.WriteString(nc, strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(text))
		case "C:":
			got, err := r.ReadString('\n')
			if err != nil {
				t.Errorf("the client was to say %q: %v", text, err)
				return
			}
			if got != text+"\r\n" {
				t.Errorf("the client said %q, not %q", got, text)
			}
		case "tls":
			s := tls.Server(nc, serverTLS(t))
			if err := s.Handshake(); err != nil {
				return
			}
			nc = s
			r.Reset(s)
		case "wait":
			d, err := time.ParseDuration(text)
			if err != nil {
				panic(err)
			}
			time.Sleep(d)
		default:
			t.Errorf("no line of a script: %s", line)
		}
	}
}

func serverTLS(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"hamburger.edu"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

var bobAndCarol = Envelope{From: "alice@crepes.fr", To: []Recipient{{Address: "bob@hamburger.edu"}, {Address: "carol@hamburger.edu"}}, Size: 42, EightBit: true}

const hello = `
	S: 220 hamburger.edu
	C: EHLO crepes.fr
	S: 250 hamburger.edu
`

const pipelining = `
	S: 220 hamburger.edu
	C: EHLO crepes.fr
	S: 250-hamburger.edu
	S: 250-pipelining
	S: 250-SIZE 1000
	S: 250-DSN
	S: 250 8BITMIME
	C: MAIL FROM:<alice@crepes.fr> SIZE=42 BODY=8BITMIME
	C: RCPT TO:<bob@hamburger.edu>
	C: RCPT TO:<carol@hamburger.edu>
	C: DATA
`

const mailAndRcpt = hello + `
	C: MAIL FROM:<alice@crepes.fr>
	S: 250 ok
	C: RCPT TO:<bob@hamburger.edu>
	S: 250 ok
	C: RCPT TO:<carol@hamburger.edu>
	S: 250 ok
	C: DATA
`

const body = `
	C: Do you like ketchup?
	C: .
`

func TestSend(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         []string // outcomes, or a part of them
		usable       bool
	}{
		{"the textbook", mailAndRcpt + "S: 354 go ahead\n" + body + "S: 250 2.0.0 taken\n", []string{"250 2.0.0 taken", "250 2.0.0 taken"}, true},
		{"in a group", pipelining + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go ahead\n" + body + "S: 250 taken\n", []string{"250 taken", "250 taken"}, true},
		{"mixed", pipelining + "S: 250 ok\nS: 550 5.1.1 no bob\nS: 250 ok\nS: 354 go ahead\n" + body + "S: 250 taken\n", []string{"550 5.1.1 no bob", "250 taken"}, true},
		{"refused after the data", pipelining + "S: 250 ok\nS: 450 later\nS: 250 ok\nS: 354 go ahead\n" + body + "S: 554 spam\n", []string{"450 later", "554 spam"}, true},
		{"sender refused", pipelining + "S: 553 no\nS: 503 no\nS: 503 no\nS: 503 no\nC: RSET\nS: 250 ok\n", []string{"553 no", "553 no"}, true},
		{"all refused, no data", pipelining + "S: 250 ok\nS: 550 no bob\nS: 451 no carol\nS: 554 nobody\nC: RSET\nS: 250 ok\n", []string{"550 no bob", "451 no carol"}, true},
		{"all refused, data all the same", pipelining + "S: 250 ok\nS: 550 no bob\nS: 551 no carol\nS: 354 go on\nC: .\nS: 554 nobody\n", []string{"550 no bob", "551 no carol"}, true},
		{"DATA refused", pipelining + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 452 full\nC: RSET\nS: 250 ok\n", []string{"452 full", "452 full"}, true},
		{"no such answer to DATA", pipelining + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 fine\nC: RSET\nS: 250 ok\n", []string{"451 unexpected", "451 unexpected"}, true},
		{"hangs up after MAIL", pipelining + "S: 250 ok\n", []string{"hung up", "hung up"}, false},
		{"hangs up between recipients", pipelining + "S: 250 ok\nS: 550 no bob\n", []string{"550 no bob", "hung up"}, false},
		{"hangs up after a recipient", pipelining + "S: 250 ok\nS: 250 bob\n", []string{"hung up", "hung up"}, false},
		{"hangs up after a recipient, one by one", hello + "C: MAIL FROM:<alice@crepes.fr>\nS: 250 ok\nC: RCPT TO:<bob@hamburger.edu>\nS: 250 ok\nC: RCPT TO:<carol@hamburger.edu>\n", []string{"hung up", "hung up"}, false},
		{"hangs up before the data", mailAndRcpt, []string{"hung up", "hung up"}, false},
		{"hangs up after the data", mailAndRcpt + "S: 354 go\n" + body, []string{"hung up", "hung up"}, false},
		{"shuts down", mailAndRcpt + "S: 421 4.3.2 going down\n", []string{"421 4.3.2 going down", "421 4.3.2 going down"}, false},
		{"silent after the data", mailAndRcpt + "S: 354 go\n" + body + "wait 11m\n", []string{"timeout", "timeout"}, false},
		{"slow after the data", mailAndRcpt + "S: 354 go\n" + body + "wait 9m\nS: 250 ok\n", []string{"250 ok", "250 ok"}, true},
		{"an octet a minute", mailAndRcpt + "S: 354 go\n" + body + strings.Repeat("S| 2\nwait 1m\n", 20), []string{"timeout", "timeout"}, false},
		{"no reply at all", mailAndRcpt + "S: HTTP/1.0 200 OK\n", []string{"not a reply", "not a reply"}, false},
		{"two codes in one", mailAndRcpt + "S: 354-go\nS: 250 ok\n", []string{"not a reply", "not a reply"}, false},
		{"control characters", mailAndRcpt + "S: 554 5.7.1 \x1b[31mno\nC: RSET\nS: 250 ok\n", []string{"554 5.7.1 ?[31mno", "554 5.7.1 ?[31mno"}, true},
		{"an endless line", mailAndRcpt + "S| " + strings.Repeat("2", 8192) + "\n", []string{"endless", "endless"}, false},
		{"an endless reply", mailAndRcpt + strings.Repeat("S: 354-x\n", 300), []string{"endless", "endless"}, false},
		{"several lines", mailAndRcpt + "S: 550-5.7.1 not\nS: 550 5.7.1 you\nC: RSET\nS: 250 ok\n", []string{"550 5.7.1 not / you", "550 5.7.1 not / you"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := start(t, c.script, Options{Hello: "crepes.fr"})
				out := conn.Send(t.Context(), bobAndCarol, strings.NewReader("Do you like ketchup?\n"))
				for i, o := range out {
					if !strings.Contains(o.String(), c.want[i]) || o.Err == nil && o.Reply.String() != c.want[i] && !strings.HasPrefix(c.want[i], "451 unexp") {
						t.Errorf("recipient %d: %q, not %q", i, o, c.want[i])
					}
					if o.Delivered() && o.Temporary() {
						t.Errorf("recipient %d: delivered and temporary", i)
					}
				}
				synctest.Wait()
				if conn.Usable() != c.usable {
					t.Errorf("usable: %v", conn.Usable())
				}
				conn.Close()
			})
		})
	}
}

// start connects to a server that follows script.
func start(t *testing.T, script string, o Options) *Conn {
	t.Helper()
	us, them := net.Pipe()
	done := make(chan struct{})
	t.Cleanup(func() { us.Close(); <-done })
	go func() { defer close(done); play(t, them, script) }()
	conn, err := Start(t.Context(), buffered(us), o)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// buffered takes writes without waiting for the reader, as a socket does.
func buffered(nc net.Conn) net.Conn {
	b := &bufferedConn{Conn: nc, out: make(chan []byte, 1000), done: make(chan struct{})}
	go func() {
		for {
			select {
			case p := <-b.out:
				if _, err := nc.Write(p); err != nil {
					<-b.done
					return
				}
			case <-b.done:
				return
			}
		}
	}()
	return b
}

type bufferedConn struct {
	net.Conn
	out  chan []byte
	done chan struct{}
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	select {
	case b.out <- slices.Clone(p):
		return len(p), nil
	case <-b.done:
		return 0, net.ErrClosed
	}
}

func (b *bufferedConn) Close() error {
	select {
	case <-b.done:
	default:
		close(b.done)
	}
	return b.Conn.Close()
}

func TestStart(t *testing.T) {
	for _, c := range []struct {
		name, script, want string
		o                  Options
	}{
		{"refused", "S: 554 go away\nC: QUIT\nS: 221 bye\n", "greeting: 554 go away", Options{}},
		{"silent", "wait 6m\n", "timeout", Options{}},
		{"hangs up", "", "hung up", Options{}},
		{"an old server", "S: 220 hi\nC: EHLO crepes.fr\nS: 500 what\nC: HELO crepes.fr\nS: 250 hi\n", "", Options{}},
		{"an unwilling server", "S: 220 hi\nC: EHLO crepes.fr\nS: 500 what\nC: HELO crepes.fr\nS: 550 no\nC: QUIT\nS: 221 bye\n", "EHLO: 550 no", Options{}},
		{"no TLS, none wanted", hello, "", Options{Encryption: May}},
		{"no TLS, but it must", hello + "C: QUIT\n", "STARTTLS is not offered", Options{Encryption: Must}},
		{"no login", hello + "C: QUIT\n", "no login", Options{Login: plain}},
		{"login", "S: 220 hi\nC: EHLO crepes.fr\nS: 250-hi\nS: 250 AUTH LOGIN PLAIN\nC: AUTH PLAIN AGFsaWNlAGh1bmdyeQ==\nS: 235 2.7.0 ok\n", "", Options{Login: plain}},
		{"login refused", "S: 220 hi\nC: EHLO crepes.fr\nS: 250-hi\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAGh1bmdyeQ==\nS: 535 5.7.8 no\nC: QUIT\n", "AUTH: 535 5.7.8 no", Options{Login: plain}},
		{"LOGIN", "S: 220 hi\nC: EHLO crepes.fr\nS: 250-hi\nS: 250 AUTH LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: aHVuZ3J5\nS: 235 ok\n", "", Options{Login: func([]string) (sasl.Client, error) { return sasl.LoginClient("alice", "hungry"), nil }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				us, them := net.Pipe()
				defer time.Sleep(time.Hour) // until the server has gone
				defer us.Close()
				go play(t, them, c.script)
				c.o.Hello = "crepes.fr"
				c.o.TLS = &tls.Config{ServerName: "hamburger.edu"}
				conn, err := Start(t.Context(), us, c.o)
				if c.want == "" && err == nil {
					conn.Close()
				} else if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, not %q", err, c.want)
				}
			})
		})
	}
}

func plain([]string) (sasl.Client, error) { return sasl.PlainClient("", "alice", "hungry"), nil }

const offersTLS = `
	S: 220 hamburger.edu
	C: EHLO crepes.fr
	S: 250-hamburger.edu
	S: 250-SMTPUTF8
	S: 250 STARTTLS
	C: STARTTLS
`

func TestTLS(t *testing.T) {
	secure := offersTLS + "S: 220 go ahead\ntls\nC: EHLO crepes.fr\nS: 250-hi\nS: 250 SIZE 5\n"
	for _, c := range []struct {
		name, script string
		how          Encryption
		check        func(*Conn, error) bool
	}{
		{"any certificate", secure, May, func(c *Conn, err error) bool {
			_, tls := c.TLS()
			_, size := c.Offers("SIZE")
			_, utf8 := c.Offers("SMTPUTF8") // what was said in the clear counts for nothing
			return err == nil && tls && size && !utf8
		}},
		{"a certificate nobody has signed", secure, Verify, func(_ *Conn, err error) bool {
			_, ok := errors.AsType[*TLSError](err)
			return ok
		}},
		{"a reply behind the 220", strings.Replace(offersTLS, "C: STARTTLS", "C: STARTTLS\nS| 220 go\\r\\n250 SIZE 1\\r\\n", 1), Must, func(_ *Conn, err error) bool {
			return errors.Is(err, ErrInjected)
		}},
		{"not now, and it need not be", offersTLS + "S: 502 no\n", May, func(c *Conn, err error) bool { return err == nil }},
		{"not now, but it must", offersTLS + "S: 502 no\nC: QUIT\n", Must, func(_ *Conn, err error) bool {
			_, ok := errors.AsType[*TLSError](err)
			return ok
		}},
		{"no handshake", offersTLS + "S: 220 go\nwait 50ms\nS: what?\n", May, func(_ *Conn, err error) bool {
			_, ok := errors.AsType[*TLSError](err)
			return ok
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				nc, err := l.Accept()
				if err != nil {
					return
				}
				play(t, nc, c.script)
			}()
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn, err := Start(t.Context(), nc, Options{Hello: "crepes.fr", Encryption: c.how, TLS: &tls.Config{ServerName: "hamburger.edu"}})
			if !c.check(conn, err) {
				t.Errorf("%+v, %v", conn, err)
			}
			if err == nil {
				conn.Close()
			} else {
				nc.Close()
			}
			<-done
		})
	}
}

func TestLMTPAnswersForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := strings.Replace(mailAndRcpt, "EHLO", "LHLO", 1) + "S: 354 go\n" + body + "S: 250 bob has it\nS: 452 carol is full\n"
		conn := start(t, script, Options{Hello: "crepes.fr", LMTP: true})
		out := conn.Send(t.Context(), bobAndCarol, strings.NewReader("Do you like ketchup?\n"))
		if !out[0].Delivered() || out[1].Delivered() || !out[1].Temporary() {
			t.Errorf("%v", out)
		}
		conn.Close()
	})
}

// What the server says it cannot take is not sent.
func TestUnfitMessages(t *testing.T) {
	for _, e := range []Envelope{
		{To: []Recipient{{Address: "jörg@müller.de"}}},
		{To: []Recipient{{Address: "bob@hamburger.edu"}}, Size: 1001},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := start(t, "S: 220 hi\nC: EHLO crepes.fr\nS: 250-hi\nS: 250 SIZE 1000\nC: QUIT\nS: 221 bye\n", Options{Hello: "crepes.fr"})
			if out := conn.Send(t.Context(), e, strings.NewReader("x\n")); out[0].Delivered() || out[0].Temporary() {
				t.Errorf("%v", out)
			}
			conn.Quit()
		})
	}
}

// An address with a line end in it never becomes a second command.
func TestNoCommandInjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := start(t, hello+"C: MAIL FROM:<>\nS: 250 ok\n", Options{Hello: "crepes.fr"})
		out := conn.Send(t.Context(), Envelope{To: []Recipient{{Address: "a>\r\nRCPT TO:<b"}}}, strings.NewReader("x\n"))
		if out[0].Delivered() {
			t.Errorf("%v", out)
		}
		conn.Close()
	})
}

// A message that cannot be read to its end is never ended: the server must not
// take half of it.
func TestBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, them := net.Pipe()
		var heard strings.Builder
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := bufio.NewReader(them)
			fmt.Fprint(them, "220 hi\r\n")
			for {
				line, err := r.ReadString('\n')
				heard.WriteString(line)
				if err != nil {
					return
				}
				if strings.HasPrefix(line, "DATA") {
					fmt.Fprint(them, "354 go\r\n")
				} else if strings.Contains(line, ":<") || strings.HasPrefix(line, "EHLO") {
					fmt.Fprint(them, "250 ok\r\n")
				}
			}
		}()
		conn, err := Start(t.Context(), us, Options{Hello: "crepes.fr"})
		if err != nil {
			t.Fatal(err)
		}
		out := conn.Send(t.Context(), bobAndCarol, io.MultiReader(strings.NewReader("half\n"), broken{}))
		<-done
		if out[0].Delivered() || !out[0].Temporary() || conn.Usable() {
			t.Errorf("%v, usable %v", out, conn.Usable())
		}
		if strings.Contains(heard.String(), "\r\n.\r\n") {
			t.Errorf("the server heard %q", heard.String())
		}
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk trouble") }

func TestEndOfContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(2 * time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		us, them := net.Pipe()
		go play(t, them, "wait 1h\n")
		go func() { time.Sleep(time.Second); cancel() }()
		begun := time.Now()
		if _, err := Start(ctx, us, Options{}); !errors.Is(err, context.Canceled) || time.Since(begun) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// stuffed is what goes over the wire for a message, in pieces of n octets.
func stuffed(text string, n int) string {
	var b strings.Builder
	w := bufio.NewWriter(&b)
	s := stuffer{w: w, start: true}
	for p := []byte(text); len(p) > 0; {
		k := min(n, len(p))
		s.write(p[:k])
		p = p[k:]
	}
	s.close()
	w.Flush()
	return b.String()
}

func TestStuffing(t *testing.T) {
	for text, want := range map[string]string{
		"":                "",
		"a\nb\n":          "a\r\nb\r\n",
		"a\r\nb\r\n":      "a\r\nb\r\n",
		"no end":          "no end\r\n",
		".\n..\n.a\na.\n": "..\r\n...\r\n..a\r\na.\r\n",
		"a\rb\n":          "a b\r\n",
		"a\r\r\nb\r":      "a \r\nb \r\n",
		"a\n\r.\r\n":      "a\r\n .\r\n",
		"\r":              " \r\n",
		"a\n.\r\nQUIT\n":  "a\r\n..\r\nQUIT\r\n",
	} {
		for n := 1; n <= len(text)+1; n++ {
			if got := stuffed(text, n); got != want+".\r\n" {
				t.Errorf("%q in pieces of %d: %q", text, n, got)
			}
		}
	}
}

func FuzzStuffing(f *testing.F) {
	f.Add("a\r\n.\r\n.\r\rb", 3)
	f.Fuzz(func(t *testing.T, text string, n int) {
		got := stuffed(text, min(max(n, 1), 100))
		rest := strings.ReplaceAll(got, "\r\n", "")
		if strings.ContainsAny(rest, "\r\n") {
			t.Fatalf("%q has a bare CR or LF", got)
		}
		if !strings.HasSuffix("\r\n"+got, "\r\n.\r\n") || strings.Count("\r\n"+got, "\r\n.\r\n") != 1 {
			t.Fatalf("%q ends in the wrong place", got)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add("250-hi\r\n250-SIZE 10\r\n250 2.1.0 ok\r\n")
	f.Add("550\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, lines, err := readReply(bufio.NewReaderSize(strings.NewReader(text), maxReplyLine))
		if err != nil {
			return
		}
		if r.Code < 200 || r.Code > 599 || len(lines) == 0 {
			t.Fatalf("%+v %q", r, lines)
		}
		if strings.ContainsFunc(r.String(), func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Fatalf("control characters in %q", r)
		}
	})
}
