package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

const validityName = "dovecot-uidvalidity"

// nextValidity takes the next UIDVALIDITY of this Maildir: larger than all before, so that a folder which is
// deleted and made again is known to be another one. The last one given stands in the name of an empty
// file, as dovecot-uidvalidity.XXXXXXXX; to rename that file to the next number is to take it.
func nextValidity(root *place) (uint32, error) {
	for range 1000 {
		last, err := lastValidity(root)
		if err != nil {
			return 0, err
		}
		if last == 0 {
			return firstValidity(root)
		}
		if last >= maxUID {
			return 0, fmt.Errorf("%s: the numbers are used up", validityName)
		}
		from := fmt.Sprintf("%s.%08x", validityName, last)
		err = renameNew(root.fd, from, root.fd, fmt.Sprintf("%s.%08x", validityName, last+1))
		if errors.Is(err, fs.ErrNotExist) {
			// Somebody took it, or there was only the other file.
			if fd, cerr := root.create(from); cerr == nil {
				closeQuiet(fd)
			}
			continue
		}
		if errors.Is(err, fs.ErrExist) { // left over from before: the larger number counts
			if err := root.unlink(from); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		return last + 1, noteValidity(root, last+1)
	}
	return 0, fmt.Errorf("%s: %w", validityName, ErrLocked)
}

// lastValidity finds the last number given; 0 when none was.
func lastValidity(root *place) (uint32, error) {
	var last uint32
	data, _, err := root.readFile(validityName, 0, 64)
	if err == nil && len(data) >= 8 {
		if v, err := strconv.ParseUint(string(data[:8]), 16, 32); err == nil {
			last = uint32(v)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	_, err = root.readNames(".", func(name []byte) {
		if len(name) == len(validityName)+9 && string(name[:len(validityName)+1]) == validityName+"." {
			if v, err := strconv.ParseUint(string(name[len(validityName)+1:]), 16, 32); err == nil {
				last = max(last, uint32(v))
			}
		}
	})
	return last, err
}

func firstValidity(root *place) (uint32, error) {
	now := uint32(time.Now().Unix())
	fd, err := root.create(fmt.Sprintf("%s.%08x", validityName, now))
	if errors.Is(err, fs.ErrExist) {
		return nextValidity(root)
	}
	if err != nil {
		return 0, err
	}
	closeQuiet(fd)
	return now, noteValidity(root, now)
}

// noteValidity writes the number into the file without a number in its name, for those who read only that.
func noteValidity(root *place, v uint32) error {
	return root.replace(validityName, validityName+".tmp."+uniqueName(), fmt.Appendf(nil, "%08x", v), nil)
}
