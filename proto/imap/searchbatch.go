package imap

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"sync"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// seats bounds how many batches of messages the process holds at once, whoever
// searches: a batch may take a megabyte or two.
var seats = make(chan struct{}, 4*runtime.GOMAXPROCS(0))

// decideSome asks for the messages with these numbers.
func (a *asking) decideSome(numbers []int, yes []bool) error {
	select {
	case seats <- struct{}{}:
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
	defer func() { <-seats }()
	b := batches.Get().(*batch)
	defer b.free()
	return b.decide(a, numbers, yes)
}

// A batch is some messages that are asked for together, and the room for it.
type batch struct {
	room [together]candidate
	buf  []byte // holds a message

	decoded, text, plain, folded []byte // what is made of its parts
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) free() {
	clear(b.room[:])
	for _, p := range []*[]byte{&b.decoded, &b.text, &b.plain, &b.folded} {
		if cap(*p) > 4*short {
			*p = nil
		}
	}
	batches.Put(b)
}

// decide asks for the messages with these numbers: of the cache what of them is
// not known otherwise, then of their files.
func (b *batch) decide(a *asking, numbers []int, yes []bool) error {
	open := make([]*candidate, len(numbers))
	for i, n := range numbers {
		m, gone := a.v.at(n)
		b.room[i] = candidate{asking: a, batch: b, m: m, seq: n, gone: gone}
		open[i] = &b.room[i]
	}
	for len(open) > 0 {
		level := maildir.Level(0)
		var wanting []*candidate
		var msgs []maildir.Message
		for _, c := range open {
			if c.wants == 0 {
				if err := c.decide(a.key); err != nil {
					return err
				}
			}
			if c.wants > 0 {
				wanting, msgs, level = append(wanting, c), append(msgs, c.m), max(level, c.wants)
			}
		}
		if open = wanting; len(open) == 0 {
			break
		}
		if err := b.look(a, level, open, msgs); err != nil {
			return err
		}
		open = slices.DeleteFunc(open, func(c *candidate) bool { return c.wants == 0 })
	}
	for i := range numbers {
		yes[i] = b.room[i].yes
	}
	return nil
}

// look decides with what the cache knows of messages.
func (b *batch) look(a *asking, level maildir.Level, open []*candidate, msgs []maildir.Message) error {
	if level == byFile {
		for _, c := range open {
			c.wants, c.reads = 0, true
			if err := c.decide(a.key); err != nil {
				return err
			}
		}
		return nil
	}
	e := a.v.folder.Entries(level, entries)
	defer e.Close()
	for i, known := range e.All(msgs) {
		c := open[i]
		c.known, c.wants, c.reads = known, 0, true
		err := known.Err
		if err == nil {
			err = c.decide(a.key)
		}
		if c.known = (maildir.Known{}); err != nil && !isGone(err) {
			return err
		}
		if a.ctx.Err() != nil {
			return a.ctx.Err()
		}
	}
	return nil
}

// byFile is the level of a candidate that has to be read, of which the cache
// need not be asked.
const byFile = maildir.Level(0xff)

// A candidate is the message that is being asked for.
type candidate struct {
	*asking
	*batch
	m     maildir.Message
	seq   int
	gone  bool
	known maildir.Known
	wants maildir.Level // what has to be known to decide
	reads bool          // its file may be read
	yes   bool          // it matches
	src   *source
}

var errUnknown = errors.New("more of the message has to be known")

// knows makes sure that the entry of the message is there, at a level.
func (c *candidate) knows(l maildir.Level) error {
	switch {
	case c.known.Entry != nil && c.known.Level >= l:
		return nil
	case c.gone:
		return maildir.ErrGone
	}
	c.wants = l
	return errUnknown
}

// decide asks the key; a message that has vanished matches nothing.
func (c *candidate) decide(k key) (err error) {
	c.yes, err = k.match(c)
	if c.src != nil && c.src.file != nil {
		c.src.Close()
	}
	c.src = nil
	if err == nil {
		return nil
	}
	c.yes = false
	if err == errUnknown || isGone(err) {
		return nil
	}
	return err
}

// header reads the header, once.
func (c *candidate) header() (mimetree.Header, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	b := c.src.text
	if b == nil {
		var err error
		if b, err = c.src.slice(0, min(c.src.stored, maxHeader)); err != nil {
			return nil, err
		}
	}
	end, _ := headerEnd(b)
	return mimetree.Header(b[:end]), nil
}

// open opens the file, unless others have first to say whether it need be.
func (c *candidate) open() error {
	switch {
	case c.src != nil:
		return nil
	case c.gone:
		return maildir.ErrGone
	case !c.reads:
		c.wants = byFile
		return errUnknown
	}
	if c.buf == nil {
		c.buf = make([]byte, short)
	}
	text, err := c.v.folder.Read(c.m, c.buf)
	switch {
	case err == nil:
		c.src = &source{stored: int64(len(text)), text: text, ReaderAt: bytes.NewReader(text)}
		return nil
	case !errors.Is(err, maildir.ErrTooBig):
		return err
	}
	file, err := c.v.folder.Reader(c.m)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		c.src = &source{ReaderAt: file, file: file, stored: info.Size()}
		err = c.src.load(&c.buf)
	}
	if err != nil {
		file.Close()
		c.src = nil
	}
	return err
}
