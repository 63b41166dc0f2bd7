package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"pennypost/proto/wire"
)

// data answers 250 only when the mail is on disk: from then on it is ours to
// lose (§6.1). After a malformed line nobody can tell where the message ends
// and the next command begins, so the session ends, too.
func (s *Session) data(arg string) reply {
	switch {
	case arg != "":
		return noArgument
	case s.state == mail:
		s.junk++
		return say(554, "5.5.1", "no valid recipients")
	}
	s.send(say(354, "", `enter mail, end with "." on a line by itself`))
	env := s.env
	s.reset()
	s.messages++
	start := time.Now()
	env.Trace = s.received(&env, start)
	body := &content{r: s.Conn.Undotted(), max: s.MaxSize}
	id, err := s.Deliver(context.WithoutCancel(s.ctx), &env, body)
	if err == nil && body.err != io.EOF && body.err != nil {
		err = body.err
	}
	r := s.verdict(env.ID, body, err)
	if err == nil && r.code/100 == 2 {
		s.junk = 0
	} else if err == nil {
		err = body.err
	}
	verdict := "client left"
	if r.code > 0 {
		verdict = fmt.Sprintf("%d %s", r.code, r.status)
	}
	attrs := []any{
		"id", env.ID, "user", env.User, "helo", s.helo, "from", env.From, "to", recipients(env.To),
		"size", body.size, "verdict", verdict, "as", id, "took", time.Since(start),
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	level := slog.LevelInfo
	if r.code/100 == 4 && r.code != 421 { // trouble of ours
		level = slog.LevelError
	}
	s.Log.Log(s.ctx, level, "message", attrs...)
	return r
}

// recipients are the first of many: a line of a log has an end.
func recipients(to []string) []string {
	const most = 50
	if len(to) <= most {
		return to
	}
	return append(to[:most:most], fmt.Sprintf("and %d more", len(to)-most))
}

// verdict is the reply to the message id, for which Deliver returned err.
func (s *Session) verdict(id string, body *content, err error) reply {
	if !body.drain() {
		switch {
		case errors.Is(body.err, wire.ErrLineEnd):
			s.state = over
			return say(521, "5.5.2", "bare CR or LF in the message; only CRLF ends a line")
		case errors.Is(body.err, errTooBig):
			s.state = over // and it goes on and on
			return say(552, "5.3.4", errTooBig.Error())
		}
		return s.lost(body.err)
	}
	switch {
	case body.tooBig:
		return say(552, "5.3.4", errTooBig.Error())
	case err != nil:
		return refuse(err, say(451, "4.3.0", "trouble here; try again later"))
	}
	return say(250, "2.0.0", "message accepted for delivery as "+id)
}

// content is a message as it comes in.
type content struct {
	r      io.Reader
	size   int64 // octets so far
	max    int64 // 0: any
	tooBig bool
	err    error // what reads return from now on
}

func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.size += int64(n)
	if c.max > 0 && c.size > c.max {
		c.tooBig, err = true, errTooBig
	}
	c.err = err
	return n, err
}

// drain reads what Deliver has left over, so that the next command comes next.
// Of a message that is too big it reads as much again, not for ever. It returns
// false when the end was not reached.
func (c *content) drain() bool {
	if c.err != nil && !c.tooBig {
		return c.err == io.EOF
	}
	const most = 1 << 30
	limit := c.max
	if limit == 0 {
		limit = most
	}
	n, err := io.Copy(io.Discard, io.LimitReader(c.r, limit+1))
	c.size += n
	switch {
	case err != nil:
		c.err = err
		return false
	case n > limit:
		c.tooBig, c.err = true, errTooBig
		return false
	}
	c.tooBig = c.tooBig || c.max > 0 && c.size > c.max
	return true
}
