package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/delivery"
	"pennypost/cmd/internal/status"
	"pennypost/maildir/queue"
)

// list is mailq: what waits, what is due first at the top. -bpc only counts.
func (p *program) list() error {
	// Looking makes no spool.
	if _, err := os.Stat(filepath.Join(p.post.Office.Spool(), "new")); errors.Is(err, fs.ErrNotExist) {
		return p.empty()
	}
	q, err := p.post.Queue()
	if err != nil {
		return err
	}
	entries, err := q.List()
	if err != nil {
		return err
	}
	if p.job == count {
		_, err := fmt.Fprintln(p.stdout, len(entries))
		return err
	}
	if len(entries) == 0 {
		return p.empty()
	}
	w := bufio.NewWriter(p.stdout)
	shown, now := 0, time.Now()
	for _, e := range entries {
		i, err := q.Look(e)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone on its way meanwhile
		}
		shown++
		if err != nil {
			fmt.Fprintf(w, "%s  %s\n\n", status.Clean(e.ID), status.Clean(err.Error()))
			continue
		}
		item(w, i, now)
		i.Close()
	}
	if shown == 0 {
		return p.empty()
	}
	fmt.Fprintf(w, "%d message%s\n", shown, plural(shown))
	return w.Flush()
}

func (p *program) empty() error {
	text := "Mail queue is empty"
	if p.job == count {
		text = "0"
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// item shows one message: who has sent it, who has yet to get it, and why not
// yet.
func item(w *bufio.Writer, i *queue.Item, now time.Time) {
	when := "due now"
	switch {
	case i.Held:
		when = "on hold"
	case i.Due.After(now):
		when = "next try " + i.Due.Local().Format("Jan _2 15:04:05")
	}
	fmt.Fprintf(w, "%s  %d octets  %s  from <%s>  %s\n", status.Clean(i.ID), i.Size, i.Created.Local().Format("Jan _2 15:04:05"), status.Clean(i.From), when)
	for n, s := range i.Status {
		if s.Done() {
			continue
		}
		fmt.Fprintf(w, "    to <%s>\n", status.Clean(i.To[n].Address))
		if s.Text != "" {
			fmt.Fprintf(w, "        %s\n", status.Clean(s.Text))
		}
	}
	w.WriteByte('\n')
}

// wanted chooses the messages of -qI, -qR and -qS; nil: all.
func (p *program) wanted() func(queue.Entry) bool {
	if len(p.only) == 0 {
		return nil
	}
	return func(e queue.Entry) bool {
		q, err := p.post.Queue()
		if err != nil {
			return false
		}
		i, err := q.Look(e)
		if err != nil {
			return false
		}
		defer i.Close()
		for _, o := range p.only {
			found := false
			switch o.what {
			case 'I':
				found = strings.Contains(i.ID, o.text)
			case 'S':
				found = strings.Contains(i.From, o.text)
			case 'R':
				for _, n := range i.Waits() {
					found = found || strings.Contains(i.To[n].Address, o.text)
				}
			}
			if !found {
				return false
			}
		}
		return true
	}
}

// verify is -bv: it tells for each address whether mail for it can be taken.
func (p *program) verify() error {
	if len(p.addresses) == 0 {
		return errNobody
	}
	bad := status.OK
	for _, arg := range p.addresses {
		for _, addr := range addresses(arg) {
			full, err := p.qualify(addr)
			if err == nil {
				err = p.post.Check(full)
			}
			verdict := "deliverable"
			switch {
			case err == nil, errors.Is(err, delivery.ErrRemote):
			case errors.Is(err, account.ErrUnknown):
				verdict, bad = "User unknown", status.NoUser
			default:
				verdict, bad = status.Clean(err.Error()), code(err)
			}
			if _, err := fmt.Fprintf(p.stdout, "%s... %s\n", status.Clean(addr), verdict); err != nil {
				return err
			}
		}
	}
	if bad != status.OK {
		return &status.Error{Code: bad, Err: errors.New("")}
	}
	return nil
}

// aliases is newaliases: there is no data base to build, so it checks what there
// is to check.
func (p *program) aliases() error {
	for _, d := range p.post.Office.Domains() {
		if _, err := p.post.Office.Resolve("postmaster@" + d); err != nil && !errors.Is(err, account.ErrUnknown) {
			return status.With(status.Config, err)
		}
	}
	return nil
}
