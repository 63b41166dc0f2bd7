package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"pennypost/proto/mimetree"
)

// random is n octets that nobody can guess as hexadecimal digits, or with --reproducible the next ones of
// a digest of what the message is made of.
func (p *packer) random(n int) string {
	if !p.reproducible {
		b := make([]byte, n)
		rand.Read(b)
		return hex.EncodeToString(b)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", p.hash, p.fields)
	for _, q := range append(append([]*part{p.text, p.html}, p.inlines...), p.attachments...) {
		if q != nil {
			fmt.Fprintf(h, "%q %q %+v", q.wish, q.label, q.found)
		}
	}
	p.hash = hex.EncodeToString(h.Sum(nil))
	return p.hash[:2*n]
}

// now is the time of the message: SOURCE_DATE_EPOCH where that is set (reproducible-builds.org), or with
// --reproducible the beginning of time.
func (p *packer) now() time.Time {
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(s, 0).UTC()
	}
	if p.reproducible {
		return time.Unix(0, 0).UTC()
	}
	return time.Now()
}

// makeHeader makes the fields of the message: what the user gave, and what a message has to have.
func (p *packer) makeHeader() error {
	var out strings.Builder
	given := map[string]bool{}
	lists := map[string][]mimetree.Address{}
	var order []string
	for _, f := range p.fields {
		if err := errors.Join(mimetree.CheckName(f.name), mimetree.CheckValue(f.value)); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		key := strings.ToLower(f.name)
		switch {
		case strings.HasPrefix(key, "content-") || key == "mime-version":
			return usage(fmt.Errorf("%s: made by mimepack itself", f.name))
		case isAddressField(key):
			if lists[key] == nil {
				order = append(order, key)
			}
			lists[key] = append(lists[key], mimetree.ParseAddresses(f.value)...)
			if lists[key] == nil {
				return fmt.Errorf("%s: %q holds no address", f.name, f.value)
			}
		case given[key] && (key == "subject" || key == "date" || key == "message-id"):
			return usage(fmt.Errorf("%s: given twice", f.name))
		}
		given[key] = true
	}
	if !given["date"] && !p.noDate {
		out.WriteString("Date: " + p.now().Format("Mon, 02 Jan 2006 15:04:05 -0700") + "\n")
	}
	for _, key := range order {
		s, err := mimetree.FoldAddresses(canonical(key), lists[key])
		if err != nil {
			return fmt.Errorf("%s: %w", canonical(key), err)
		}
		out.WriteString(s)
	}
	for _, f := range p.fields {
		switch key := strings.ToLower(f.name); {
		case isAddressField(key):
		case key == "message-id", key == "in-reply-to", key == "references", key == "date":
			out.WriteString(mimetree.FoldRaw(canonical(key), f.value))
		case fieldNames[key] != "":
			out.WriteString(mimetree.FoldText(fieldNames[key], f.value))
		default:
			out.WriteString(mimetree.FoldText(f.name, f.value))
		}
	}
	if !given["message-id"] {
		id := p.messageID
		if err := mimetree.CheckValue(id); err != nil {
			return fmt.Errorf("--message-id %w", err)
		}
		if id == "" {
			id = "<" + p.random(16) + "@" + p.host() + ">"
		}
		if !strings.HasPrefix(id, "<") {
			id = "<" + id + ">"
		}
		out.WriteString(mimetree.FoldRaw("Message-ID", id))
	}
	out.WriteString("MIME-Version: 1.0\n")
	p.header = out.String()
	return nil
}

// host is the right side of a Message-ID.
func (p *packer) host() string {
	if p.reproducible {
		return "mimepack.invalid"
	}
	name, err := os.Hostname()
	if err != nil || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" || name == "" {
		return "localhost"
	}
	return name
}

func isAddressField(key string) bool {
	switch key {
	case "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-to", "resent-cc", "resent-bcc", "mail-followup-to", "disposition-notification-to":
		return true
	}
	return false
}

// canonical is the usual spelling of a field's name.
func canonical(key string) string {
	switch key {
	case "message-id":
		return "Message-ID"
	}
	b := []byte(key)
	for i := range b {
		if (i == 0 || b[i-1] == '-') && b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}
