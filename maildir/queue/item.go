package queue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A Word says what happened to a recipient. It stands in the history as it is.
type Word string

const (
	Waiting   Word = ""          // nothing yet
	Tried     Word = "tried"     // a temporary failure: it still waits
	Storing   Word = "storing"   // about to be renamed into a mailbox; the text is the file's name
	Delivered Word = "delivered" // the next host, or a mailbox, has taken it
	Failed    Word = "failed"    // for good; the sender has to be told
	Reported  Word = "reported"  // the sender is told, or need not be
	Warned    Word = "warned"    // the sender is told that it takes long
)

// A Status is what is known of one recipient.
type Status struct {
	Word  Word      // the latest
	Time  time.Time // of the latest
	Tries int
	Text  string // of the latest: host and reply, or for Storing a file name
	Why   string // text of the latest failure
}

// Done says whether nothing more has to be done.
func (s Status) Done() bool { return s.Word == Delivered || s.Word == Reported }

// A Note is a line of the history.
type Note struct {
	To   int // which recipient: an index of Envelope.To
	Word Word
	Text string // control characters become "?", too long a text is cut
}

// An Item is a message of the queue, open. It is not safe for concurrent use.
type Item struct {
	Entry
	Envelope
	Status []Status // as many as To, in its order
	Size   int64    // of the message, octets, with LF as on disk

	q    *Queue
	f    *file
	head int64 // length of the envelope
}

// Take opens a message and locks it, so that no other runner has it. It may
// fail with ErrBusy, ErrDamaged, or with fs.ErrNotExist for one that is gone
// or has another name by now: all of them are reasons to pass on to the next.
func (q *Queue) Take(e Entry) (*Item, error) { return q.open(e, true) }

// Look opens a message to read it, locked or not.
func (q *Queue) Look(e Entry) (*Item, error) { return q.open(e, false) }

func (q *Queue) open(e Entry, lock bool) (*Item, error) {
	path := filepath.Join(q.dir, e.name)
	mode := unix.O_RDONLY
	if lock {
		mode = unix.O_RDWR
	}
	f, err := openFile(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	i := &Item{Entry: e, q: q, f: f}
	if err := i.load(path, lock); err != nil {
		f.Close()
		return nil, fmt.Errorf("queue: %s: %w", e.ID, err)
	}
	return i, nil
}

func (i *Item) load(path string, lock bool) error {
	if lock {
		switch err := unix.Flock(i.f.fd(), unix.LOCK_EX|unix.LOCK_NB); {
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrBusy
		case err != nil:
			return err
		}
	}
	fi, err := i.f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return ErrDamaged
	}
	if lock { // between open and lock another runner may have finished with it
		now, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if !os.SameFile(fi, now) {
			return fs.ErrNotExist
		}
	}
	if i.Envelope, i.head, i.Size, err = parseEnvelope(bufio.NewReaderSize(i.f, maxLine)); err != nil {
		return err
	}
	if i.Size > fi.Size()-i.head {
		return ErrDamaged
	}
	end := i.head + i.Size
	i.Status = make([]Status, len(i.To))
	return i.history(io.NewSectionReader(i.f, end, fi.Size()-end))
}

// history reads the lines below the message. One that was cut short by a crash
// is passed over, as it was never acted on.
func (i *Item) history(r io.Reader) error {
	index := make(map[string]int, len(i.To))
	for n, to := range i.To {
		index[to.Address] = n
	}
	b := bufio.NewReaderSize(r, maxLine)
	for long := false; ; {
		line, err := b.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = true
			continue
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case long:
			long = false
			continue
		}
		when, word, addr, text, ok := parseNote(string(line[:len(line)-1]))
		n, known := index[addr]
		if !ok || !known {
			continue
		}
		i.Status[n].add(when, word, text)
	}
}

// parseNote reads "time word <address> text".
func parseNote(line string) (when time.Time, word Word, addr, text string, ok bool) {
	if strings.IndexByte(line, 0) >= 0 {
		return when, "", "", "", false
	}
	first, rest, _ := strings.Cut(line, " ")
	second, rest, _ := strings.Cut(rest, " ")
	when, err := time.Parse(time.RFC3339, first)
	n := bracket(rest)
	if err != nil || n <= 2 {
		return when, "", "", "", false
	}
	return when, Word(second), rest[1 : n-1], strings.TrimPrefix(rest[n:], " "), true
}

func (s *Status) add(when time.Time, word Word, text string) {
	switch word {
	case Tried, Failed:
		s.Tries++
		s.Why = text
	case Delivered:
		s.Tries++
	case Storing, Reported:
	default:
		return // Warned, and what later versions write, changes nothing here
	}
	s.Word, s.Time, s.Text = word, when, text
}

// Message is the message, with LF line ends. It may be read any number of
// times while the item is open.
func (i *Item) Message() *io.SectionReader { return io.NewSectionReader(i.f, i.head, i.Size) }

// Waits lists the recipients that still have to get the message, as indices.
func (i *Item) Waits() []int {
	var list []int
	for n, s := range i.Status {
		if s.Word == Waiting || s.Word == Tried {
			list = append(list, n)
		}
	}
	return list
}

// Done says whether there is nothing left to do for any recipient.
func (i *Item) Done() bool {
	for _, s := range i.Status {
		if !s.Done() {
			return false
		}
	}
	return true
}

// Reserve makes room on the disk for n notes of the usual size: what another
// host has taken must not be sent again because that could not be noted.
func (i *Item) Reserve(n int) error {
	fi, err := i.f.Stat()
	if err == nil {
		err = disk.Reserve(i.f.fd(), fi.Size(), 4096+512*int64(n))
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("queue: %s: %w", i.ID, err)
	}
	return nil
}

// Note appends to the history; when it returns nil the lines are on disk. Only
// who took the message may.
func (i *Item) Note(now time.Time, notes ...Note) error {
	if len(notes) == 0 {
		return nil
	}
	fi, err := i.f.Stat()
	if err != nil {
		return fmt.Errorf("queue: %s: %w", i.ID, err)
	}
	var b bytes.Buffer
	var last [1]byte
	if _, err := i.f.ReadAt(last[:], fi.Size()-1); err != nil {
		return fmt.Errorf("queue: %s: %w", i.ID, err)
	}
	if last[0] != '\n' { // the message's last line, or one that a crash cut short
		b.WriteByte('\n')
	}
	for _, n := range notes {
		fmt.Fprintf(&b, "%s %s <%s> %s\n", stamp(now), n.Word, i.To[n.To].Address, printable(n.Text))
	}
	if _, err := i.f.WriteAt(b.Bytes(), fi.Size()); err != nil {
		return fmt.Errorf("queue: %s: %w", i.ID, err)
	}
	if err := i.f.Sync(); err != nil {
		return fmt.Errorf("queue: %s: %w", i.ID, err)
	}
	for _, n := range notes {
		i.Status[n.To].add(now.UTC().Truncate(time.Second), n.Word, printable(n.Text))
	}
	return nil
}

// printable makes a text from outside fit for a line of the history.
func printable(s string) string {
	const most = 1500
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Later puts the next try off until t. The name says when that is; should a
// power cut undo it, the message is only tried earlier. One that somebody has
// removed or moved meanwhile needs no name.
func (i *Item) Later(t time.Time) error {
	name := filepath.Join(filepath.Dir(i.name), fmt.Sprintf("%s,N=%d", i.ID, t.Unix()))
	if name == i.name {
		return nil
	}
	err := replace(filepath.Join(i.q.dir, i.name), filepath.Join(i.q.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("queue: %w", err)
	}
	i.name, i.Due = name, time.Unix(t.Unix(), 0)
	return nil
}

// Hold moves the message to cur, where no runner takes it.
func (i *Item) Hold() error { return i.q.Hold(i.Entry) }

// Hold moves a message, or a file that is none, to cur, where no runner takes
// it.
func (q *Queue) Hold(e Entry) error {
	return rename(filepath.Join(q.dir, e.name), filepath.Join(q.dir, "cur", filepath.Base(e.name)))
}

// Announce commits w, a message from Beget, together with a note for each of
// the recipients to: Reported when w tells the sender of their failures,
// Delivered when w carries the message on to where they are forwarded. Killed
// in the middle, w is committed when the message is taken again and Settle is
// called: once, whatever happens.
func (i *Item) Announce(now time.Time, w *Writer, word Word, to []int) error {
	if err := w.Sync(); err != nil {
		w.Abort()
		return err
	}
	if err := syncDir(filepath.Join(i.q.dir, "tmp")); err != nil {
		w.Abort()
		return fmt.Errorf("queue: %w", err)
	}
	notes := make([]Note, len(to))
	for k, n := range to {
		notes[k] = Note{To: n, Word: word, Text: w.id}
	}
	if err := i.Note(now, notes...); err != nil {
		// What the disk has of the notes is unknown, so the report stays in tmp:
		// Settle brings it out if they are there.
		w.f.Close()
		return err
	}
	w.f.Close()
	return i.Settle()
}

// Beget begins a message that follows from i, to be committed by Announce.
func (i *Item) Beget(e Envelope) (*Writer, error) {
	if e.Created.IsZero() {
		e.Created = time.Now()
	}
	done := 0 // rises with each Announce
	for _, s := range i.Status {
		if s.Done() {
			done++
		}
	}
	id := fmt.Sprintf("%s%s%d", i.ID, child, done)
	remove(filepath.Join(i.q.dir, "tmp", id)) // of a try that never got to its notes
	return i.q.create(id, e)
}

// child stands between the identifier of a message and the number of one that
// follows from it.
const child = ".c"

// Settle finishes what Announce has begun before a crash.
func (i *Item) Settle() error {
	moved := false
	for n, s := range i.Status {
		if !s.Done() || !strings.HasPrefix(s.Text, i.ID+child) || strings.ContainsAny(s.Text, "/ ") {
			continue
		}
		if n > 0 && i.Status[n-1].Text == s.Text {
			continue
		}
		err := rename(filepath.Join(i.q.dir, "tmp", s.Text), filepath.Join(i.q.dir, "new", s.Text))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		moved = moved || err == nil
	}
	if moved {
		return syncDir(filepath.Join(i.q.dir, "new"))
	}
	return nil
}

// Remove takes the message out of the queue. Should a power cut undo it, the
// history shows that nothing is left to do.
func (i *Item) Remove() error {
	if err := remove(filepath.Join(i.q.dir, i.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// Close unlocks the message.
func (i *Item) Close() error { return i.f.Close() }
