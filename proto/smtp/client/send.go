package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Envelope is what MAIL and RCPT say (RFC 5321 §4.1.1.2, §4.1.1.3).
type Envelope struct {
	From     string
	To       []Recipient
	Size     int64 // an estimate, octets with CRLF (RFC 1870 §6); 0: unknown
	EightBit bool  // RFC 6152 §3
	SMTPUTF8 bool  // RFC 6531 §3.4
	Envid    string
	Ret      string // RFC 3461 §4.3
}

// A Recipient is one forward-path and its parameters (RFC 3461 §4.1, §4.2).
type Recipient struct {
	Address string
	Notify  string
	Orcpt   string
}

// An Outcome is what became of one recipient.
type Outcome struct {
	Reply
	Err error // no answer for this one: the conversation has broken off; nothing is known
	DSN bool  // the server has taken over the duty to report (RFC 3461 §5.2)
}

// Delivered says whether the server has taken the message for the recipient.
func (o Outcome) Delivered() bool { return o.Err == nil && o.OK() }

// Temporary says whether it makes sense to come again later.
func (o Outcome) Temporary() bool { return o.Err != nil || o.Reply.Temporary() }

func (o Outcome) String() string {
	if o.Err != nil {
		return printable(o.Err.Error())
	}
	return o.Reply.String()
}

// Usable says whether another message may follow on this connection.
func (c *Conn) Usable() bool { return c.broken == nil }

// Send hands over one message and returns what became of each recipient, in
// their order. The body has LF or CRLF line ends; it is read only when at least
// one recipient is accepted. An error while reading it breaks the conversation
// off before the end of data, so that the server drops what it has.
//
// When ctx ends, the conversation breaks off at once: a caller who wants the
// transaction finished passes a context that lives longer.
func (c *Conn) Send(ctx context.Context, e Envelope, body io.Reader) []Outcome {
	out := make([]Outcome, len(e.To))
	release := c.Until(ctx)
	defer release()
	if r, bad := c.unfit(e); bad {
		for i := range out {
			out[i].Reply = r
		}
		return out
	}
	_, dsn := c.offers["DSN"]
	taken := c.transaction(e, body, out)
	for i := range out {
		out[i].DSN = dsn
		if out[i].Err == nil && (out[i].Code == 0 || out[i].OK() && !taken) {
			out[i] = Outcome{Err: c.broken, DSN: dsn}
		}
		if out[i].Err == nil && out[i].Code == 0 {
			out[i].Err = net.ErrClosed
		}
	}
	return out
}

// unfit says why the server cannot take the message at all, without asking it.
func (c *Conn) unfit(e Envelope) (Reply, bool) {
	if limit, ok := c.offers["SIZE"]; ok {
		n, err := strconv.ParseInt(strings.TrimSpace(limit), 10, 64)
		if err == nil && n > 0 && e.Size > n {
			return Reply{552, "5.3.4", fmt.Sprintf("message of %d octets is over the server's limit of %d", e.Size, n)}, true
		}
	}
	if _, ok := c.offers["SMTPUTF8"]; !ok {
		ascii := isASCII(e.From)
		for _, r := range e.To {
			ascii = ascii && isASCII(r.Address)
		}
		if !ascii {
			return Reply{553, "5.6.7", "the server takes no addresses outside US-ASCII"}, true
		}
	}
	return Reply{}, false
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// transaction is MAIL, RCPT, DATA (§3.3), in one group where the server allows
// it (RFC 2920 §3.1). It fills out with the replies as far as they come. Only
// when taken is true has the end of data been answered: until then the server's
// consent to a recipient is worth nothing.
func (c *Conn) transaction(e Envelope, body io.Reader, out []Outcome) (taken bool) {
	_, grouped := c.offers["PIPELINING"]
	if grouped {
		if !c.group(e, out) {
			return false
		}
	} else if !c.single(e, out) {
		return false
	}
	accepted := slices.ContainsFunc(out, func(o Outcome) bool { return o.OK() })
	if !grouped {
		if !accepted {
			c.reset()
			return false
		}
		if c.say("DATA") != nil {
			return false
		}
	}
	data, err := c.answer(dataTime)
	switch {
	case err != nil:
		return false
	case data.Code == 354 && !accepted:
		// All are refused and the server still wants data: an empty message
		// that nobody gets (RFC 2920 §3.1).
		if c.say(".") == nil {
			c.answer(endTime)
		}
		return false
	case data.Code != 354:
		if data.OK() { // no such answer to DATA
			data = Reply{Code: 451, Text: "unexpected answer to DATA: " + data.String()}
		}
		c.settle(out, data)
		c.reset()
		return false
	}
	if err := c.data(body); err != nil {
		c.fail(err)
		c.nc.Close()
		return false
	}
	return c.end(out)
}

// single says MAIL and RCPT one after the other.
func (c *Conn) single(e Envelope, out []Outcome) bool {
	if c.say("%s", c.mail(e)) != nil {
		return false
	}
	mail, err := c.answer(commandTime)
	if err != nil {
		return false
	}
	if !mail.OK() {
		c.refuse(mail, out)
		c.reset()
		return false
	}
	for i, r := range e.To {
		if c.say("%s", c.rcpt(r)) != nil {
			return false
		}
		if out[i].Reply, err = c.answer(commandTime); err != nil {
			return false
		}
	}
	return true
}

// group says MAIL, RCPT and DATA at once; the answer to DATA is not read yet.
func (c *Conn) group(e Envelope, out []Outcome) bool {
	if c.say("%s", c.mail(e)) != nil {
		return false
	}
	for _, r := range e.To {
		if c.say("%s", c.rcpt(r)) != nil {
			return false
		}
	}
	if c.say("DATA") != nil {
		return false
	}
	mail, err := c.answer(commandTime)
	if err != nil {
		return false
	}
	for i := range out {
		if out[i].Reply, err = c.read(commandTime); err != nil {
			return false
		}
	}
	if !mail.OK() {
		c.refuse(mail, out)
	}
	return true
}

// mail is the MAIL command with what the server offers to know.
func (c *Conn) mail(e Envelope) string {
	var b strings.Builder
	fmt.Fprintf(&b, "MAIL FROM:<%s>", e.From)
	if _, ok := c.offers["SIZE"]; ok && e.Size > 0 {
		fmt.Fprintf(&b, " SIZE=%d", e.Size)
	}
	if _, ok := c.offers["8BITMIME"]; ok && e.EightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if _, ok := c.offers["SMTPUTF8"]; ok && e.SMTPUTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if _, ok := c.offers["DSN"]; ok {
		if e.Ret != "" {
			b.WriteString(" RET=" + e.Ret)
		}
		if e.Envid != "" {
			b.WriteString(" ENVID=" + e.Envid)
		}
	}
	return b.String()
}

func (c *Conn) rcpt(r Recipient) string {
	s := "RCPT TO:<" + r.Address + ">"
	if _, ok := c.offers["DSN"]; ok {
		if r.Notify != "" {
			s += " NOTIFY=" + r.Notify
		}
		if r.Orcpt != "" {
			s += " ORCPT=" + r.Orcpt
		}
	}
	return s
}

func (c *Conn) answer(patience time.Duration) (Reply, error) {
	if err := c.flush(patience); err != nil {
		return Reply{}, err
	}
	return c.read(patience)
}

// refuse gives every recipient the answer to MAIL.
func (c *Conn) refuse(r Reply, out []Outcome) {
	for i := range out {
		out[i].Reply = r
	}
}

// settle gives r to every recipient that was accepted.
func (c *Conn) settle(out []Outcome, r Reply) {
	for i := range out {
		if out[i].Err == nil && out[i].OK() {
			out[i].Reply = r
		}
	}
}

// reset ends a transaction that came to nothing (§4.1.1.5).
func (c *Conn) reset() {
	if c.broken == nil {
		if r, _, err := c.command(commandTime, "RSET"); err == nil && !r.OK() {
			c.fail(&ReplyError{"RSET", r})
		}
	}
}

// end reads what became of the data: one reply for all, with LMTP one for each
// recipient that was accepted (RFC 2033 §4.2). A server that hangs up now may
// have the message or not; it has to be taken as not.
func (c *Conn) end(out []Outcome) bool {
	if c.flush(endTime) != nil {
		return false
	}
	if !c.o.LMTP {
		r, err := c.read(endTime)
		if err != nil {
			return false
		}
		c.settle(out, final(r))
		return true
	}
	for i := range out {
		if !out[i].OK() {
			continue
		}
		r, err := c.read(endTime)
		if err != nil {
			for k := i; k < len(out); k++ {
				if out[k].OK() {
					out[k] = Outcome{Err: err}
				}
			}
			break
		}
		out[i].Reply = final(r)
	}
	return true
}

// final is an answer to the end of data; 354 is none.
func final(r Reply) Reply {
	if r.Code/100 == 3 {
		return Reply{Code: 451, Text: "unexpected answer to the end of data: " + r.String()}
	}
	return r
}

// data sends the body, dots stuffed (§4.5.2), and the dot at its end.
func (c *Conn) data(body io.Reader) error {
	w := stuffer{w: c.w, start: true}
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			c.nc.SetWriteDeadline(time.Now().Add(blockTime))
			if werr := w.write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("message: %w", err)
		}
	}
	return w.close()
}

// A stuffer writes lines as DATA wants them: CRLF at every end, a dot before a
// dot, and never a CR or LF alone. A CR without its LF becomes a space: nobody
// may send it (§2.3.8), and what one server takes for a line end and another
// does not is how mail is smuggled.
type stuffer struct {
	w     *bufio.Writer
	start bool // at the start of a line
	cr    bool // a CR waits for what follows it
}

func (s *stuffer) write(p []byte) error {
	for len(p) > 0 {
		if s.cr {
			s.cr = false
			if p[0] != '\n' {
				s.octet(' ')
			}
		}
		if s.start && p[0] == '.' {
			s.w.WriteByte('.')
		}
		n := bytes.IndexAny(p, "\r\n")
		if n < 0 {
			n = len(p)
		}
		if n > 0 {
			s.start = false
			s.w.Write(p[:n])
			p = p[n:]
			continue
		}
		if p[0] == '\r' {
			s.cr = true
		} else {
			s.w.WriteString("\r\n")
			s.start = true
		}
		p = p[1:]
	}
	_, err := s.w.Write(nil) // the first error sticks
	return err
}

func (s *stuffer) octet(b byte) {
	s.w.WriteByte(b)
	s.start = false
}

func (s *stuffer) close() error {
	if s.cr {
		s.octet(' ')
	}
	if !s.start {
		s.w.WriteString("\r\n")
	}
	_, err := s.w.WriteString(".\r\n")
	return err
}
