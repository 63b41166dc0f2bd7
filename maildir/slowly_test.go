package maildir

import (
	"time"

	"golang.org/x/sys/unix"
)

// inPieces reads a directory by calls that give so many octets each: what is renamed meanwhile may be missed, or be
// seen twice.
func inPieces(octets int, wait time.Duration) func(fd int, each func(name []byte, kind byte)) error {
	return func(fd int, each func(name []byte, kind byte)) error {
		buf := make([]byte, octets)
		for {
			n, err := getdents(fd, buf)
			if err != nil || n == 0 {
				return err
			}
			dirents(buf[:n], each)
			time.Sleep(wait)
		}
	}
}

// newestFirst reads a directory where every new name stands before all others: what is renamed during the reading is
// never seen, unless its old name was.
func newestFirst(names int, wait time.Duration) func(fd int, each func(name []byte, kind byte)) error {
	all := func(fd int) (list []string, err error) {
		buf := make([]byte, 1<<20)
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			return nil, err
		}
		for {
			n, err := getdents(fd, buf)
			if err != nil || n == 0 {
				return list, err
			}
			dirents(buf[:n], func(name []byte, _ byte) { list = append(list, string(name)) })
		}
	}
	return func(fd int, each func(name []byte, kind byte)) error {
		list, err := all(fd)
		for err == nil && len(list) > 0 {
			var now []string
			if now, err = all(fd); err != nil {
				break
			}
			there := map[string]bool{}
			for _, name := range now {
				there[name] = true
			}
			for _, name := range list[:min(names, len(list))] {
				if there[name] {
					each([]byte(name), unix.DT_UNKNOWN)
				}
			}
			list = list[min(names, len(list)):]
			time.Sleep(wait)
		}
		return err
	}
}
