package maildir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Maker makes the texts of entries.
type Maker struct {
	// Version changes with what the texts say or how: those of another version are not believed. It is not 0.
	Version uint16

	// Make reads a message as far as its level asks, and fills in the texts, the time of its Date field, and, when it
	// has read all of it, Size and Lacks. It is called by many goroutines at once. An error comes from the file: no
	// message is too broken.
	Make func(file io.ReaderAt, octets int64, level Level, e *Entry) error
}

// A cacheSlot holds the cache file of a directory open for all who use it within the process.
type cacheSlot struct {
	mu   sync.Mutex
	file *cacheFile
	idle *time.Timer

	filling bool // somebody makes what is missing
}

// cacheIdle is after how long the places of records are forgotten when nobody asks for any.
const cacheIdle = 5 * time.Minute

// get gives the cache file as it is now, held for the caller; nil when there is none. With create one is made.
func (c *cacheSlot) get(p *place, folder string, validity uint32, maker uint16, create bool) *cacheFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.file; f != nil {
		var st unix.Stat_t
		if statat(p.fd, cacheName, &st) == nil && f.is(validity, maker) && f.look(&st) {
			c.idle.Reset(cacheIdle)
			return f.hold()
		}
		c.close()
	}
	f, err := openCache(p, validity, maker)
	void := errors.Is(err, errForeign) || errors.Is(err, errNoCache)
	if void && create && maker != 0 {
		slog.Warn("cache begun anew", "folder", folder, "err", err)
	}
	if create && maker != 0 && (void || errors.Is(err, fs.ErrNotExist)) {
		if err = newCache(p, validity, maker); err == nil {
			f, err = openCache(p, validity, maker)
		}
	}
	if err != nil {
		if !void && !errors.Is(err, fs.ErrNotExist) && !readOnly(err) && !noRoom(err) {
			slog.Warn("cache cannot be used", "folder", folder, "err", err)
		}
		return nil
	}
	c.file = f
	c.idle = time.AfterFunc(cacheIdle, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.file == f {
			c.close()
		}
	})
	return f.hold()
}

// size is about what it takes of the memory.
func (c *cacheSlot) size() int64 {
	const each = 16
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return 0
	}
	c.file.mu.Lock()
	defer c.file.mu.Unlock()
	return each * int64(cap(c.file.index)+cap(c.file.fresh)+cap(c.file.tail))
}

// end closes it for good.
func (c *cacheSlot) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
}

// close forgets the file; who holds it goes on with it.
func (c *cacheSlot) close() {
	if c.file != nil {
		c.idle.Stop()
		c.file.release()
		c.file = nil
	}
}

// Entries tells what is known of the messages of a folder, and learns what is not. It is for one goroutine, and is to be
// closed.
type Entries struct {
	f     *Folder
	p     *place
	slot  *cacheSlot
	file  *cacheFile // nil: there is no cache, everything is learned anew
	level Level
	maker *Maker
	brief *Maker // unless nil, makes what is not known, and it is not noted

	known [entryBatch]Known
	room  [entryBatch]Entry // for those that were read
	wants []want
	arena []byte
	out   []byte
}

// entryBatch is how many entries are looked up or made at once.
const entryBatch = 128

// Known is what is known of one message. The entry is nil when the message cannot be read: ErrGone, or an error of the
// file. Texts that the level asks for are there, but TextFields and TextParts when they would be too long.
type Known struct {
	*Entry
	Err   error
	large bool // the texts are too large to be held beside others
}

// entriesRoom keeps the room of those that are closed for others.
var entriesRoom = sync.Pool{New: func() any { return new(Entries) }}

// Entries begins to tell what is known of messages at a level. The texts are those of maker.
func (f *Folder) Entries(level Level, maker *Maker) *Entries { return f.newEntries(level, maker, true) }

func (f *Folder) newEntries(level Level, maker *Maker, create bool) *Entries {
	e := entriesRoom.Get().(*Entries)
	e.f, e.level, e.maker = f, level, maker
	b, err := f.enter()
	if err != nil {
		return e
	}
	defer b.leave()
	e.p, e.slot = b.dir.hold(), &b.cache
	b.mu.Lock()
	validity := b.head.validity
	b.mu.Unlock()
	if validity != 0 {
		e.file = e.slot.get(e.p, f.name, validity, maker.Version, create)
	}
	return e
}

// Close ends it; what was told is no longer valid.
func (e *Entries) Close() {
	if e.file != nil {
		e.file.release()
	}
	if e.p != nil {
		e.p.close()
	}
	e.f, e.p, e.slot, e.file, e.maker, e.brief = nil, nil, nil, nil, nil, nil
	clear(e.known[:])
	clear(e.room[:])
	if cap(e.arena) > 1<<20 || cap(e.out) > 1<<20 {
		e.arena, e.out = nil, nil
	}
	entriesRoom.Put(e)
}

// All gives what is known of each message, with its place in msgs. It is valid until the next one is asked for. What is
// not known is learned on all cores.
func (e *Entries) All(msgs []Message) iter.Seq2[int, Known] {
	return func(yield func(int, Known) bool) {
		if len(msgs) > 1 && e.level > Sizes && e.file != nil {
			e.file.want(e.level)
		}
		at := 0
		for batch := range slices.Chunk(msgs, entryBatch) {
			e.lookUp(batch)
			e.learn(batch)
			for i := range batch {
				k := e.known[i]
				if k.large {
					k = e.f.study(batch[i], e.level, e.maker)
				}
				if !yield(at+i, k) {
					return
				}
			}
			at += len(batch)
		}
	}
}

// Wish notes that a level is asked for in this folder by clients who do not wait for it.
func (e *Entries) Wish(l Level) {
	if e.file != nil {
		e.file.want(l)
	}
}

// Wished tells whether this level was asked for in this folder before, so that there should be entries by now.
func (e *Entries) Wished() bool { return e.file != nil && e.file.wished() >= e.level }

// Glance lets another maker read the messages that are not known. It may leave out what its caller does not need, so its
// entries are not kept; those that are missing are made by the way (FillCache).
func (e *Entries) Glance(brief *Maker) { e.brief = brief }

// One gives what is known of one message.
func (e *Entries) One(m Message) (k Known) {
	for _, k = range e.All([]Message{m}) {
		break
	}
	return k
}

// lookUp reads what the file has.
func (e *Entries) lookUp(msgs []Message) {
	clear(e.known[:len(msgs)])
	if e.file == nil {
		return
	}
	e.wants = e.wants[:0]
	near := 0
	e.file.mu.Lock()
	for i := range msgs {
		if l, ok := e.file.find(msgs[i].UID, e.level, &near); ok {
			e.wants = append(e.wants, want{l, i})
		}
	}
	e.file.mu.Unlock()
	if !slices.IsSortedFunc(e.wants, byPlace) {
		slices.SortFunc(e.wants, byPlace)
	}
	var err error
	e.arena, err = e.file.read(e.arena[:0], e.wants, func(w want, b []byte) {
		to, k := &e.room[w.i], &e.known[w.i]
		if !e.file.parseEntry(b, w.uid, hashBase(msgs[w.i].base), to) {
			return
		}
		if k.large = to.Level > Sizes && e.level > Sizes && to.Texts[TextEnvelope] == nil; !k.large {
			k.Entry = to
		}
	})
	if err != nil {
		slog.Warn("cache cannot be read", "folder", e.f.name, "err", err)
	}
}

// helpers bounds how many goroutines of the process look into messages beside those who asked.
var helpers = make(chan struct{}, 2*runtime.GOMAXPROCS(0))

// learn looks into the messages that are not known, and notes what was found.
func (e *Entries) learn(msgs []Message) {
	var unknown []int
	for i := range msgs {
		if e.known[i].Entry == nil && !e.known[i].large {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) == 0 {
		return
	}
	maker := e.maker
	if e.brief != nil {
		maker = e.brief
	}
	var next atomic.Int32
	work := func() {
		for {
			n := int(next.Add(1)) - 1
			if n >= len(unknown) {
				return
			}
			i := unknown[n]
			k := e.f.study(msgs[i], e.level, maker)
			if k.large = len(msgs) > 1 && k.Entry != nil && k.size() > maxEntry; k.large {
				clear(k.Texts[:])
			}
			e.known[i] = k
		}
	}
	var wg sync.WaitGroup
more:
	for range min(len(unknown), runtime.GOMAXPROCS(0)) - 1 {
		select {
		case helpers <- struct{}{}:
			wg.Go(func() {
				defer func() { <-helpers }()
				work()
			})
		default:
			break more
		}
	}
	work()
	wg.Wait()
	if e.brief == nil {
		e.note(msgs, unknown)
	}
}

// note writes what was learned into the file.
func (e *Entries) note(msgs []Message, learned []int) {
	if e.file == nil {
		return
	}
	e.out = e.out[:0]
	var locs []loc
	for _, i := range learned {
		k := e.known[i]
		if k.Entry == nil {
			continue
		}
		at, ok := len(e.out), false
		if e.out, ok = e.file.appendEntry(e.out, msgs[i].UID, msgs[i].base, k.Entry); !ok {
			slim := *k.Entry // it says that there is more to know than it can hold
			clear(slim.Texts[:])
			e.out, _ = e.file.appendEntry(e.out, msgs[i].UID, msgs[i].base, &slim)
		}
		locs = append(locs, loc{msgs[i].UID, uint32(len(e.out)-at) | uint32(k.Level)<<30, uint64(at)})
	}
	if len(locs) == 0 {
		return
	}
	if err := e.file.write(e.p, e.out, locs); err != nil && !noRoom(err) {
		slog.Warn("cache cannot be written", "folder", e.f.name, "err", err)
	}
}

// Open opens a message's file as Reader does. When it is not the file that known tells of, its entry is void from now on,
// and known is what is known of it now.
func (e *Entries) Open(m Message, known *Known) (*os.File, error) {
	raw, dir, err := e.f.openStored(m)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	if known.Entry != nil && (known.Octets != raw.st.Size || known.Modified != nanoseconds(&raw.st)) {
		if e.file != nil {
			if err := e.file.forget(e.p, m.UID); err != nil && !noRoom(err) {
				slog.Warn("cache cannot be written", "folder", e.f.name, "err", err)
			}
		}
		*known = e.f.study(m, e.level, e.maker)
		e.known[0] = *known // what All has told of it is not asked for again
		e.note([]Message{m}, []int{0})
	}
	file, err := dir.plain(raw.wrap(), m.base)
	if err != nil {
		return nil, fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return file, nil
}

func nanoseconds(st *unix.Stat_t) int64 { return unix.TimespecToNsec(st.Mtim) }

// size is the octets of the texts.
func (e *Entry) size() (n int) {
	for _, t := range e.Texts {
		n += len(t)
	}
	return n
}

// study looks into a message.
func (f *Folder) study(m Message, level Level, maker *Maker) Known {
	e := &Entry{Level: level, Size: -1}
	err := f.studyFile(m, e, maker)
	if err != nil {
		return Known{Err: err}
	}
	return Known{Entry: e}
}

func (f *Folder) studyFile(m Message, e *Entry, maker *Maker) error {
	if e.Level == Sizes {
		return f.weigh(m, e)
	}
	file, dir, err := f.openStored(m)
	if err != nil {
		return err
	}
	defer dir.close()
	e.Octets, e.Modified = file.st.Size, nanoseconds(&file.st)
	if s, _ := sizes(m.base); s != e.Octets {
		var head [magicSize]byte
		if n, err := preadAll(file.fd, head[:], 0); err != nil || packingOf(head[:n]) != nil {
			return f.studyPacked(m, e, maker, file.wrap(), dir)
		}
	}
	defer unix.Close(file.fd)
	return f.make(m, e, maker, file, e.Octets)
}

// studyPacked is studyFile for a compressed message.
func (f *Folder) studyPacked(m Message, e *Entry, maker *Maker, file *os.File, dir *place) error {
	file, err := dir.plain(file, m.base)
	if err != nil {
		return fmt.Errorf("open message %d: %w", m.UID, err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return f.make(m, e, maker, file, st.Size())
}

// make lets maker read an open message, and fills in what it leaves out.
func (f *Folder) make(m Message, e *Entry, maker *Maker, file io.ReaderAt, octets int64) error {
	if err := maker.Make(file, octets, e.Level, e); err != nil {
		return fmt.Errorf("read message %d: %w", m.UID, err)
	}
	if e.Size >= 0 {
		return nil
	}
	if w := sizeByName(m.base, e.Octets); w >= 0 {
		e.Size, e.Lacks = w, uint8(lackingByName(m.base))
		return nil
	}
	c, err := countCRLF(io.NewSectionReader(file, 0, math.MaxInt64))
	if err != nil {
		return fmt.Errorf("size of message %d: %w", m.UID, err)
	}
	e.Size, e.Lacks = c.octets, uint8(c.lacks)
	return nil
}

// weigh fills in the sizes and dates of a message.
func (f *Folder) weigh(m Message, e *Entry) error {
	st, err := f.stat(m)
	if err != nil {
		return err
	}
	e.Octets, e.Modified = st.Size, nanoseconds(&st)
	if w := sizeByName(m.base, e.Octets); w >= 0 {
		e.Size, e.Lacks = w, uint8(lackingByName(m.base))
		return nil
	}
	if e.Size, err = f.Size(m); err == nil {
		e.Lacks = uint8(f.Lacking(m))
	}
	return err
}

// A stored is a message's open file as it is stored.
type stored struct {
	fd   int
	st   unix.Stat_t
	name string
}

func (s *stored) ReadAt(b []byte, at int64) (int, error) {
	n, err := preadAll(s.fd, b, at)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (s *stored) wrap() *os.File { return os.NewFile(uintptr(s.fd), s.name) }

// openStored opens a message's file, and holds the directory for what is still to be done with it.
func (f *Folder) openStored(m Message) (*stored, *place, error) {
	b, err := f.enter()
	if err != nil {
		return nil, nil, err
	}
	defer b.leave()
	file := &stored{}
	err = b.reach(m, func(path string) (err error) {
		file.name = path
		file.fd, err = b.dir.openPlain(path, &file.st)
		return err
	})
	if errors.Is(err, ErrGone) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open message %d: %w", m.UID, err)
	}
	return file, b.dir.hold(), nil
}

// Read reads a message into room, and gives the octets it has. ErrTooBig when room is too small; then, and when it is
// stored compressed, which is ErrTooBig too, Reader has it.
func (f *Folder) Read(m Message, room []byte) ([]byte, error) {
	file, dir, err := f.openStored(m)
	if err != nil {
		return nil, err
	}
	dir.close()
	defer unix.Close(file.fd)
	if file.st.Size > int64(len(room)) {
		return nil, ErrTooBig
	}
	n, err := preadAll(file.fd, room[:file.st.Size], 0)
	if err != nil {
		return nil, fmt.Errorf("read message %d: %w", m.UID, err)
	}
	if s, _ := sizes(m.base); s != file.st.Size && packingOf(room[:min(n, magicSize)]) != nil {
		return nil, ErrTooBig
	}
	return room[:n], nil
}
