package guard

import (
	"encoding/binary"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A file in Guard.Dir is called like its address and holds a record: the number as 64
// bits of floating point, the time as nanoseconds since 1970, little end first. Whatever
// cannot be read or written counts as nothing: a disk that is full keeps nobody out.

const recordSize = 16

// forgetAfter is the age of a file that tells nothing any more.
const forgetAfter = time.Hour

func (g *Guard) file(n netip.Addr) string { return filepath.Join(g.Dir, n.String()) }

// shared reads what all processes have counted.
func (g *Guard) shared(n netip.Addr) record {
	f, err := os.OpenFile(g.file(n), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return record{}
	}
	defer f.Close()
	return readRecord(f)
}

func readRecord(f *os.File) record {
	var b [recordSize]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return record{}
	}
	r := record{math.Float64frombits(binary.LittleEndian.Uint64(b[:])), time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:])))}
	if !(r.count >= 0 && r.count < 1e6) || time.Until(r.then) > window {
		return record{} // nobody has written that
	}
	return r
}

// share counts one more for all processes.
func (g *Guard) share(n netip.Addr) {
	f, err := os.OpenFile(g.file(n), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX) != nil {
		return
	}
	r := readRecord(f)
	now := time.Now()
	if r.count == 0 {
		g.clean(now)
	}
	var b [recordSize]byte
	binary.LittleEndian.PutUint64(b[:], math.Float64bits(r.now(free)+1))
	binary.LittleEndian.PutUint64(b[8:], uint64(now.UnixNano()))
	f.WriteAt(b[:], 0)
}

// clean removes the files that tell nothing any more, now and then: when somebody
// fails for the first time, and not more often than once in a minute.
func (g *Guard) clean(now time.Time) {
	mark := filepath.Join(g.Dir, "cleaned")
	if fi, err := os.Stat(mark); err == nil && now.Sub(fi.ModTime()) < window {
		return
	}
	if os.WriteFile(mark, nil, 0o600) != nil || os.Chtimes(mark, now, now) != nil {
		return
	}
	entries, err := os.ReadDir(g.Dir)
	if err != nil {
		return
	}
	old := forgetAfter
	if len(entries) > maxPeers {
		old = window
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && now.Sub(fi.ModTime()) > old {
			os.Remove(filepath.Join(g.Dir, e.Name()))
		}
	}
}
