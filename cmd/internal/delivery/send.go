package delivery

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/maildir"
	"pennypost/maildir/queue"
)

// A plan says where each recipient's copy goes.
type plan struct {
	users    []*account.User // each Maildir once
	address  []string        // what is known as the recipient of each user
	forwards []forward
	remote   []Recipient // as they are
	later    []Recipient // local ones whom the queue runner has to care for
	err      error       // why the last of later cannot be served now
}

// A forward is a local address whose mail goes elsewhere.
type forward struct {
	address string
	to      []Recipient
}

func (p *Post) plan(m *Message) plan {
	var l plan
	seen := map[string]bool{}
	for _, r := range m.To {
		at := strings.LastIndexByte(r.Address, '@')
		if at >= 0 && !p.Office.Local(r.Address[at+1:]) {
			l.remote = append(l.remote, r)
			continue
		}
		t, err := p.targets(r)
		if err != nil || m.QueueOnly {
			l.later = append(l.later, r)
			if !m.QueueOnly {
				l.err = err
			}
			continue
		}
		for _, u := range t.Users {
			if !seen[u.Maildir] {
				seen[u.Maildir] = true
				l.users = append(l.users, u)
				l.address = append(l.address, r.Address)
			}
		}
		if len(t.Remote) > 0 {
			f := forward{address: r.Address}
			for _, addr := range t.Remote {
				f.to = append(f.to, Recipient{Address: addr, Notify: r.Notify, Orcpt: r.Orcpt})
			}
			l.forwards = append(l.forwards, f)
		}
	}
	return l
}

// Send brings a message on its way. When it returns nil, every local copy is
// in its Maildir and every other one in the queue, and synced; id is that of the
// message in the log. After an error nobody was told of any copy, and there is
// none but where the trouble came with the very last step.
//
// The message is read once, to its end, and never held in memory; its line ends may be LF
// or CRLF. When r fails, nothing is delivered. A local recipient who cannot be
// served now while others can goes to the queue. An error is a *Refusal,
// account.ErrUnknown, the error of r, or one of the file system.
func (p *Post) Send(ctx context.Context, m Message, r io.Reader) (id string, err error) {
	receipt, err := p.Take(ctx, m, r)
	return receipt.ID, err
}

// A Receipt says what has become of a message.
type Receipt struct {
	ID     string   // what the log calls it
	Queued []string // its identifiers in the queue
}

// Take is Send with a whole receipt.
func (p *Post) Take(ctx context.Context, m Message, r io.Reader) (Receipt, error) {
	id := strings.ToLower(rand.Text()[:13])
	t, err := p.take(ctx, id, m, r)
	if err != nil {
		return Receipt{}, err
	}
	for _, u := range t.users {
		p.log().Info("delivered", "id", id, "from", m.From, "user", u.Address())
	}
	for _, q := range t.queued {
		p.log().Info("queued", "id", id, "from", m.From, "as", q)
	}
	return Receipt{id, t.queued}, nil
}

func (p *Post) take(ctx context.Context, id string, m Message, r io.Reader) (*transfer, error) {
	if len(m.To) == 0 {
		return nil, &Refusal{554, "5.5.1", "no recipients"}
	}
	l := p.plan(&m)
	if l.err != nil && len(l.later) == len(m.To) && !(m.Patient && passing(l.err)) {
		return nil, l.err
	}
	body := bufio.NewReaderSize(r, 32<<10)
	h, err := ReadHeader(body)
	if err != nil {
		return nil, err
	}
	var known []string
	for i, u := range l.users {
		known = append(known, u.Address(), l.address[i])
	}
	for _, f := range l.forwards {
		known = append(known, f.address)
	}
	if why := h.loops(known); why != "" {
		return nil, &Refusal{554, "5.4.6", "mail loop: " + why}
	}
	now := time.Now()
	if m.Submission {
		if !h.Whole { // who knows what is in the rest: a Bcc must not go out
			return nil, &Refusal{554, "5.6.0", "the header is over 1 MiB"}
		}
		h.submit(&m, p.Office.Me(), id, now)
	}
	t := &transfer{p: p, m: &m, h: h, now: now}
	defer t.abort()
	if err := t.open(l); err != nil {
		return nil, err
	}
	if err := t.copy(ctx, body); err != nil {
		return nil, err
	}
	return t, t.commit()
}

// passing says whether err may be gone when the queue runner comes, who may do
// more than we.
func passing(err error) bool {
	_, refused := errors.AsType[*Refusal](err)
	return !refused && !errors.Is(err, account.ErrUnknown) && !errors.Is(err, account.ErrLoop) && !errors.Is(err, account.ErrSyntax)
}

// A transfer is one message on its way to all of its places.
type transfer struct {
	p      *Post
	m      *Message
	h      *Header
	now    time.Time
	users  []*account.User
	box    *maildir.Delivery // to all users; nil when there is none, or it is done
	queues []*queue.Writer
	queued []string
}

// open begins a copy at each place. The boxes come first: a user whose Maildir
// cannot be opened is left to the queue runner, if there is anybody else.
func (t *transfer) open(l plan) error {
	var trouble error
	var failed []Recipient
	single := len(l.users) == 1
	for i, u := range l.users {
		err := t.openBox(u, l.address[i], single)
		if err != nil {
			t.p.log().Warn("cannot deliver now", "user", u.Address(), "err", err)
			trouble = err
			failed = append(failed, Recipient{Address: u.Address(), Mailbox: true})
		}
	}
	if len(failed) > 0 && t.box == nil && len(l.remote)+len(l.forwards)+len(l.later) == 0 && !t.m.Patient {
		return trouble
	}
	direct := append(append(l.remote, l.later...), failed...)
	if len(direct) > 0 {
		if err := t.openQueue(direct, ""); err != nil {
			return err
		}
	}
	for _, f := range l.forwards {
		if err := t.openQueue(f.to, f.address); err != nil {
			return err
		}
	}
	return nil
}

func (t *transfer) openBox(u *account.User, address string, single bool) error {
	s, err := t.p.Office.Maildir(u)
	if err != nil {
		return err
	}
	defer s.Close()
	o := maildir.DeliverOptions{UID: u.UID, GID: u.GID}
	if t.box != nil {
		if err := t.box.Also(s, o); err != nil {
			return t.p.noRoom(err)
		}
		t.users = append(t.users, u)
		return nil
	}
	d, err := s.Deliver(o)
	if err != nil {
		return t.p.noRoom(err)
	}
	t.box, t.users = d, append(t.users, u)
	top := "Return-Path: <" + t.m.From + ">\n"
	if single { // one file for several users can name none of them
		top += "Delivered-To: " + address + "\n"
	}
	local := *t.h
	local.Fields = append([]Field(nil), t.h.Fields...)
	local.drop("Return-Path")
	_, err = io.WriteString(d, top+t.m.Trace+string(local.Bytes()))
	return err
}

func (t *transfer) openQueue(to []Recipient, forwarder string) error {
	q, err := t.p.Queue()
	if err != nil {
		return err
	}
	w, err := q.Create(queue.Envelope{
		Created: t.now, From: t.m.From, To: to, EightBit: t.m.EightBit, SMTPUTF8: t.m.SMTPUTF8,
		Envid: t.m.Envid, Ret: t.m.Ret,
	})
	if errors.Is(err, queue.ErrEnvelope) {
		return &Refusal{553, "5.1.3", err.Error()}
	}
	if err != nil {
		return err
	}
	t.queues = append(t.queues, w)
	top := t.m.Trace
	if forwarder != "" { // should it come back, it is recognised
		top = "Delivered-To: " + forwarder + "\n" + top
	}
	_, err = io.WriteString(w, top+string(t.h.Bytes()))
	return err
}

// copy brings the body to all places at once. A last line without end gets one,
// as every protocol that will carry the message gives it: so it has one size.
func (t *transfer) copy(ctx context.Context, r io.Reader) error {
	var all []io.Writer
	if t.box != nil {
		all = append(all, t.box)
	}
	for _, q := range t.queues {
		all = append(all, q)
	}
	buf := make([]byte, 32<<10)
	w := io.MultiWriter(all...)
	ended := true // the last octet was the end of a line
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, rerr := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("message: %w", err)
			}
			ended = buf[n-1] == '\n'
		}
		if rerr == io.EOF && !ended {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return fmt.Errorf("message: %w", err)
			}
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}

// commit makes the copies count: first everything is on the disk, then the
// mailboxes get theirs, then the queue.
func (t *transfer) commit() error {
	for _, q := range t.queues {
		if err := q.Sync(); err != nil {
			return err
		}
	}
	if t.box != nil {
		if err := t.deliver(); err != nil {
			return err
		}
	}
	for len(t.queues) > 0 {
		q := t.queues[0]
		t.queues = t.queues[1:]
		id, err := q.Commit()
		if err != nil {
			return err
		}
		t.queued = append(t.queued, id)
	}
	return nil
}

// deliver gives the mailboxes the message. Those that cannot take it now get it from
// the queue, if others have it, or the sender is patient.
func (t *transfer) deliver() error {
	var text *os.File
	if len(t.users) > 1 || t.m.Patient {
		var err error
		if text, err = t.box.Reader(); err != nil {
			return t.p.noRoom(err)
		}
		defer text.Close()
	}
	_, err := t.box.Commit()
	t.box = nil
	part, ok := errors.AsType[*maildir.PartialError](err)
	switch {
	case err == nil:
		return nil
	case ok:
		return t.rescue(text, part.Failed)
	}
	err = t.p.noRoom(err)
	if r, refused := errors.AsType[*Refusal](err); t.m.Patient && (!refused || r.Temporary()) {
		all := map[int]error{}
		for i := range t.users {
			all[i] = err
		}
		return t.rescue(text, all)
	}
	return err
}

// rescue queues the message for the users whose Maildir has not taken it.
func (t *transfer) rescue(text io.Reader, failed map[int]error) error {
	var to []Recipient
	var served []*account.User
	for i, u := range t.users {
		if err := failed[i]; err != nil {
			t.p.log().Warn("cannot deliver now", "user", u.Address(), "err", err)
			to = append(to, Recipient{Address: u.Address(), Mailbox: true})
		} else {
			served = append(served, u)
		}
	}
	t.users = served
	q, err := t.p.Queue()
	if err != nil {
		return err
	}
	w, err := q.Create(queue.Envelope{
		Created: t.now, From: t.m.From, To: to, EightBit: t.m.EightBit, SMTPUTF8: t.m.SMTPUTF8,
	})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, text); err != nil {
		w.Abort()
		return err
	}
	id, err := w.Commit()
	t.queued = append(t.queued, id)
	return err
}

// abort drops what is not committed.
func (t *transfer) abort() {
	if t.box != nil {
		t.box.Abort()
	}
	for _, q := range t.queues {
		q.Abort()
	}
}
