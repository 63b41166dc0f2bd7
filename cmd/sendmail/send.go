package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/delivery"
	"pennypost/cmd/internal/status"
	"pennypost/maildir/queue"
	"pennypost/proto/mimetree"
)

// maxHops is how many hosts a message may have passed (RFC 5321 §6.3).
const maxHops = 100

// maxRecipients is how many one message may have; who wants more can send it
// twice.
const maxRecipients = 50_000

// errNobody is what a message gets that nobody is to have.
var errNobody = &status.Error{Code: status.Usage, Err: errors.New("no recipients")}

// send is -bm: it hands in the message on standard input.
func (p *program) send(ctx context.Context) error {
	if len(p.addresses) == 0 && !p.fromHead {
		return errNobody
	}
	in := &input{r: untilDone{newPump(p.stdin), ctx}}
	var text io.Reader = in
	if !p.dots {
		text = &untilDot{r: bufio.NewReaderSize(in, 32<<10)}
	}
	body := bufio.NewReaderSize(text, 32<<10)
	h, err := delivery.ReadHeader(body)
	if ctx.Err() != nil {
		return &status.Error{Code: status.TempFail, Err: context.Cause(ctx)}
	}
	if err != nil {
		return unreadable(err)
	}
	if !h.Whole {
		return &status.Error{Code: status.DataErr, Err: errors.New("the header is over 1 MiB")}
	}
	to, err := p.recipients(h)
	if err != nil {
		return err
	}
	if n := received(h) + p.hops; n > maxHops {
		return &status.Error{Code: status.Config, Err: fmt.Errorf("mail loop: it has passed %d hosts", n)}
	}
	from, err := p.from(h)
	if err != nil {
		return err
	}
	m := delivery.Message{
		From: from, EightBit: p.eightBit, SMTPUTF8: p.utf8, Envid: p.envid, Ret: p.ret,
		Trace: p.stamp(time.Now()), Submission: true, Gateway: p.gateway, Name: p.fullName(from), Patient: true,
	}
	// Who is unknown here is said at once; the others get their mail.
	var unknown error
	for _, r := range to {
		if err := p.check(r); err != nil {
			status.Print(p.stderr, "sendmail", err)
			unknown = err
			continue
		}
		m.To = append(m.To, r)
	}
	if len(m.To) == 0 {
		return &status.Error{Code: code(unknown), Err: errors.New("")}
	}
	// The header was read to find the recipients; whoever sends it reads it again.
	receipt, err := p.post.Take(ctx, m, io.MultiReader(bytes.NewReader(h.Bytes()), body))
	if ctx.Err() != nil && err != nil {
		return &status.Error{Code: status.TempFail, Err: context.Cause(ctx)}
	}
	if in.err != nil {
		return unreadable(in.err)
	}
	if err != nil {
		return err
	}
	if p.now && len(receipt.Queued) > 0 {
		return p.runner().Pass(ctx, func(e queue.Entry) bool { return slices.Contains(receipt.Queued, e.ID) })
	}
	return nil
}

// unreadable is what a message gets that cannot be read to its end: nobody has
// any of it.
func unreadable(err error) error {
	return &status.Error{Code: status.IOErr, Err: fmt.Errorf("reading the message: %w", err)}
}

// check says whether a recipient can have mail: with an error, the sender is
// told and the others get theirs.
func (p *program) check(r delivery.Recipient) error {
	err := p.post.Check(r.Address)
	switch {
	case err == nil, errors.Is(err, delivery.ErrRemote):
		return nil
	case errors.Is(err, account.ErrUnknown), errors.Is(err, account.ErrSyntax):
		return &status.Error{Code: code(err), Err: fmt.Errorf("%s: %w", r.Address, err)}
	}
	return nil // trouble of ours: Send decides
}

// An input remembers that reading has failed.
type input struct {
	r   io.Reader
	err error
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil && err != io.EOF {
		i.err = err
	}
	return n, err
}

// untilDot ends at a line that is a dot alone, as without -i.
type untilDot struct {
	r    *bufio.Reader
	rest []byte
	mid  bool // in the middle of a line
	done error
}

func (u *untilDot) Read(p []byte) (int, error) {
	if len(u.rest) == 0 && u.done == nil {
		line, err := u.r.ReadSlice('\n')
		if !u.mid && (string(line) == ".\n" || string(line) == ".\r\n" || string(line) == "." && err == io.EOF) {
			line, err = nil, io.EOF
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil
		}
		u.rest, u.done = line, err
		u.mid = len(line) > 0 && line[len(line)-1] != '\n'
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	if n == 0 {
		return 0, u.done
	}
	return n, nil
}

// recipients are those of the command line and, with -t, those of the header:
// of its Resent fields if there are any (RFC 5322 §3.6.6).
func (p *program) recipients(h *delivery.Header) ([]delivery.Recipient, error) {
	var to []delivery.Recipient
	seen := map[string]bool{}
	add := func(addr string, mailbox bool) error {
		full, err := p.qualify(addr)
		if err != nil {
			return err
		}
		r := delivery.Recipient{Address: full, Notify: p.notify, Mailbox: mailbox}
		if !seen[r.Key()] {
			seen[r.Key()] = true
			to = append(to, r)
		}
		return nil
	}
	for _, arg := range p.addresses {
		for _, addr := range addresses(arg) {
			plain, mailbox := strings.CutPrefix(addr, `\`)
			if err := add(plain, mailbox); err != nil {
				return nil, err
			}
		}
	}
	if p.fromHead {
		names := []string{"To", "Cc", "Bcc"}
		if slices.ContainsFunc(h.Fields, func(f delivery.Field) bool { return len(f.Name) > 7 && strings.EqualFold(f.Name[:7], "Resent-") }) {
			names = []string{"Resent-To", "Resent-Cc", "Resent-Bcc"}
		}
		for _, f := range h.Fields {
			if !slices.ContainsFunc(names, f.Is) {
				continue
			}
			for _, a := range mimetree.ParseAddresses(f.Body()) {
				if a.Kind != mimetree.Mailbox || a.Addr() == "" {
					continue
				}
				if err := add(a.Addr(), false); err != nil {
					return nil, err
				}
			}
		}
	}
	switch {
	case len(to) == 0:
		return nil, errNobody
	case len(to) > maxRecipients:
		return nil, &status.Error{Code: status.DataErr, Err: fmt.Errorf("%d recipients, %d at most", len(to), maxRecipients)}
	}
	return to, nil
}

// addresses takes an argument apart: mostly it is one address, but it may be
// written as in a header.
func addresses(arg string) []string {
	if !strings.ContainsAny(arg, " ,<>()\t") {
		return []string{arg}
	}
	var all []string
	for _, a := range mimetree.ParseAddresses(arg) {
		if a.Kind == mimetree.Mailbox && a.Addr() != "" {
			all = append(all, a.Addr())
		}
	}
	return all
}

// qualify gives a bare name our domain, and refuses what can be no address.
func (p *program) qualify(addr string) (string, error) {
	bad := func() (string, error) {
		return "", &status.Error{Code: status.DataErr, Err: fmt.Errorf("bad address %.100s", addr)}
	}
	if addr == "" || len(addr) > 1000 || strings.ContainsFunc(addr, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return bad()
	}
	local, domain := mimetree.SplitAddr(addr)
	switch {
	case local == "":
		return bad()
	case domain == "" && strings.HasSuffix(addr, "@"):
		return bad()
	case domain == "":
		return addr + "@" + p.post.Office.Domain(), nil
	case strings.ContainsAny(domain, " <>()\"\\,;"):
		return bad()
	}
	return mimetree.Address{Local: local, Domain: domain}.Addr(), nil // quoted where it has to be
}

// from is the envelope sender: what -f says, an mbox line, $EMAIL; else the
// caller's login name here. A login that has no mailbox, while From has one, is
// that of a program: reports go to the author then.
func (p *program) from(h *delivery.Header) (string, error) {
	if p.senderOK {
		if p.sender == "" {
			return "", nil
		}
		if a := addresses(p.sender); len(a) == 1 { // "Bob <bob@hamburger.edu>"
			return p.qualify(a[0])
		}
		return p.qualify(p.sender)
	}
	if f := strings.Fields(h.Mbox); len(f) > 1 {
		if from, err := p.qualify(f[1]); err == nil {
			return from, nil
		}
	}
	if email := os.Getenv("EMAIL"); email != "" {
		if a := addresses(email); len(a) == 1 {
			if from, err := p.qualify(a[0]); err == nil {
				return from, nil
			}
		}
	}
	login, err := p.qualify(login())
	if err == nil && p.post.Check(login) == nil {
		return login, nil
	}
	if text, ok := h.Get("From"); ok {
		for _, a := range mimetree.ParseAddresses(text) {
			if a.Kind == mimetree.Mailbox && a.Domain != "" && p.post.Check(a.Addr()) == nil {
				return p.qualify(a.Addr())
			}
		}
	}
	return login, err
}

// login is who calls, as the system knows it; $LOGNAME and $USER may be set by
// anybody.
func login() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid%d", os.Getuid())
}

// fullName is the author's name for a From that we write: -F, $NAME, or that of
// the system's user, if the message is from that user.
func (p *program) fullName(from string) string {
	if p.name != "" {
		return p.name
	}
	if name := os.Getenv("NAME"); name != "" {
		return name
	}
	u, err := user.Current()
	if local, _ := mimetree.SplitAddr(from); err != nil || local != u.Username {
		return ""
	}
	name, _, _ := strings.Cut(cmp.Or(u.Name, ""), ",")
	initial := u.Username
	if initial != "" {
		initial = strings.ToUpper(initial[:1]) + initial[1:]
	}
	return strings.ReplaceAll(name, "&", initial)
}

func received(h *delivery.Header) (n int) {
	for _, f := range h.Fields {
		if f.Is("Received") {
			n++
		}
	}
	return n
}
