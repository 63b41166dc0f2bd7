package delivery

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"pennypost/maildir/queue"
)

// wholeSize is the size, in octets, up to which a message goes back whole when
// the sender has not said what he wants.
const wholeSize = 64 << 10

// A failure is a recipient of whom the sender has to be told.
type failure struct {
	queue.Recipient
	queue.Status
	code   string // enhanced status code
	reply  string // what the other side has said, or ""
	remote string // who has said it, or ""
}

// A report is a delivery status notification (RFC 3464) before it is written.
type report struct {
	me       string
	now      time.Time
	item     *queue.Item
	failures []failure
}

// write writes the message: words for a person, fields for a program, and what
// is sent back of the message itself (RFC 6522 §3).
func (r *report) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	boundary := "report-" + rand.Text()
	whole := r.item.Ret == "FULL" || r.item.Ret == "" && r.item.Size <= wholeSize
	encoding := "7bit" // of the whole and of each part (RFC 2045 §6.4)
	if r.eightBit() {
		encoding = "8bit"
	}
	fmt.Fprintf(w, "From: Mail Delivery System <MAILER-DAEMON@%s>\n", r.me)
	fmt.Fprintf(w, "To: %s\n", r.item.From)
	fmt.Fprintf(w, "Subject: Undelivered mail returned to sender\n")
	fmt.Fprintf(w, "Date: %s\n", r.now.Format(time.RFC1123Z))
	fmt.Fprintf(w, "Message-ID: <%s.report@%s>\n", strings.ToLower(rand.Text()), r.me)
	fmt.Fprintf(w, "Auto-Submitted: auto-replied\n")
	fmt.Fprintf(w, "MIME-Version: 1.0\n")
	fmt.Fprintf(w, "Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"%s\"\n", boundary)
	if encoding == "8bit" {
		fmt.Fprintf(w, "Content-Transfer-Encoding: 8bit\n")
	}
	fmt.Fprintf(w, "\nThis is a report on a message that could not be delivered.\n\n--%s\n", boundary)
	fmt.Fprintf(w, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: %s\n\n", encoding)
	r.words(w)
	fmt.Fprintf(w, "\n--%s\n", boundary)
	r.fields(w)
	fmt.Fprintf(w, "\n--%s\n", boundary)

	var err error
	if whole {
		fmt.Fprintf(w, "Content-Type: message/rfc822\nContent-Transfer-Encoding: %s\n\n", encoding)
		_, err = io.Copy(w, r.item.Message())
	} else {
		fmt.Fprintf(w, "Content-Type: text/rfc822-headers\nContent-Transfer-Encoding: %s\n\n", encoding)
		var h *Header
		if h, err = ReadHeader(bufio.NewReader(r.item.Message())); err == nil {
			_, err = w.Write(h.Bytes())
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n--%s--\n", boundary)
	return w.Flush()
}

// eightBit says whether there are octets beyond US-ASCII in the report: those of
// the message, whatever its sender has said of it, or of a reply.
func (r *report) eightBit() bool {
	if _, eightBit := measure(r.item); eightBit || r.item.EightBit || !isASCII(r.item.From) {
		return true
	}
	for _, f := range r.failures {
		if !isASCII(f.Address) || !isASCII(f.Why) {
			return true
		}
	}
	return false
}

// words is the part for the person who wrote the message.
func (r *report) words(w io.Writer) {
	fmt.Fprintf(w, "This is the mail system of %s.\n\n", r.me)
	if len(r.failures) == 1 {
		fmt.Fprintf(w, "Your message could not be delivered to the recipient below,\nand will not be tried again.\n")
	} else {
		fmt.Fprintf(w, "Your message could not be delivered to the %d recipients below,\nand will not be tried again. Others may have received it.\n", len(r.failures))
	}
	for _, f := range r.failures {
		fmt.Fprintf(w, "\n<%s>\n    %s\n", f.Address, f.Why)
	}
	fmt.Fprintf(w, "\nThe message was accepted here on %s.\nIt follows below, or its header if it is long.\n",
		r.item.Created.UTC().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
}

// fields is the part for a program (RFC 3464 §2).
func (r *report) fields(w io.Writer) {
	kind := "rfc822"
	if !isASCII(r.item.From) {
		kind = "utf-8"
	}
	for _, f := range r.failures {
		if !isASCII(f.Address) {
			kind = "utf-8"
		}
	}
	if kind == "utf-8" { // RFC 6533 §3
		fmt.Fprintf(w, "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\n")
	} else {
		fmt.Fprintf(w, "Content-Type: message/delivery-status\n\n")
	}
	if r.item.Envid != "" {
		fmt.Fprintf(w, "Original-Envelope-Id: %s\n", unxtext(r.item.Envid))
	}
	fmt.Fprintf(w, "Reporting-MTA: dns; %s\n", r.me)
	fmt.Fprintf(w, "Arrival-Date: %s\n", r.item.Created.UTC().Format(time.RFC1123Z))
	for _, f := range r.failures {
		fmt.Fprintf(w, "\n")
		if f.Orcpt != "" {
			addrType, addr, _ := strings.Cut(f.Orcpt, ";")
			fmt.Fprintf(w, "Original-Recipient: %s;%s\n", addrType, unxtext(addr))
		}
		fmt.Fprintf(w, "Final-Recipient: %s; %s\n", kind, f.Address)
		fmt.Fprintf(w, "Action: failed\n")
		fmt.Fprintf(w, "Status: %s\n", f.code)
		if f.remote != "" {
			fmt.Fprintf(w, "Remote-MTA: dns; %s\n", f.remote)
		}
		if f.reply != "" {
			fmt.Fprintf(w, "Diagnostic-Code: smtp; %s\n", f.reply)
		}
		fmt.Fprintf(w, "Last-Attempt-Date: %s\n", f.Time.UTC().Format(time.RFC1123Z))
	}
}

// unxtext decodes xtext (RFC 3461 §4). What it cannot decode, or what would not
// stay on its line, is left as it is.
func unxtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			var c byte
			if n, err := fmt.Sscanf(s[i+1:i+3], "%02X", &c); n == 1 && err == nil && c >= ' ' && c < 0x7f {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// failed reads a failure back from the history: its text is "host: reply".
func failed(r queue.Recipient, s queue.Status) failure {
	f := failure{Recipient: r, Status: s, code: "5.0.0"}
	where, what, ok := strings.Cut(s.Why, ": ")
	if !ok {
		where, what = "", s.Why
	}
	if name, _, ok := strings.Cut(where, "["); ok { // a host has an address behind its name
		f.remote, f.reply = name, what
	}
	words := strings.Fields(what)
	for _, word := range words[:min(2, len(words))] {
		if isStatus(word) {
			f.code = word
			break
		}
	}
	return f
}

func isStatus(s string) bool {
	return len(s) >= 5 && len(s) <= 9 && strings.ContainsRune("245", rune(s[0])) && s[1] == '.' &&
		strings.Count(s, ".") == 2 && strings.Trim(s, "0123456789.") == "" && !strings.HasSuffix(s, ".")
}
