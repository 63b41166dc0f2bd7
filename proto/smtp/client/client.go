// Package client hands mail to another host over the Simple Mail Transfer
// Protocol (RFC 5321), or over its local form LMTP (RFC 2033).
//
// Whoever calls it makes the connection: it knows no names, no routes and no
// queue. What the other side says is bounded in length and in time and is never
// believed further than its grammar goes.
package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"pennypost/proto/sasl"
)

// The patience of RFC 5321 §4.5.3.2, which says "at least".
const (
	greetingTime = 5 * time.Minute  // .1
	commandTime  = 5 * time.Minute  // .2, .3
	dataTime     = 2 * time.Minute  // .4
	blockTime    = 3 * time.Minute  // .5
	endTime      = 10 * time.Minute // .6
	quitTime     = 10 * time.Second
)

// The bounds of what we listen to. A reply line has at most 512 octets
// (RFC 5321 §4.5.3.1.5); a reply of more lines than maxLines is no reply.
const (
	maxReplyLine = 4096
	maxLines     = 256
	maxReplyText = 8192
)

// ErrInjected reports octets in the clear behind the answer to STARTTLS: some
// third party wants to be taken for the server. Nothing of it is looked at.
var ErrInjected = errors.New("octets in the clear behind the answer to STARTTLS")

// An Encryption says what has to be true before mail goes out.
type Encryption int

const (
	May    Encryption = iota // STARTTLS where it is offered, with any certificate (RFC 7435)
	Never                    // in the clear
	Must                     // encrypted, with any certificate
	Verify                   // encrypted, with a certificate that is valid for the name
)

// Options say how to speak with a server.
type Options struct {
	Hello      string // our name for EHLO (RFC 5321 §4.1.4)
	LMTP       bool   // LHLO, and a reply for each recipient after the data (RFC 2033)
	Encryption Encryption
	TLS        *tls.Config // with ServerName; verification is switched by Encryption
	Encrypted  bool        // the connection is TLS from the start (RFC 8314 §3)
	Login      func(mechanisms []string) (sasl.Client, error)
}

// A Reply is an answer of the server (RFC 5321 §4.2). Its text is from
// outside: it may say anything, but has no control characters.
type Reply struct {
	Code   int
	Status string // enhanced status code, "5.1.1" (RFC 2034), or ""
	Text   string // lines are joined by " / "
}

// OK says whether the command has succeeded.
func (r Reply) OK() bool { return r.Code/100 == 2 }

// Temporary says whether it makes sense to come again later.
func (r Reply) Temporary() bool { return r.Code/100 != 5 && r.Code/100 != 2 }

func (r Reply) String() string {
	s := strconv.Itoa(r.Code)
	if r.Status != "" {
		s += " " + r.Status
	}
	if r.Text != "" {
		s += " " + r.Text
	}
	return s
}

// A ReplyError is a reply that ends what was asked for.
type ReplyError struct {
	Command string // what it answers: "EHLO", "greeting"
	Reply
}

func (e *ReplyError) Error() string { return fmt.Sprintf("%s: %s", e.Command, e.Reply) }

// A TLSError reports an encryption that did not come about. With May the
// caller can try again on a new connection, with Never.
type TLSError struct{ Err error }

func (e *TLSError) Error() string { return "TLS: " + printable(e.Err.Error()) }
func (e *TLSError) Unwrap() error { return e.Err }

// A Conn is a conversation. It is not safe for concurrent use.
type Conn struct {
	nc     net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	o      Options
	offers map[string]string // what EHLO has said: upper-case keyword -> parameters
	secure bool
	broken error // the conversation cannot go on
}

// Start begins the conversation on nc: greeting, EHLO, encryption, login. When
// it fails, nc is closed. When ctx ends, the conversation breaks off.
func Start(ctx context.Context, nc net.Conn, o Options) (*Conn, error) {
	c := &Conn{nc: nc, o: o, secure: o.Encrypted}
	c.r = bufio.NewReaderSize(nc, maxReplyLine)
	c.w = bufio.NewWriterSize(nc, 16<<10)
	release := c.Until(ctx)
	defer release()
	if err := c.start(ctx); err != nil {
		nc.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return c, nil
}

// Until breaks the conversation off when ctx ends, until the function it
// returns is called.
func (c *Conn) Until(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	return func() { stop() }
}

func (c *Conn) start(ctx context.Context) error {
	if c.o.Encrypted {
		if err := c.handshake(ctx); err != nil {
			return err
		}
	}
	greeting, err := c.read(greetingTime)
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if greeting.Code != 220 {
		c.Quit()
		return &ReplyError{"greeting", greeting}
	}
	if err := c.hello(); err != nil {
		return err
	}
	if err := c.encrypt(ctx); err != nil {
		return err
	}
	return c.login()
}

// hello asks what the server can do (§4.1.1.1). A server that does not know
// EHLO is asked in the way of RFC 821 (§3.2).
func (c *Conn) hello() error {
	c.offers = map[string]string{}
	verb := "EHLO"
	if c.o.LMTP {
		verb = "LHLO"
	}
	r, lines, err := c.command(commandTime, "%s %s", verb, c.o.Hello)
	if err != nil {
		return err
	}
	if r.Code/100 == 5 && !c.o.LMTP {
		if r, _, err = c.command(commandTime, "HELO %s", c.o.Hello); err != nil {
			return err
		}
		lines = nil
	}
	if !r.OK() {
		c.Quit()
		return &ReplyError{verb, r}
	}
	for i, line := range lines {
		if i > 0 {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			c.offers[strings.ToUpper(word)] = rest
		}
	}
	if auth, ok := c.offers["AUTH=LOGIN"]; ok && c.offers["AUTH"] == "" {
		c.offers["AUTH"] = "LOGIN " + auth
	}
	return nil
}

// encrypt goes over to TLS if that is wanted and offered (RFC 3207 §4).
func (c *Conn) encrypt(ctx context.Context) error {
	if c.secure || c.o.Encryption == Never {
		return nil
	}
	if _, ok := c.offers["STARTTLS"]; !ok || c.o.TLS == nil {
		if c.o.Encryption == May {
			return nil
		}
		c.Quit()
		return &TLSError{errors.New("STARTTLS is not offered")}
	}
	r, _, err := c.command(commandTime, "STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		if c.o.Encryption == May && r.Code/100 != 4 {
			return nil
		}
		c.Quit()
		return &TLSError{&ReplyError{"STARTTLS", r}}
	}
	if c.r.Buffered() > 0 {
		return ErrInjected
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	return c.hello() // what was said in the clear counts for nothing (RFC 3207 §4.2)
}

func (c *Conn) handshake(ctx context.Context) error {
	config := c.o.TLS.Clone()
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	config.InsecureSkipVerify = c.o.Encryption != Verify
	t := tls.Client(c.nc, config)
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return &TLSError{err}
	}
	c.nc, c.secure = t, true
	c.r.Reset(t)
	c.w.Reset(t)
	return nil
}

// TLS is the state of the encryption, and whether there is any.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	if t, ok := c.nc.(*tls.Conn); ok {
		return t.ConnectionState(), true
	}
	return tls.ConnectionState{}, false
}

// Offers returns what the server has said behind a keyword of its EHLO reply,
// and whether the keyword was there.
func (c *Conn) Offers(keyword string) (string, bool) {
	s, ok := c.offers[keyword]
	return s, ok
}

// Quit says goodbye and closes the connection; it does not wait long for the
// answer (§4.1.1.10).
func (c *Conn) Quit() {
	if c.broken == nil {
		c.command(quitTime, "QUIT")
	}
	c.broken = net.ErrClosed
	c.nc.Close()
}

// Close closes the connection without a word.
func (c *Conn) Close() {
	c.broken = net.ErrClosed
	c.nc.Close()
}

// command sends a line and returns the reply, its lines too.
func (c *Conn) command(patience time.Duration, format string, args ...any) (Reply, []string, error) {
	if err := c.say(format, args...); err != nil {
		return Reply{}, nil, err
	}
	if err := c.flush(patience); err != nil {
		return Reply{}, nil, err
	}
	return c.readLines(patience)
}

// say queues a line. What would be more than one line is a mistake of the
// caller, and none goes out.
func (c *Conn) say(format string, args ...any) error {
	if c.broken != nil {
		return c.broken
	}
	line := fmt.Sprintf(format, args...)
	if strings.ContainsAny(line, "\r\n\x00") {
		return fmt.Errorf("control characters in %.20q", line)
	}
	c.nc.SetWriteDeadline(time.Now().Add(commandTime))
	if _, err := c.w.WriteString(line + "\r\n"); err != nil {
		return c.fail(err)
	}
	return nil
}

func (c *Conn) flush(patience time.Duration) error {
	if c.broken != nil {
		return c.broken
	}
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if err := c.w.Flush(); err != nil {
		return c.fail(err)
	}
	return nil
}

// fail remembers the error after which the conversation cannot go on.
func (c *Conn) fail(err error) error {
	if err == io.EOF {
		err = errors.New("the server has hung up")
	}
	if c.broken == nil {
		c.broken = err
	}
	return err
}

// read returns the next reply. It has to be there, whole, before patience ends.
func (c *Conn) read(patience time.Duration) (Reply, error) {
	r, _, err := c.readLines(patience)
	return r, err
}

func (c *Conn) readLines(patience time.Duration) (Reply, []string, error) {
	if c.broken != nil {
		return Reply{}, nil, c.broken
	}
	c.nc.SetReadDeadline(time.Now().Add(patience))
	r, lines, err := readReply(c.r)
	if err != nil {
		return Reply{}, nil, c.fail(err)
	}
	if r.Code == 421 {
		c.fail(&ReplyError{"421", r}) // the server is about to hang up (§3.8)
	}
	return r, lines, nil
}

// readReply reads one reply, "250-" lines and all (§4.2.1).
func readReply(b *bufio.Reader) (r Reply, lines []string, err error) {
	text := 0
	for {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return r, nil, errors.New("an endless reply line")
		}
		if err != nil {
			return r, nil, err
		}
		s := strings.TrimRight(string(line), "\r\n")
		code, rest, more, ok := splitReply(s)
		if !ok || len(lines) > 0 && code != r.Code {
			return r, nil, fmt.Errorf("not a reply: %.80q", s)
		}
		r.Code = code
		if text += len(rest); text <= maxReplyText {
			lines = append(lines, printable(rest))
		}
		if len(lines) > maxLines {
			return r, nil, errors.New("an endless reply")
		}
		if !more {
			break
		}
	}
	r.Status, r.Text = enhanced(r.Code, lines)
	return r, lines, nil
}

// splitReply takes a reply line apart: "250-text" and, as old servers say it,
// "250" alone.
func splitReply(s string) (code int, text string, more, ok bool) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, "", false, false
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	if len(s) == 3 {
		return code, "", false, true
	}
	return code, s[4:], s[3] == '-', s[3] == '-' || s[3] == ' '
}

// enhanced joins the lines of a reply and takes the enhanced status codes off
// their fronts (RFC 2034 §4, RFC 3463 §2). One of another class than the
// reply's is none.
func enhanced(code int, lines []string) (status, text string) {
	var out []string
	for i, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		if isStatus(word) && int(word[0]-'0') == code/100 {
			if i == 0 {
				status = word
			}
			if word == status {
				line = rest
			}
		}
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return status, strings.Join(out, " / ")
}

func isStatus(s string) bool {
	a, rest, ok1 := strings.Cut(s, ".")
	b, c, ok2 := strings.Cut(rest, ".")
	digits := func(s string) bool {
		return s != "" && len(s) <= 3 && strings.Trim(s, "0123456789") == ""
	}
	return ok1 && ok2 && len(a) == 1 && (a == "2" || a == "4" || a == "5") && digits(b) && digits(c)
}

// printable makes a text from outside harmless.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
