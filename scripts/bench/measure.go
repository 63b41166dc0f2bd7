package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A mailbox is one user's, at one server.
type mailbox struct {
	*server
	user string
	path string // of the Maildir
	n    int    // messages in INBOX
}

// A measure is something that a client waits for.
type measure struct {
	name   string
	before func(b *mailbox) error // not timed, with no session open
	open   bool                   // INBOX is selected before the clock starts
	do     func(b *mailbox, c *client) (work int, err error)
}

// measures are taken one after the other, in this order.
var measures = []measure{
	{name: "SELECT, first ever", before: func(b *mailbox) error { return forget(b.path) }, do: selectInbox},
	{name: "SELECT, again in a fresh connection", do: selectInbox},
	{name: "FETCH 1:* ENVELOPE BODYSTRUCTURE, first", open: true, do: fetch("ENVELOPE BODYSTRUCTURE")},
	{name: "the same, cached", open: true, do: fetch("ENVELOPE BODYSTRUCTURE")},
	{name: "FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE)", open: true, do: fetch("UID FLAGS RFC822.SIZE INTERNALDATE")},
	{name: "FETCH 1:* (FLAGS UID)", open: true, do: fetch("FLAGS UID")},
	{name: "STORE of one flag, one command each", open: true, do: storeEach},
	{name: "STORE n, then FETCH n BODY.PEEK[]", open: true, do: storeFetch},
	{name: "STORE 1:* +FLAGS.SILENT, then -FLAGS.SILENT", open: true, do: storeAll},
	{name: "NOOP until a delivered message shows", open: true, do: deliverNoop},
	{name: "COPY 1:1000", open: true, do: copyMany},
	{name: "APPEND of 4 KB, one client", open: true, do: appendMany(1)},
	{name: "APPEND of 4 KB, eight clients", open: true, do: appendMany(8)},
	{name: "STATUS of 100 folders, 100 commands", open: true, do: statusEach},
	{name: "LIST RETURN (STATUS) of 100 folders", open: true, do: listStatus},
	{name: "LOGIN, SELECT, LOGOUT, eight clients", do: sessions},
}

// take takes the time of a measure, per unit of work.
func (b *mailbox) take(m measure) (time.Duration, error) {
	if m.before != nil {
		if err := m.before(b); err != nil {
			return 0, err
		}
	}
	c, err := b.login()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if m.open {
		if err := c.do("SELECT INBOX"); err != nil {
			return 0, err
		}
	}
	begun := time.Now()
	work, err := m.do(b, c)
	if err != nil {
		return 0, err
	}
	took := time.Since(begun) / time.Duration(work)
	return took, c.do("LOGOUT")
}

// A client speaks just enough IMAP, and counts no octet of what it gets.
type client struct {
	net.Conn
	r   *bufio.Reader
	tag int
}

func (b *mailbox) login() (*client, error) {
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: nc, r: bufio.NewReaderSize(nc, 256<<10)}
	if _, err := c.r.ReadSlice('\n'); err != nil {
		nc.Close()
		return nil, err
	}
	if err := c.do("LOGIN " + b.user + " hungry"); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// do gives a command and reads all the answer. A further text is sent as the literal the command ends in.
func (c *client) do(command string, literal ...string) error {
	return c.each(func([]byte) {}, command, literal...)
}

// each shows every untagged line; literals are passed over.
func (c *client) each(see func(line []byte), command string, literal ...string) error {
	c.tag++
	tag := "a" + strconv.Itoa(c.tag) + " "
	text := strings.Join(append([]string{tag + command}, literal...), "\r\n") + "\r\n"
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(tag)) {
			if !bytes.HasPrefix(line[len(tag):], []byte("OK")) {
				return fmt.Errorf("%s: %s", command, line)
			}
			return nil
		}
		see(line)
		if end := bytes.TrimRight(line, "\r\n"); bytes.HasSuffix(end, []byte("}")) {
			n, err := strconv.Atoi(string(end[bytes.LastIndexByte(end, '{')+1 : len(end)-1]))
			if err != nil {
				return err
			}
			if _, err := c.r.Discard(n); err != nil {
				return err
			}
		}
	}
}

func selectInbox(_ *mailbox, c *client) (int, error) { return 1, c.do("SELECT INBOX") }

func fetch(items string) func(*mailbox, *client) (int, error) {
	return func(_ *mailbox, c *client) (int, error) { return 1, c.do("FETCH 1:* (" + items + ")") }
}

// one is which message the ith of some commands is about: they lie far from one another.
func (b *mailbox) one(i int) int { return i*7919%b.n + 1 }

func storeEach(b *mailbox, c *client) (int, error) {
	for i := range 50 {
		if err := c.do(fmt.Sprintf(`STORE %d %cFLAGS (\Flagged)`, b.one(i/2), "+-"[i%2])); err != nil {
			return 0, err
		}
	}
	return 50, nil
}

func storeFetch(b *mailbox, c *client) (int, error) {
	for i := range 20 {
		n := b.one(i / 2)
		if err := c.do(fmt.Sprintf(`STORE %d %cFLAGS (\Answered)`, n, "+-"[i%2])); err != nil {
			return 0, err
		}
		if err := c.do(fmt.Sprintf("FETCH %d BODY.PEEK[]", n)); err != nil {
			return 0, err
		}
	}
	return 20, nil
}

func storeAll(_ *mailbox, c *client) (int, error) {
	if err := c.do(`STORE 1:* +FLAGS.SILENT (\Draft)`); err != nil {
		return 0, err
	}
	return 2, c.do(`STORE 1:* -FLAGS.SILENT (\Draft)`)
}

// deliverNoop lays messages into new as a delivery agent does, and removes them again.
func deliverNoop(b *mailbox, c *client) (int, error) {
	for i := range 5 {
		name := fmt.Sprintf("%d.M%dP%dQ%d.host", time.Now().Unix(), time.Now().Nanosecond()/1000, os.Getpid(), i)
		tmp := filepath.Join(b.path, "tmp", name)
		if err := os.WriteFile(tmp, []byte(letter(1)), 0o644); err != nil {
			return 0, err
		}
		if err := own(tmp); err != nil {
			return 0, err
		}
		if err := os.Rename(tmp, filepath.Join(b.path, "new", name)); err != nil {
			return 0, err
		}
		for came := false; !came; {
			err := c.each(func(line []byte) { came = came || bytes.HasSuffix(line, []byte(" EXISTS\r\n")) }, "NOOP")
			if err != nil {
				return 0, err
			}
		}
	}
	return 5, c.removeLast(b, 5)
}

// removeLast brings the mailbox back to the size it had.
func (c *client) removeLast(b *mailbox, n int) error {
	if err := c.do(fmt.Sprintf(`STORE %d:%d +FLAGS.SILENT (\Deleted)`, b.n+1, b.n+n)); err != nil {
		return err
	}
	return c.do("EXPUNGE")
}

func copyMany(b *mailbox, c *client) (int, error) {
	n := min(b.n, 1000)
	return n, c.do(fmt.Sprintf("COPY 1:%d Folder0", n))
}

func appendMany(clients int) func(*mailbox, *client) (int, error) {
	return func(b *mailbox, _ *client) (int, error) {
		text := strings.ReplaceAll(letter(1), "\n", "\r\n")
		text = text[:min(len(text), 4096)]
		const each = 20
		err := together(b, clients, func(c *client) error {
			for range each {
				if err := c.do(fmt.Sprintf("APPEND Folder1 {%d+}", len(text)), text); err != nil {
					return err
				}
			}
			return nil
		})
		return clients * each, err
	}
}

func statusEach(_ *mailbox, c *client) (int, error) {
	for i := range 100 {
		if err := c.do(fmt.Sprintf("STATUS Folder%d (MESSAGES UIDNEXT UNSEEN)", i)); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

func listStatus(_ *mailbox, c *client) (int, error) {
	return 1, c.do(`LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))`)
}

func sessions(b *mailbox, _ *client) (int, error) {
	const each = 20
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for range each {
				if errs[i] = b.session(); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return each * len(errs), errors.Join(errs...)
}

func (b *mailbox) session() error {
	c, err := b.login()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.do("SELECT Folder2"); err != nil {
		return err
	}
	return c.do("LOGOUT")
}

// together lets several clients work at once.
func together(b *mailbox, n int, work func(*client) error) error {
	done := make(chan error, n)
	for range n {
		c, err := b.login()
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { done <- work(c) }()
	}
	var first error
	for range n {
		if err := <-done; err != nil && first == nil {
			first = err
		}
	}
	return first
}
