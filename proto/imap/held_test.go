package imap_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// A scale is a client who weighs the heap when something reaches it, and
// keeps nothing.
type scale struct {
	script
	got  int
	most uint64
}

func (s *scale) Write(p []byte) (int, error) {
	if s.got += len(p); s.got>>24 != (s.got-len(p))>>24 || s.most == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		s.most = max(s.most, m.HeapAlloc)
	}
	return len(p), nil
}

// What one FETCH takes in memory does not grow with what it asks for (a
// BODYSTRUCTURE of ten thousand parts, a hundred times).
func TestFetchHeld(t *testing.T) {
	dir := t.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString("Content-Type: multipart/mixed; boundary=b\n\n")
	for range 9000 {
		fmt.Fprintf(&b, "--b\nContent-Type: image/jpeg; name=%s\n\nx\n", strings.Repeat("n", 100))
	}
	if err := os.WriteFile(filepath.Join(dir, "cur", "1.M1P1.host:2,S"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	says := "1 EXAMINE INBOX\r\n2 FETCH 1 (" + strings.Repeat("BODYSTRUCTURE ", 99) + "UID)\r\n3 LOGOUT\r\n"
	c := &scale{script: script{Reader: strings.NewReader(says)}}
	s := &imap.Session{Conn: wire.New(c, 8192, time.Minute), Preauth: &imap.User{Name: "bob", Store: store}}
	s.Serve(t.Context())
	if c.got < 90*9000*100 {
		t.Errorf("%d octets came", c.got)
	}
	if c.most > 80<<20 {
		t.Errorf("%d octets of memory for an answer of %d", c.most, c.got)
	}
}
