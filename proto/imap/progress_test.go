package imap

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/wire"
)

// A listener is a connection to a client that only listens.
type listener struct {
	net.Conn
	strings.Reader
	bytes.Buffer
}

func (c *listener) Read(p []byte) (int, error)     { return c.Reader.Read(p) }
func (c *listener) Write(p []byte) (int, error)    { return c.Buffer.Write(p) }
func (*listener) SetDeadline(time.Time) error      { return nil }
func (*listener) SetReadDeadline(time.Time) error  { return nil }
func (*listener) SetWriteDeadline(time.Time) error { return nil }

// A long search tells how far it is: the numbers rise, and stay below the goal.
func TestProgress(t *testing.T) {
	defer func(d time.Duration) { progressEvery = d }(progressEvery)
	progressEvery = 0
	const n = 1000
	dir := t.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("%d.M1P1.host:2,S", 1000000000+i)), []byte("Subject: x\n\ny\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &listener{Reader: *strings.NewReader("1 SELECT INBOX\r\na]2 SEARCH TEXT z\r\n3 ESEARCH IN (personal) TEXT zz\r\n4 SEARCH SEEN\r\n5 LOGOUT\r\n")}
	s := &Session{Conn: wire.New(c, 8192, time.Minute), Preauth: &User{Name: "bob", Store: store}}
	s.Serve(t.Context())
	heard := c.Buffer.String()
	line := regexp.MustCompile(`(?m)^\* OK \[INPROGRESS \((NIL|"3") (\d+) (1000|NIL)\)\] still searching\r$`)
	last, lines := map[string]int{"NIL": -1, `"3"`: -1}, 0
	for _, m := range line.FindAllStringSubmatch(heard, -1) {
		done, _ := strconv.Atoi(m[2])
		if done < last[m[1]] || done > n || m[3] != "NIL" && done == n || (m[1] == "NIL") == (m[3] == "NIL") {
			t.Errorf("%s behind %d", m[0], last[m[1]])
		}
		last[m[1]] = done
		lines++
	}
	if lines < 2 || last["NIL"] < 0 || last[`"3"`] < 0 || lines != strings.Count(heard, "INPROGRESS (") {
		t.Errorf("%d lines in\n%s", lines, heard)
	}
}
