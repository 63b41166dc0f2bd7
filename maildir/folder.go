package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Folder is one mailbox as one session sees it. It is safe for concurrent use. All Folders of a process on one
// directory share what is known of it.
type Folder struct {
	name string
	by   string // whose session it is, for the journal

	mu       sync.Mutex
	box      *box // nil once closed
	validity uint32
	next     uint32 // UIDs from here on were not shown here yet
	recent   uidSet // what this Folder was the first to see
	denied   Rights // what its user may not do
}

// OpenFolder opens INBOX or a folder. fs.ErrNotExist when there is none of this name, ErrName when there cannot be.
func (s *Store) OpenFolder(name string) (*Folder, error) {
	b, err := s.openBox(name)
	if err != nil {
		return nil, fmt.Errorf("open folder %q: %w", name, err)
	}
	return &Folder{name: name, by: s.By[:min(len(s.By), 255)], box: b}, nil
}

func (s *Store) openBox(name string) (*box, error) {
	name, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	root, err := s.dir()
	if err != nil {
		return nil, err
	}
	if name == inbox { // cleaned when the Maildir was opened
		b, _ := joinBox(root.hold(), root, name)
		return b, nil
	}
	dir, err := folderDir(root, name)
	if err != nil {
		root.close()
		return nil, err
	}
	if b := knownBox(root, dir); b != nil {
		root.close()
		return b, nil
	}
	p, err := openPlace(root.fd, dir, false)
	if err != nil {
		root.close()
		return nil, err
	}
	b, first := joinBox(p, root, name)
	if first {
		b.dir.clean()
	}
	return b, nil
}

// enter gives the box for the length of a call; the caller leaves it.
func (f *Folder) enter() (*box, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.box == nil {
		return nil, fs.ErrClosed
	}
	f.box.users.Add(1)
	return f.box, nil
}

// Name gives the name the folder was opened by.
func (f *Folder) Name() string { return f.name }

// UIDValidity gives the UIDVALIDITY of the UIDs that were given last.
func (f *Folder) UIDValidity() uint32 {
	b, err := f.enter()
	if err != nil {
		return 0
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head.validity
}

// Recent tells whether this Folder was the first to see a message (RFC 3501 §2.3.2).
func (f *Folder) Recent(uid uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recent.has(uid)
}

// RecentCount counts the messages of a State that this Folder was the first to see.
func (f *Folder) RecentCount(s *State) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.recent {
		from, _ := s.Find(r.First)
		to, last := s.Find(r.Last)
		if n += to - from; last {
			n++
		}
	}
	return n
}

// under forgets what was shown under another UIDVALIDITY.
func (f *Folder) under(validity uint32) {
	if f.validity != validity {
		f.validity, f.next, f.recent = validity, 0, nil
	}
}

// first notes UIDs that nobody has seen before.
func (f *Folder) first(validity uint32, uids ...uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under(validity)
	for _, uid := range uids {
		f.recent.add(uid)
	}
}

// meet is for what is in new and was not shown here yet: nobody has claimed it.
func (f *Folder) meet(b *box) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under(b.head.validity)
	i, _ := b.inNew.find(f.next)
	for _, r := range b.inNew[i:] {
		for uid := max(r.First, f.next); uid <= r.Last; uid++ {
			f.recent.add(uid)
		}
	}
	f.next = b.head.next
}

// Writable tells whether we may change the messages of the folder at all: nobody may on a disk that is mounted
// read-only.
func (f *Folder) Writable() bool {
	b, err := f.enter()
	if err != nil {
		return false
	}
	defer b.leave()
	return !b.dir.readOnly()
}

// Close frees the folder. Files that were opened from it stay open.
func (f *Folder) Close() error {
	f.mu.Lock()
	b := f.box
	f.box = nil
	f.mu.Unlock()
	if b != nil {
		b.leave()
	}
	return nil
}

// Vanished gives the UIDs that were removed after the change with this modseq (RFC 7162 §3.2.5). False when that is further
// back than is known, or is no number that we have given: they may be any that are not there.
func (f *Folder) Vanished(since uint64) ([]UIDRange, bool) {
	b, err := f.enter()
	if err != nil {
		return nil, false
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grave.floor == 0 || since > b.modseq { // there is no journal; or somebody has lost the one that gave this number
		return nil, false
	}
	gone, whole := b.grave.since(since)
	var back []uint32 // from a power cut
	for _, u := range gone {
		back = append(back, b.rows.within(u)...)
	}
	left := uidSet(gone)
	for _, uid := range back {
		left.remove(uid)
	}
	return left, whole
}

// EmailID gives what names the content of a message wherever copies of it lie (RFC 8474 §5.1).
func (f *Folder) EmailID(m Message) string {
	b, err := f.enter()
	if err != nil {
		return emailIDOf(m.base).String()
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ids.of(m.UID, m.base).String()
}

// current gives the place of a message in the rows; ErrGone when it is no more.
func (b *box) current(m Message) (row, error) {
	r, ok := b.rows.get(m.UID)
	if !ok || r.base != m.base {
		return row{}, ErrGone
	}
	return r, nil
}

// path is where a message lay when the State was made, below the folder.
func (m Message) path() string { return m.info.path(m.base) }

// path is where a row's message was last seen, below the folder.
func (b *box) path(r row) string { return b.info(r.mark).path(r.base) }

func (in *info) path(base string) string { return sub(in.dir) + base + in.text }

// errBusy is when somebody renames a file again and again before we can get at it.
var errBusy = errors.New("the message is renamed faster than it can be opened")

// reach does something with a message's file without holding up others meanwhile; it may be renamed by others at any
// time, as with says.
func (b *box) reach(m Message, do func(path string) error) error {
	b.mu.Lock()
	r, err := b.current(m)
	path := ""
	if err == nil {
		path = b.path(r)
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if err = do(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.with(m, func(_ row, path string) error { return do(path) })
}

// with does something with a message's file, which may be renamed by others at any time: when it is not under its known
// name, both directories are read. ErrGone when it is surely not there any more. mu is held.
func (b *box) with(m Message, do func(r row, path string) error) error {
	missed, begun := 0, time.Now()
	for found := 0; found < 1000; {
		r, err := b.current(m)
		if err != nil {
			return err
		}
		err = unix.ENOENT
		if r.mark != 0 {
			err = do(r, b.path(r))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p, err := b.find()
		if err != nil {
			return err
		}
		if r, err = b.current(m); err != nil {
			return err
		}
		if p.has(m.UID) {
			missed, begun = 0, time.Now()
			found++
			continue
		}
		missed++
		if p.whole && missed > 1 && b.dir.steady() || missed > maxDoubts && time.Since(begun) > minDoubt {
			b.vanish(m.UID)
			return ErrGone
		}
		time.Sleep(fineGrain / 5)
	}
	return errBusy
}

// Reader opens a message's file, under whatever name it has by now; one that is stored compressed is unpacked into a file
// of its own first. ErrGone when it is no more. The caller closes it.
func (f *Folder) Reader(m Message) (*os.File, error) {
	b, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer b.leave()
	file, err := b.open(m)
	if err != nil {
		return nil, err
	}
	if file, err = b.dir.plain(file, m.base); err != nil {
		return nil, fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return file, nil
}

// open gives the file as it is stored.
func (b *box) open(m Message) (file *os.File, err error) {
	err = b.reach(m, func(path string) (err error) {
		file, err = b.dir.openMessage(path)
		return err
	})
	if err != nil && !errors.Is(err, ErrGone) {
		err = fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return file, err
}

// openMessage opens a file that has to be a plain one.
func (p *place) openMessage(path string) (*os.File, error) {
	var st unix.Stat_t
	fd, err := p.openPlain(path, &st)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openPlain is openMessage without Go's wrapping, which costs as much as the opening.
func (p *place) openPlain(path string, st *unix.Stat_t) (int, error) {
	fd, err := openat(p.fd, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Fstat(fd, st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		if err == nil {
			err = unix.EINVAL
		}
		return -1, err
	}
	return fd, nil
}

func (f *Folder) stat(m Message) (st unix.Stat_t, err error) {
	b, err := f.enter()
	if err != nil {
		return st, err
	}
	defer b.leave()
	err = b.reach(m, func(path string) error { return statat(b.dir.fd, path, &st) })
	return st, err
}

// Size gives the octets of a message with every line end as CRLF, exactly as they will be sent. The field W of the name
// is believed when the field S is right; otherwise the octets are counted, once.
func (f *Folder) Size(m Message) (int64, error) {
	b, err := f.enter()
	if err != nil {
		return 0, err
	}
	defer b.leave()
	b.mu.Lock()
	c, ok := b.sizes[m.UID]
	if ok {
		_, err = b.current(m)
	}
	b.mu.Unlock()
	if ok || err != nil {
		return c.octets, err
	}
	st, err := f.stat(m)
	if err != nil {
		return 0, err
	}
	if n := sizeByName(m.base, st.Size); n >= 0 {
		return n, nil
	}
	b.mu.Lock()
	n := b.namedSize(m, st.Size)
	b.mu.Unlock()
	if n >= 0 {
		return n, nil
	}
	file, err := b.open(m)
	if err == nil {
		c, err = b.dir.measure(file, m)
	}
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.current(m); err == nil {
		if b.sizes == nil {
			b.sizes = map[uint32]counted{}
		}
		b.sizes[m.UID] = c
	}
	return c.octets, nil
}

// Counted gives the octets that a message counts of what the Maildir may hold.
func (f *Folder) Counted(m Message) (int64, error) {
	if n, _ := sizes(m.base); n >= 0 {
		return n, nil
	}
	st, err := f.stat(m)
	if err != nil {
		return 0, err
	}
	return st.Size, nil
}

// Lacking gives how many octets of its CRLF the last line of a message lacks, after Size was asked for: 2, or 1 behind
// a bare CR, or 0. It reads nothing: 0 is also the answer for a message whose size another program has put into the
// name.
func (f *Folder) Lacking(m Message) int64 {
	b, err := f.enter()
	if err != nil {
		return lackingByName(m.base)
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, ok := b.sizes[m.UID]; ok {
		return c.lacks
	}
	return lackingByName(m.base)
}

// namedSize gives W from the file name or the UID list when it can be right, -1 else. octets is the file's size.
func (b *box) namedSize(m Message, octets int64) int64 {
	if w := sizeByName(m.base, octets); w >= 0 {
		return w
	}
	s, w := sizes(m.base)
	b.needExts()
	if ext := b.exts[m.UID]; ext != "" {
		if v, ok := extField(ext, 'S'); ok && s < 0 {
			if n, k := number(v); k == len(v) {
				s = int64(n)
			}
		}
		if v, ok := extField(ext, 'W'); ok && w < 0 {
			if n, k := number(v); k == len(v) {
				w = int64(n)
			}
		}
	}
	return plausible(s, w, octets)
}

// sizeByName gives W from a base name when it can be right, -1 else.
func sizeByName(base string, octets int64) int64 {
	s, w := sizes(base)
	return plausible(s, w, octets)
}

func plausible(s, w, octets int64) int64 {
	if s == octets && w >= s && w <= 2*s {
		return w
	}
	return -1
}

// counted is what the octets of a message say.
type counted struct {
	stored int64 // as they stand in the file, unpacked
	octets int64 // each line end as CRLF
	lacks  int64 // octets that the last line lacks of its CRLF
}

// countCRLF counts octets as they are sent: a LF without a CR before it counts two.
func countCRLF(r io.Reader) (counted, error) {
	bp := spoolBuffers.Get().(*[]byte)
	defer spoolBuffers.Put(bp)
	buf := (*bp)[:cap(*bp)]
	stored, n, last := int64(0), int64(0), byte(0)
	for {
		k, err := r.Read(buf)
		if k > 0 {
			stored += int64(k)
			n += int64(k + bytes.Count(buf[:k], newline) - bytes.Count(buf[:k], crlf))
			if last == '\r' && buf[0] == '\n' {
				n--
			}
			last = buf[k-1]
		}
		if err == io.EOF {
			return counted{stored, n, lacking(n, last)}, nil
		}
		if err != nil {
			return counted{}, err
		}
	}
}

var newline, crlf = []byte("\n"), []byte("\r\n")

// Date gives the message's INTERNALDATE: the time of its file's last change, which delivery has set.
func (f *Folder) Date(m Message) (time.Time, error) {
	st, err := f.stat(m)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec)), nil
}

// Shared gives what was made first for all Folders of the process that are open on this directory. It goes with the last
// of them.
func (f *Folder) Shared(make func() any) any {
	b, err := f.enter()
	if err != nil {
		return make()
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shared == nil {
		b.shared = make()
	}
	return b.shared
}
