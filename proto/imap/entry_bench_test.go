package imap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pennypost/maildir"
)

// What the first look at a message costs beside reading it.
func BenchmarkMakeEntry(b *testing.B) {
	for _, bench := range []struct {
		name  string
		level maildir.Level
		i     int
	}{{"header", maildir.Header, 1}, {"plain", maildir.Whole, 1}, {"mixed", maildir.Whole, 4}} {
		b.Run(bench.name, func(b *testing.B) {
			text := []byte(benchLetterOf(bench.i))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				var e maildir.Entry
				if err := makeEntry(bytes.NewReader(text), int64(len(text)), bench.level, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchLetterOf writes message i as it is stored: a header as mail of today has it, and a body of one or three parts.
func benchLetterOf(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Return-Path: <alice%d@crepes.fr>\nReceived: from mx%d.crepes.fr (mx%d.crepes.fr [192.0.2.%d])\n\tby hamburger.edu with ESMTPS id %08x;\n\tMon, 23 Nov 2026 10:%02d:%02d +0000\n",
		i%97, i%7, i%7, i%250, i*7919, i/60%60, i%60)
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=crepes.fr; s=mail;\n\th=from:to:subject:date; bh=%s=;\n\tb=%s\n", strings.Repeat("abcd", 10), strings.Repeat("0123456789", 17))
	fmt.Fprintf(&b, "Message-ID: <%d.%d@crepes.fr>\nIn-Reply-To: <%d.%d@crepes.fr>\nReferences: <%d.%d@crepes.fr>\n", i, i*31, i/2, i/2*31, i/2, i/2*31)
	fmt.Fprintf(&b, "Date: Mon, 23 Nov 2026 10:%02d:%02d +0100\nFrom: \"Alice Dupont %d\" <alice%d@crepes.fr>\nTo: Bob <bob@hamburger.edu>, carol%d@hamburger.edu\nCc: \"The list\" <list%d@example.org>\nSubject: =?utf-8?q?Re:_Cr=C3=AApes_et_p=C3=A2tes?= number %d\nMIME-Version: 1.0\n",
		i/60%60, i%60, i%97, i%97, i%13, i%5, i%1000)
	body := strings.Repeat(fmt.Sprintf("Line of text number %d, long enough to look like what people write.\n", i), 20+i%30)
	if i%4 != 0 {
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n%s", body)
		return b.String()
	}
	base64 := strings.Repeat(strings.Repeat("QUJDRA==", 9)+"\n", 40+i%40)
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"=_%d\"\n\n--=_%d\nContent-Type: text/plain; charset=utf-8\n\n%s\n--=_%d\nContent-Type: text/html; charset=utf-8\n\n<p>%s</p>\n--=_%d\nContent-Type: image/jpeg; name=\"crepe.jpg\"\nContent-Disposition: attachment; filename=\"crepe.jpg\"\nContent-Transfer-Encoding: base64\n\n%s\n--=_%d--\n",
		i, i, body, i, body, i, base64, i)
	return b.String()
}
