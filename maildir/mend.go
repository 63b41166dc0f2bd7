package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FolderName gives the name of the folder that a directory of a Maildir stands for, in UTF-8; false when it can be none.
func FolderName(dir string) (string, bool) { return folderName(dir) }

// DeadLock tells who holds the lock of the folder whose directory is open as fd, and whether he surely does so no more: a
// process of this host that has died, or somebody elsewhere who has not touched it for two minutes. No lock is not dead.
func DeadLock(fd int) (owner string, dead bool) {
	p := &place{fd: fd}
	data, _, err := p.readFile(lockName, 0, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	owner = string(data)
	if pid, _, _ := strings.Cut(owner, ":"); pid == strconv.Itoa(os.Getpid()) {
		return owner, false
	}
	_, _, dead = folderLock.void(p, time.Now())
	return owner, dead
}

const (
	// RenamesName is the file that says which messages a Mender was giving other base names: it is there for that long.
	RenamesName = "pennypost-renames"
	renamesTmp  = "pennypost-renames.tmp"
	asideName   = "pennypost-aside" // directory of a Maildir where a Mender puts what is in the way
)

// A Mender holds a folder under its lock for somebody who mends what is wrong in it (maildircheck(8)). What it does is
// durable, replaces and removes no message, and costs no UID when it is killed in the midst. It is not for concurrent use.
type Mender struct {
	root, dir *place
	sub       map[string]int // descriptors of new, cur and tmp: root may work where somebody puts links in their place
	lock      *lock
	into      *place // for what is set aside, nil as long as there is none
	touched   map[string]bool
}

// OpenMender opens the Maildir at path, or the folder in the directory dir of it, and takes the lock: ErrLocked when it
// cannot be had. Missing directories are made, and what a Mender before has not finished is finished.
func OpenMender(path, dir string) (*Mender, error) {
	m := &Mender{sub: map[string]int{}, touched: map[string]bool{}}
	if err := m.open(path, dir); err != nil {
		m.Close()
		return nil, fmt.Errorf("mend %s: %w", path+"/"+dir, err)
	}
	return m, nil
}

func (m *Mender) open(path, dir string) (err error) {
	if err := makeCur(unix.AT_FDCWD, path, 0); err != nil {
		return err
	}
	if m.root, err = openPlace(unix.AT_FDCWD, path, true); err != nil {
		return err
	}
	m.root.joinQuota(path)
	m.dir = m.root.hold()
	if dir != "" {
		m.dir.close()
		m.dir = nil
		if err := makeCur(m.root.fd, dir, unix.O_NOFOLLOW); err != nil {
			return err
		}
		if m.dir, err = openPlace(m.root.fd, dir, false); err != nil {
			return err
		}
	}
	for _, name := range []string{"new", "cur", "tmp"} {
		if m.sub[name], err = openDir(m.dir.fd, name); err != nil {
			return err
		}
	}
	if m.lock, err = m.dir.lock(); err != nil {
		return err
	}
	return m.finish()
}

// makeCur gives a Maildir its cur back, when there are signs that it had one.
func makeCur(at int, path string, follow int) error {
	fd, err := openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|follow, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := statat(fd, "cur", &st); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if statat(fd, "new", &st) != nil && statat(fd, "tmp", &st) != nil && statat(fd, listName, &st) != nil {
		return fs.ErrNotExist
	}
	p := &place{fd: fd, uid: -1, gid: -1}
	if err := fstat(fd, &st); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		p.uid, p.gid = int(st.Uid), int(st.Gid)
	}
	if err := p.mkdir("cur", st.Mode&0o777); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Close syncs what was renamed and gives the lock back.
func (m *Mender) Close() error {
	err := m.Sync()
	m.lock.release()
	for _, fd := range m.sub {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	for _, p := range []*place{m.dir, m.root} {
		if p != nil {
			p.close()
		}
	}
	if m.into != nil {
		unix.Close(m.into.fd)
	}
	m.lock, m.sub, m.dir, m.root, m.into = nil, nil, nil, nil, nil
	return err
}

// Touch says that the lock's holder lives. Who works for long calls it often.
func (m *Mender) Touch() { m.lock.touch() }

// at gives the directory of a path below the folder: "cur/x", or a name in the folder itself.
func (m *Mender) at(path string) (fd int, name string) {
	if sub, name, ok := strings.Cut(path, "/"); ok {
		if fd, ok := m.sub[sub]; ok {
			return fd, name
		}
		return -1, name
	}
	return m.dir.fd, path
}

// Sync makes the renames durable.
func (m *Mender) Sync() error {
	var first error
	for sub := range m.touched {
		if err := fsync(m.sub[sub]); first == nil {
			first = err
		}
	}
	clear(m.touched)
	return first
}

// Rename gives a file below the folder another name in the same directory, never over another one (fs.ErrExist). Sync or
// Close makes it durable.
func (m *Mender) Rename(path, to string) error {
	fd, name := m.at(path)
	m.touch(path)
	return renameNew(fd, name, fd, to)
}

// Unlink removes a name that is not the only one of its file.
func (m *Mender) Unlink(path string) error {
	fd, name := m.at(path)
	var st unix.Stat_t
	if err := statat(fd, name, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink < 2 {
		return fs.ErrInvalid
	}
	m.touch(path)
	return unlinkat(fd, name)
}

// touch notes that Sync has to see to the directory of a path.
func (m *Mender) touch(path string) {
	if sub, _, ok := strings.Cut(path, "/"); ok {
		m.touched[sub] = true
	}
}

// RemoveStale removes a file that holds no message: one in tmp, or what a control file was to be written to. It must not have
// been touched since.
func (m *Mender) RemoveStale(path string, since time.Time) error {
	fd, name := m.at(path)
	var st unix.Stat_t
	if err := statat(fd, name, &st); err != nil {
		return err
	}
	last := st.Mtim.Nano()
	if path != name { // in tmp the time of the last reading counts too (maildir(5))
		last = max(last, st.Atim.Nano())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || last > since.UnixNano() {
		return fs.ErrExist
	}
	return unlinkat(fd, name)
}

// SetMode gives a file or directory another mode, SetOwner another owner. A file with several names keeps its owner: it may
// be somebody else's.
func (m *Mender) SetMode(path string, mode uint32) error {
	return m.with(path, func(fd int, st *unix.Stat_t) error { return fchmod(fd, mode|st.Mode&unix.S_ISGID) })
}

// SetOwner gives a file or directory to somebody.
func (m *Mender) SetOwner(path string, uid, gid int) error {
	return m.with(path, func(fd int, st *unix.Stat_t) error {
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			return fs.ErrPermission
		}
		return fchown(fd, uid, gid)
	})
}

func (m *Mender) with(path string, do func(fd int, st *unix.Stat_t) error) error {
	at, name := m.at(path)
	if path == "" {
		name = "."
	}
	fd, err := openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return fs.ErrInvalid
	}
	return do(fd, &st)
}

// Aside moves a file, directory or link to the directory pennypost-aside of the Maildir, never over what is there.
func (m *Mender) Aside(path string) error {
	fd, name := m.at(path)
	into, err := m.aside()
	if err != nil {
		return err
	}
	to := name
	for n := 1; ; n++ {
		err := renameNew(fd, name, into.fd, to)
		if !errors.Is(err, fs.ErrExist) || n > 1000 {
			if err == nil {
				if err = fsync(into.fd); err == nil {
					err = fsync(fd)
				}
			}
			return err
		}
		to = fmt.Sprintf("%s.%d", name, n)
	}
}

// KeepAside leaves a copy of a control file, which is going to be replaced, where Aside puts things.
func (m *Mender) KeepAside(name string) error {
	into, err := m.aside()
	if err != nil {
		return err
	}
	data, _, err := m.dir.readFile(name, 0, maxListSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return into.replace(name, name+".tmp", data, nil)
}

// aside makes the directory for what this Mender sets aside, one for itself. It is reached over no link, since root may work
// in the Maildir of somebody who puts one there.
func (m *Mender) aside() (*place, error) {
	if m.into != nil {
		return m.into, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(m.root.fd, &st); err != nil {
		return nil, err
	}
	perm := st.Mode & 0o777
	if err := m.root.mkdir(asideName, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	fd, err := openDir(m.root.fd, asideName)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	all := &place{fd: fd, uid: m.root.uid, gid: m.root.gid}
	now := time.Now().UTC().Format("20060102T150405")
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s.%d", now, n)
		err := all.mkdir(name, perm)
		if errors.Is(err, fs.ErrExist) && n < 10000 {
			continue
		}
		if err != nil {
			return nil, err
		}
		if fd, err = openDir(all.fd, name); err != nil {
			return nil, err
		}
		m.into = &place{fd: fd, mode: m.root.mode, uid: m.root.uid, gid: m.root.gid}
		return m.into, nil
	}
}

// Replace writes a control file of the folder anew, durably: the UID list or the names of the keywords.
func (m *Mender) Replace(name string, data []byte) error {
	switch name {
	case listName:
		return m.dir.replace(listName, listTmp, data, nil)
	case keywordsName:
		return m.dir.replaceKeywords(data)
	case markerName:
		return m.dir.replace(markerName, markerName+".tmp", data, nil)
	}
	return fs.ErrInvalid
}

// Drop removes a file that can be rebuilt: the cache.
func (m *Mender) Drop(name string) error {
	if name != cacheName {
		return fs.ErrInvalid
	}
	return m.dir.unlink(name)
}

// CutJournal cuts off what is no whole record at the end of the journal.
func (m *Mender) CutJournal() error {
	p := m.dir
	now, err := p.stamp(journalName)
	if err != nil {
		return err
	}
	var j journal
	if _, _, err := j.readFile(p, now); err != nil {
		return err
	}
	if j.end == j.stamp.size {
		return nil
	}
	fd, err := openat(p.fd, journalName, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := ftruncate(fd, j.end); err != nil {
		return err
	}
	return fsync(fd)
}

// Recount counts what the Maildir holds and writes maildirsize anew.
func (m *Mender) Recount() error { return m.root.recount() }

// NextValidity takes a UIDVALIDITY that no folder of the Maildir has had.
func (m *Mender) NextValidity() (uint32, error) { return nextValidity(m.root) }

// UniqueName makes a base name that no other message has.
func UniqueName() string { return uniqueName() }

// A Renamed is a message that gets another base name.
type Renamed struct {
	UID      uint32
	Sub      string // "new" or "cur"
	From, To string // file names
}

// printRenamed writes a line for each: UID, directory, both names in quotes.
func printRenamed(list []Renamed) []byte {
	var b []byte
	for _, r := range list {
		b = fmt.Appendf(b, "%d %s %q %q\n", r.UID, r.Sub, r.From, r.To)
	}
	return b
}

// parseRenamed reads what printRenamed wrote, and passes over what makes no sense.
func parseRenamed(text string) (list []Renamed) {
	for line := range strings.Lines(text) {
		var r Renamed
		if n, err := fmt.Sscanf(line, "%d %s %q %q\n", &r.UID, &r.Sub, &r.From, &r.To); err != nil || n != 4 {
			continue
		}
		if r.UID > 0 && r.UID <= maxUID && (r.Sub == "new" || r.Sub == "cur") && !strings.ContainsAny(r.From+r.To, "/\x00") && r.From != "" && r.To != "" {
			list = append(list, r)
		}
	}
	return list
}

// Rebase gives messages that are in the UID list other base names, and puts the list in place that has these. At no time
// is there a UID in the list without a file: first each message gets its second name, then the list is replaced, then the
// first names go. Killed between, the file RenamesName tells those who come later which names are too many.
func (m *Mender) Rebase(list []Renamed, uidList []byte) error {
	if err := m.dir.replace(RenamesName, renamesTmp, printRenamed(list), nil); err != nil {
		return err
	}
	var err error
	for i, r := range list {
		m.Touch()
		if err = linkat(m.sub[r.Sub], r.From, m.sub[r.Sub], r.To); err != nil {
			list = list[:i]
			break
		}
		m.touched[r.Sub] = true
	}
	if err == nil {
		err = m.Sync()
	}
	if err == nil {
		err = m.Replace(listName, uidList)
	}
	if err != nil {
		if ferr := m.finish(); ferr != nil { // by what the list says now
			return errors.Join(err, ferr)
		}
		return err
	}
	for _, r := range list {
		m.Touch()
		if err := unlinkat(m.sub[r.Sub], r.From); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		m.touched[r.Sub] = true
	}
	if err := m.Sync(); err != nil {
		return err
	}
	return m.dir.unlink(RenamesName)
}

// finish ends what a Mender that was killed has begun: of two names of one file it removes the one that the list does
// not have.
func (m *Mender) finish() error {
	data, _, err := m.dir.readFile(RenamesName, 0, maxListSize)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	text, _, err := m.dir.readFile(listName, 0, maxListSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listed := map[string]uint32{}
	head, rest, _ := strings.Cut(string(text), "\n")
	h, _ := parseListHead(head)
	parseListLines(rest, max(h.version, 3), 0, func(uid uint32, _, base string) { listed[base] = uid })
	now, err := m.names()
	if err != nil {
		return err
	}
	for _, r := range parseRenamed(string(data)) {
		lose, keep := string(baseOf([]byte(r.From))), string(baseOf([]byte(r.To)))
		if listed[keep] != r.UID { // the list was not replaced
			lose, keep = keep, lose
		}
		for _, a := range now[lose] {
			if slices.ContainsFunc(now[keep], func(b named) bool { return a.ino == b.ino && a.path != b.path }) {
				m.Touch()
				if err := m.Unlink(a.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	if err := m.Sync(); err != nil {
		return err
	}
	return m.dir.unlink(RenamesName)
}

// named is a name of a file below the folder.
type named struct {
	path string
	ino  uint64
}

// names finds the files in new and cur by their base names.
func (m *Mender) names() (map[string][]named, error) {
	found := map[string][]named{}
	for _, sub := range []string{"new", "cur"} {
		_, err := m.dir.readNames(sub, func(name []byte) {
			var st unix.Stat_t
			if statat(m.sub[sub], string(name), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
				base := string(baseOf(name))
				found[base] = append(found[base], named{sub + "/" + string(name), st.Ino})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
