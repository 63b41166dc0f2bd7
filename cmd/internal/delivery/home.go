package delivery

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/maildir"
	"pennypost/maildir/queue"
)

// home delivers a queued message to the local recipient n, and notes it.
//
// Killed at any moment, it neither loses the message nor doubles it: the file
// is written and synced in the Maildir's tmp, its name is noted, then it is
// renamed into new. Whoever comes after us sees by the tmp file whether the
// rename has happened.
func (p *Post) home(i *queue.Item, n int) error {
	to := i.To[n]
	note := func(word queue.Word, text string) error {
		p.log().Info(string(word), "id", i.ID, "to", to.Address, "reply", text)
		return i.Note(time.Now(), queue.Note{To: n, Word: word, Text: text})
	}
	trouble := func(err error) error {
		err = p.noRoom(err)
		if errors.Is(err, account.ErrUnknown) {
			return note(queue.Failed, "550 5.1.1 "+err.Error())
		}
		if errors.Is(err, account.ErrLoop) {
			return note(queue.Failed, "554 5.4.6 "+err.Error())
		}
		if errors.Is(err, account.ErrSyntax) {
			return note(queue.Failed, "553 5.1.3 "+err.Error())
		}
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			if refusal.Temporary() {
				return note(queue.Tried, refusal.Error())
			}
			return note(queue.Failed, refusal.Error())
		}
		return note(queue.Tried, "451 4.3.0 "+err.Error())
	}
	t, err := p.targets(to)
	if err != nil {
		return trouble(err)
	}
	body := bufio.NewReaderSize(i.Message(), 32<<10)
	h, err := ReadHeader(body)
	if err != nil {
		return trouble(err)
	}
	if why := h.loops([]string{to.Address}); why != "" && !to.Mailbox {
		return trouble(&Refusal{554, "5.4.6", "mail loop: " + why})
	}
	if len(t.Remote) > 0 || len(t.Users) > 1 {
		// More than one copy, or one that goes on: they take a message of their
		// own in the queue, so that each can be noted.
		return p.expand(i, n, t, h, body)
	}
	if len(t.Users) == 0 {
		return note(queue.Delivered, "discarded, as its alias says")
	}
	u := t.Users[0]
	s, err := p.Office.Maildir(u)
	if err != nil {
		return trouble(err)
	}
	defer s.Close()
	d, err := s.Deliver(maildir.DeliverOptions{UID: u.UID, GID: u.GID})
	if err != nil {
		return trouble(err)
	}
	defer d.Abort()
	h.drop("Return-Path")
	if _, err = io.WriteString(d, "Return-Path: <"+i.From+">\nDelivered-To: "+to.Address+"\n"+string(h.Bytes())); err == nil {
		_, err = io.Copy(d, body)
	}
	if err != nil {
		return trouble(err)
	}
	name, err := d.Prepare()
	if err != nil {
		return trouble(err)
	}
	// From here on an error leaves things as they are: settle will know.
	if err := i.Note(time.Now(), queue.Note{To: n, Word: queue.Storing, Text: filepath.Join(u.Maildir, "new", name)}); err != nil {
		return err
	}
	if _, err := s.Finish(name); err != nil {
		return err
	}
	return note(queue.Delivered, "as "+filepath.Join(u.Maildir, "new", name))
}

// targets finds where a queued recipient's mail goes.
func (p *Post) targets(to queue.Recipient) (account.Targets, error) {
	if to.Mailbox {
		u, err := p.Office.Lookup(to.Address)
		return account.Targets{Users: []*account.User{u}}, err
	}
	t, err := p.Office.Resolve(to.Address)
	if err == nil {
		err = possible(t)
	}
	return t, err
}

// settle finishes what home has begun before a crash.
func (p *Post) settle(i *queue.Item) error {
	const safe = 24 * time.Hour // so long nobody cleans it away (maildir(5))
	for n, st := range i.Status {
		if st.Word != queue.Storing {
			continue
		}
		after := queue.Note{To: n, Word: queue.Delivered, Text: "as " + st.Text + ", after a crash"}
		dir, name := filepath.Split(st.Text)
		s, err := maildir.Open(filepath.Dir(filepath.Clean(dir)))
		moved := false
		if err == nil {
			moved, err = s.Finish(name)
			s.Close()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !moved && time.Since(st.Time) > safe:
			// Rather twice than not at all.
			after = queue.Note{To: n, Word: queue.Tried, Text: "451 4.3.0 a crash came between"}
		case err != nil:
			return fmt.Errorf("finish delivery: %w", err)
		}
		if err := i.Note(time.Now(), after); err != nil {
			return err
		}
	}
	return nil
}

// expand replaces a local recipient by those he stands for, in a message of
// their own.
func (p *Post) expand(i *queue.Item, n int, t account.Targets, h *Header, body io.Reader) error {
	var to []queue.Recipient
	for _, addr := range t.Remote {
		to = append(to, queue.Recipient{Address: addr, Notify: i.To[n].Notify, Orcpt: i.To[n].Orcpt})
	}
	for _, u := range t.Users {
		to = append(to, queue.Recipient{Address: u.Address(), Notify: i.To[n].Notify, Orcpt: i.To[n].Orcpt, Mailbox: true})
	}
	w, err := i.Beget(queue.Envelope{
		Created: i.Created, From: i.From, To: to, EightBit: i.EightBit, SMTPUTF8: i.SMTPUTF8, Envid: i.Envid, Ret: i.Ret,
	})
	if err != nil {
		return err
	}
	top := "Delivered-To: " + i.To[n].Address + "\n" // should it come back, it is recognised
	if _, err = io.WriteString(w, top+string(h.Bytes())); err == nil {
		_, err = io.Copy(w, body)
	}
	if err != nil {
		w.Abort()
		return err
	}
	return i.Announce(time.Now(), w, queue.Delivered, []int{n})
}

// report tells the sender of the recipients who have failed for good (RFC 3461
// §5.2.6): one message for all, never one about a report, and once.
func (r *Runner) report(i *queue.Item) error {
	var failures []failure
	var told, silent []int
	for n, s := range i.Status {
		switch {
		case s.Word != queue.Failed:
		case i.From == "" || strings.Contains(strings.ToUpper(i.To[n].Notify), "NEVER"),
			i.To[n].Notify != "" && !strings.Contains(strings.ToUpper(i.To[n].Notify), "FAILURE"):
			silent = append(silent, n)
		default:
			told = append(told, n)
			failures = append(failures, failed(i.To[n], s))
		}
	}
	now := time.Now()
	var notes []queue.Note
	for _, n := range silent {
		r.log().Warn("nobody is told", "id", i.ID, "to", i.To[n].Address, "from", i.From, "why", i.Status[n].Why)
		notes = append(notes, queue.Note{To: n, Word: queue.Reported, Text: "to nobody"})
	}
	if err := i.Note(now, notes...); err != nil {
		return err
	}
	if len(told) == 0 {
		return nil
	}
	rep := &report{me: r.Post.Office.Me(), now: now, item: i, failures: failures}
	w, err := i.Beget(queue.Envelope{
		Created: now, To: []queue.Recipient{{Address: i.From, Notify: "NEVER"}}, EightBit: rep.eightBit(), SMTPUTF8: i.SMTPUTF8,
	})
	if err != nil {
		return err
	}
	if err := rep.write(w); err != nil {
		w.Abort()
		return err
	}
	r.log().Info("returned", "id", i.ID, "to", i.From, "as", w.ID())
	return i.Announce(now, w, queue.Reported, told)
}
