package imap

import (
	"testing"

	"pennypost/maildir"
)

// A URL is read as it is written, or not at all.
func FuzzURL(f *testing.F) {
	for _, s := range []string{
		"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=1.MIME/;partial=3.4", ";UID=1", "/a%20b/;uid=7/;PARTIAL=0",
		"/x/;UID=4294967295/;SECTION=HEADER.FIELDS%20(From%20To)", "imap://h/x/;UID=1", "/;UID=1", "//;UID=1/;UID=2", "/%/;UID=1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, ok := parseURL(s)
		switch {
		case !ok:
		case u.uid == 0:
			t.Errorf("%q: no UID", s)
		case u.section.partial && (u.section.offset < 0 || u.section.most <= 0):
			t.Errorf("%q: from %d, %d octets", s, u.section.offset, u.section.most)
		case u.mailbox != "" && u.mailbox != inbox && maildir.EncodeUTF7(u.mailbox) == "":
			t.Errorf("%q: mailbox %q", s, u.mailbox)
		}
	})
}
