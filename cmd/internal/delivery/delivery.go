// Package delivery brings a message to where its recipients are: into local
// Maildirs, and for everybody else into the queue. What smtpd takes in, what
// sendmail is given and what the queue runner brings home goes this one way.
package delivery

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"pennypost/cmd/internal/account"
	"pennypost/maildir"
	"pennypost/maildir/queue"
)

// ErrRemote reports an address of which some other host takes care.
var ErrRemote = errors.New("not an address of this host")

// A Refusal is an error with the words of SMTP for it: somebody who can be
// asked again later has Code 4xx.
type Refusal struct {
	Code   int    // RFC 5321 §4.2
	Status string // RFC 3463
	Text   string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text) }

// Temporary says whether it makes sense to come again later.
func (r *Refusal) Temporary() bool { return r.Code/100 == 4 }

// A Post is the mail room of one post office. It is safe for concurrent use.
type Post struct {
	Office *account.Office
	Log    *slog.Logger

	RefuseFull bool // mail for a full mailbox is refused for good, not for now

	mu    sync.Mutex
	queue *queue.Queue
}

// A Message is what is to be sent, but for its text.
type Message struct {
	From     string // envelope sender, "" for the null reverse-path
	To       []Recipient
	EightBit bool   // BODY=8BITMIME was said
	SMTPUTF8 bool   // SMTPUTF8 was said
	Envid    string // ENVID as xtext (RFC 3461 §4.4)
	Ret      string // RET (RFC 3461 §4.3)
	Trace    string // the Received field to put on top, with its line ends (LF); or ""

	// Submission says that the message comes from its author: what its header
	// lacks is added, Bcc is taken out (RFC 6409 §8).
	Submission bool
	Gateway    bool   // with Submission: nothing is added
	Name       string // with Submission: the author's name, if From has to be added
	QueueOnly  bool   // local recipients too wait for the queue runner
	Patient    bool   // whoever cannot be served now waits for it, if that is everybody too
}

// A Recipient is one forward-path with what RFC 3461 adds to it.
type Recipient = queue.Recipient

// Queue is the queue of the post office, where the office says now that it is. A
// disk that was full or away when it was first asked for is not so for ever.
func (p *Post) Queue() (*queue.Queue, error) {
	dir := p.Office.Spool()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queue == nil || p.queue.Dir() != dir {
		q, err := queue.Open(dir)
		if err != nil {
			return nil, err
		}
		p.queue = q
	}
	return p.queue, nil
}

// Check says what would become of mail for addr: nil if it is delivered here,
// ErrRemote if another host takes care of it, account.ErrUnknown if there is no
// such user; anything else is trouble, as a *Refusal where it is known which.
func (p *Post) Check(addr string) error {
	t, err := p.Office.Resolve(addr)
	if err != nil {
		return err
	}
	if at := strings.LastIndexByte(addr, '@'); at >= 0 && !p.Office.Local(addr[at+1:]) {
		return ErrRemote
	}
	return possible(t)
}

// Room says whether the mailbox of a local recipient has room for a message of so many
// octets as sent, 0 when that is not known: a *Refusal if not. An address of several is
// not asked about: some may have room, and the others' copies can wait.
func (p *Post) Room(addr string, octets int64) error {
	t, err := p.Office.Resolve(addr)
	if err != nil || len(t.Users) != 1 || len(t.Remote) > 0 {
		return nil // that is what Check is for
	}
	// Half of them may be CRs, which are not stored: no message is refused that would fit.
	return p.noRoom(t.Users[0].Room(octets / 2))
}

// noRoom gives the error of a full mailbox the words of SMTP (RFC 3463 §3.3).
func (p *Post) noRoom(err error) error {
	switch {
	case !errors.Is(err, maildir.ErrQuota):
		return err
	case errors.Is(err, maildir.ErrTooBig):
		return &Refusal{552, "5.2.2", "the message is larger than the mailbox"}
	case p.RefuseFull:
		return &Refusal{552, "5.2.2", "the mailbox is full"}
	}
	return &Refusal{452, "4.2.2", "the mailbox is full; try again later"}
}

// possible says whether we can do all that an address asks for: everything or
// nothing, so that a message is not delivered to half of an alias.
func possible(t account.Targets) error {
	if len(t.Files) > 0 {
		return &Refusal{451, "4.3.5", "an alias leads to a file, which is not done"}
	}
	if len(t.Commands) > 0 {
		return &Refusal{451, "4.3.5", "an alias leads to a program, which is not done"}
	}
	return nil
}

func (p *Post) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}
