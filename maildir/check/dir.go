package check

import (
	"encoding/binary"
	"io/fs"

	"golang.org/x/sys/unix"
)

// subs are the directories of a Maildir that hold messages. One that is renamed goes from tmp over new to cur.
var subs = []string{"new", "cur", "tmp"}

// A dir is an open directory. Nothing below it is reached over a symbolic link.
type dir struct{ fd int }

// openDir opens a directory; with follow its own name may be a link, since somebody chose it.
func openDir(at int, name string, follow bool) (*dir, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openat(at, name, flags)
	if err != nil {
		return nil, err
	}
	return &dir{fd}, nil
}

func (d *dir) close() { unix.Close(d.fd) }

func openat(at int, name string, flags int) (fd int, err error) {
	err = again(func() (err error) { fd, err = unix.Openat(at, name, flags, 0); return err })
	return fd, err
}

// again repeats a call that a signal has interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (d *dir) stat(name string) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// open opens a file for reading, never a pipe or device that would keep us waiting.
func (d *dir) open(name string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return -1, st, err
	}
	err = again(func() error { return unix.Fstat(fd, &st) })
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errIrregular
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// errIrregular is what is no file.
var errIrregular = &fs.PathError{Op: "read", Path: "directory, link or device", Err: unix.EINVAL}

// maxControl is how large a control file may be to be looked at, in octets.
const maxControl = 1 << 30

// read gives a control file and how it was before the reading.
func (d *dir) read(name string) ([]byte, unix.Stat_t, error) {
	fd, st, err := d.open(name)
	if err != nil {
		return nil, st, err
	}
	defer unix.Close(fd)
	if st.Size > maxControl {
		return nil, st, unix.EFBIG
	}
	data := make([]byte, st.Size)
	n := 0
	for n < len(data) {
		k, err := readFull(fd, data[n:])
		if err != nil {
			return nil, st, err
		}
		if k == 0 { // cut meanwhile
			break
		}
		n += k
	}
	return data[:n], st, nil
}

func readFull(fd int, buf []byte) (n int, err error) {
	err = again(func() (err error) { n, err = unix.Read(fd, buf); return err })
	return n, err
}

// An entry is a name in a directory.
type entry struct {
	name string
	kind byte // DT_REG and so on
	ino  uint64
}

// entries gives all names in a directory below d but "." and "..". It is read by one system call where that can be: the kernel
// holds the directory for so long, and a rename hides no file.
func (d *dir) entries(name string) ([]entry, error) {
	sub, err := openDir(d.fd, name, false)
	if err != nil {
		return nil, err
	}
	defer sub.close()
	st, err := sub.stat(".")
	if err != nil {
		return nil, err
	}
	var list []entry
	buf := make([]byte, min(max(64<<10, st.Size*5/4), 64<<20))
	for {
		var n int
		err := again(func() (err error) { n, err = unix.Getdents(sub.fd, buf); return err })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		list = appendEntries(list, string(buf[:n]))
	}
	for i, e := range list {
		if e.kind == unix.DT_UNKNOWN { // the file system does not tell at once
			if st, err := sub.stat(e.name); err == nil {
				list[i].kind = byte(st.Mode & unix.S_IFMT >> 12)
			}
		}
	}
	return list, nil
}

// appendEntries takes apart what getdents64 gave: inode, offset, record length, type, name ending in NUL.
func appendEntries(list []entry, text string) []entry {
	const header = 19
	for len(text) > header {
		n := int(binary.NativeEndian.Uint16([]byte(text[16:18])))
		if n <= header || n > len(text) {
			break
		}
		name := text[header:n]
		for i := range len(name) {
			if name[i] == 0 {
				name = name[:i]
				break
			}
		}
		if name != "." && name != ".." && name != "" {
			list = append(list, entry{name, text[18], binary.NativeEndian.Uint64([]byte(text[:8]))})
		}
		text = text[n:]
	}
	return list
}
