package queue

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Writer takes a message into the queue. After its last Write comes Commit
// or Abort. It is not safe for concurrent use.
type Writer struct {
	q    *Queue
	id   string
	f    *file
	w    *bufio.Writer
	size int64 // of the message so far, octets
	at   int64 // where in the file the size stands
	err  error // the first; after it nothing is committed
	cr   bool  // a CR waits for what follows it
}

// Create begins a message. Created is set when it is zero, a recipient that is
// there twice goes in once. Nobody else sees it before Commit.
func (q *Queue) Create(e Envelope) (*Writer, error) {
	if e.Created.IsZero() {
		e.Created = time.Now()
	}
	return q.create(newID(time.Now()), e)
}

func (q *Queue) create(id string, e Envelope) (*Writer, error) {
	seen := make(map[string]bool, len(e.To))
	var to []Recipient
	for _, r := range e.To {
		if key := r.Key(); !seen[key] {
			seen[key] = true
			to = append(to, r)
		}
	}
	e.To = to
	text, at, err := e.format()
	if err != nil {
		return nil, err
	}
	f, err := q.file(id)
	if errors.Is(err, fs.ErrNotExist) { // the spool was moved away, or its disk changed
		if err = q.prepare(); err == nil {
			f, err = q.file(id)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	w := &Writer{q: q, id: id, f: f, w: bufio.NewWriterSize(f, 32<<10), at: at}
	if _, w.err = w.w.Write(text); w.err != nil {
		w.Abort()
		return nil, fmt.Errorf("queue: %w", w.err)
	}
	return w, nil
}

func (q *Queue) file(id string) (*file, error) {
	return openFile(filepath.Join(q.dir, "tmp", id), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
}

// ID is the queue identifier the message will have.
func (w *Writer) ID() string { return w.id }

// Write appends p to the message. CRLF becomes LF.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	for rest := p; len(rest) > 0; {
		i := 0
		if w.cr {
			if w.cr = false; rest[0] != '\n' {
				w.put([]byte{'\r'})
			}
		}
		for i < len(rest) && !(rest[i] == '\r' && (i+1 == len(rest) || rest[i+1] == '\n')) {
			i++
		}
		w.put(rest[:i])
		if i < len(rest) {
			w.cr = i+1 == len(rest)
			i++
		}
		rest = rest[i:]
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func (w *Writer) put(p []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(p)
		w.size += int64(len(p))
	}
}

// Sync brings the message to the disk, but not yet into the queue. When it has
// failed the message is lost: a second fsync could tell a lie.
func (w *Writer) Sync() error {
	if w.cr {
		w.cr = false
		w.put([]byte{'\r'})
	}
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err == nil {
		_, w.err = w.f.WriteAt(fmt.Appendf(nil, "%0*d", sizeDigits, w.size), w.at)
	}
	if w.err == nil {
		w.err = w.f.Sync()
	}
	if w.err != nil {
		return fmt.Errorf("queue: %w", w.err)
	}
	return nil
}

// Commit puts the message into the queue; when it returns nil it is there
// after a power cut too. After an error it is not, and nothing is left.
func (w *Writer) Commit() (id string, err error) {
	err = w.Sync()
	if err == nil {
		err = rename(filepath.Join(w.q.dir, "tmp", w.id), filepath.Join(w.q.dir, "new", w.id))
	}
	if err != nil {
		w.Abort()
		return "", err
	}
	if err := syncDir(filepath.Join(w.q.dir, "new")); err != nil {
		// Nobody was told that it is there. Take it back, if no runner has it.
		remove(filepath.Join(w.q.dir, "new", w.id))
		w.f.Close()
		return "", fmt.Errorf("queue: %w", err)
	}
	w.f.Close() // all of it is on the disk, whatever this says
	return w.id, nil
}

// Abort drops the message.
func (w *Writer) Abort() {
	remove(filepath.Join(w.q.dir, "tmp", w.id))
	w.f.Close()
}
