package account

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"pennypost/cmd/internal/status"
)

// fileLimit bounds each file of the post office, in octets: room for a million users.
const fileLimit = 256 << 20

// settled is the age at which a file that was written in place is believed to be
// whole: a program that writes it anew leaves it empty or cut for a moment, and mail
// must not be refused for that. It also is longer than the clock of a file system
// needs to tell two changes apart.
const settled = 20 * time.Millisecond

// A stamp tells whether a file is the one we have read.
type stamp struct {
	there    bool
	dev, ino uint64
	size     int64
	mtime    int64 // nanoseconds
	ctime    int64 // nanoseconds: a change that puts the mtime back is a change
}

func stampOf(fi fs.FileInfo) stamp {
	s := stamp{there: true, size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino = uint64(st.Dev), st.Ino
		s.ctime = st.Ctim.Nano()
	}
	return s
}

// look returns the stamp of the file at path, with there false if it is missing.
func look(path string) (stamp, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return stamp{}, nil
	case err != nil:
		return stamp{}, err
	}
	return stampOf(fi), nil
}

// away is the stamp of what cannot be looked at: like that of no file.
var away = stamp{size: -1}

// look is look for something in the post office. A file is missing when the post
// office is there without it; one on a disk that is not mounted is trouble.
func (o *Office) look(path string) (stamp, error) {
	s, err := look(path)
	if err == nil && !s.there && o.dir != "" {
		_, err = os.Stat(o.dir)
	}
	if err != nil {
		return away, err
	}
	return s, nil
}

// A file is one file of the post office, parsed, and parsed again when it changed.
// A missing one parses as if it were empty.
type file[T any] struct {
	office *Office
	path   string // "": there is no such file
	parse  func(path string, data []byte) (T, error)

	now atomic.Pointer[reading[T]]
	mu  sync.Mutex
}

type reading[T any] struct {
	stamp stamp
	value T
	err   error // no value was ever read
}

func newFile[T any](o *Office, path string, parse func(string, []byte) (T, error)) *file[T] {
	return &file[T]{office: o, path: path, parse: parse}
}

// get returns what the file says now. It costs one stat(2) while the file stays as
// it is. An error is returned only while nothing good was ever read.
func (f *file[T]) get() (T, error) {
	if f.path == "" {
		return f.parse("", nil)
	}
	s, err := f.office.look(f.path)
	if r := f.now.Load(); r != nil && err == nil && r.stamp == s {
		return r.value, r.err
	}
	return f.read()
}

func (f *file[T]) read() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.now.Load()
	if s, err := f.office.look(f.path); old != nil && err == nil && s == old.stamp {
		return old.value, old.err // somebody else was quicker
	}
	if old != nil && old.stamp.there {
		awaitReturn(f.path)
	}
	data, s, err := slurp(f.path)
	if !s.there && err == nil {
		_, err = f.office.look(f.path)
	}
	if !s.there && err != nil {
		s = away
	}
	var value T
	if err == nil {
		value, err = f.parse(f.path, data)
	}
	if err == nil {
		f.now.Store(&reading[T]{stamp: s, value: value})
		return value, nil
	}
	if old == nil || old.err != nil {
		f.now.Store(&reading[T]{stamp: s, err: err})
		return value, err
	}
	// The stamp of the bad file is kept, so that it is parsed and told about once.
	if s != old.stamp {
		f.office.log().Warn("post office: what the file said before stays in force", "file", f.path, "err", err)
	}
	f.now.Store(&reading[T]{stamp: s, value: old.value})
	return old.value, nil
}

// awaitReturn gives a file that has gone a moment to come back: an editor may move it
// aside before it writes a new one, and nobody is unknown meanwhile.
func awaitReturn(path string) {
	for range 10 {
		if s, err := look(path); err != nil || s.there {
			return
		}
		time.Sleep(settled)
	}
}

// await lets time pass until what a stamp tells of is settled; it returns false when
// that is so already, or when the clocks disagree.
func (s stamp) await() bool {
	age := time.Since(time.Unix(0, s.mtime))
	if !s.there || age < 0 || age >= settled {
		return false
	}
	time.Sleep(settled - age)
	return true
}

// slurp reads a whole file and the stamp that goes with what was read. A missing
// file is empty.
func slurp(path string) ([]byte, stamp, error) {
	for try := 0; ; try++ {
		before, err := look(path)
		if err != nil || !before.there {
			return nil, before, err
		}
		if before.size > fileLimit {
			return nil, before, status.Errorf(status.Config, "%s: larger than %d octets", path, fileLimit)
		}
		if try < 10 && before.await() {
			continue
		}
		data, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, stamp{}, nil
		}
		if err != nil {
			return nil, before, err
		}
		after, err := look(path)
		if err == nil && after == before && int64(len(data)) == before.size || try >= 10 {
			return data, before, err
		}
	}
}

// readFile reads a regular file of at most fileLimit octets; it never waits for the
// other end of a FIFO.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, status.Errorf(status.Config, "%s is not a regular file", path)
	}
	var b bytes.Buffer
	b.Grow(int(min(fi.Size(), fileLimit)) + bytes.MinRead)
	if _, err := b.ReadFrom(&limited{f, fileLimit}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type limited struct {
	f    *os.File
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("file too large")
	}
	n, err := l.f.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// lines yields the lines of a file that say something, without the blanks around
// them, with their numbers from 1. A line that begins with "#" is a comment, and so
// is what follows a "#" after a blank.
func lines(data []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for text := range strings.Lines(string(data)) {
			n++
			text = strings.TrimSpace(uncomment(text))
			if text != "" && !yield(n, strings.ReplaceAll(text, "\t", " ")) {
				return
			}
		}
	}
}

func uncomment(text string) string {
	for i := 0; i < len(text); i++ {
		if text[i] == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t') {
			return text[:i]
		}
	}
	return text
}

// bad is the error for a line that is wrong: "file:line: what", status 78.
func bad(path string, line int, format string, args ...any) error {
	return status.Errorf(status.Config, "%s:%d: %s", path, line, fmt.Sprintf(format, args...))
}
