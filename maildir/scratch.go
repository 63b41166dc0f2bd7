package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Scratch gives a file in the folder's tmp that has no name, for what has to be read twice on its way here; it ends when
// it is closed.
func (f *Folder) Scratch() (*os.File, error) {
	b, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer b.leave()
	t, err := newTarget(b.dir.hold())
	if err != nil {
		return nil, fmt.Errorf("scratch file in folder %q: %w", f.name, err)
	}
	defer t.close()
	for {
		name := uniqueName()
		fd, err := openat(t.tmp, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			file := os.NewFile(uintptr(fd), name)
			if err = unlinkat(t.tmp, name); err == nil {
				return file, nil
			}
			file.Close()
		}
		return nil, fmt.Errorf("scratch file in folder %q: %w", f.name, err)
	}
}
