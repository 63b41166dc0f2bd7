// Package maildir keeps mail on disk: one file a message, in the Maildir of a user and the folders
// beside it (Maildir++), so that any other program may read, flag, move and remove mail while we run.
//
// A message has a base name, which never changes, and flags, which stand behind the colon of its file
// name. Its UID stands in dovecot-uidlist, the names of its keywords in dovecot-keywords; both files
// have Dovecot's format and are written under Dovecot's lock, so that a Maildir may pass from one
// server to the other, or be served by both.
//
// What a function has acknowledged is on disk and synced. What another program did meanwhile is never
// an error: a file that has vanished is gone, a file that was renamed is found under its new name.
package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors a caller may ask for with errors.Is. Beside them stand those of the file system:
// fs.ErrNotExist (no such Maildir or folder), fs.ErrExist (there is one already), fs.ErrClosed,
// syscall.ENOSPC and syscall.EDQUOT (no room).
var (
	ErrName     = errors.New("not a name for a folder")
	ErrGone     = errors.New("the message is no longer there")
	ErrTooBig   = errors.New("the message is larger than allowed")
	ErrKeywords = errors.New("no room for a further keyword")
	ErrLocked   = errors.New("the folder is locked by another program")
)

// Flags of a message as they stand in its file name.
type Flags uint8

// The flags that IMAP knows as \Draft, \Flagged, \Answered, \Seen and \Deleted, in the order of
// their letters D F R S T.
const (
	Draft Flags = 1 << iota
	Flagged
	Replied
	Seen
	Trashed
)

// String gives the letters as they stand in a file name, in their order.
func (f Flags) String() string {
	var b [5]byte
	n := 0
	for i := range len(flagLetters) {
		if f&(1<<i) != 0 {
			b[n] = flagLetters[i]
			n++
		}
	}
	return string(b[:n])
}

// A Message is a picture of one message: what it says never changes, a later State has another one.
type Message struct {
	UID    uint32
	Flags  Flags
	ModSeq uint64 // of its last change (RFC 7162 §3.1)
	base   string
	info   *info // what stands behind the base name
}

// Key gives the base name of the message's file: it stays the same while flags change.
func (m Message) Key() string { return m.base }

// Keywords lists the message's keywords in the order of their letters. The slice is shared: read only.
func (m Message) Keywords() []string { return m.info.keywords }

// HasKeyword tells whether the message has a keyword; names are compared without case (RFC 9051 §2.3.2).
func (m Message) HasKeyword(name string) bool {
	for _, k := range m.info.keywords {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

// A Store is a user's Maildir: INBOX and the folders beside it. It is safe for concurrent use.
type Store struct {
	By   string // who works with it, as the journals note; set before a folder is opened
	path string
	mu   sync.Mutex
	root *place // nil once closed
}

// Options say how a Maildir is made.
type Options struct {
	UID, GID int         // owner, given when we are root; 0 or -1: whoever we are
	Mode     fs.FileMode // of the directories; 0 is 0700. Files get the same without the x bits.
}

// Open opens a Maildir. It has to be there with its cur (fs.ErrNotExist else): a disk that is not
// mounted is no empty mailbox. A missing new or tmp is made, and what lies in tmp for more than
// 36 hours is removed.
func Open(path string) (*Store, error) {
	root, err := openRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open maildir %s: %w", path, err)
	}
	root.clean()
	s := &Store{path: path, root: root}
	s.tidy(root)
	return s, nil
}

// openRoot opens the directory of a Maildir itself.
func openRoot(path string) (*place, error) {
	root, err := openPlace(unix.AT_FDCWD, path, true)
	if err == nil {
		root.joinQuota(path)
	}
	return root, err
}

// owner turns "not said" into chown's word for it.
func owner(id int) int {
	if id <= 0 {
		return -1
	}
	return id
}

// Path gives the path the Store was opened with.
func (s *Store) Path() string { return s.path }

// Close frees the Store. Folders that were opened from it stay open.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil
	}
	s.root.close()
	s.root = nil
	return nil
}

// dir gives the Maildir itself for the length of one call; the caller releases it.
func (s *Store) dir() (*place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil, fs.ErrClosed
	}
	return s.root.hold(), nil
}
