package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const validityName = "dovecot-uidvalidity"

// validityTurn keeps those of one process from chasing each other.
var validityTurn sync.Mutex

// nextValidity takes the next UIDVALIDITY of this Maildir: larger than all before, so that a folder which is
// deleted and made again is known to be another one. The last one given stands in the name of an empty
// file, as dovecot-uidvalidity.XXXXXXXX; to rename that file to the next number is to take it. Which name that is
// stands in dovecot-uidvalidity, which is believed when there is such a file: the Maildir may hold thousands of folders.
func nextValidity(root *place) (uint32, error) {
	validityTurn.Lock()
	defer validityTurn.Unlock()
	if noted, err := notedValidity(root); err != nil {
		return 0, err
	} else if noted > 0 && noted < maxUID {
		err := renameNew(root.fd, validityFile(noted), root.fd, validityFile(noted+1))
		if err == nil {
			return noted + 1, noteValidity(root, noted+1)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return 0, err
		}
	}
	return takeValidity(root, 0)
}

// raiseValidity sees to it that what nextValidity gives is larger than v: a folder that came from elsewhere has brought it.
func raiseValidity(root *place, v uint32) error {
	validityTurn.Lock()
	defer validityTurn.Unlock()
	noted, err := notedValidity(root)
	if err != nil || noted >= v {
		return err
	}
	if named, err := namedValidity(root); err != nil || named >= v {
		return err
	}
	_, err = takeValidity(root, v)
	return err
}

// takeValidity takes the number behind the last one, or v when that is larger.
func takeValidity(root *place, v uint32) (uint32, error) {
	for range 1000 {
		noted, err := notedValidity(root)
		if err != nil {
			return 0, err
		}
		named, err := namedValidity(root)
		if err != nil {
			return 0, err
		}
		last := max(named, noted)
		if last >= maxUID {
			return 0, fmt.Errorf("%s: the numbers are used up", validityName)
		}
		if named == 0 {
			// None has such a name yet. The number may be noted all the same, by somebody else's program.
			if last == 0 {
				last = uint32(time.Now().Unix()) - 1
			}
			fd, err := root.create(validityFile(last))
			if err == nil {
				unix.Close(fd)
			} else if !errors.Is(err, fs.ErrExist) {
				return 0, err
			}
			continue
		}
		next := max(last+1, v)
		err = renameNew(root.fd, validityFile(named), root.fd, validityFile(next))
		switch {
		case err == nil:
			return next, noteValidity(root, next)
		case errors.Is(err, fs.ErrExist): // two names, from a race long ago: the larger number counts
			err = root.unlink(validityFile(named))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s: %w", validityName, ErrLocked)
}

func validityFile(v uint32) string { return fmt.Sprintf("%s.%08x", validityName, v) }

// notedValidity reads the number in the file without a number in its name; 0 when it tells none.
func notedValidity(root *place) (uint32, error) {
	data, _, err := root.readFile(validityName, 0, 64)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EFBIG) {
		return 0, err
	}
	if len(data) < 8 {
		return 0, nil
	}
	v, err := strconv.ParseUint(string(data[:8]), 16, 32)
	if err != nil {
		return 0, nil
	}
	return uint32(v), nil
}

// namedValidity finds the last number given by the name of a file; 0 when there is none. The names are read twice,
// since one that is being renamed may be missed.
func namedValidity(root *place) (named uint32, err error) {
	for range 2 {
		_, err = root.readNames(".", func(name []byte) {
			if len(name) == len(validityName)+9 && string(name[:len(validityName)+1]) == validityName+"." {
				if v, err := strconv.ParseUint(string(name[len(validityName)+1:]), 16, 32); err == nil {
					named = max(named, uint32(v))
				}
			}
		})
		if err != nil {
			return 0, err
		}
	}
	return named, nil
}

// noteValidity writes the number into the file without a number in its name. It is not synced: whoever reads an older one
// there finds no file of that name.
func noteValidity(root *place, v uint32) error {
	open := func() (int, error) {
		return openat(root.fd, validityName, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	fd, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if fd, err = root.create(validityName); errors.Is(err, fs.ErrExist) {
			fd, err = open()
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeAll(fd, fmt.Appendf(nil, "%08x", v))
}
