package imap_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/prototest"
	"pennypost/proto/sasl"
	"pennypost/proto/wire"
)

// A script is a client who says what it has to say, hears all and leaves.
type script struct {
	net.Conn
	io.Reader
	bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)     { return s.Reader.Read(p) }
func (s *script) Write(p []byte) (int, error)    { return s.Buffer.Write(p) }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
func (*script) Close() error                     { return nil }

// play serves one script on dir, and returns what the client heard.
func play(t testing.TB, dir string, says []byte) []byte {
	t.Helper()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &script{Reader: bytes.NewReader(says)}
	s := &imap.Session{
		Conn:    wire.New(c, 8192, time.Minute),
		Preauth: &imap.User{Name: "bob", Store: store},
		MaxSize: 1 << 20,
	}
	s.Serve(t.Context())
	return c.Buffer.Bytes()
}

var announces = regexp.MustCompile(`\{(\d+)\}$`)

// check reads answers as RFC 9051 §9 has them: lines of printable UTF-8, and
// literals of just so many octets.
func check(t testing.TB, heard []byte) {
	t.Helper()
	eight := false // UTF-8 was wanted
	for len(heard) > 0 {
		line, rest, ok := bytes.Cut(heard, []byte("\r\n"))
		if !ok {
			t.Fatalf("a line without end: %.200q", heard)
		}
		for _, c := range line {
			if c == 0x7f || c < ' ' && c != '\t' {
				t.Fatalf("octet %#x in %.200q", c, line)
			}
		}
		if !utf8.Valid(line) || !eight && bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x80 }) {
			t.Fatalf("not ASCII: %.200q", line)
		}
		eight = eight || bytes.HasPrefix(line, []byte("* ENABLED "))
		heard = rest
		if m := announces.FindSubmatch(line); m != nil {
			n, _ := strconv.Atoi(string(m[1]))
			if n > len(heard) {
				t.Fatalf("literal of %d octets, and there are %d", n, len(heard))
			}
			if i := bytes.IndexByte(heard[:n], 0); i >= 0 && !bytes.Contains(line, []byte("~{")) {
				t.Fatalf("NUL in a literal behind %.200q", line)
			}
			heard = heard[n:]
		}
	}
}

func FuzzSession(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	client := regexp.MustCompile(`(?m)^C: ?(.*)$`)
	mail := []byte("Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: message/rfc822\n\nSubject: y\n\ntwo\n--b--\n")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var script []byte
		for _, m := range client.FindAllSubmatch(text, -1) {
			script = append(append(script, m[1]...), "\r\n"...)
		}
		f.Add(script, mail)
	}
	f.Fuzz(func(t *testing.T, script, mail []byte) {
		if len(script) > 10000 || len(mail) > 100000 {
			return
		}
		dir := t.TempDir()
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "new", "1.fuzz"), mail, 0o600); err != nil {
			t.Fatal(err)
		}
		fetch := []byte("f0 SELECT INBOX\r\nf1 FETCH 1 (FLAGS RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[1] BODY.PEEK[2.HEADER.FIELDS (Subject)])\r\nf2 SEARCH TEXT x\r\n")
		check(t, play(t, dir, append(fetch, script...)))
	})
}

// Nobody gets in who has not said what the transcripts of logins say.
func FuzzLogin(f *testing.F) {
	files, err := filepath.Glob("testdata/auth-*.txt")
	if err != nil {
		f.Fatal(err)
	}
	client := regexp.MustCompile(`(?m)^C: ?(.*)$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var script []byte
		for _, m := range client.FindAllSubmatch(text, -1) {
			script = append(append(script, m[1]...), "\r\n"...)
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		if len(says) > 10000 {
			return
		}
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) { // wrong passwords wait
			c := &script{Reader: bytes.NewReader(says)}
			let := false
			s := &imap.Session{
				Conn:      wire.New(c, 8192, time.Minute),
				Cleartext: true,
				SASL:      prototest.SASL(),
				Login: func(claim sasl.Claim) (*imap.User, error) {
					if err := prototest.Login(claim); err != nil {
						return nil, err
					}
					let = true
					store, err := maildir.Create(dir, maildir.Options{})
					return &imap.User{Name: "user", Store: store}, err
				},
			}
			s.Serve(t.Context())
			if !let && bytes.Contains(c.Bytes(), []byte("] logged in\r\n")) {
				t.Errorf("let in: %q", c.Bytes())
			}
			check(t, c.Bytes())
		})
	})
}
