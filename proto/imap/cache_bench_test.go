package imap_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// A dialogue is a client that says one thing after the other, and throws away
// what it hears.
type dialogue struct {
	script
	says  chan string
	ready chan struct{} // the server waits for the next command
	rest  string
	heard int
}

func (d *dialogue) Read(p []byte) (int, error) {
	if d.rest == "" {
		d.ready <- struct{}{}
		var ok bool
		if d.rest, ok = <-d.says; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *dialogue) Write(p []byte) (int, error) {
	d.heard += len(p)
	return len(p), nil
}

// say sends a command and waits for its answer.
func (d *dialogue) say(command string) (octets int) {
	before := d.heard
	d.says <- command + "\r\n"
	<-d.ready
	return d.heard - before
}

func talk(b testing.TB, dir string) *dialogue {
	store, err := maildir.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	d := &dialogue{says: make(chan string), ready: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := &imap.Session{Conn: wire.New(d, 8192, time.Hour), Preauth: &imap.User{Name: "bob", Store: store}}
		s.Serve(b.Context())
	}()
	<-d.ready
	b.Cleanup(func() {
		close(d.says)
		<-done
	})
	d.say("1 SELECT INBOX")
	return d
}

// letter is a message of about 7 KB as lists and shops send it.
func letter(i int) string {
	var b strings.Builder
	for hop := range 4 {
		fmt.Fprintf(&b, "Received: from mx%d.example.net (mx%d.example.net [192.0.2.%d])\n\tby in.example.org (Postfix) with ESMTPS id %016x\n\tfor <bob@example.org>; Mon, 23 Nov 2026 12:%02d:00 +0100 (CET)\n", hop, hop, hop, i*7919+hop, i%60)
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=k1;\n\th=from:to:subject:date:message-id:mime-version:content-type;\n\tbh=" + strings.Repeat("a", 44) + ";\n\tb=" + strings.Repeat("Zm9v", 80) + "\n")
	fmt.Fprintf(&b, "From: \"Alice Example %d\" <alice.%d@example.net>\nTo: Bob <bob@example.org>, =?utf-8?Q?J=C3=BCrgen?= <j@example.org>\nCc: list@lists.example.org\n", i, i)
	fmt.Fprintf(&b, "Subject: Re: [list] Weekly report number %d about =?utf-8?B?w7xiZXI=?= things\nDate: Mon, %d Nov 2026 12:%02d:17 +0100\nMessage-ID: <%x.%d@example.net>\nIn-Reply-To: <%x.%d@example.net>\n", i, 1+i%28, i%60, i*31, i, i*30, i-1)
	fmt.Fprintf(&b, "References: <%x.1@example.net>\n <%x.%d@example.net>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=\"=_%08x\"\n\n", i, i*30, i-1, i)
	fmt.Fprintf(&b, "--=_%08x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n%s", i, strings.Repeat("This is a line of the report, and it has =C3=BC in it.\n", 30))
	fmt.Fprintf(&b, "--=_%08x\nContent-Type: text/html; charset=utf-8\n\n<html><body>%s</body></html>\n--=_%08x--\n", i, strings.Repeat("<p class=\"x\">This is a line of the report in HTML.</p>\n", 60), i)
	return b.String()
}

func letters(b testing.TB, n int) (dir string) {
	dir = b.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		b.Fatal(err)
	}
	store.Close()
	for i := range n {
		text := letter(i)
		name := fmt.Sprintf("%d.M%dP1.host,S=%d,W=%d:2,S", 1000000000+i, i%1000000, len(text), len(text)+strings.Count(text, "\n"))
		if err := os.WriteFile(filepath.Join(dir, "cur", name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// What clients ask of every message, the first time and then from the cache.
func BenchmarkFetch(b *testing.B) {
	const thunderbird = "BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)]"
	for _, n := range []int{1000, 10000} {
		dir := letters(b, n)
		for _, c := range []struct{ name, items string }{
			{"structure", "ENVELOPE BODYSTRUCTURE"},
			{"usual", "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE"},
			{"fields", thunderbird},
			{"size", "RFC822.SIZE"},
			{"flags", "UID FLAGS"},
		} {
			d := talk(b, dir)
			run := func(b *testing.B, first bool) {
				b.ReportAllocs()
				octets := 0
				for b.Loop() {
					if first {
						b.StopTimer()
						os.Remove(filepath.Join(dir, "pennypost-cache"))
						b.StartTimer()
					}
					octets = d.say("2 FETCH 1:* (" + c.items + ")")
				}
				if octets < 10*n {
					b.Fatalf("%d octets", octets)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/msg")
			}
			if c.name != "flags" {
				b.Run(c.name+"/first/"+strconv.Itoa(n), func(b *testing.B) { run(b, true) })
			}
			b.Run(c.name+"/cached/"+strconv.Itoa(n), func(b *testing.B) { run(b, false) })
		}
	}
}
