package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DeliverOptions say where a message goes.
type DeliverOptions struct {
	Folder   string // "" is INBOX; fs.ErrNotExist when it is not there
	UID, GID int    // owner of the file, given when we are root; 0 or -1: the Maildir's own owner
	Limit    int64  // octets at most, as written here; more is ErrTooBig. 0: no limit
}

// A Delivery is a message on its way into one or more mailboxes: write it, then Commit or Abort.
// Nothing can be seen in any mailbox before Commit. It is not for concurrent use.
type Delivery struct {
	file  spool
	first target // where the file is written
	also  []mailbox
	names []string // base names, known after Commit
	done  bool
}

// A mailbox is what is kept of a further target until Commit. No descriptor is among it: there may be thousands.
type mailbox struct {
	path   string // of the Maildir
	o      DeliverOptions
	limits Limits // set for the Maildir
	set    bool
}

// A target is one mailbox of a delivery. Its directories are held open: root may deliver into the Maildir of somebody who
// puts links in their place meanwhile.
type target struct {
	root     *place // the Maildir, for its quota; nil where that is the caller's business
	place    *place
	tmp, new int
	uid, gid int
}

func (t *target) close() {
	unix.Close(t.tmp)
	unix.Close(t.new)
	t.place.close()
	if t.root != nil {
		t.root.close()
	}
}

const (
	// lifetime is how long a delivery may take; what lies in tmp for half a day longer is removed by others.
	lifetime = 24 * time.Hour
	// together is how many mailboxes of a delivery have their directories open at once.
	together = 50
)

// Deliver begins a delivery. It takes no lock and gives no UID: whoever looks into the folder next does. ErrQuota when the
// Maildir is full already; Commit looks again.
func (s *Store) Deliver(o DeliverOptions) (*Delivery, error) {
	t, err := s.target(o)
	if err != nil {
		return nil, fmt.Errorf("deliver to %s: %w", s.path, err)
	}
	d := &Delivery{first: t}
	if err = t.root.hasRoom(1, 1); err == nil {
		err = d.file.open(t, o.Limit)
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("deliver to %s: %w", s.path, err)
	}
	return d, nil
}

func (s *Store) target(o DeliverOptions) (target, error) {
	name := o.Folder
	if name == "" {
		name = inbox
	}
	root, err := s.dir()
	if err != nil {
		return target{}, err
	}
	p, err := s.openFolderPlace(name)
	if err != nil {
		root.close()
		return target{}, err
	}
	t, err := newTarget(p)
	if err != nil {
		root.close()
		return target{}, err
	}
	t.root = root
	if o.UID > 0 {
		t.uid = o.UID
	}
	if o.GID > 0 {
		t.gid = o.GID
	}
	return t, nil
}

// newTarget opens the directories of a mailbox. The place is the target's from here on, and closed when it cannot be one.
func newTarget(p *place) (t target, err error) {
	t = target{place: p, uid: p.uid, gid: p.gid}
	if t.tmp, err = openDir(p.fd, "tmp"); err != nil {
		p.close()
		return target{}, err
	}
	if t.new, err = openDir(p.fd, "new"); err != nil {
		unix.Close(t.tmp)
		p.close()
		return target{}, err
	}
	return t, nil
}

// open opens the directories of a further mailbox.
func (m *mailbox) open() (target, error) {
	root, err := openRoot(m.path)
	if err != nil {
		return target{}, err
	}
	s := &Store{path: m.path, root: root}
	defer s.Close()
	if m.set {
		s.SetQuota(m.limits)
	}
	return s.target(m.o)
}

// Also adds a further mailbox. The one file is linked into it, or copied where it is on another file system or
// belongs to another user. It may be called at any time before Commit; the Limit of o is not looked at. The Store is
// opened again by its path for Commit, and may be closed before: so many mailboxes want few descriptors.
func (d *Delivery) Also(s *Store, o DeliverOptions) error {
	if d.done {
		return fs.ErrClosed
	}
	t, err := s.target(o)
	if err == nil {
		err = t.root.hasRoom(1, 1)
		m := mailbox{path: s.path, o: o}
		m.limits, m.set, _ = t.root.quota.known()
		t.close()
		if err == nil {
			d.also = append(d.also, m)
			return nil
		}
	}
	return fmt.Errorf("deliver to %s: %w", s.path, err)
}

// Write adds to the message. CRLF becomes LF, across calls too; nothing else changes, CR without LF included.
func (d *Delivery) Write(p []byte) (int, error) {
	if d.done {
		return 0, fs.ErrClosed
	}
	return d.file.Write(p)
}

// Reader ends the writing and opens the text of the message, as it is stored. It can be read to its end whatever
// becomes of the delivery; the caller closes it.
func (d *Delivery) Reader() (*os.File, error) {
	if d.done {
		return nil, fs.ErrClosed
	}
	if err := d.file.finish(time.Time{}); err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	fd, err := openat(d.first.tmp, d.file.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	return os.NewFile(uintptr(fd), d.file.name), nil
}

// A PartialError says that a delivery to several mailboxes reached some of them only.
type PartialError struct {
	Failed map[int]error // 0 is the mailbox of Deliver, 1 that of the first Also, and so on
}

func (e *PartialError) Error() string {
	for i := 0; ; i++ {
		if err := e.Failed[i]; err != nil {
			return fmt.Sprintf("%d mailboxes not reached: %v", len(e.Failed), err)
		}
	}
}

// Commit makes the message visible in all its mailboxes; it is durable when Commit returns nil: file synced, name
// made, directory synced. name is the base name in the first mailbox. An error other than *PartialError
// means that the message is in none of them.
func (d *Delivery) Commit() (name string, err error) {
	if d.done {
		return "", fs.ErrClosed
	}
	defer d.Abort()
	if err := d.file.finish(time.Time{}); err != nil {
		return "", fmt.Errorf("deliver: %w", err)
	}
	d.names = make([]string, 1+len(d.also))
	failed := map[int]error{}
	order := make([]int, len(d.names)) // the first one last: the others have their links from its tmp
	for i := range order {
		order[i] = (i + 1) % len(order)
	}
	for batch := range slices.Chunk(order, together) {
		d.commit(batch, failed)
	}
	d.file.name = "" // moved on, or removed
	switch {
	case len(failed) == 0:
		return d.names[0], nil
	case len(failed) == len(d.names):
		return "", fmt.Errorf("deliver: %w", best(failed))
	}
	return d.names[0], &PartialError{failed}
}

// best gives the error that promises most: a mailbox that may have room tomorrow goes before one that never will.
func best(failed map[int]error) error {
	err := failed[0]
	for i := 1; i < len(failed) && errors.Is(err, ErrTooBig); i++ {
		err = failed[i]
	}
	return err
}

// commit brings the message into some of its mailboxes: first everything that may fail for want of room, then the names, then
// the syncs, of which the first does the work of all where they share a file system.
func (d *Delivery) commit(batch []int, failed map[int]error) {
	targets, tmp, errs := make([]target, len(batch)), make([]string, len(batch)), make([]error, len(batch))
	var copies sync.WaitGroup // each of which waits for the disk
	for k, i := range batch {
		if i == 0 {
			targets[k], tmp[k] = d.first, d.file.name
			continue
		}
		if targets[k], errs[k] = d.also[i-1].open(); errs[k] != nil {
			continue
		}
		defer targets[k].close()
		var ok bool
		if tmp[k], ok = d.file.link(targets[k]); !ok {
			copies.Go(func() { tmp[k], errs[k] = d.file.copy(targets[k]) })
		}
	}
	copies.Wait()
	for k, i := range batch {
		if errs[k] != nil {
			failed[i] = errs[k]
		}
	}
	for k, i := range batch {
		if failed[i] != nil {
			continue
		}
		if err := d.name(i, &targets[k], tmp[k]); err != nil {
			failed[i] = err
			unlinkat(targets[k].tmp, tmp[k])
		}
	}
	for k, i := range batch {
		if failed[i] != nil {
			continue
		}
		if err := fsync(targets[k].new); err != nil {
			// Whether it stays is unknown: better not there than twice.
			failed[i] = err
			if unlinkat(targets[k].new, d.names[i]) == nil {
				targets[k].root.uncount(d.file.s, 1)
			}
			d.names[i] = ""
		}
	}
}

// name counts the message and gives it its name.
func (d *Delivery) name(i int, t *target, tmp string) error {
	count, err := t.root.claim(d.file.s, 1)
	if err != nil {
		return err
	}
	defer count.close()
	if d.names[i], err = d.file.place(t.tmp, tmp, t.new, "", ""); err != nil {
		d.names[i] = ""
		count.note(-d.file.s, -1)
	}
	return err
}

// Names gives the base names of the message, in the order of its mailboxes, after Commit; "" where it is not.
func (d *Delivery) Names() []string { return d.names }

// Abort gives the delivery up; nothing of it stays. After Commit it does nothing.
func (d *Delivery) Abort() {
	if d.done {
		return
	}
	d.done = true
	d.file.discard()
	d.first.close()
}

var spoolBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// A spool is a message being written to tmp. It counts what it writes.
type spool struct {
	to    target
	fd    int
	name  string // in tmp; empty when there is no such file (any more)
	limit int64
	taken int64 // octets written to us
	s, w  int64 // octets on disk, and with CRLF
	last  byte  // octet before the next one, as written to us
	cr    bool  // the last octet was a CR, not yet on disk
	buf   *[]byte
	begun time.Time
	whole bool  // it is finished
	err   error // the first one; it stays
}

// open makes the file in tmp; the target stays the caller's.
func (f *spool) open(t target, limit int64) error {
	*f = spool{to: t, fd: -1, limit: limit, begun: time.Now()}
	for range 10 {
		f.name = uniqueName()
		fd, err := createAt(t.tmp, f.name, t.place.mode, t.uid, t.gid)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			f.name = ""
			return err
		}
		f.fd = fd
		f.buf = spoolBuffers.Get().(*[]byte)
		return nil
	}
	f.name = ""
	return fs.ErrExist
}

// Write streams: CRLF becomes LF. A CR before the CRLF would turn that LF into a CRLF for the next reader, so
// CRCRLF is kept as it is; W counts as every reader of Maildirs does: a LF counts two unless a CR stands before it.
func (f *spool) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.whole {
		return 0, fs.ErrClosed
	}
	f.taken += int64(len(p))
	if f.limit > 0 && f.taken > f.limit {
		return 0, f.fail(ErrTooBig)
	}
	if time.Since(f.begun) > lifetime {
		return 0, f.fail(os.ErrDeadlineExceeded)
	}
	b := *f.buf
	for rest := p; len(rest) > 0; {
		if len(b) > cap(b)-4096 {
			if err := f.flush(b); err != nil {
				return 0, err
			}
			b = b[:0]
		}
		if f.cr { // decide on the CR we hold
			f.cr = false
			if rest[0] == '\n' && f.last != '\r' {
				b = append(b, '\n')
				f.s, f.w, f.last = f.s+1, f.w+2, '\n'
				rest = rest[1:]
				continue
			}
			b = append(b, '\r')
			f.s, f.w, f.last = f.s+1, f.w+1, '\r'
		}
		n := bytes.IndexAny(rest[:min(len(rest), 4000)], "\r\n")
		if n < 0 {
			n = min(len(rest), 4000)
		}
		if n > 0 {
			b = append(b, rest[:n]...)
			f.s, f.w, f.last = f.s+int64(n), f.w+int64(n), rest[n-1]
			rest = rest[n:]
			continue
		}
		if rest[0] == '\r' {
			f.cr = true
		} else {
			b = append(b, '\n')
			f.s, f.w = f.s+1, f.w+1
			if f.last != '\r' {
				f.w++
			}
			f.last = '\n'
		}
		rest = rest[1:]
	}
	*f.buf = b
	return len(p), nil
}

func (f *spool) fail(err error) error {
	f.err = err
	return err
}

func (f *spool) flush(b []byte) error {
	if err := writeAll(f.fd, b); err != nil {
		return f.fail(err)
	}
	*f.buf = b[:0]
	return nil
}

// finish writes the rest, gives the file its date, and syncs it. There is no second try; after it has succeeded
// it does nothing.
func (f *spool) finish(date time.Time) error {
	if f.err != nil || f.whole {
		return f.err
	}
	b := *f.buf
	if f.cr {
		f.cr = false
		b = append(b, '\r')
		f.s, f.w, f.last = f.s+1, f.w+1, '\r'
	}
	if err := f.flush(b); err != nil {
		return err
	}
	spoolBuffers.Put(f.buf) // there may be many that wait to be committed
	f.buf = nil
	if !date.IsZero() {
		// The time of the last access stays: it keeps the file from being taken for a leftover.
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(date.UnixNano())}
		if err := utimesAt(f.to.tmp, f.name, times); err != nil {
			return f.fail(err)
		}
	}
	if err := fsync(f.fd); err != nil {
		return f.fail(err)
	}
	err := unix.Close(f.fd)
	f.fd = -1
	if err != nil {
		return f.fail(err)
	}
	f.whole = true
	return nil
}

// link gives the finished file a further name, in another mailbox's tmp; false where that cannot be.
func (f *spool) link(t target) (name string, ok bool) {
	if t.uid != f.to.uid || t.gid != f.to.gid || t.place.mode != f.to.place.mode {
		return "", false
	}
	name = uniqueName()
	return name, linkat(f.to.tmp, f.name, t.tmp, name) == nil
}

// copy brings a copy of the finished file into another mailbox's tmp, with a sync of its own.
func (f *spool) copy(t target) (string, error) {
	fd, err := openat(f.to.tmp, f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	src := os.NewFile(uintptr(fd), f.name)
	defer src.Close()
	return copyInto(t, src, time.Time{})
}

// copyInto copies a message as it is stored, with its date, into a mailbox's tmp, synced.
func copyInto(t target, src io.Reader, date time.Time) (name string, err error) {
	name = uniqueName()
	fd, err := createAt(t.tmp, name, t.place.mode, t.uid, t.gid)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			unlinkat(t.tmp, name)
		}
	}()
	bp := spoolBuffers.Get().(*[]byte)
	defer spoolBuffers.Put(bp)
	buf := (*bp)[:cap(*bp)]
	for err == nil {
		var n int
		n, err = src.Read(buf)
		if werr := writeAll(fd, buf[:n]); werr != nil {
			err = werr
		}
	}
	if err == io.EOF {
		err = nil
		if !date.IsZero() {
			err = utimesAt(t.tmp, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(date.UnixNano())})
		}
		if err == nil {
			err = fsync(fd)
		}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return name, err
}

// sized is a new name for the finished file.
func (f *spool) sized() string { return sized(uniqueName(), f.s, f.w, lacking(f.s, f.last)) }

// place gives a file in tmp its name in new or cur, never over another one. prefix is a path from the descriptor to.
func (f *spool) place(tmp int, name string, to int, prefix, infoText string) (base string, err error) {
	for range 10 {
		base = f.sized()
		err = renameNew(tmp, name, to, prefix+base+infoText)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return base, err
}

// discard forgets the file and what it has taken.
func (f *spool) discard() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
	if f.name != "" {
		unlinkat(f.to.tmp, f.name)
		f.name = ""
	}
	if f.buf != nil {
		*f.buf = (*f.buf)[:0]
		spoolBuffers.Put(f.buf)
		f.buf = nil
	}
}
