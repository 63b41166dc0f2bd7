package delivery

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

// A line that is no field leaves what lies around it as it was: only a text
// without any field, or the author's own, gets an empty line to end the header.
func TestHeaderWithForeignLine(t *testing.T) {
	for _, test := range []struct {
		in     string
		submit bool
		want   string
	}{
		{"Do you like ketchup?\n", false, "\nDo you like ketchup?\n"},
		{"Subject: hi\nno field\nTo: bob\n\nhi\n", false, "Subject: hi\nno field\nTo: bob\n\nhi\n"},
		{"Subject: hi\n", false, "Subject: hi\n"},
		{"Subject: hi\n\nhi\n", false, "Subject: hi\n\nhi\n"},
		{"Subject: hi\nDear Bob\n", true, "Subject: hi\n\nDear Bob\n"},
	} {
		r := bufio.NewReader(strings.NewReader(test.in))
		h, err := ReadHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		h.mended = test.submit
		rest, _ := io.ReadAll(r)
		if got := string(h.Bytes()) + string(rest); got != test.want {
			t.Errorf("%q becomes %q", test.in, got)
		}
	}
}

// One pass is enough for a refusal to come back to a mailbox here.
func TestOnePassReturnsToSender(t *testing.T) {
	p := newPost(t, nil)
	synctest.Test(t, func(t *testing.T) {
		w, f := hamburgers()
		f.answer = times(100, "RCPT", "550 5.1.1 nobody")
		m := Message{From: "alice@crepes.fr", To: []Recipient{{Address: "al@hamburger.edu"}}}
		if _, err := p.Send(t.Context(), m, strings.NewReader(ketchup)); err != nil {
			t.Fatal(err)
		}
		if err := w.runner(p).Pass(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := len(mail(t, p, "alice")); got != 1 || len(waiting(t, p)) > 0 {
			t.Errorf("%d reports, in the queue %v", got, waiting(t, p))
		}
	})
}
