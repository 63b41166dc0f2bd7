package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// A file is written, synced and opened by the calls of package disk.
type file struct{ *os.File }

func openFile(path string, flags int) (*file, error) {
	for {
		fd, err := disk.OpenAt(unix.AT_FDCWD, path, flags|unix.O_CLOEXEC, 0o600)
		switch err {
		case nil:
			return &file{os.NewFile(uintptr(fd), path)}, nil
		case unix.EINTR:
		default:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

func (f *file) fd() int { return int(f.Fd()) }

func (f *file) Write(b []byte) (int, error) {
	return f.write(b, func(b []byte, _ int64) (int, error) { return disk.WriteTo(f.fd(), b) })
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	return f.write(b, func(b []byte, done int64) (int, error) { return disk.WriteAt(f.fd(), b, at+done) })
}

// write goes on until all is written.
func (f *file) write(b []byte, call func(rest []byte, done int64) (int, error)) (done int, err error) {
	for done < len(b) {
		n, err := call(b[done:], int64(done))
		done += max(n, 0)
		if err != nil && err != unix.EINTR {
			return done, &fs.PathError{Op: "write", Path: f.Name(), Err: err}
		}
	}
	return done, nil
}

// Sync is never tried twice (maildir's fsync says why).
func (f *file) Sync() error {
	for {
		if err := disk.Fsync(f.fd()); err != unix.EINTR {
			return pathError("sync", f.Name(), err)
		}
	}
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func syncDir(dir string) error {
	d, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func remove(path string) error {
	return pathError("remove", path, disk.UnlinkAt(unix.AT_FDCWD, path))
}

func mkdir(path string) error {
	return pathError("mkdir", path, disk.MkdirAt(unix.AT_FDCWD, path, 0o700))
}

func sameFile(a, b string) bool {
	x, aerr := os.Lstat(a)
	y, berr := os.Lstat(b)
	return aerr == nil && berr == nil && os.SameFile(x, y)
}

// replace moves a file, over another one if there is one.
func replace(from, to string) error {
	return pathError("rename", from, disk.RenameAt(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0))
}

// rename moves a file, and never over another one. After a power cut it may have both names, where a file system brings them
// to the disk one after the other.
func rename(from, to string) error {
	err := disk.RenameAt(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) && sameFile(from, to) {
		err = remove(from)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A file system without the flag. Identifiers do not repeat; look anyway.
		if _, serr := os.Lstat(to); serr == nil {
			err = fs.ErrExist
		} else {
			err = replace(from, to)
		}
	}
	if err != nil {
		return fmt.Errorf("queue: rename to %s: %w", filepath.Base(to), err)
	}
	return nil
}
