package maildir

import (
	"context"
	"log/slog"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// openEntries is Entries for a cache that is there already; nil when there is none.
func (f *Folder) openEntries(maker *Maker) *Entries {
	e := f.newEntries(Sizes, maker, false)
	if e.file == nil {
		e.Close()
		return nil
	}
	e.level = max(e.file.wished(), Sizes)
	return e
}

// Learn makes the entries of messages that have just come, at the level that clients ask for in this folder.
func (f *Folder) Learn(msgs []Message, maker *Maker) {
	e := f.openEntries(maker)
	if e == nil {
		return
	}
	defer e.Close()
	if e.file.wished() == 0 {
		return
	}
	for batch := range slices.Chunk(msgs, entryBatch) {
		e.lookUp(batch)
		e.learn(batch)
	}
}

// CopyEntries lets what is known of messages be known of their copies in another folder, too. msgs are the messages as
// they were before Copy or Move, pairs what that gave.
func (f *Folder) CopyEntries(msgs []Message, pairs []Pair, to *Folder, maker *Maker) {
	from := f.openEntries(maker)
	if from == nil {
		return
	}
	defer from.Close()
	st, err := to.Sync(SyncOptions{})
	if err != nil {
		return // there is another time to learn it
	}
	into := to.Entries(Sizes, maker)
	defer into.Close()
	if into.file == nil {
		return
	}
	from.level = Sizes
	copies := make(map[uint32]uint32, len(pairs))
	for _, p := range pairs {
		copies[p.From] = p.To
	}
	into.file.want(from.file.wished())
	for batch := range slices.Chunk(msgs, entryBatch) {
		from.lookUp(batch)
		var now []Message
		var which []int
		for i, m := range batch {
			if k, ok := st.Find(copies[m.UID]); ok && from.known[i].Entry != nil {
				into.known[len(now)] = from.known[i]
				now, which = append(now, st.At(k)), append(which, len(now))
			}
		}
		into.note(now, which)
	}
}

// FillCache makes the entries that are missing of those that clients ask for in this folder, from the latest message to the
// first, as slowly as the machine has nothing better to do; and writes the file anew where that is due. It does nothing
// where there is no cache. It ends with ctx, and takes a goroutine of its own.
func (f *Folder) FillCache(ctx context.Context, st *State, maker *Maker) {
	e := f.openEntries(maker)
	if e == nil {
		return
	}
	defer e.Close()
	if !e.slot.fill() {
		return // another session is at it
	}
	defer e.slot.filled()
	stepBack()
	if e.file.wished() > 0 {
		e.fill(ctx, st)
	}
	if ctx.Err() != nil {
		return
	}
	if _, err := e.file.tidy(e.p, func(uid uint32) bool { _, there := st.Find(uid); return there }); err != nil && !noRoom(err) {
		slog.Warn("cache cannot be written anew", "folder", f.name, "err", err)
	}
}

func (c *cacheSlot) fill() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := !c.filling
	c.filling = true
	return mine
}

func (c *cacheSlot) filled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filling = false
}

// fillBatch is how many entries are written at once by the way.
const fillBatch = 32

func (e *Entries) fill(ctx context.Context, st *State) {
	var some []Message
	for i := st.Len() - 1; i >= 0 && ctx.Err() == nil; i-- {
		m, near := st.At(i), 0
		e.file.mu.Lock()
		_, known := e.file.find(m.UID, e.level, &near)
		e.file.mu.Unlock()
		if known {
			continue
		}
		k := e.f.study(m, e.level, e.maker)
		if e.known[len(some)] = k; k.Entry == nil {
			continue
		}
		if some = append(some, m); len(some) == fillBatch {
			e.noteAll(some)
			some = some[:0]
		}
	}
	e.noteAll(some)
}

func (e *Entries) noteAll(msgs []Message) {
	which := make([]int, len(msgs))
	for i := range which {
		which[i] = i
	}
	e.note(msgs, which)
}

// stepBack lets this goroutine run on a thread of its own, which the kernel prefers less than all others, and which ends
// with it.
func stepBack() {
	runtime.LockOSThread()
	unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
	const whoProcess, classIdle = 1, 3 << 13
	unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(unix.Gettid()), classIdle)
}
