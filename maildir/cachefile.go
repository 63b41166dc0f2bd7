package maildir

import (
	"cmp"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	cacheName = "pennypost-cache"

	indexEvery = 1 << 20 // octets of records after which an index of them is appended
	walkPiece  = 64 << 10
	joinGap    = 8 << 10 // octets between two records that are read with them rather than left out
)

var (
	errForeign = errors.New("the cache is of another UIDVALIDITY or version")
	errNoCache = errors.New("the cache is damaged")
	errShort   = errors.New("the cache was written short")
)

// A cacheFile is an open pennypost-cache and what is known of it. Records are only ever added to it, by any number of
// processes at once; a new one takes its place when too much of it is dead. It counts its users.
type cacheFile struct {
	identity
	fd    int
	ino   uint64
	users atomic.Int32

	mu      sync.Mutex
	broken  bool  // it is not what we know of it, or cannot be written
	index   []loc // UIDs strictly rising
	fresh   []loc // later ones, in the order they came; those of freshAt count
	freshAt map[uint32]int
	tail    []loc // those not in an index of the file yet
	last    int64 // place of the last index, 0 when there is none
	indexed int64 // as far as that goes
	walked  int64 // as far as we have read the heads of records
	wish    Level // what clients have asked for
}

// openCache opens the cache of a folder: fs.ErrNotExist when there is none, errForeign when it is that of another
// UIDVALIDITY or of another maker, errNoCache when it is damaged at its beginning. Maker 0 takes every maker's.
func openCache(p *place, validity uint32, maker uint16) (*cacheFile, error) {
	const flags = unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	f := &cacheFile{indexed: cacheHead, walked: cacheHead, freshAt: map[uint32]int{}}
	var err error
	if f.fd, err = openat(p.fd, cacheName, unix.O_RDWR|unix.O_APPEND|flags, 0); readOnly(err) {
		f.broken = true
		f.fd, err = openat(p.fd, cacheName, unix.O_RDONLY|flags, 0)
	}
	if err != nil {
		return nil, err
	}
	f.users.Store(1)
	if err := f.load(p, validity, maker); err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

func (f *cacheFile) hold() *cacheFile {
	f.users.Add(1)
	return f
}

func (f *cacheFile) release() {
	if f.users.Add(-1) == 0 {
		unix.Close(f.fd)
	}
}

// load reads head and index, and walks over what follows.
func (f *cacheFile) load(p *place, validity uint32, maker uint16) error {
	var st unix.Stat_t
	if err := fstat(f.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &fs.PathError{Op: "open", Path: cacheName, Err: unix.EINVAL}
	}
	f.ino = st.Ino
	var head [cacheHead]byte
	if n, err := preadAll(f.fd, head[:], 0); err != nil || n < cacheHead {
		return errors.Join(errNoCache, err)
	}
	id, at, ok := parseCacheHead(head[:])
	if !ok {
		return errNoCache
	}
	if !id.is(validity, maker) {
		return errForeign
	}
	f.identity = id
	f.readIndex(at, st.Size)
	if err := f.walk(st.Size); err != nil {
		return err
	}
	if f.walked-f.indexed >= indexEvery { // some writer was killed before he came to it
		f.writeIndex(p)
	}
	return nil
}

// readIndex reads the chain of indexes that ends at a place. When one of them is damaged none is believed: the records
// themselves are walked over.
func (f *cacheFile) readIndex(at, size int64) {
	if at == 0 {
		return
	}
	var chain [][]byte
	last, indexed, total, wished := at, int64(0), 0, Level(0)
	for at != 0 {
		var h [recHead]byte
		if n, err := preadAll(f.fd, h[:], at); err != nil || n < recHead {
			return
		}
		r, ok := f.parseRec(h[:])
		if !ok || r.kind != indexRec || r.len() > size-at {
			return
		}
		b := make([]byte, r.size)
		if n, err := preadAll(f.fd, b, at+recHead); err != nil || n < len(b) || f.sum(b) != r.sum {
			return
		}
		prev, to, wish, locs, ok := parseIndex(b, at)
		if !ok || total+len(locs) > maxIndex {
			return
		}
		indexed, wished = max(indexed, to), max(wished, wish)
		chain, total = append(chain, locs), total+len(locs)
		at = prev
	}
	all := make([]loc, 0, total/locLen)
	for _, b := range slices.Backward(chain) {
		all = appendLocs(all, b)
	}
	f.index = sorted(all)
	f.last, f.indexed, f.walked, f.wish = last, indexed, indexed, wished
}

// sorted brings places into the order of UIDs; of those of one UID the last counts.
func sorted(all []loc) []loc {
	if !slices.IsSortedFunc(all, byUID) {
		slices.SortStableFunc(all, byUID)
	}
	kept := all[:0]
	for i, l := range all {
		if i+1 < len(all) && all[i+1].uid == l.uid || l.len() == 0 {
			continue
		}
		kept = append(kept, l)
	}
	return kept
}

func byUID(a, b loc) int { return cmp.Compare(a.uid, b.uid) }

// walk takes in the records as far as size. It stops before one that is not whole and the last: it may be on its way.
func (f *cacheFile) walk(size int64) error {
	if size <= f.walked {
		return nil
	}
	buf := make([]byte, min(walkPiece, size-f.walked))
	begin, have := f.walked, 0     // of what is in buf
	pos, short := begin, int64(-1) // where a record begins that is not whole
	defer func() {
		if f.walked = pos; short >= 0 {
			f.walked = short
		}
	}()
	for size-pos >= recHead {
		if pos+recHead > begin+int64(have) {
			n, err := preadAll(f.fd, buf[:min(int64(len(buf)), size-pos)], pos)
			if err != nil || n < recHead {
				return err
			}
			begin, have = pos, n
		}
		b := buf[pos-begin : have]
		r, ok := f.parseRec(b)
		if whole := ok && r.len() <= size-pos; !whole { // cut off when its writer was killed, unless nothing follows
			if ok && short < 0 {
				short = pos
			}
			if i := resync(b); i > 0 {
				pos += int64(i)
			} else {
				pos = begin + int64(have) - int64(len(recMark)-1)
			}
			continue
		}
		short = -1
		switch {
		case r.kind == entryRec || r.kind == forgetRec:
			f.add(locOf(r, pos))
		case r.kind == wishRec:
			f.wish = max(f.wish, min(r.level, Whole))
		}
		pos += r.len()
	}
	return nil
}

// look takes in what others have added. It says no when the file is not the one that it was.
func (f *cacheFile) look(st *unix.Stat_t) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return st.Ino == f.ino && st.Size >= f.walked && f.walk(st.Size) == nil
}

// add takes in the place of a record.
func (f *cacheFile) add(l loc) {
	if !f.broken {
		f.tail = append(f.tail, l)
	}
	if n := len(f.index); l.len() > 0 && len(f.fresh) == 0 && (n == 0 || f.index[n-1].uid < l.uid) {
		f.index = append(f.index, l)
		return
	}
	f.freshAt[l.uid] = len(f.fresh)
	if f.fresh = append(f.fresh, l); len(f.fresh) > 1024+len(f.index)/8 {
		f.index = sorted(append(f.index, f.fresh...))
		f.fresh, f.freshAt = nil, map[uint32]int{}
	}
}

// find gives the place of an entry that knows enough. near is where in the index to look first, and where to look for
// the next UID.
func (f *cacheFile) find(uid uint32, level Level, near *int) (loc, bool) {
	if i, ok := f.freshAt[uid]; ok {
		l := f.fresh[i]
		return l, l.len() > 0 && l.level() >= level
	}
	i := *near
	if i >= len(f.index) || f.index[i].uid != uid {
		var ok bool
		if i, ok = slices.BinarySearchFunc(f.index, loc{uid: uid}, byUID); !ok {
			*near = i
			return loc{}, false
		}
	}
	*near = i + 1
	return f.index[i], f.index[i].level() >= level
}

// write adds records by one call, so that those of several writers do not mix. locs are their places from the beginning
// of b on. What cannot be written is not cached.
func (f *cacheFile) write(p *place, b []byte, locs []loc) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.append(b, locs); err != nil {
		return err
	}
	if f.walked-f.indexed < indexEvery {
		return nil
	}
	return f.writeIndex(p)
}

// want notes what clients ask for in this folder.
func (f *cacheFile) want(l Level) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l <= f.wish {
		return nil
	}
	f.wish = l
	return f.append(f.seal(openRec(nil), 0, cacheRec{kind: wishRec, level: l}), nil)
}

func (f *cacheFile) wished() Level {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wish
}

// forget makes an entry void.
func (f *cacheFile) forget(p *place, uid uint32) error {
	return f.write(p, f.seal(openRec(nil), 0, cacheRec{kind: forgetRec, uid: uid}), []loc{{uid: uid}})
}

func (f *cacheFile) append(b []byte, locs []loc) error {
	if f.broken {
		return nil
	}
	n, err := writeOnce(f.fd, b)
	if err == nil && n < len(b) {
		err = errShort
	}
	if err != nil {
		f.broken = true // the next to open it may try again
		return err
	}
	end, err := unix.Seek(f.fd, 0, unix.SEEK_CUR) // an appending write has moved to its end
	if err != nil {
		return err
	}
	if end-int64(len(b)) != f.walked { // others have written, too
		return f.walk(end)
	}
	for _, l := range locs {
		l.at += uint64(f.walked)
		f.add(l)
	}
	f.walked = end
	return nil
}

// writeIndex adds an index of what is in none yet, and lets the head of the file tell of it. When another process does
// so at once, one of the two indexes is forgotten, and those who read walk over its records.
func (f *cacheFile) writeIndex(p *place) error {
	if f.broken || len(f.tail) == 0 {
		return nil
	}
	to, tail := f.walked, f.tail
	b := f.appendIndex(nil, f.last, to, f.wish, tail)
	if err := f.append(b, nil); err != nil {
		return err
	}
	end, err := unix.Seek(f.fd, 0, unix.SEEK_CUR)
	if err != nil {
		return err
	}
	at := end - int64(len(b))
	// An appending descriptor writes at the end, whatever the place that is named.
	fd, err := openat(p.fd, cacheName, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil || st.Ino != f.ino {
		return err
	}
	if err := writeAt(fd, f.pointer(at), pointerAt); err != nil {
		return err
	}
	f.last, f.indexed = at, to
	f.tail = slices.Clone(f.tail[len(tail):])
	return nil
}

// A want is a record to be read, and the caller's number for it.
type want struct {
	loc
	i int
}

// read reads records whose places are given in the order of the file, with few calls. The octets of each are those of
// arena, which is as large as it must be.
func (f *cacheFile) read(arena []byte, locs []want, each func(w want, b []byte)) ([]byte, error) {
	type run struct{ from, to int }
	var runs [8]run
	stretch := func(r run) (at int64, n int) {
		first, last := locs[r.from], locs[r.to-1]
		return int64(first.at), int(last.at-first.at) + last.len()
	}
	for next := 0; next < len(locs); {
		some, total := runs[:0], 0
		for ; next < len(locs); next++ {
			l := locs[next]
			if k := len(some) - 1; k >= 0 {
				prev := locs[next-1]
				if end := prev.at + uint64(prev.len()); l.at >= end && l.at-end < joinGap {
					some[k].to = next + 1
					continue
				}
				if len(some) == cap(some) {
					break
				}
			}
			some = append(some, run{next, next + 1})
		}
		for _, r := range some {
			_, n := stretch(r)
			total += n
		}
		// The arena is never moved under what was cut from it.
		if cap(arena)-len(arena) < total {
			arena = make([]byte, 0, max(total, 2*cap(arena), 16<<10))
		}
		for _, r := range some {
			at, n := stretch(r)
			b := arena[len(arena) : len(arena)+n]
			arena = arena[:len(arena)+n]
			got, err := preadAll(f.fd, b, at)
			if err != nil {
				return arena, err
			}
			for i := r.from; i < r.to; i++ {
				if from := int(locs[i].at) - int(at); from+locs[i].len() <= got {
					each(locs[i], b[from:from+locs[i].len()])
				}
			}
		}
	}
	return arena, nil
}

// newCache puts an empty cache in the place of what is there, if anything is.
func newCache(p *place, validity uint32, maker uint16) error {
	id := identity{validity: validity, maker: maker, salt: rand.Uint64()}
	return p.putCache(func(fd int) error { return writeAll(fd, id.head()) })
}

// putCache makes a file and gives it the name of the cache. It is not synced: what a power cut leaves of it is known by
// its sums.
func (p *place) putCache(fill func(fd int) error) error {
	name := "tmp/" + uniqueName()
	fd, err := p.create(name)
	if err != nil {
		return err
	}
	err = fill(fd)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		err = renameat(p.fd, name, p.fd, cacheName)
	}
	if err != nil {
		p.unlink(name)
	}
	return err
}

// tidy writes the file anew when more than half of it is dead: of messages that are not there any more, or told once
// more since. What others add meanwhile may be lost. Readers of the old file go on with it.
func (f *cacheFile) tidy(p *place, alive func(uid uint32) bool) (bool, error) {
	f.mu.Lock()
	if len(f.fresh) > 0 {
		f.index = sorted(append(f.index, f.fresh...))
		f.fresh, f.freshAt = nil, map[uint32]int{}
	}
	live, n := int64(0), 0
	for _, l := range f.index {
		if alive(l.uid) {
			live += int64(l.len())
			n++
		}
	}
	dead, wish := f.walked-cacheHead-live-int64(n)*locLen, f.wish
	if f.broken || dead <= live || dead < walkPiece {
		f.mu.Unlock()
		return false, nil
	}
	kept := make([]loc, 0, n)
	for _, l := range f.index {
		if alive(l.uid) {
			kept = append(kept, l)
		}
	}
	f.mu.Unlock()
	return true, p.putCache(func(fd int) error { return f.rewrite(fd, kept, wish) })
}

// rewrite writes the records at the given places into a new file, and an index of them.
func (f *cacheFile) rewrite(fd int, kept []loc, wish Level) error {
	if err := writeAll(fd, f.head()); err != nil {
		return err
	}
	var out, arena []byte
	end, index := int64(cacheHead), make([]loc, 0, len(kept))
	for part := range slices.Chunk(kept, 64) {
		order, found := make([]want, len(part)), make([][]byte, len(part))
		for i, l := range part {
			order[i] = want{l, i}
		}
		slices.SortFunc(order, byPlace)
		var err error
		arena, err = f.read(arena[:0], order, func(w want, b []byte) {
			if r, ok := f.parseRec(b); ok && r.kind == entryRec && r.uid == w.uid && r.sum == f.sum(b[recHead:]) {
				found[w.i] = b
			}
		})
		if err != nil {
			return err
		}
		out = out[:0]
		for i, l := range part {
			if b := found[i]; b != nil {
				index = append(index, loc{l.uid, l.size, uint64(end)})
				end += int64(len(b))
				out = append(out, b...)
			}
		}
		if err := writeAll(fd, out); err != nil {
			return err
		}
	}
	if err := writeAll(fd, f.appendIndex(out[:0], 0, end, wish, index)); err != nil {
		return err
	}
	return writeAt(fd, f.pointer(end), pointerAt)
}

func byPlace(a, b want) int { return cmp.Compare(a.at, b.at) }
