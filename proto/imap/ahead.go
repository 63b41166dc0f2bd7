package imap

import (
	"errors"
	"iter"
	"sync"

	"pennypost/maildir"
)

// A readMessage is a message that was looked for in its file.
type readMessage struct {
	number int
	maildir.Message
	gone bool   // there is no such file any more, as far as is known
	text []byte // in the room of its load
	err  error  // ErrTooBig: it has to be read in pieces
}

// loadSize is how many octets of messages are read before they are sent, and as
// many again while they are.
const loadSize = 128 << 10

// A load is messages that were read together.
type load struct {
	room [loadSize]byte
	used int
	msgs []readMessage
}

var loads = sync.Pool{New: func() any { return new(load) }}

func (l *load) free() {
	clear(l.msgs)
	l.msgs, l.used = l.msgs[:0], 0
	loads.Put(l)
}

// add reads one more message. It returns false when the load is full without it.
func (l *load) add(f *fetching, n int) bool {
	m, gone := f.v.at(n)
	r := readMessage{number: n, Message: m, gone: gone}
	if !gone {
		r.text, r.err = f.v.folder.Read(m, l.room[l.used:])
		if l.used > 0 && errors.Is(r.err, maildir.ErrTooBig) {
			return false
		}
	}
	l.used += len(r.text)
	l.msgs = append(l.msgs, r)
	return true
}

// full says that the next message will hardly find room.
func (l *load) full() bool { return l.used > loadSize*3/4 || len(l.msgs) == together }

// each gives the messages with the given numbers, of which there are so many,
// read as far as they are short. Somebody else reads on while they are sent.
func (f *fetching) each(chosen iter.Seq[int], count int, do func(m *readMessage) bool) {
	if count == 1 {
		l := loads.Get().(*load)
		defer l.free()
		for n := range chosen {
			l.add(f, n)
			do(&l.msgs[0])
		}
		return
	}
	ready, stop := make(chan *load), make(chan struct{})
	go func() {
		defer close(ready)
		l := loads.Get().(*load)
		send := func() bool {
			select {
			case ready <- l:
				l = loads.Get().(*load)
				return true
			case <-stop:
				return false
			}
		}
		defer func() { l.free() }()
		for n := range chosen {
			if l.full() && !send() {
				return
			}
			if !l.add(f, n) && (!send() || !l.add(f, n)) {
				return
			}
		}
		send()
	}()
	on := true
	for l := range ready {
		for i := range l.msgs {
			if on && !do(&l.msgs[i]) {
				on = false
				close(stop)
			}
		}
		l.free()
	}
}

// source opens the message at hand and reads of its structure what is needed.
func (f *fetching) source(m maildir.Message) (*source, error) {
	tree := f.tree || f.fields
	switch r := f.ready; {
	case r != nil && r.err == nil:
		f.src = source{text: r.text, stored: int64(len(r.text))}
		f.text.Reset(r.text)
		f.src.ReaderAt = &f.text
		if tree {
			f.src.tree, r.err = f.src.structure(f.whole)
		}
		return &f.src, r.err
	case r != nil && !errors.Is(r.err, maildir.ErrTooBig):
		return nil, r.err
	case f.entries == nil:
		return f.s.source(f.v.folder, m, tree, f.whole)
	}
	file, err := f.entries.Open(m, &f.known)
	if err != nil {
		return nil, err
	}
	if f.known.Err != nil {
		file.Close()
		return nil, f.known.Err
	}
	return f.s.sourceOf(file, f.v.folder, m, tree, f.whole)
}
