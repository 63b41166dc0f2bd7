package maildir

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// Where a message may lie.
const (
	nowhere byte = iota // listed, not yet looked for
	inNew
	inCur
	gone // listed, and surely not there any more
)

// sub gives the beginning of a path below the folder.
func sub(dir byte) string {
	if dir == inNew {
		return "new/"
	}
	return "cur/"
}

// A place is an open Maildir directory: INBOX or a folder. It counts its users, so that its
// descriptor is never closed under a call that is on its way.
type place struct {
	fd       int
	users    atomic.Int32
	dev, ino uint64
	mode     uint32 // of files made here
	uid, gid int    // owner of files made here, -1: whoever we are
	turn     *turn
	quota    *quota // of the Maildir itself; nil in its folders
}

// openPlace opens the Maildir directory at path, relative to the directory at. With follow, path itself may be a
// symbolic link: the administrator chose it. It needs a cur; new and tmp are made when they are missing.
func openPlace(at int, path string, follow bool) (*place, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openat(at, path, flags, 0)
	if err != nil {
		return nil, err
	}
	p := &place{fd: fd, uid: -1, gid: -1}
	p.users.Store(1)
	if err := p.inspect(follow); err != nil {
		p.close()
		return nil, err
	}
	p.join()
	return p, nil
}

// inspect learns owner and modes, and completes the directory.
func (p *place) inspect(root bool) error {
	var st unix.Stat_t
	if err := fstat(p.fd, &st); err != nil {
		return err
	}
	p.dev, p.ino = st.Dev, st.Ino
	p.mode = st.Mode&0o666 | 0o600
	if os.Geteuid() == 0 {
		p.uid, p.gid = int(st.Uid), int(st.Gid)
	}
	return p.makeWhole(root, st.Mode&0o777)
}

// mend makes directories again that somebody has removed from an open folder.
func (p *place) mend() bool {
	var st unix.Stat_t
	return fstat(p.fd, &st) == nil && p.makeWhole(false, st.Mode&0o777) == nil
}

// makeWhole makes the directories that are missing.
func (p *place) makeWhole(root bool, perm uint32) error {
	var st unix.Stat_t
	for _, name := range []string{"cur", "new", "tmp"} {
		err := statat(p.fd, name, &st)
		if errors.Is(err, fs.ErrNotExist) && (name != "cur" || !root && statat(p.fd, markerName, &st) == nil) {
			err = p.mkdirWhole(name, perm)
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			if err == nil {
				err = statat(p.fd, name, &st)
			}
		}
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR { // a symbolic link is not followed
			return &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
		}
	}
	return nil
}

// mkdir makes a sub-directory that belongs to the Maildir's owner, and syncs p.
func (p *place) mkdir(name string, perm uint32) error {
	if err := p.subdir(name, perm); err != nil {
		return err
	}
	return fsync(p.fd)
}

// subdir is mkdir without the sync.
func (p *place) subdir(name string, perm uint32) error {
	if err := mkdirat(p.fd, name, 0o700); err != nil {
		return err
	}
	fd, err := openDir(p.fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if p.uid > 0 || p.gid > 0 {
		if err := fchown(fd, p.uid, p.gid); err != nil {
			return err
		}
	}
	return fchmod(fd, perm)
}

// readOnly tells whether we may not change what is in the Maildir.
func (p *place) readOnly() bool {
	return unix.Faccessat(p.fd, "cur", unix.W_OK, unix.AT_EACCESS) != nil
}

func (p *place) hold() *place {
	p.users.Add(1)
	return p
}

func (p *place) close() {
	if p.users.Add(-1) == 0 {
		p.leave()
		p.leaveQuota()
		unix.Close(p.fd)
	}
}

// create makes a new file below p, never over another nor through a symbolic link.
func (p *place) create(name string) (int, error) {
	return createAt(p.fd, name, p.mode, p.uid, p.gid)
}

func createAt(at int, name string, mode uint32, uid, gid int) (int, error) {
	fd, err := openat(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	if (uid > 0 || gid > 0) && os.Geteuid() == 0 {
		err = fchown(fd, owner(uid), owner(gid))
	}
	if err == nil && mode != 0o600 {
		err = fchmod(fd, mode)
	}
	if err != nil {
		unix.Close(fd)
		unlinkat(at, name)
		return -1, err
	}
	return fd, nil
}

func (p *place) unlink(name string) error { return unlinkat(p.fd, name) }

func mkdirat(at int, name string, mode uint32) error {
	return again(func() error { return disk.MkdirAt(at, name, mode) })
}

func rmdirat(at int, name string) error {
	return again(func() error { return disk.RmdirAt(at, name) })
}

func linkat(fromDir int, from string, toDir int, to string) error {
	return again(func() error { return disk.LinkAt(fromDir, from, toDir, to) })
}

func unlinkat(at int, name string) error {
	return again(func() error { return disk.UnlinkAt(at, name) })
}

// renameat replaces what has the new name.
func renameat(fromDir int, from string, toDir int, to string) error {
	return again(func() error { return disk.RenameAt(fromDir, from, toDir, to, 0) })
}

func ftruncate(fd int, size int64) error {
	return again(func() error { return disk.TruncateTo(fd, size) })
}

func fchmod(fd int, mode uint32) error {
	return again(func() error { return disk.SetMode(fd, mode) })
}

func fchown(fd, uid, gid int) error {
	return again(func() error { return disk.SetOwner(fd, uid, gid) })
}

func utimesAt(at int, name string, times []unix.Timespec) error {
	return again(func() error { return disk.SetTimes(at, name, times) })
}

// sync makes what happened to the names in a sub-directory durable ("new", "cur", or "." for p itself).
func (p *place) sync(name string) error {
	fd, err := openDir(p.fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fsync(fd)
}

// replace writes data beside the file name, syncs it, and renames it over name, all of it durable.
func (p *place) replace(name, beside string, data []byte, change func(fd int) error) error {
	// A file of that name is a leftover of someone killed: the caller holds the lock that covers it.
	if err := p.unlink(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fd, err := p.create(beside)
	if err != nil {
		return err
	}
	err = writeAll(fd, data)
	if err == nil && change != nil {
		err = change(fd)
	}
	if err == nil {
		err = fsync(fd)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		err = renameat(p.fd, beside, p.fd, name)
	}
	if err != nil {
		p.unlink(beside)
		return err
	}
	return fsync(p.fd)
}

// readFile reads a whole control file, at most limit octets of it from offset on. It says what it
// read by the file's own identity, taken before the reading: what changes later shows as a change.
func (p *place) readFile(name string, offset, limit int64) ([]byte, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openat(p.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, st, err
	}
	defer unix.Close(fd)
	if err := fstat(fd, &st); err != nil {
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, &fs.PathError{Op: "read", Path: name, Err: unix.EINVAL}
	}
	size := max(st.Size-offset, 0)
	if size > limit {
		return nil, st, &fs.PathError{Op: "read", Path: name, Err: unix.EFBIG}
	}
	data := make([]byte, size)
	n, err := preadAll(fd, data, offset)
	if err != nil {
		return nil, st, err
	}
	return data[:n], st, nil
}

// preadAll fills b with what stands at an offset. It is fewer octets, without an error, only where the file ends: somebody
// may have cut it since its size was asked for.
func preadAll(fd int, b []byte, at int64) (n int, err error) {
	for n < len(b) {
		var k int
		err := again(func() (err error) { k, err = unix.Pread(fd, b[n:], at+int64(n)); return err })
		if err != nil || k == 0 {
			return n, err
		}
		n += k
	}
	return n, nil
}

// A stamp is how a file or directory looked: it is another one, or has changed, when the stamp differs.
type stamp struct {
	ino  uint64
	sec  int64
	nsec int64
	size int64 // of a directory: the nanoseconds that its mtime is later than that
}

// stampOf goes by the mtime of a file. That of a directory is set back by whoever copies into it, so there the ctime counts,
// which nobody can set, as well.
func stampOf(st *unix.Stat_t) stamp {
	s := stamp{ino: st.Ino, sec: int64(st.Mtim.Sec), nsec: int64(st.Mtim.Nsec), size: st.Size}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		s.sec, s.nsec = int64(st.Ctim.Sec), int64(st.Ctim.Nsec)
		s.size = (int64(st.Mtim.Sec)-s.sec)*1e9 + int64(st.Mtim.Nsec) - s.nsec
	}
	return s
}

// stamp looks at a name below p. A file that is not there has the zero stamp.
func (p *place) stamp(name string) (stamp, error) {
	var st unix.Stat_t
	err := statat(p.fd, name, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return stampOf(&st), nil
}

// stampDir is stamp of a directory, which no symbolic link may have come in place of: whoever changes what is in it would
// follow that.
func (p *place) stampDir(name string) (stamp, error) {
	var st unix.Stat_t
	err := statat(p.fd, name, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return stamp{}, nil
	case err != nil:
		return stamp{}, err
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return stamp{}, &fs.PathError{Op: "look at", Path: name, Err: unix.ENOTDIR}
	}
	return stampOf(&st), nil
}

// age tells how long before now the stamp's change happened, by this host's clock.
func (s stamp) age(now time.Time) time.Duration { return now.Sub(time.Unix(s.sec, s.nsec)) }

// direntBuffers are for small directories; a larger buffer is the kernel's again after the reading.
var direntBuffers = sync.Pool{New: func() any { b := make([]byte, smallDirents); return &b }}

const (
	smallDirents = 64 << 10
	maxDirents   = 64 << 20 // octets read by one call at most; larger directories are read in pieces
)

// direntBuffer gives a buffer, and what gives it back.
func direntBuffer(size int) ([]byte, func(), error) {
	if size <= smallDirents {
		b := direntBuffers.Get().(*[]byte)
		return *b, func() { direntBuffers.Put(b) }, nil
	}
	b, err := unix.Mmap(-1, 0, min(size, maxDirents), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	return b, func() { unix.Munmap(b) }, err
}

// readNames calls each for every name in a sub-directory that may be a message, in the order of the
// directory; the slice is valid during the call only. A directory is read by one getdents64 call
// wherever the file system allows it: the kernel holds the directory for that long, so a rename that
// happens meanwhile is not missed. whole tells whether that was so.
func (p *place) readNames(name string, each func(name []byte)) (whole bool, err error) {
	return p.readEntries(name, func(name []byte, kind byte) {
		// Hidden names, directories, links and devices are no messages.
		if name[0] != '.' && (kind == unix.DT_REG || kind == unix.DT_UNKNOWN) {
			each(name)
		}
	})
}

// readEntries is readNames for every name, each with its kind (unix.DT_DIR and so on) where the file system tells.
func (p *place) readEntries(name string, each func(name []byte, kind byte)) (whole bool, err error) {
	fd, err := openDir(p.fd, name)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return false, err
	}
	if slowly != nil {
		return false, slowly(fd, each)
	}
	buf, free, err := direntBuffer(int(min(st.Size, maxDirents)) * 5 / 4)
	if err != nil {
		return false, err
	}
	defer func() { free() }()
	for {
		first, err := getdents(fd, buf)
		if err != nil {
			return false, err
		}
		if first == 0 {
			return true, nil
		}
		// Is that all? If more follows because the buffer was short, begin again with a larger one.
		var probe [4096]byte
		more, err := getdents(fd, probe[:])
		if err != nil {
			return false, err
		}
		if more > 0 && first > len(buf)*3/4 && len(buf) < maxDirents {
			free()
			if buf, free, err = direntBuffer(len(buf) * 2); err != nil {
				free = func() {}
				return false, err
			}
			if _, err := unix.Seek(fd, 0, 0); err != nil {
				return false, err
			}
			continue
		}
		dirents(buf[:first], each)
		whole = more == 0
		for more > 0 {
			dirents(probe[:more], each)
			n, err := getdents(fd, buf)
			if err != nil {
				return false, err
			}
			dirents(buf[:n], each)
			if more = n; n > 0 {
				if more, err = getdents(fd, probe[:]); err != nil {
					return false, err
				}
			}
		}
		return whole, nil
	}
}

// slowly, in tests, reads a directory as the worst of file systems give it: in small pieces, with time between them.
var slowly func(fd int, each func(name []byte, kind byte)) error

func getdents(fd int, buf []byte) (n int, err error) {
	err = again(func() (err error) { n, err = unix.Getdents(fd, buf); return err })
	return n, err
}

// dirents takes apart what getdents64 gave: inode, offset, record length, type, name ending in NUL.
func dirents(buf []byte, each func(name []byte, kind byte)) {
	const header = 19
	for len(buf) > header {
		n := int(binary.NativeEndian.Uint16(buf[16:]))
		if n <= header || n > len(buf) {
			return
		}
		kind, name := buf[18], buf[header:n]
		buf = buf[n:]
		end := 0
		for end < len(name) && name[end] != 0 {
			end++
		}
		if end > 0 {
			each(name[:end], kind)
		}
	}
}

// again repeats a call that a signal has interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func openat(at int, path string, flags int, mode uint32) (fd int, err error) {
	open := func() (err error) { fd, err = disk.OpenAt(at, path, flags, mode); return err }
	if err = again(open); (err == unix.EMFILE || err == unix.ENFILE) && clearShelf() {
		err = again(open)
	}
	return fd, err
}

func openDir(at int, path string) (int, error) {
	return openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func statat(at int, path string, st *unix.Stat_t) error {
	return again(func() error { return disk.StatAt(at, path, st) })
}

func fstat(fd int, st *unix.Stat_t) error {
	return again(func() error { return disk.StatOf(fd, st) })
}

// fsync is never tried twice: after one failure the kernel may have dropped the pages and call them clean.
func fsync(fd int) error { return sync1(fd, disk.Fsync) }

// fdatasync leaves out what is not needed to read the file again.
func fdatasync(fd int) error { return sync1(fd, disk.Fdatasync) }

func sync1(fd int, call func(int) error) error {
	if syncFault != nil {
		if err := syncFault(fd); err != nil {
			return err
		}
	}
	return again(func() error { return call(fd) })
}

// syncFault lets syncs fail in tests.
var syncFault func(fd int) error

func syncDir(at int, path string) error {
	fd, err := openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fsync(fd)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := writeOnce(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// writeOnce writes by one call, which may write less than all.
func writeOnce(fd int, data []byte) (n int, err error) {
	err = again(func() (err error) { n, err = disk.WriteTo(fd, data); return err })
	return n, err
}

// writeAt writes a few octets at a place of the file.
func writeAt(fd int, data []byte, at int64) error {
	var n int
	err := again(func() (err error) { n, err = disk.WriteAt(fd, data, at); return err })
	if err == nil && n < len(data) {
		err = unix.EIO
	}
	return err
}

// renameNew renames without ever replacing a file; fs.ErrExist when there is one.
func renameNew(fromDir int, from string, toDir int, to string) error {
	err := again(func() error { return disk.RenameAt(fromDir, from, toDir, to, unix.RENAME_NOREPLACE) })
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.ENOTSUP {
		return err
	}
	// A file system without it (NFS): link fails where rename would replace. On NFS a link may succeed and
	// still say EEXIST, when the answer was lost and the request repeated: then the file has two names.
	err = linkat(fromDir, from, toDir, to)
	if err == unix.EEXIST && sameFile(fromDir, from, toDir, to) {
		err = nil
	}
	if err == unix.EPERM || err == unix.ENOSYS || err == unix.ENOTSUP || err == unix.EMLINK {
		// No links either (FAT, some FUSE): names are unique, so to look first will have to do.
		var st unix.Stat_t
		if statat(toDir, to, &st) == nil {
			return unix.EEXIST
		}
		return renameat(fromDir, from, toDir, to)
	}
	if err != nil {
		return err
	}
	return unlinkat(fromDir, from)
}

// sameFile tells whether two names are those of one file.
func sameFile(aDir int, a string, bDir int, b string) bool {
	var x, y unix.Stat_t
	return statat(aDir, a, &x) == nil && statat(bDir, b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// steady tells whether the file system gives a whole directory at once when it is read by one call. On others (btrfs,
// FUSE, NFS, overlays of these) a rename may hide a file from a reading even so.
func (p *place) steady() bool {
	var st unix.Statfs_t
	if slowly != nil {
		return false
	}
	if again(func() error { return unix.Fstatfs(p.fd, &st) }) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC: // ext2 and ext3 have the first, too
		return true
	}
	return false
}
