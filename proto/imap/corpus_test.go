package imap_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// corpora are directories of messages, one a file: our own, and what $CORPUS
// names.
func corpora() []string {
	dirs := []string{"testdata/mail", "../../cmd/testdata/corpus"}
	if dir := os.Getenv("CORPUS"); dir != "" {
		dirs = append(dirs, dir)
	}
	return dirs
}

// corpus lays the messages in a new Maildir, in the order of their names.
func corpus(t testing.TB) (dir string, mail [][]byte, names []string) {
	t.Helper()
	dir = t.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
	for _, from := range corpora() {
		files, err := filepath.Glob(filepath.Join(from, "*.eml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			mail, names = append(mail, text), append(names, file)
			name := fmt.Sprintf("%d.M%dP1.host:2,", 1000000000+len(mail), len(mail))
			if err := os.WriteFile(filepath.Join(dir, "cur", name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, mail, names
}

// session serves dir to one end of a connection, and returns the other.
func session(t testing.TB, dir string) net.Conn {
	t.Helper()
	store, err := maildir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := &imap.Session{
			Conn:    wire.New(server, 8192, 30*time.Minute),
			Preauth: &imap.User{Name: "bob", Store: store},
		}
		s.Serve(t.Context())
		server.Close()
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

// Whatever a message holds, another's client reads our answers, and each octet
// comes back.
func TestCorpus(t *testing.T) {
	dir, mail, names := corpus(t)
	if len(mail) == 0 {
		t.Skip("no messages")
	}
	c := imapclient.New(session(t, dir), nil)
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if int(box.NumMessages) != len(mail) {
		t.Fatalf("%d messages, want %d", box.NumMessages, len(mail))
	}
	for i, text := range mail {
		t.Run(filepath.Base(names[i]), func(t *testing.T) {
			fetchOne(t, c, uint32(i+1), crlf(text))
		})
	}
}

func crlf(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

func fetchOne(t *testing.T, c *imapclient.Client, n uint32, want []byte) {
	whole := &goimap.FetchItemBodySection{Peek: true}
	head := &goimap.FetchItemBodySection{Peek: true, Specifier: goimap.PartSpecifierHeader}
	text := &goimap.FetchItemBodySection{Peek: true, Specifier: goimap.PartSpecifierText}
	msgs, err := c.Fetch(goimap.SeqSetNum(n), &goimap.FetchOptions{
		Envelope: true, RFC822Size: true, Flags: true, InternalDate: true, UID: true,
		BodyStructure: &goimap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*goimap.FetchItemBodySection{whole, head, text},
	}).Collect()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("fetch: %d, %v", len(msgs), err)
	}
	m := msgs[0]
	body := m.FindBodySection(whole)
	if !bytes.Equal(body, want) {
		t.Errorf("BODY[] has %d octets, want %d", len(body), len(want))
	}
	if m.RFC822Size != int64(len(body)) {
		t.Errorf("RFC822.SIZE %d of %d octets", m.RFC822Size, len(body))
	}
	h, b := m.FindBodySection(head), m.FindBodySection(text)
	if !bytes.Equal(append(bytes.Clone(h), b...), body) {
		t.Errorf("BODY[HEADER] %d + BODY[TEXT] %d octets are not BODY[] %d", len(h), len(b), len(body))
	}
	var parts []*goimap.FetchItemBodySection
	var sizes []uint32
	m.BodyStructure.Walk(func(path []int, part goimap.BodyStructure) bool {
		if p, ok := part.(*goimap.BodyStructureSinglePart); ok && len(parts) < 200 {
			parts = append(parts, &goimap.FetchItemBodySection{Peek: true, Part: path})
			sizes = append(sizes, p.Size)
		}
		return true
	})
	if len(parts) == 0 {
		return
	}
	if len(parts) == 1 && sizes[0] == 0 {
		return // what stands in for the parts of a multipart without parts
	}
	msgs, err = c.Fetch(goimap.SeqSetNum(n), &goimap.FetchOptions{BodySection: parts}).Collect()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("fetch parts: %d, %v", len(msgs), err)
	}
	for i, p := range parts {
		if got := msgs[0].FindBodySection(p); len(got) != int(sizes[i]) {
			t.Errorf("BODY[%s] has %d octets, BODYSTRUCTURE says %d", strings.Trim(fmt.Sprint(p.Part), "[]"), len(got), sizes[i])
		}
	}
}
