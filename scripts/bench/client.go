package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
)

// A client speaks just enough IMAP, and looks at no octet of what it gets.
type client struct {
	net.Conn
	r      *bufio.Reader
	tag    int
	octets int // of literals
}

func (b *mailbox) login(addr string) (*client, error) {
	nc, err := net.Dial("tcp", addr)
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

// has tells whether the server announces something.
func (c *client) has(what string) (found bool) {
	err := c.each(func(line []byte) { found = found || slices.Contains(strings.Fields(string(line)), what) }, "CAPABILITY")
	return found && err == nil
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
		long := err == bufio.ErrBufferFull
		for err == bufio.ErrBufferFull {
			line, err = c.r.ReadSlice('\n')
		}
		if err != nil {
			return err
		}
		if !long && bytes.HasPrefix(line, []byte(tag)) {
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
			c.octets += n
		}
	}
}
