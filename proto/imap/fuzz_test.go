package imap_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// play lets a client say script to a session on dir and leave, and returns
// what it heard.
func play(t testing.TB, dir string, script []byte) []byte {
	t.Helper()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	go func() {
		s := &imap.Session{
			Conn:    wire.New(server, 8192, 10*time.Second),
			Preauth: &imap.User{Name: "bob", Store: store},
			MaxSize: 1 << 20,
			Idle:    10 * time.Second,
		}
		s.Serve(ctx)
		server.Close()
	}()
	go func() {
		client.Write(script)
		client.Write([]byte("\r\nDONE\r\nlast LOGOUT\r\nlast LOGOUT\r\n"))
		time.Sleep(time.Second) // within a literal: nobody will ever answer
		client.SetReadDeadline(time.Now())
	}()
	heard, err := io.ReadAll(client)
	if err != nil && !os.IsTimeout(err) {
		t.Fatal(err)
	}
	client.Close()
	return heard
}

var announces = regexp.MustCompile(`\{(\d+)\}$`)

// check reads answers as RFC 9051 §9 has them: lines of printable ASCII, and
// literals of just so many octets.
func check(t testing.TB, heard []byte) {
	t.Helper()
	for len(heard) > 0 {
		line, rest, ok := bytes.Cut(heard, []byte("\r\n"))
		if !ok {
			t.Fatalf("a line without end: %.200q", heard)
		}
		for _, c := range line {
			if c >= 0x7f || c < ' ' && c != '\t' {
				t.Fatalf("octet %#x in %.200q", c, line)
			}
		}
		heard = rest
		if m := announces.FindSubmatch(line); m != nil {
			n, _ := strconv.Atoi(string(m[1]))
			if n > len(heard) {
				t.Fatalf("literal of %d octets, and there are %d", n, len(heard))
			}
			if i := bytes.IndexByte(heard[:n], 0); i >= 0 && !bytes.Contains(line, []byte("BODY[")) && !bytes.Contains(line, []byte("RFC822")) {
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
		if bytes.Contains(script, []byte("0000+}")) {
			continue
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
