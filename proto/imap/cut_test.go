package imap_test

import (
	"os"
	"path/filepath"
	"testing"
)

// An APPEND whose end does not come leaves nothing, wherever it is cut.
func TestAppendCut(t *testing.T) {
	const whole = "a APPEND INBOX (\\Seen) {12+}\r\nSubject: x\r\n\r\n"
	for n := range len(whole) + 1 {
		dir := t.TempDir()
		play(t, dir, []byte(whole[:n]))
		var found []string
		for _, sub := range []string{"tmp", "new", "cur"} {
			entries, err := os.ReadDir(filepath.Join(dir, sub))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				found = append(found, sub+"/"+e.Name())
			}
		}
		if want := n == len(whole); want != (len(found) == 1) || !want && found != nil {
			t.Errorf("cut at %d, %q: %q", n, whole[:n], found)
		}
	}
}
