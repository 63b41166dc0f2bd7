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
// file, as dovecot-uidvalidity.XXXXXXXX; to rename that file to the next number is to take it.
func nextValidity(root *place) (uint32, error) {
	validityTurn.Lock()
	defer validityTurn.Unlock()
	for range 1000 {
		named, noted, err := lastValidity(root)
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
			fd, err := root.create(fmt.Sprintf("%s.%08x", validityName, last))
			if err == nil {
				unix.Close(fd)
			} else if !errors.Is(err, fs.ErrExist) {
				return 0, err
			}
			continue
		}
		from := fmt.Sprintf("%s.%08x", validityName, named)
		err = renameNew(root.fd, from, root.fd, fmt.Sprintf("%s.%08x", validityName, last+1))
		switch {
		case err == nil:
			return last + 1, noteValidity(root, last+1)
		case errors.Is(err, fs.ErrExist): // two names, from a race long ago: the larger number counts
			err = root.unlink(from)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s: %w", validityName, ErrLocked)
}

// lastValidity finds the last number given: by the name of a file, and as noted in the other one; 0 when there is none.
// The names are read twice, since one that is being renamed may be missed.
func lastValidity(root *place) (named, noted uint32, err error) {
	data, _, err := root.readFile(validityName, 0, 64)
	if err == nil && len(data) >= 8 {
		if v, err := strconv.ParseUint(string(data[:8]), 16, 32); err == nil {
			noted = uint32(v)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	for range 2 {
		_, err = root.readNames(".", func(name []byte) {
			if len(name) == len(validityName)+9 && string(name[:len(validityName)+1]) == validityName+"." {
				if v, err := strconv.ParseUint(string(name[len(validityName)+1:]), 16, 32); err == nil {
					named = max(named, uint32(v))
				}
			}
		})
		if err != nil {
			return 0, 0, err
		}
	}
	return named, noted, nil
}

// noteValidity writes the number into the file without a number in its name, for those who read only that.
func noteValidity(root *place, v uint32) error {
	return root.replace(validityName, validityName+".tmp."+uniqueName(), fmt.Appendf(nil, "%08x", v), nil)
}
