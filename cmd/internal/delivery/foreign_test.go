package delivery

import (
	"bufio"
	"io"
	"strings"
	"testing"
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
