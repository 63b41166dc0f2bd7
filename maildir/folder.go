package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Folder is one mailbox as one session sees it. It is safe for concurrent use.
type Folder struct {
	name   string
	serial uint64 // orders folders

	mu   sync.Mutex
	dir  *place // nil once closed
	root *place // where UIDVALIDITY is given out

	// The UID list, and what we know of each line's message.
	head      listHead
	lines     []*Message // UIDs strictly rising
	exts      map[uint32]string
	slab      []Message // room for further ones
	index     index
	unseen    int    // lines that were not looked for yet, at most
	doubled   bool   // some lines have no name any more
	list      stamp  // of the file as we read it
	listEnd   int64  // octets of it in whole lines
	listTail  string // its last octets as far as listEnd
	listWhole bool   // nothing follows them
	rewrite   bool   // there is reason to write it anew
	distrust  bool   // what can be read there may not be on disk

	keywords keywordNames
	kwStamp  stamp
	infos    map[string]*info

	new, cur dirView
	inNew    int // messages in new, at the last look
	doubt    map[uint32]doubt
	beyond   map[string][]string // keywords from Courier for which there was no letter, by base names
	sizes    map[uint32]counted

	changed bool       // state has other messages than lines, or unlike them all
	touched []*Message // those that only have other flags than in state
	state   *State
	recent  uidSet // what this Folder was the first to see
}

var folderSerial atomic.Uint64

// OpenFolder opens INBOX or a folder. fs.ErrNotExist when there is none of this name, ErrName when there cannot be.
func (s *Store) OpenFolder(name string) (*Folder, error) {
	p, err := s.openFolderPlace(name)
	if err != nil {
		return nil, fmt.Errorf("open folder %q: %w", name, err)
	}
	root, err := s.dir()
	if err != nil {
		p.close()
		return nil, err
	}
	p.clean()
	return &Folder{name: name, serial: folderSerial.Add(1), dir: p, root: root}, nil
}

// Name gives the name the folder was opened by.
func (f *Folder) Name() string { return f.name }

// UIDValidity gives the UIDVALIDITY of the UIDs that were given last.
func (f *Folder) UIDValidity() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head.validity
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

// Writable tells whether we may change the messages of the folder at all: nobody may on a disk that is mounted
// read-only.
func (f *Folder) Writable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dir != nil && !f.dir.readOnly()
}

// Close frees the folder. Files that were opened from it stay open.
func (f *Folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir != nil {
		f.dir.close()
		f.root.close()
		f.dir, f.root = nil, nil
	}
	return nil
}

// info takes apart what stands behind a base name; equal ones are shared.
func (f *Folder) info(text []byte) *info {
	if in := f.infos[string(text)]; in != nil {
		return in
	}
	if len(f.infos) > 2*len(f.lines)+1024 { // names that nobody has any more
		f.infos = nil
	}
	in := parseInfo(string(text))
	in.keywords = f.keywords.names(in.letters)
	if f.infos == nil {
		f.infos = map[string]*info{}
	}
	f.infos[in.text] = in
	return in
}

// current gives the place of a message in the lines; ErrGone when it is no more.
func (f *Folder) current(m Message) (int, error) {
	if f.dir == nil {
		return 0, fs.ErrClosed
	}
	i, ok := findUID(f.lines, m.UID)
	if !ok || f.lines[i].dir == gone || f.lines[i].base != m.base {
		return 0, ErrGone
	}
	return i, nil
}

// path is where the message was last seen, below the folder.
func (m Message) path() string { return sub(m.dir) + m.base + m.info.text }

// errBusy is when somebody renames a file again and again before we can get at it.
var errBusy = errors.New("the message is renamed faster than it can be opened")

// with does something with a message's file, which may be renamed by others at any time: when it is not under its known
// name, both directories are read. ErrGone when it is surely not there any more.
func (f *Folder) with(m Message, do func(i int, path string) error) error {
	missed, begun := 0, time.Now()
	for found := 0; found < 1000; {
		i, err := f.current(m)
		if err != nil {
			return err
		}
		err = unix.ENOENT
		if f.lines[i].dir != nowhere {
			err = do(i, f.lines[i].path())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p, err := f.find()
		if err != nil {
			return err
		}
		if i, err = f.current(m); err != nil {
			return err
		}
		if i >= len(p.seen) || p.seen[i] > 0 {
			missed, begun = 0, time.Now()
			found++
			continue
		}
		missed++
		if p.whole && missed > 1 && f.dir.steady() || missed > maxDoubts && time.Since(begun) > minDoubt {
			f.mark(i, gone)
			return ErrGone
		}
		time.Sleep(fineGrain / 5)
	}
	return errBusy
}

// Reader opens a message's file, under whatever name it has by now; one that is stored compressed is unpacked into a file
// of its own first. ErrGone when it is no more. The caller closes it.
func (f *Folder) Reader(m Message) (*os.File, error) {
	f.mu.Lock()
	if f.dir == nil {
		f.mu.Unlock()
		return nil, fs.ErrClosed
	}
	dir := f.dir.hold()
	file, err := f.open(m)
	f.mu.Unlock()
	defer dir.close()
	if err != nil {
		return nil, err
	}
	if file, err = dir.plain(file, m.base); err != nil {
		return nil, fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return file, nil
}

// open gives the file as it is stored.
func (f *Folder) open(m Message) (*os.File, error) {
	var file *os.File
	err := f.with(m, func(_ int, path string) error {
		fd, err := openat(f.dir.fd, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			if err == nil {
				err = unix.EINVAL
			}
			return err
		}
		file = os.NewFile(uintptr(fd), path)
		return nil
	})
	if err != nil && !errors.Is(err, ErrGone) {
		err = fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return file, err
}

func (f *Folder) stat(m Message) (st unix.Stat_t, err error) {
	err = f.with(m, func(_ int, path string) error { return statat(f.dir.fd, path, &st) })
	return st, err
}

// Size gives the octets of a message with every line end as CRLF, exactly as they will be sent. The field W of the name
// is believed when the field S is right; otherwise the octets are counted, once.
func (f *Folder) Size(m Message) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.sizes[m.UID]; ok {
		if _, err := f.current(m); err == nil {
			return c.octets, nil
		}
		return 0, ErrGone
	}
	st, err := f.stat(m)
	if err != nil {
		return 0, err
	}
	if n := f.namedSize(m, st.Size); n >= 0 {
		return n, nil
	}
	c, err := f.measure(m)
	if err != nil {
		return 0, err
	}
	if f.sizes == nil {
		f.sizes = map[uint32]counted{}
	}
	f.sizes[m.UID] = c
	return c.octets, nil
}

// Lacking gives how many octets of its CRLF the last line of a message lacks, after Size was asked for: 2, or 1 behind
// a bare CR, or 0. It reads nothing: 0 is also the answer for a message whose size another program has put into the
// name.
func (f *Folder) Lacking(m Message) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.sizes[m.UID]; ok {
		return c.lacks
	}
	return lackingByName(m.base)
}

// namedSize gives W from the file name or the UID list when it can be right, -1 else. octets is the file's size.
func (f *Folder) namedSize(m Message, octets int64) int64 {
	if w := sizeByName(m.base, octets); w >= 0 {
		return w
	}
	s, w := sizes(m.base)
	if ext := f.exts[m.UID]; ext != "" {
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
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := f.stat(m)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec)), nil
}

// SavedDate gives the time the message came into this folder, as far as the file's inode tells (RFC 8514).
func (f *Folder) SavedDate(m Message) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := f.stat(m)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec)), nil
}
