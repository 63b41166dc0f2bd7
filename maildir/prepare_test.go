package maildir

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestPreparedMessageComesOnce(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "bob"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, err := s.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(d, "Subject: x\r\n\r\ny\r\n")
	name, err := d.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	d.Abort() // too late
	for i, want := range []bool{true, false, false} {
		if moved, err := s.Finish(name); moved != want || err != nil {
			t.Errorf("time %d: %v, %v", i, moved, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(s.Path(), "new", name))
	if err != nil || string(text) != "Subject: x\n\ny\n" {
		t.Errorf("%q, %v", text, err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Path(), "tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, bad := range []string{"", "../x", "a/b", ".x"} {
		if _, err := s.Finish(bad); err == nil {
			t.Errorf("%q was taken for a name", bad)
		}
	}
}
