package imap

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"pennypost/maildir"
)

// append = "APPEND" SP mailbox 1*append-message   (RFC 9051 §6.3.12, RFC 3502
// §6.3.11). The messages go from the connection to the disk as they come; when
// the command has ended as it should all of them are there, or else none.
func (s *Session) append(p *parser) reply {
	p.sp()
	a := &appending{s: s, p: p, name: p.mailbox()}
	defer a.close()
	for p.err == nil && (a.count == 0 || p.rest != "") {
		if err := a.message(); err != nil {
			return a.failed(err)
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	code, err := a.commit()
	if err != nil {
		return a.failed(err)
	}
	return reply{"OK", code, "appended"}
}

// An appending is messages on their way into a mailbox.
type appending struct {
	s       *Session
	p       *parser
	name    string // of the mailbox
	folder  *maildir.Folder
	arrival *maildir.Arrival
	count   int
	uids    []uint32 // that they got

	replaces bool  // a message makes room for it
	old      int64 // … of so many octets
}

var (
	errEmpty = errors.New("a message has at least one octet")
	errMany  = errors.New("too many messages at once")
)

// open opens the mailbox before the first message is asked for.
func (a *appending) open() (err error) {
	if a.folder != nil {
		return nil
	}
	folder, err := a.s.target(a.name)
	if err != nil {
		return noTarget{err}
	}
	a.folder = folder
	if _, err = folder.Sync(maildir.SyncOptions{}); err != nil {
		return noTarget{err}
	}
	if a.arrival, err = folder.Arrive(); err == nil && a.replaces {
		a.arrival.Instead(a.old)
	}
	return err
}

func (a *appending) close() {
	if a.arrival != nil {
		a.arrival.Abort()
	}
	if a.folder != nil {
		a.s.release(a.folder)
	}
}

// noTarget is why the mailbox that messages are for cannot be opened.
type noTarget struct{ error }

func (e noTarget) Unwrap() error { return e.error }

// failed is the answer when a message cannot be taken.
func (a *appending) failed(err error) reply {
	_, missing := errors.AsType[noTarget](err)
	switch {
	case a.p.fatal != nil:
		return bad(a.p.fatal)
	case a.p.err != nil:
		return bad(a.p.err)
	case missing:
		return a.s.failedTo(err)
	case errors.Is(err, errEmpty):
		return no("CANNOT", errEmpty.Error())
	case errors.Is(err, errMany):
		return a.s.refusedLimit(0) // RFC 9738 §3.1
	}
	if bad, ok := errors.AsType[badURL](err); ok {
		return no(bad.code(), bad.why)
	}
	return a.s.failed(err)
}

// message = [SP flag-list] [SP date-time] SP append-data
// append-data = literal / literal8 / "UTF8" SP "(" literal8 ")" / "CATENATE" …
// (RFC 4466 §6, RFC 6855 §4, RFC 4469 §5, RFC 3516 §7)
func (a *appending) message() error {
	p := a.p
	o := maildir.AppendOptions{Limit: a.s.MaxSize}
	p.sp()
	if strings.HasPrefix(p.rest, "(") {
		o.Flags, o.Keywords = letters(p.flagList())
		p.sp()
	}
	if strings.HasPrefix(p.rest, `"`) {
		o.Date = p.dateTime()
		p.sp()
	}
	if o.Date.IsZero() {
		o.Date = time.Now()
	}
	if a.count++; p.err != nil {
		return p.err
	}
	if most := a.s.MessageLimit; most > 0 && a.count > most {
		return errMany
	}
	var data writing
	var err error
	switch {
	case p.word("CATENATE"):
		data = a.catenation()
	case p.word("UTF8"):
		p.sp()
		if !p.take("(") {
			p.want("(")
		}
		data, err = a.literal(true, ")")
	default:
		data, err = a.literal(false, "")
	}
	switch {
	case p.err != nil:
		return p.err
	case err != nil:
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	in := &incoming{}
	err = a.arrival.Add(o, writing(func(w io.Writer) error {
		in.w = w
		return data(in)
	}))
	switch {
	case p.fatal != nil:
		return p.fatal
	case p.err != nil:
		return p.err
	case err == nil && in.octets == 0:
		return errEmpty // RFC 3502 §6.3.11
	}
	return err
}

// commit lets the messages be there, and gives the response code (RFC 4315 §3).
func (a *appending) commit() (code string, err error) {
	if a.uids, err = a.arrival.Commit(); err != nil {
		return "", err
	}
	var set numSet
	for _, uid := range a.uids {
		set = set.add(uid)
	}
	learn(a.folder, a.uids)
	a.s.caused(a.name, a.uids...)
	return codef("APPENDUID %d %s", a.folder.UIDValidity(), set), nil
}

// A writing is a message that writes itself.
type writing func(w io.Writer) error

// WriteTo is what io.Copy calls.
func (f writing) WriteTo(w io.Writer) (int64, error) { return 0, f(w) }

// Read is there for io.Copy to take it.
func (writing) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// An incoming message counts its octets. Old mail has 8-bit octets in its
// header: whoever wants it kept may bring it (not so RFC 6855 §4).
type incoming struct {
	w      io.Writer
	octets int64
}

func (m *incoming) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.octets += int64(n)
	return n, err
}

// literal is the rule literal or literal8, or with eight the latter only, and
// what has to follow it. What is refused here is not asked for; what comes
// unasked is skipped.
func (a *appending) literal(eight bool, behind string) (writing, error) {
	text, is8 := strings.CutPrefix(a.p.rest, "~")
	l, announced := announcement(text)
	switch {
	case !announced || eight && !is8:
		a.p.want("literal")
		return nil, nil
	case l.size > a.s.MaxSize:
		return nil, maildir.ErrTooBig // RFC 7889 §4
	case l.size == 0:
		return nil, errEmpty
	}
	return func(w io.Writer) error {
		// Half of it may be CRs, which are not stored.
		if !a.replaces {
			if err := a.s.user.Store.Room(l.size / 2); err != nil {
				return err
			}
		}
		if is8 {
			return a.takeBinary(w, l, behind)
		}
		return a.take(w, l, behind)
	}, nil
}

// take lets a literal come, writes it to w, and reads the line behind it.
func (a *appending) take(w io.Writer, l announced, behind string) error {
	p := a.p
	if l.sync {
		a.s.Conn.WriteString("+ OK\r\n")
	}
	p.rest = ""
	in := a.s.Conn.Literal(l.size)
	buf := getBuffer()
	defer putBuffer(buf)
	_, err := io.CopyBuffer(w, in, buf)
	if err != nil {
		// If it is the disk that has failed, read over the rest.
		if _, lost := io.Copy(io.Discard, in); lost != nil {
			p.fatal = broken(lost)
			return p.fatal
		}
	}
	line, lost := a.s.line(p, 0)
	if lost != nil {
		return lost
	}
	if p.rest = line; err == nil && behind != "" && !p.take(behind) {
		p.want(behind)
	}
	return err
}

// isSelected tells whether name stands for the selected mailbox; another
// session may have given its name to another one.
func (s *Session) isSelected(name string) bool {
	return s.view != nil && s.view.name == name && s.user.Store.Holds(s.view.folder)
}

// target opens the mailbox that messages go to. The selected one is open.
func (s *Session) target(name string) (*maildir.Folder, error) {
	if s.isSelected(name) {
		return s.view.folder, nil
	}
	folder, r, err := s.openFolder(name)
	if err == nil && r&maildir.RightInsert == 0 {
		folder.Close()
		err = errRights
	}
	return folder, err
}

func (s *Session) release(f *maildir.Folder) {
	if s.view == nil || s.view.folder != f {
		f.Close()
	}
}

// failedTo is failed for commands that could succeed once the mailbox is there
// (RFC 9051 §7.1, TRYCREATE).
func (s *Session) failedTo(err error) reply {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, maildir.ErrGone) {
		return no("TRYCREATE", "no such mailbox")
	}
	return s.failed(err)
}
