package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/daemon"
	"pennypost/cmd/internal/delivery"
	"pennypost/cmd/internal/guard"
	"pennypost/proto/sasl"
	"pennypost/proto/smtp"
)

// A desk decides for one client who may do what, and hands on the mail.
type desk struct {
	*server
	client  *daemon.Client
	trusted bool
}

// door is where the client logs in.
func (d *desk) door() guard.Door {
	return guard.Door{Guard: &d.guard, Office: d.office, Service: "smtp", Peer: d.client.Peer}
}

// login judges a claim, slowly when there were wrong passwords before.
func (d *desk) login(ctx context.Context, claim sasl.Claim) (string, error) {
	u, err := d.door().Login(ctx, claim)
	if err != nil {
		return "", err
	}
	return u.Address(), nil
}

// check decides about one recipient. Mail for elsewhere is taken from those
// only who have logged in or are trusted: nobody else may relay.
func (d *desk) check(_ context.Context, e *smtp.Envelope, rcpt string) error {
	err := d.post.Check(rcpt)
	if err == nil {
		err = d.post.Room(rcpt, e.Size)
	}
	if errors.Is(err, delivery.ErrRemote) {
		if e.User != "" || d.trusted {
			return nil
		}
		return &smtp.Error{Code: 550, Status: "5.7.1", Text: "relaying denied; log in first"}
	}
	return answer(err)
}

// deliver sends a message on its way.
func (d *desk) deliver(ctx context.Context, e *smtp.Envelope, r io.Reader) (string, error) {
	if e.User != "" {
		if u, err := d.office.Lookup(e.User); err == nil && e.From != "" && !d.office.Owns(u, e.From) {
			d.client.Log.Warn("sender is not the login's own", "user", e.User, "from", e.From, "id", e.ID)
		}
	}
	from := e.From
	if from != "" && !strings.Contains(from, "@") { // of a trusted client
		from += "@" + d.office.Domain()
	}
	m := delivery.Message{
		From:       from,
		EightBit:   e.EightBit,
		Trace:      e.Trace,
		Submission: e.User != "" || d.trusted,
	}
	for _, to := range e.To {
		m.To = append(m.To, delivery.Recipient{Address: to})
	}
	id, err := d.post.Send(ctx, m, r)
	return id, answer(err)
}

// answer gives an error the words that the client shall hear; what has none is
// trouble of ours, of which only the log tells.
func answer(err error) error {
	if refusal, ok := errors.AsType[*delivery.Refusal](err); ok {
		return &smtp.Error{Code: refusal.Code, Status: refusal.Status, Text: refusal.Text}
	}
	switch {
	case errors.Is(err, account.ErrUnknown):
		return &smtp.Error{Code: 550, Status: "5.1.1", Text: account.ErrUnknown.Error()}
	case errors.Is(err, account.ErrSyntax):
		return &smtp.Error{Code: 553, Status: "5.1.3", Text: account.ErrSyntax.Error()}
	case errors.Is(err, account.ErrLoop):
		return &smtp.Error{Code: 550, Status: "5.4.6", Text: account.ErrLoop.Error()}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &smtp.Error{Code: 452, Status: "4.3.1", Text: "no room for the message now", Err: err}
	}
	return err
}
