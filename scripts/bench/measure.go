package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A mailbox is one user's, at one server.
type mailbox struct {
	*server
	user string
	path string // of the Maildir
	n    int    // messages in INBOX
}

// Where the client of a measure stands when the clock starts.
const (
	inInbox  = iota // INBOX is selected
	loggedIn        // nothing is selected
	outside         // there is no session beside those that the measure itself opens
)

// A measure is something that a client waits for.
type measure struct {
	name  string
	goals goals
	needs string // what the server has to announce
	first bool   // no server has an index of INBOX, or any memory of it
	state int
	rate  string                        // a unit, where work in a second is shown instead of time for one
	ready func(*mailbox, *client) error // not timed
	do    func(*mailbox, *client) (work int, err error)
	clean func(*mailbox, *client) error // not timed
}

// goals says how many times faster than Dovecot we are to be in folders of so many messages and more.
type goals map[int]float64

func (m *measure) goalAt(n int) (goal float64) {
	for _, size := range slices.Sorted(maps.Keys(m.goals)) {
		if size <= n {
			goal = m.goals[size]
		}
	}
	return goal
}

// show prints what one unit of work took.
func (m *measure) show(seconds float64) string {
	if m.rate == "" {
		return time.Duration(seconds * 1e9).Round(time.Microsecond).String()
	}
	unit := 1.0
	if strings.HasPrefix(m.rate, "MB") {
		unit = 1e6
	}
	return fmt.Sprintf("%.0f %s", 1/seconds/unit, m.rate)
}

// always is a goal for folders of every size.
func always(goal float64) goals { return goals{0: goal} }

const (
	structure = "ENVELOPE BODYSTRUCTURE"
	headers   = "UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)]"
	inText    = "SEARCH TEXT pickles-and-ketchup" // in no message: all of each has to be looked at
	inSubject = "SEARCH SUBJECT \"number 77\""
	byDate    = "SORT (REVERSE DATE) UTF-8 ALL"
	bySubject = "SORT (SUBJECT) UTF-8 ALL"
	threads   = "THREAD REFERENCES UTF-8 ALL"
)

// measures are taken one after the other, in this order.
var measures = []measure{
	{name: "SELECT, first ever", goals: always(2), first: true, state: loggedIn, do: command("SELECT INBOX")},
	{name: "SELECT, again in a fresh connection", goals: goals{100000: 1}, state: loggedIn, ready: unchanged, do: command("SELECT INBOX")},
	{name: "NOOP until a delivered message shows", do: deliverNoop, clean: removeNew},

	{name: "FETCH 1:* ENVELOPE BODYSTRUCTURE, first", goals: always(4), first: true, do: fetch(structure)},
	{name: "FETCH 1:* ENVELOPE BODYSTRUCTURE, cached", goals: always(7), ready: once(fetch(structure)), do: fetch(structure)},
	{name: "FETCH 1:* header fields, first", first: true, do: fetch(headers)},
	{name: "FETCH 1:* header fields, cached", ready: once(fetch(headers)), do: fetch(headers)},
	{name: "FETCH 1:* (FLAGS UID)", goals: goals{100000: 4}, do: fetch("FLAGS UID")},
	{name: "FETCH 1:* RFC822.SIZE, first", first: true, do: fetch("RFC822.SIZE")},
	{name: "FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE)", do: fetch("UID FLAGS RFC822.SIZE INTERNALDATE")},
	{name: "FETCH 1:* BODY.PEEK[]", goals: always(1.8), rate: "MB/s", do: fetchTexts},
	{name: "FETCH n BODY.PEEK[], one command each", goals: always(3), rate: "/s", do: fetchEach},

	{name: "SEARCH TEXT, first", goals: goals{10000: 10}, first: true, do: command(inText)},
	{name: "SEARCH TEXT, again", ready: once(command(inText)), do: command(inText)},
	{name: "SEARCH SUBJECT, first", first: true, do: command(inSubject)},
	{name: "SEARCH SUBJECT, cached", goals: always(10), ready: once(command(inSubject)), do: command(inSubject)},
	{name: "SEARCH UNSEEN", do: command("SEARCH UNSEEN")},
	{name: "SEARCH SINCE", do: command("SEARCH SINCE 1-Jan-2020")},
	{name: "SORT (REVERSE DATE), first", goals: always(4), needs: "SORT", first: true, do: command(byDate)},
	{name: "SORT (REVERSE DATE), cached", goals: always(1), needs: "SORT", ready: once(command(byDate)), do: command(byDate)},
	{name: "SORT (SUBJECT), cached", goals: always(1), needs: "SORT", ready: once(command(bySubject)), do: command(bySubject)},
	{name: "THREAD REFERENCES, first", goals: always(4), needs: "THREAD=REFERENCES", first: true, do: command(threads)},
	{name: "THREAD REFERENCES, cached", goals: always(1), needs: "THREAD=REFERENCES", ready: once(command(threads)), do: command(threads)},

	{name: "STORE of one flag, one command each", goals: goals{10000: 5, 100000: 20}, do: storeEach},
	{name: "STORE n, then FETCH n BODY.PEEK[]", goals: goals{100000: 50}, do: storeFetch},
	{name: "STORE 1:* +FLAGS.SILENT, then -FLAGS.SILENT", goals: always(1), do: storeAll},
	{name: "COPY 1:1000", goals: always(1), do: copyMany("Folder3"), clean: empty("Folder3")},
	{name: "MOVE 1:1000", goals: always(1), do: moveMany, clean: moveBack},
	{name: "STORE and EXPUNGE of 1000", goals: always(1), ready: copied("Folder5"), do: expunge},

	{name: "APPEND of 4 KB, one client", goals: always(3), rate: "/s", do: appendMany(1), clean: empty("Folder1")},
	{name: "APPEND of 4 KB, eight clients", goals: always(5), rate: "/s", do: appendMany(8), clean: empty("Folder1")},
	{name: "STATUS of 100 folders, 100 commands", goals: always(4), ready: foldersKnown, do: statusEach},
	{name: "LIST RETURN (STATUS) of 100 folders", goals: always(4), ready: foldersKnown, do: command(listStatus)},

	{name: "LOGIN, SELECT, LOGOUT, one client", rate: "/s", state: outside, do: sessions(1, false)},
	{name: "LOGIN, SELECT, LOGOUT, eight clients", goals: always(12), rate: "/s", state: outside, do: sessions(8, false)},
	{name: "LOGIN, SELECT, LOGOUT, one client, inetd", rate: "/s", state: outside, do: sessions(1, true)},
	{name: "LOGIN, SELECT, LOGOUT, eight clients, inetd", goals: always(1.5), rate: "/s", state: outside, do: sessions(8, true)},
}

var errNotAnnounced = errors.New("not announced")

// take takes the time of a measure, in seconds for a unit of work.
func (b *mailbox) take(m measure) (float64, error) {
	if m.first {
		if err := b.forget(); err != nil {
			return 0, err
		}
	}
	c, err := b.login(b.addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if m.needs != "" && !c.has(m.needs) {
		return 0, errNotAnnounced
	}
	switch m.state {
	case inInbox:
		err = c.do("SELECT INBOX")
	case outside:
		err = c.do("LOGOUT")
	}
	if err == nil && m.ready != nil {
		err = m.ready(b, c)
	}
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	work, err := m.do(b, c)
	took := time.Since(begun).Seconds() / float64(max(work, 1))
	if err == nil && m.clean != nil {
		err = m.clean(b, c)
	}
	if err == nil && m.state != outside {
		err = c.do("LOGOUT")
	}
	return took, err
}

// forget makes the next session the first ever that sees INBOX.
func (b *mailbox) forget() error {
	if err := forget(b.path); err != nil {
		return err
	}
	return b.restart()
}

// command gives one command.
func command(text string) func(*mailbox, *client) (int, error) {
	return func(_ *mailbox, c *client) (int, error) { return 1, c.do(text) }
}

// once does beforehand what is measured.
func once(do func(*mailbox, *client) (int, error)) func(*mailbox, *client) error {
	return func(b *mailbox, c *client) error {
		_, err := do(b, c)
		return err
	}
}

// unchanged lets the server see that nothing has changed for a while.
func unchanged(b *mailbox, _ *client) error {
	for range 2 {
		if err := b.session(b.addr, "SELECT INBOX"); err != nil {
			return err
		}
		settle()
	}
	return nil
}

func fetch(items string) func(*mailbox, *client) (int, error) {
	return command("FETCH 1:* (" + items + ")")
}

// fetchTexts reads all messages, once 100 MB at most.
func fetchTexts(b *mailbox, c *client) (int, error) {
	c.octets = 0
	err := c.do(fmt.Sprintf("FETCH 1:%d BODY.PEEK[]", min(b.n, 20000)))
	return c.octets, err
}

func fetchEach(b *mailbox, c *client) (int, error) {
	const many = 500
	for i := range many {
		if err := c.do(fmt.Sprintf("FETCH %d BODY.PEEK[]", b.one(i))); err != nil {
			return 0, err
		}
	}
	return many, nil
}

// one is which message the ith of some commands is about: they lie far from one another.
func (b *mailbox) one(i int) int { return i*7919%b.n + 1 }

func storeEach(b *mailbox, c *client) (int, error) {
	for i := range 50 {
		if err := c.do(fmt.Sprintf(`STORE %d %cFLAGS (\Flagged)`, b.one(i/2), "+-"[i%2])); err != nil {
			return 0, err
		}
	}
	return 50, nil
}

func storeFetch(b *mailbox, c *client) (int, error) {
	for i := range 20 {
		n := b.one(i / 2)
		if err := c.do(fmt.Sprintf(`STORE %d %cFLAGS (\Answered)`, n, "+-"[i%2])); err != nil {
			return 0, err
		}
		if err := c.do(fmt.Sprintf("FETCH %d BODY.PEEK[]", n)); err != nil {
			return 0, err
		}
	}
	return 20, nil
}

func storeAll(_ *mailbox, c *client) (int, error) {
	if err := c.do(`STORE 1:* +FLAGS.SILENT (\Draft)`); err != nil {
		return 0, err
	}
	return 2, c.do(`STORE 1:* -FLAGS.SILENT (\Draft)`)
}

// deliverNoop lays messages into new as a delivery agent does.
func deliverNoop(b *mailbox, c *client) (int, error) {
	for i := range 5 {
		name := fmt.Sprintf("%d.M%dP%dQ%d.host", time.Now().Unix(), time.Now().Nanosecond()/1000, os.Getpid(), i)
		tmp := filepath.Join(b.path, "tmp", name)
		if err := os.WriteFile(tmp, []byte(letter(1)), 0o644); err != nil {
			return 0, err
		}
		if err := own(tmp); err != nil {
			return 0, err
		}
		if err := os.Rename(tmp, filepath.Join(b.path, "new", name)); err != nil {
			return 0, err
		}
		for came := false; !came; {
			err := c.each(func(line []byte) { came = came || bytes.HasSuffix(line, []byte(" EXISTS\r\n")) }, "NOOP")
			if err != nil {
				return 0, err
			}
		}
	}
	return 5, nil
}

// removeNew brings the mailbox back to the size it had.
func removeNew(b *mailbox, c *client) error {
	if err := c.do(fmt.Sprintf(`STORE %d:* +FLAGS.SILENT (\Deleted)`, b.n+1)); err != nil {
		return err
	}
	return c.do("EXPUNGE")
}

// many is how many messages a COPY, MOVE or EXPUNGE is about.
func (b *mailbox) many() int { return min(b.n, 1000) }

func copyMany(folder string) func(*mailbox, *client) (int, error) {
	return func(b *mailbox, c *client) (int, error) {
		return b.many(), c.do(fmt.Sprintf("COPY 1:%d %s", b.many(), folder))
	}
}

// empty removes all that is in a folder.
func empty(folder string) func(*mailbox, *client) error {
	return func(_ *mailbox, c *client) error {
		for _, command := range []string{"SELECT " + folder, `STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE"} {
			if err := c.do(command); err != nil {
				return err
			}
		}
		return nil
	}
}

func moveMany(b *mailbox, c *client) (int, error) {
	return b.many(), c.do(fmt.Sprintf("MOVE 1:%d Folder4", b.many()))
}

func moveBack(_ *mailbox, c *client) error {
	if err := c.do("SELECT Folder4"); err != nil {
		return err
	}
	return c.do("MOVE 1:* INBOX")
}

// copied selects a folder with as many messages as a measure is about.
func copied(folder string) func(*mailbox, *client) error {
	return func(b *mailbox, c *client) error {
		if _, err := copyMany(folder)(b, c); err != nil {
			return err
		}
		return c.do("SELECT " + folder)
	}
}

func expunge(b *mailbox, c *client) (int, error) {
	if err := c.do(`STORE 1:* +FLAGS.SILENT (\Deleted)`); err != nil {
		return 0, err
	}
	return b.many(), c.do("EXPUNGE")
}

func appendMany(clients int) func(*mailbox, *client) (int, error) {
	return func(b *mailbox, _ *client) (int, error) {
		text := strings.ReplaceAll(letter(1), "\n", "\r\n")
		text = text[:min(len(text), 4096)]
		const each = 20
		err := together(b, clients, func(c *client) error {
			for range each {
				if err := c.do(fmt.Sprintf("APPEND Folder1 {%d+}", len(text)), text); err != nil {
					return err
				}
			}
			return nil
		})
		return clients * each, err
	}
}

func statusEach(_ *mailbox, c *client) (int, error) {
	for i := range 100 {
		if err := c.do(fmt.Sprintf("STATUS Folder%d (MESSAGES UIDNEXT UNSEEN)", i)); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

const listStatus = `LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))`

// foldersKnown lets the server see all folders twice, as a client that asks again and again does.
func foldersKnown(_ *mailbox, c *client) error {
	if err := c.do(listStatus); err != nil {
		return err
	}
	return c.do(listStatus)
}

// sessions opens and ends sessions, from each of some clients, each on a connection for which a process is made if inetd is set.
func sessions(clients int, inetd bool) func(*mailbox, *client) (int, error) {
	return func(b *mailbox, _ *client) (int, error) {
		const each = 25
		addr := b.addr
		if inetd {
			addr = b.inetd
		}
		var wg sync.WaitGroup
		errs := make([]error, clients)
		for i := range errs {
			wg.Go(func() {
				for range each {
					if errs[i] = b.session(addr, "SELECT Folder2"); errs[i] != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		return each * clients, errors.Join(errs...)
	}
}

// session logs in, gives one command, and ends.
func (b *mailbox) session(addr, command string) error {
	c, err := b.login(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.do(command); err != nil {
		return err
	}
	return c.do("LOGOUT")
}

// together lets several clients work at once.
func together(b *mailbox, n int, work func(*client) error) error {
	done := make(chan error, n)
	for range n {
		c, err := b.login(b.addr)
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { done <- work(c) }()
	}
	var first error
	for range n {
		if err := <-done; err != nil && first == nil {
			first = err
		}
	}
	return first
}
