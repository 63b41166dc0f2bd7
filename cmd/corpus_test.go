package cmd_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every message goes through sendmail, and through SMTP, into a Maildir and
// comes back over POP3 and IMAP with its body octets unchanged, and the sizes
// that were announced are exact. PENNYPOST_CORPUS names a folder of messages
// beside those in testdata.
func TestMessagesComeBackUnchanged(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.eml")
	if dir := os.Getenv("PENNYPOST_CORPUS"); dir != "" {
		files, err = filepath.Glob(filepath.Join(dir, "*.eml"))
	}
	if err != nil || len(files) == 0 {
		t.Fatal("no messages", err)
	}
	o := newOffice(t, "bob", "carol")
	smtpd, pop3d, imapd := o.start("smtpd"), o.start("pop3d"), o.start("imapd")

	var sent [][]byte
	smtp := dial(t, smtpd.port)
	smtp.ask("220", "")
	smtp.ask("250", "EHLO crepes.fr")
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = normal(text)
		sent = append(sent, text)
		o.run(string(text), "sendmail", "-i", "-f", "alice@crepes.fr", "bob@hamburger.edu")

		smtp.ask("250", "MAIL FROM:<alice@crepes.fr> BODY=8BITMIME")
		smtp.ask("250", "RCPT TO:<carol@hamburger.edu>")
		smtp.ask("354", "DATA")
		wire := bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
		if !bytes.HasSuffix(wire, []byte("\r\n")) {
			wire = append(wire, "\r\n"...)
		}
		wire = bytes.ReplaceAll(wire, []byte("\n."), []byte("\n.."))
		if wire[0] == '.' {
			wire = append([]byte("."), wire...)
		}
		if _, err := smtp.Write(wire); err != nil {
			t.Fatal(err)
		}
		smtp.ask("250", ".")
		if have := len(o.messages("carol")); have != i+1 {
			t.Fatalf("%s: acknowledged, but carol has %d messages", file, have)
		}
	}
	smtp.ask("221", "QUIT")
	for _, user := range []string{"bob", "carol"} {
		compare(t, user, files, sent, pop3d.port, imapd.port)
	}
}

// normal writes every line end as LF.
func normal(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
}

// rewritten are the mbox line and the fields Return-Path of a header.
var rewritten = regexp.MustCompile(`(?i)\A>?From .*\n|(?m:^)return-path[ \t]*:.*\n(?:[ \t].*\n)*`)

var fetched = regexp.MustCompile(`RFC822\.SIZE (\d+)`)

func compare(t *testing.T, user string, files []string, sent [][]byte, pop3port, imapPort int) {
	t.Helper()
	pop3, imap := dial(t, pop3port), dial(t, imapPort)
	pop3.ask("+OK", "")
	pop3.ask("+OK", "user %s", user)
	pop3.ask("+OK", "pass hungry")
	pop3.ask("+OK "+fmt.Sprint(len(sent))+" ", "stat")
	pop3.ask("+OK", "list")
	sizes := map[string]string{}
	for line := range strings.Lines(string(pop3.block())) {
		n, size, _ := strings.Cut(strings.TrimSpace(line), " ")
		sizes[n] = size
	}
	imap.ask("* OK", "")
	imap.say("a LOGIN %s hungry", user)
	for !strings.HasPrefix(imap.hear(), "a OK") {
	}
	imap.say("b SELECT INBOX")
	for !strings.HasPrefix(imap.hear(), "b OK") {
	}
	for i, text := range sent {
		n := strconv.Itoa(i + 1)
		pop3.ask("+OK", "retr %s", n)
		retr := pop3.block()
		if got := strconv.Itoa(len(retr)); got != sizes[n] {
			t.Errorf("%s, %s: LIST says %s octets, RETR sends %s", user, files[i], sizes[n], got)
		}
		imap.say("c FETCH %s (RFC822.SIZE ENVELOPE BODYSTRUCTURE)", n)
		var announced string
		for {
			line := imap.hear()
			if m := fetched.FindStringSubmatch(line); m != nil {
				announced = m[1]
			}
			if strings.HasPrefix(line, "c ") {
				if !strings.HasPrefix(line, "c OK") {
					t.Errorf("%s, %s: %s", user, files[i], line)
				}
				break
			}
		}
		imap.say("d FETCH %s BODY.PEEK[]", n)
		_, body := imap.literal()
		for !strings.HasPrefix(imap.hear(), "d OK") {
		}
		if got := strconv.Itoa(len(body)); got != announced {
			t.Errorf("%s, %s: RFC822.SIZE is %s, BODY[] has %s octets", user, files[i], announced, got)
		}
		// sendmail may mend the header, not the body; a header without body
		// ends where it likes. Final delivery takes out what it writes itself.
		_, whole, _ := bytes.Cut(text, []byte("\n\n"))
		if bytes.HasPrefix(text, []byte("\n")) {
			whole = text
		} else if user == "carol" {
			whole = rewritten.ReplaceAll(text, nil)
		}
		for how, got := range map[string][]byte{"POP3": retr, "IMAP": body} {
			got = bytes.TrimSuffix(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")), []byte("\n"))
			if user == "carol" {
				got = rewritten.ReplaceAll(got, nil)
			}
			if !bytes.HasSuffix(got, bytes.TrimSuffix(whole, []byte("\n"))) {
				t.Errorf("%s, %s: comes back over %s changed", user, files[i], how)
			}
		}
	}
	pop3.ask("+OK", "quit")
	imap.say("z LOGOUT")
}
