// Package disk makes the system calls that change a file system, and those that open and inspect files. They are gathered
// here so that a test sees every one of them in its order, lets any of them fail, and knows what the disk may hold
// after a power cut between any two.
package disk

import "golang.org/x/sys/unix"

// An Op is a kind of call.
type Op string

// The kinds. Open is one that makes no file.
const (
	Open     Op = "open"
	Stat     Op = "stat"
	Create   Op = "create"
	Write    Op = "write"
	Truncate Op = "truncate"
	Allocate Op = "allocate"
	Link     Op = "link"
	Unlink   Op = "unlink"
	Rename   Op = "rename"
	Mkdir    Op = "mkdir"
	Rmdir    Op = "rmdir"
	Chmod    Op = "chmod"
	Chown    Op = "chown"
	Times    Op = "times"
	Sync     Op = "sync"     // fsync
	DataSync Op = "datasync" // fdatasync
)

// A Call is one call on its way. Names are relative to the descriptor before them.
type Call struct {
	Op     Op
	Fd     int    // what is written, truncated or synced; or the directory of Name
	Name   string // "" where Fd is the file itself
	ToFd   int
	ToName string       // the new name, of Link and Rename
	Flags  int          // of Open, Create and Rename
	Data   []byte       // of Write
	Offset int64        // of Write, -1: where the file stands; of Truncate the new size
	Got    int          // afterwards: the descriptor of Open and Create, the octets of Write
	Seen   *unix.Stat_t // of Stat, afterwards
}

// Hook, when it is set, stands between every call and the kernel: it calls do, or does not, and gives the error. It is set
// by tests, before any call is on its way.
var Hook func(c *Call, do func() error) error

// through makes a call with or without a test beside it.
func through(c Call, do func(c *Call) error) (int, error) {
	err := Hook(&c, func() error { return do(&c) })
	return c.Got, err
}

// OpenAt is openat(2).
func OpenAt(at int, name string, flags int, mode uint32) (int, error) {
	if Hook == nil {
		return unix.Openat(at, name, flags, mode)
	}
	op := Open
	if flags&unix.O_CREAT != 0 {
		op = Create
	}
	return through(Call{Op: op, Fd: at, Name: name, Flags: flags, Got: -1}, func(c *Call) (err error) {
		c.Got, err = unix.Openat(at, name, flags, mode)
		return err
	})
}

// StatAt is fstatat(2), which follows no link.
func StatAt(at int, name string, st *unix.Stat_t) error {
	if Hook == nil {
		return unix.Fstatat(at, name, st, unix.AT_SYMLINK_NOFOLLOW)
	}
	_, err := through(Call{Op: Stat, Fd: at, Name: name, Seen: st}, func(*Call) error {
		return unix.Fstatat(at, name, st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// StatOf is fstat(2).
func StatOf(fd int, st *unix.Stat_t) error {
	if Hook == nil {
		return unix.Fstat(fd, st)
	}
	_, err := through(Call{Op: Stat, Fd: fd, Seen: st}, func(*Call) error { return unix.Fstat(fd, st) })
	return err
}

// WriteTo is write(2).
func WriteTo(fd int, data []byte) (int, error) {
	if Hook == nil {
		return unix.Write(fd, data)
	}
	return through(Call{Op: Write, Fd: fd, Data: data, Offset: -1}, func(c *Call) (err error) {
		c.Got, err = unix.Write(fd, c.Data)
		return err
	})
}

// WriteAt is pwrite(2).
func WriteAt(fd int, data []byte, offset int64) (int, error) {
	if Hook == nil {
		return unix.Pwrite(fd, data, offset)
	}
	return through(Call{Op: Write, Fd: fd, Data: data, Offset: offset}, func(c *Call) (err error) {
		c.Got, err = unix.Pwrite(fd, c.Data, offset)
		return err
	})
}

// TruncateTo is ftruncate(2).
func TruncateTo(fd int, size int64) error {
	if Hook == nil {
		return unix.Ftruncate(fd, size)
	}
	_, err := through(Call{Op: Truncate, Fd: fd, Offset: size}, func(*Call) error { return unix.Ftruncate(fd, size) })
	return err
}

// Reserve is fallocate(2) that leaves the size as it is.
func Reserve(fd int, offset, size int64) error {
	if Hook == nil {
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, offset, size)
	}
	_, err := through(Call{Op: Allocate, Fd: fd, Offset: offset}, func(*Call) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, offset, size)
	})
	return err
}

// LinkAt is linkat(2).
func LinkAt(at int, name string, toAt int, to string) error {
	if Hook == nil {
		return unix.Linkat(at, name, toAt, to, 0)
	}
	_, err := through(Call{Op: Link, Fd: at, Name: name, ToFd: toAt, ToName: to}, func(*Call) error {
		return unix.Linkat(at, name, toAt, to, 0)
	})
	return err
}

// UnlinkAt is unlinkat(2) for a file.
func UnlinkAt(at int, name string) error {
	if Hook == nil {
		return unix.Unlinkat(at, name, 0)
	}
	_, err := through(Call{Op: Unlink, Fd: at, Name: name}, func(*Call) error { return unix.Unlinkat(at, name, 0) })
	return err
}

// RmdirAt is unlinkat(2) for a directory.
func RmdirAt(at int, name string) error {
	if Hook == nil {
		return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
	}
	_, err := through(Call{Op: Rmdir, Fd: at, Name: name}, func(*Call) error {
		return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
	})
	return err
}

// RenameAt is renameat2(2), or without flags renameat(2), which every file system has.
func RenameAt(at int, name string, toAt int, to string, flags int) error {
	do := func(*Call) error {
		if flags == 0 {
			return unix.Renameat(at, name, toAt, to)
		}
		return unix.Renameat2(at, name, toAt, to, uint(flags))
	}
	if Hook == nil {
		return do(nil)
	}
	_, err := through(Call{Op: Rename, Fd: at, Name: name, ToFd: toAt, ToName: to, Flags: flags}, do)
	return err
}

// MkdirAt is mkdirat(2).
func MkdirAt(at int, name string, mode uint32) error {
	if Hook == nil {
		return unix.Mkdirat(at, name, mode)
	}
	_, err := through(Call{Op: Mkdir, Fd: at, Name: name}, func(*Call) error { return unix.Mkdirat(at, name, mode) })
	return err
}

// SetMode is fchmod(2).
func SetMode(fd int, mode uint32) error {
	if Hook == nil {
		return unix.Fchmod(fd, mode)
	}
	_, err := through(Call{Op: Chmod, Fd: fd}, func(*Call) error { return unix.Fchmod(fd, mode) })
	return err
}

// SetOwner is fchown(2).
func SetOwner(fd, uid, gid int) error {
	if Hook == nil {
		return unix.Fchown(fd, uid, gid)
	}
	_, err := through(Call{Op: Chown, Fd: fd}, func(*Call) error { return unix.Fchown(fd, uid, gid) })
	return err
}

// SetTimes is utimensat(2), which follows no link.
func SetTimes(at int, name string, times []unix.Timespec) error {
	if Hook == nil {
		return unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW)
	}
	_, err := through(Call{Op: Times, Fd: at, Name: name}, func(*Call) error {
		return unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// Fsync is fsync(2).
func Fsync(fd int) error {
	if Hook == nil {
		return unix.Fsync(fd)
	}
	_, err := through(Call{Op: Sync, Fd: fd}, func(*Call) error { return unix.Fsync(fd) })
	return err
}

// Fdatasync is fdatasync(2).
func Fdatasync(fd int) error {
	if Hook == nil {
		return unix.Fdatasync(fd)
	}
	_, err := through(Call{Op: DataSync, Fd: fd}, func(*Call) error { return unix.Fdatasync(fd) })
	return err
}
