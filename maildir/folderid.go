package maildir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ID gives what names a folder, whatever name it has, for as long as its UIDs are valid (RFC 8474 §4): it is made of the identity
// that stands in the UID list, which goes with the folder, and of the UIDVALIDITY. A folder that is made anew under an
// old name has another one.
func (f *Folder) ID() (string, error) {
	b, err := f.enter()
	if err != nil {
		return "", err
	}
	defer b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	head := b.head
	if head.validity == 0 || head.field('G') == "" { // the journal does not have it
		if head.validity != 0 && b.named.validity == head.validity {
			head = b.named
		} else if onDisk, err := b.dir.listHead(); err == nil && (head.validity == 0 || head.validity == onDisk.validity) {
			head, b.named = onDisk, onDisk
		}
	}
	if head.validity == 0 {
		return "", &fs.PathError{Op: "read", Path: listName, Err: fs.ErrNotExist}
	}
	sum := sha256.Sum256(strconv.AppendUint([]byte(head.field('G')+" "), uint64(head.validity), 10))
	return "F" + hex.EncodeToString(sum[:10]), nil
}

// listHead reads the first line of the UID list.
func (p *place) listHead() (listHead, error) {
	fd, err := openat(p.fd, listName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return listHead{}, err
	}
	defer unix.Close(fd)
	var room [1 << 10]byte
	n, err := preadAll(fd, room[:], 0)
	if err != nil {
		return listHead{}, err
	}
	line, _, _ := bytes.Cut(room[:n], newline)
	h, _ := parseListHead(string(line))
	return h, nil
}

// SavedDate gives the time the message came into this folder: when it got its UID here (RFC 8514 §3). Of a message that had one
// before there was a journal it is the time in its base name, or else INTERNALDATE: neither changes, as the times of its
// inode do.
func (f *Folder) SavedDate(m Message) (time.Time, error) {
	b, err := f.enter()
	if err != nil {
		return time.Time{}, err
	}
	b.mu.Lock()
	r, err := b.current(m)
	b.mu.Unlock()
	b.leave()
	switch {
	case err != nil:
		return time.Time{}, err
	case r.saved > 0:
		return time.Unix(int64(r.saved), 0), nil
	}
	const earliest = 500_000_000 // in 1985; less is a number of another kind
	if sec, _ := deliveryTime(m.base); sec > earliest && sec <= uint64(time.Now().Unix()) {
		return time.Unix(int64(sec), 0), nil
	}
	return f.Date(m)
}
