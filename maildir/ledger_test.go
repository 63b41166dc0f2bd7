package maildir

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A ledger is what the processes of the soak test know together: which message has which UID, what was taken away, what
// was acknowledged. It lies in memory that all of them share, so that what one has noted is there for the others
// at once, even when it is killed in the next moment.
type ledger struct {
	head  []atomic.Uint64 // stop, failed, deadline, UIDVALIDITY of each folder, counters of each worker
	bases []baseEntry     // hash tables: a key is set once and for all
	uids  []uidEntry
	texts []textEntry
	faces []textEntry
}

// A baseEntry is about one base name in one folder.
type baseEntry struct {
	key   atomic.Uint64
	uid   atomic.Uint64 // the highest it had
	taken atomic.Int64  // programs that have taken it away, or may have
	acked atomic.Uint64 // 1: whoever put it there has said so
	word  atomic.Uint64 // flags that one worker alone changes, see flagWord
}

// A uidEntry is about one UID of one folder.
type uidEntry struct {
	key    atomic.Uint64
	base   atomic.Uint64 // hash of its base name
	gone   atomic.Int64  // when somebody saw that it was gone, nanoseconds since 1970
	modSeq atomic.Uint64 // the highest that anybody saw
}

// A textEntry says which message a base name stands for, in all folders; or which flags and keywords a message has as of
// a MODSEQ.
type textEntry struct{ key, text atomic.Uint64 }

const (
	ledgerStop = iota
	ledgerFailed
	ledgerEnd      // nanoseconds since 1970
	ledgerSlow     // the longest look, nanoseconds
	ledgerCount    // entries of bases
	ledgerFaces    // entries of faces
	ledgerValidity = 8
	ledgerModSeq   = 16 // of each folder, the highest that anybody saw
	ledgerOps      = 64
	ledgerLooks    = 128
	ledgerLen      = 512
)

// facesPerMessage is how many changes of a message there is room for, on the average.
const facesPerMessage = 8

func ledgerSize(slots int) int {
	return ledgerLen*8 + slots*int(unsafe.Sizeof(baseEntry{})+unsafe.Sizeof(uidEntry{})+(1+facesPerMessage)*unsafe.Sizeof(textEntry{}))
}

// newLedger makes one for about so many messages, and the file that further processes find it by.
func newLedger(t *testing.T, messages int) (*ledger, *os.File) {
	t.Helper()
	slots := 1 << 16
	for slots < messages*3/2 {
		slots *= 2
	}
	fd, err := unix.MemfdCreate("ledger", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, int64(ledgerSize(slots)))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "ledger")
	t.Cleanup(func() { file.Close() })
	l, err := openLedger(fd)
	if err != nil {
		t.Fatal(err)
	}
	return l, file
}

func openLedger(fd int) (*ledger, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	slots := 1
	for ledgerSize(slots) < len(mem) {
		slots *= 2
	}
	at := unsafe.Pointer(unsafe.SliceData(mem))
	l := &ledger{head: unsafe.Slice((*atomic.Uint64)(at), ledgerLen)}
	at = unsafe.Add(at, ledgerLen*8)
	l.bases = unsafe.Slice((*baseEntry)(at), slots)
	at = unsafe.Add(at, slots*int(unsafe.Sizeof(baseEntry{})))
	l.uids = unsafe.Slice((*uidEntry)(at), slots)
	at = unsafe.Add(at, slots*int(unsafe.Sizeof(uidEntry{})))
	l.texts = unsafe.Slice((*textEntry)(at), slots)
	at = unsafe.Add(at, slots*int(unsafe.Sizeof(textEntry{})))
	l.faces = unsafe.Slice((*textEntry)(at), slots*facesPerMessage)
	return l, nil
}

// hash is FNV-1a, never 0, the same in all processes.
func hash(parts ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range parts {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ '/') * 1099511628211
	}
	return h | 1<<63
}

// claim finds the entry of a key, or makes it; fresh tells that it was made now.
func claim[E any](table []E, key uint64, keyOf func(*E) *atomic.Uint64) (e *E, fresh bool) {
	mask := uint64(len(table) - 1)
	for i := (key ^ key>>29) & mask; ; i = (i + 1) & mask {
		k := keyOf(&table[i])
		if k.CompareAndSwap(0, key) {
			return &table[i], true
		}
		if k.Load() == key {
			return &table[i], false
		}
	}
}

func (l *ledger) base(folder, base string) *baseEntry {
	e, _ := l.claimBase(folder, base)
	return e
}

// claimBase also tells whether nobody has noted the base name in this folder before.
func (l *ledger) claimBase(folder, base string) (*baseEntry, bool) {
	e, fresh := claim(l.bases, hash(folder, base), func(e *baseEntry) *atomic.Uint64 { return &e.key })
	if fresh {
		if n := l.head[ledgerCount].Add(1); n > uint64(len(l.bases))*3/4 {
			l.head[ledgerStop].Store(1) // full: enough has been done
		}
	}
	return e, fresh
}

func (l *ledger) uid(folder int, uid uint32) *uidEntry {
	key := (uint64(folder+1)<<32 | uint64(uid)) * 0x9E3779B97F4A7C15
	e, _ := claim(l.uids, key, func(e *uidEntry) *atomic.Uint64 { return &e.key })
	return e
}

// text notes which message a base name stands for, and tells whether it is the one it was.
func (l *ledger) text(base, id string) bool {
	e, _ := claim(l.texts, hash(base), func(e *textEntry) *atomic.Uint64 { return &e.key })
	h := hash(id)
	return e.text.CompareAndSwap(0, h) || e.text.Load() == h
}

// face notes which flags and keywords a message has as of a MODSEQ, and tells whether they are those that others see.
func (l *ledger) face(folder int, m Message) bool {
	key := hash(soakFolders[folder], strconv.FormatUint(uint64(m.UID), 10), strconv.FormatUint(m.ModSeq, 10))
	e, fresh := claim(l.faces, key, func(e *textEntry) *atomic.Uint64 { return &e.key })
	if fresh && l.head[ledgerFaces].Add(1) > uint64(len(l.faces))*3/4 {
		l.head[ledgerStop].Store(1)
	}
	h := hash(face(m))
	return e.text.CompareAndSwap(0, h) || e.text.Load() == h
}

// face gives the flags and keywords of a message.
func face(m Message) string {
	return m.Flags.String() + " " + strings.Join(slices.Sorted(slices.Values(m.Keywords())), " ")
}

func (l *ledger) stopped() bool {
	return l.head[ledgerStop].Load() != 0 || l.head[ledgerFailed].Load() != 0 ||
		time.Now().UnixNano() > int64(l.head[ledgerEnd].Load())
}

// raise lets a value grow.
func raise(v *atomic.Uint64, to uint64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// A flagWord is what is known about 16 flags and keywords of a message, each of which one worker alone changes: what
// they are, whether that is known at all, and whether a change is on its way. A count of changes lies behind.
type flagWord uint64

func (w flagWord) is(bit int) bool      { return w>>bit&1 != 0 }
func (w flagWord) known(bit int) bool   { return w>>(16+bit)&1 != 0 }
func (w flagWord) pending(bit int) bool { return w>>(32+bit)&1 != 0 }

func (e *baseEntry) change(f func(w flagWord) flagWord) {
	for {
		old := e.word.Load()
		if e.word.CompareAndSwap(old, uint64(f(flagWord(old))+1<<48)) {
			return
		}
	}
}

// begin says that the owner of a bit is about to change it. If it was killed the last time it did, nobody knows what the
// bit is.
func (e *baseEntry) begin(bit int) {
	e.change(func(w flagWord) flagWord {
		if w.pending(bit) {
			w &^= 1 << (16 + bit)
		}
		return w | 1<<(32+bit)
	})
}

// done says what the bit is now, as was acknowledged.
func (e *baseEntry) done(bit int, on bool) {
	e.change(func(w flagWord) flagWord {
		w = w&^(1<<(32+bit)|1<<bit) | 1<<(16+bit)
		if on {
			w |= 1 << bit
		}
		return w
	})
}

// failed says that the bit is surely what it was before begin.
func (e *baseEntry) failed(bit int) {
	e.change(func(w flagWord) flagWord { return w &^ (1 << (32 + bit)) })
}

// lost says that nobody knows what the bit is after begin.
func (e *baseEntry) lost(bit int) {
	e.change(func(w flagWord) flagWord { return w &^ (1<<(32+bit) | 1<<(16+bit)) })
}

// forget says that nothing is known of the bits from first on.
func (e *baseEntry) forget(first int) {
	e.change(func(w flagWord) flagWord { return w &^ (0xffff >> first << first << 16) })
}
