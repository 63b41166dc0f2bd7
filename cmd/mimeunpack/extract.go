package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// An extractor writes parts into one directory. Names from messages meet only its os.Root, and only
// files that it made itself, exclusively: no link is followed, nothing is written over.
type extractor struct {
	root  *os.Root
	dir   string
	next  map[string]int // name -> the number to try next, so that many of one name stay linear
	bytes int64          // written in all
}

var errLimit = errors.New("--max-bytes is reached")

// A file is one part on its way to the disk.
type file struct {
	x    *extractor
	o    *options
	f    *os.File
	tmp  string // the name that it has until it is whole
	name string
	dec  *mimetree.Decoder
	err  error // of making it
}

// files writes the attachments of a message, or with -a or a selection all that is asked for.
func (o *options) files(m *job) (int, error) {
	if o.extract == nil {
		root, err := os.OpenRoot(o.dir)
		if err != nil {
			return 0, fmt.Errorf("%w%w", hidden{errFatal}, status.With(status.CantCreate, err))
		}
		o.extract = &extractor{root: root, dir: o.dir, next: map[string]int{}}
	}
	x := o.extract
	worst := 0
	done := false
	complain := func(l *leaf, err error) {
		status.Print(os.Stderr, "mimeunpack", fmt.Errorf("%s: %s: %w", m.name, l.section, err))
		code := status.Code(err)
		if code == status.Software || code == status.OSErr || code == status.TempFail {
			code = status.IOErr
		}
		worst = max(worst, code)
	}
	start := func(l *leaf) io.Writer {
		f, err := x.create(o, safeName(l.part.Filename(), l.part.Content, l.section))
		switch {
		case errors.Is(err, fs.ErrExist):
			done = true
			return nil // --skip-existing
		case err != nil:
			complain(l, status.With(status.CantCreate, err))
			return nil
		}
		f.dec, _ = mimetree.NewDecoder(sink{f}, l.part.Encoding)
		done = true
		return f
	}
	_, err := m.parse(func(l *leaf, _ mimetree.Header) io.Writer {
		switch {
		case o.wants(l):
			return start(l)
		case l.part.IsMultipart() && o.selects(l):
			return &held{} // for the case that its boundary never comes
		}
		return nil
	}, func(l *leaf, w io.Writer) error {
		if h, ok := w.(*held); ok && o.wants(l) {
			if h.cut {
				complain(l, status.Errorf(exitDamaged, "a multipart of %d octets without its boundary: not extracted, use -r", l.part.Body.Len()))
				return nil
			}
			if w = start(l); w != nil {
				w.Write(h.b)
			}
		}
		f, ok := w.(*file)
		if !ok {
			return nil
		}
		if err := f.finish(); err != nil {
			complain(l, err)
			return nil
		}
		l.decoded(f.dec)
		for _, q := range l.problems() {
			status.Print(os.Stderr, "mimeunpack", fmt.Errorf("%s: %s: %s", m.name, l.section, q.Text))
		}
		path := filepath.Join(x.dir, f.name)
		if o.nul {
			fmt.Fprintf(o.out, "%s\x00", path)
		} else {
			fmt.Fprintf(o.out, "%s\t%s\n", l.section, status.Clean(path))
		}
		return nil
	})
	m.any = done
	return max(worst, m.exit), err
}

// held keeps what comes before the first boundary of a multipart, as far as there is room.
type held struct {
	b   []byte
	cut bool
}

const maxHeld = 1 << 20

func (h *held) Write(p []byte) (int, error) {
	if h.cut = h.cut || len(h.b)+len(p) > maxHeld; h.cut {
		h.b = nil
	} else {
		h.b = append(h.b, p...)
	}
	return len(p), nil
}

// A hidden error is found by errors.Is and adds nothing to the text.
type hidden struct{ err error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.err }

// wants decides whether a part becomes a file.
func (o *options) wants(l *leaf) bool {
	if !o.selects(l) {
		return false
	}
	switch {
	case l.part.IsMultipart() && !l.part.Opaque && (l.part.Body.End == 0 || len(l.part.Parts) > 0):
		return false // it has a boundary: its parts are asked
	case o.all || o.chosen():
		return true
	}
	return l.attachment()
}

// create makes a new file with a name, or with the next free "name-1". With --overwrite the file gets
// its name when it is whole.
func (x *extractor) create(o *options, name string) (*file, error) {
	f := &file{x: x, o: o, name: name, tmp: name}
	if o.overwrite {
		f.tmp = "." + shorten(name, maxName-8) + ".part"
	}
	for n := x.next[f.tmp]; ; n++ {
		try := f.tmp
		if n > 0 {
			try = numbered(f.tmp, n)
		}
		h, err := x.root.OpenFile(try, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		switch {
		case err == nil:
			x.next[f.tmp] = n + 1
			if !o.overwrite {
				f.name = try
			}
			f.tmp, f.f = try, h
			return f, nil
		case !errors.Is(err, fs.ErrExist) || o.skip || n > 1_000_000:
			return nil, err
		}
	}
}

// Write takes octets of the body. What goes wrong is told at the end: other parts still come.
func (f *file) Write(p []byte) (int, error) {
	if f.err == nil {
		_, f.err = f.dec.Write(p)
	}
	return len(p), nil
}

// A sink takes the decoded octets of a file.
type sink struct{ *file }

func (s sink) Write(p []byte) (int, error) {
	if most := s.o.maxBytes; most > 0 && s.x.bytes+int64(len(p)) > most {
		return 0, status.Errorf(status.IOErr, "%w", errLimit)
	}
	s.x.bytes += int64(len(p))
	return s.f.Write(p)
}

// finish ends a file; when anything went wrong it is removed.
func (f *file) finish() error {
	err := f.err
	if err == nil {
		err = f.dec.Close()
	}
	if e := f.f.Close(); err == nil {
		err = e
	}
	if err == nil && f.tmp != f.name {
		err = f.x.root.Rename(f.tmp, f.name)
	}
	if err != nil {
		f.x.root.Remove(f.tmp)
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}
