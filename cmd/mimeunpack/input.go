package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// A job is one message to be read.
type job struct {
	*options
	name string // as the user gave it, "-" for standard input
	r    io.Reader
	exit int // exitDamaged once content was found that cannot be decoded
	any  bool

	stack []*leaf
	count int
}

// A leaf is a part while it is read, with its place in the tree.
type leaf struct {
	section string
	parent  *string // section of the part around it
	depth   int
	index   int // in document order, of those selected
	part    *mimetree.Part
	hidden  bool // in an embedded message that is to stay closed
	job     *job
	extra   []mimetree.Problem // of its content
}

// messages opens the operands one after the other: files, standard input for "-" or none, and of a
// Maildir the messages in cur and new. What cannot be opened comes as an error.
func messages(operands []string) iter.Seq2[*os.File, error] {
	return func(yield func(*os.File, error) bool) {
		if len(operands) == 0 {
			operands = []string{"-"}
		}
		for _, name := range operands {
			if name == "-" {
				if !yield(os.Stdin, nil) {
					return
				}
				continue
			}
			info, err := os.Stat(name)
			if err != nil {
				if !yield(nil, err) {
					return
				}
				continue
			}
			files := []string{name}
			if info.IsDir() {
				if files, err = maildir(name); err != nil {
					if !yield(nil, err) {
						return
					}
					continue
				}
			}
			for _, file := range files {
				f, err := os.Open(file)
				if errors.Is(err, fs.ErrNotExist) && info.IsDir() {
					continue // another program took it
				}
				more := yield(f, err)
				if err == nil {
					f.Close()
				}
				if !more {
					return
				}
			}
		}
	}
}

// maildir lists the messages of a folder, by name.
func maildir(dir string) ([]string, error) {
	var files []string
	found := false
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
		for _, e := range entries {
			// Messages are files; to open a pipe would be to wait for ever.
			if t := e.Type(); (t.IsRegular() || t == fs.ModeSymlink) && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(dir, sub, e.Name()))
			}
		}
	}
	if !found {
		return nil, status.Errorf(status.NoInput, "%s: a folder, but no Maildir", dir)
	}
	slices.Sort(files)
	return files, nil
}

// parse reads the message once. begin and end see every part with its place; end comes after those of
// the parts inside.
func (m *job) parse(begin func(*leaf, mimetree.Header) io.Writer, end func(*leaf, io.Writer) error) (*mimetree.Part, error) {
	o := &mimetree.Options{Parts: m.maxParts, Depth: m.maxDepth}
	o.Begin = func(section string, p *mimetree.Part, h mimetree.Header) io.Writer {
		l := &leaf{section: section, part: p, job: m}
		if n := len(m.stack); n > 0 {
			outer := m.stack[n-1]
			l.parent, l.depth = &outer.section, outer.depth+1
			l.hidden = outer.hidden || m.noNested && outer.part.IsMessage()
		}
		m.stack = append(m.stack, l)
		if m.selects(l) {
			l.index = m.count
			m.count++
			m.any = true
		}
		return begin(l, h)
	}
	o.End = func(p *mimetree.Part, w io.Writer) error {
		l := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		return end(l, w)
	}
	root, err := mimetree.Parse(m.r, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return root, nil
}

// decoded notes what a decoder found wrong.
func (l *leaf) decoded(d *mimetree.Decoder) {
	l.extra = append(l.extra, d.Problems()...)
	if len(l.extra) > 0 {
		l.job.exit = max(l.job.exit, exitDamaged)
	}
}

// problems are those of the structure and those of the content.
func (l *leaf) problems() []mimetree.Problem { return slices.Concat(l.part.Problems, l.extra) }

// container reports whether the part only holds others, which were found.
func (l *leaf) container() bool {
	return l.part.IsMultipart() && len(l.part.Parts) > 0 || l.part.Message != nil && !l.job.noNested
}

// attachment reports whether the part is something to be kept as a file, and not text that is the
// message itself. A multipart that could not be taken apart is: nothing is lost.
func (l *leaf) attachment() bool {
	p := l.part
	switch {
	case p.IsMultipart():
		return p.Opaque || p.Body.Len() > 0 && len(p.Parts) == 0
	case p.Message != nil:
		return l.job.noNested
	case p.Disposition == "attachment", p.Filename() != "":
		return true
	case p.Type == "text":
		return false
	}
	return true
}

// spooled gives random access to a message: to the file itself, or to a nameless copy of a pipe.
func (m *job) spooled() (io.ReaderAt, int64, func(), error) {
	if f, ok := m.r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			if at, err := f.Seek(0, io.SeekCurrent); err == nil {
				return io.NewSectionReader(f, at, max(0, info.Size()-at)), info.Size() - at, func() {}, nil
			}
		}
	}
	f, err := os.CreateTemp("", "mimeunpack")
	if err != nil {
		return nil, 0, nil, status.With(status.CantCreate, err)
	}
	os.Remove(f.Name())
	n, err := io.Copy(f, m.r)
	if err != nil {
		f.Close()
		return nil, 0, nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return f, n, func() { f.Close() }, nil
}

// tree reads the structure of a message, decoding nothing, and keeps the message at hand: its parts
// can be read until the function is called.
func (m *job) tree() (io.ReaderAt, *mimetree.Part, func(), error) {
	r, n, end, err := m.spooled()
	if err != nil {
		return nil, nil, nil, err
	}
	m.r = io.NewSectionReader(r, 0, n)
	root, err := m.parse(func(*leaf, mimetree.Header) io.Writer { return nil }, func(*leaf, io.Writer) error { return nil })
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return r, root, end, nil
}
