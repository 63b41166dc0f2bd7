package maildir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	journalName = "pennypost-journal"
	journalTmp  = "pennypost-journal.tmp"
)

var (
	errNoJournal    = errors.New("there is no journal that can be used")
	errJournalMoved = errors.New("the journal is not as we read it")
)

// A journal is how far somebody has read the journal of a folder. Reading needs no lock: the file only grows, or is
// replaced. Writing needs the folder's lock, and that all was read under it before.
type journal struct {
	folder string      // its name, for the log
	stamp  stamp       // of the file when we last looked
	head   journalHead // of the generation we have read
	start  int64       // where its changes begin; 0: there is no journal that can be used
	end    int64       // octets of it in whole records
	crc    uint32      // of the last of them
	failed bool        // a sync of the file has failed: what another one says of it means nothing
}

// validity gives the UIDVALIDITY that the journal is about, 0 when there is none.
func (j *journal) validity() uint32 {
	if j.start == 0 {
		return 0
	}
	return j.head.validity
}

// read gives what is new in the journal: records, or a snapshot and the records behind it when it is another one than
// before; nothing when nothing is new. errNoJournal when there is none, or one that cannot be used, which is logged once.
// A record that is not whole ends the reading; the next writer cuts it off.
func (j *journal) read(p *place) (*snapshot, []record, error) {
	now, err := p.stamp(journalName)
	if err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	if now == (stamp{}) {
		j.lose(stamp{})
		return nil, nil, errNoJournal
	}
	if now == j.stamp {
		return nil, nil, j.usable()
	}
	s, recs, err := j.readFile(p, now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.lose(stamp{})
		return nil, nil, errNoJournal
	case errors.Is(err, errNoJournal):
		slog.Warn("the journal cannot be used, a new one is begun", "folder", j.folder, "err", err)
		return nil, nil, err
	case err != nil:
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	return s, recs, nil
}

// lose forgets what was read: the file that looks like this is no journal that can be used.
func (j *journal) lose(now stamp) { *j = journal{folder: j.folder, stamp: now} }

func (j *journal) usable() error {
	if j.start == 0 {
		return errNoJournal
	}
	return nil
}

func (j *journal) readFile(p *place, now stamp) (*snapshot, []record, error) {
	fd, err := openat(p.fd, journalName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == unix.ELOOP || err == unix.EACCES {
		if j.lose(now); err == unix.ELOOP {
			err = errors.New("it is a symbolic link")
		}
		return nil, nil, fmt.Errorf("%w: %w", errNoJournal, err)
	}
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return nil, nil, err
	}
	now = stampOf(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxJournal {
		j.lose(now)
		return nil, nil, fmt.Errorf("%w: it is no file, or too large", errNoJournal)
	}
	src := fileSource{fd: fd, size: st.Size}
	if recs, ok, err := j.resume(src, now); err != nil || ok {
		return nil, recs, err
	}
	return j.begin(src, now)
}

// resume reads on. False when the file is not the one we know, or seems not to be: then it is read from the beginning.
func (j *journal) resume(src source, now stamp) ([]record, bool, error) {
	if j.start == 0 || now.ino != j.stamp.ino || now.size < j.end {
		return nil, false, nil
	}
	head, err := src.read(0, headSize)
	if err != nil {
		return nil, false, err
	}
	var h journalHead
	if _, err := h.decode(head); err != nil || h != j.head {
		return nil, false, nil
	}
	tail, err := src.read(j.end, now.size-j.end)
	if err != nil {
		return nil, false, err
	}
	recs, used, crc := decodeChanges(tail, j.crc)
	if used == 0 && len(tail) > 0 {
		return nil, false, nil // torn, or another past of the same journal
	}
	j.stamp, j.end, j.crc = now, j.end+int64(used), crc
	return recs, true, nil
}

// begin reads a journal from its beginning. Without a snapshot when it turns out to be the one we know.
func (j *journal) begin(src source, now stamp) (*snapshot, []record, error) {
	next := journal{folder: j.folder, stamp: now}
	s, recs, err := next.decode(src)
	if err == nil && next.head == j.head && next.end == j.end && next.crc == j.crc && j.start != 0 {
		s, recs = nil, nil
	}
	if err != nil && !errors.Is(err, errNoJournal) {
		next = journal{folder: j.folder} // the next read tries again
	}
	*j = next
	return s, recs, err
}

// decode reads the whole of a journal.
func (j *journal) decode(src source) (*snapshot, []record, error) {
	size := j.stamp.size
	b, err := src.read(0, min(headSize, size))
	if err != nil {
		return nil, nil, err
	}
	var h journalHead
	crc, err := h.decode(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoJournal, err)
	}
	s, crc, end, err := readSnapshot(src, size, crc)
	if err != nil {
		return nil, nil, err
	}
	b, err = src.read(end, size-end)
	if err != nil {
		return nil, nil, err
	}
	recs, used, crc := decodeChanges(b, crc)
	j.head, j.start, j.end, j.crc = h, end, end+int64(used), crc
	return s, recs, nil
}

// readSnapshot reads the first record. The names get a piece of memory of their own, which lives as long as the snapshot.
func readSnapshot(src source, size int64, before uint32) (s *snapshot, crc uint32, end int64, err error) {
	damaged := fmt.Errorf("%w: %w", errNoJournal, errDamaged)
	if size < headSize+recordHead+4 {
		return nil, 0, 0, damaged
	}
	lead, err := src.read(headSize, recordHead+4)
	if err != nil {
		return nil, 0, 0, err
	}
	d := decoder{b: lead}
	length := int64(d.u32())
	kind := d.u8()
	d.take(3)
	want, namesLen := d.u32(), int64(d.u32())
	end = headSize + recordHead + length
	if kind != kindSnapshot || end > size || namesLen+snapshotHead > length {
		return nil, 0, 0, damaged
	}
	b, err := src.read(headSize, recordHead+length-namesLen)
	if err != nil {
		return nil, 0, 0, err
	}
	names, err := src.read(end-namesLen, namesLen)
	if err != nil {
		return nil, 0, 0, err
	}
	crc = crc32.Update(before, castagnoli, b[:8])
	crc = crc32.Update(crc, castagnoli, b[recordHead:])
	crc = crc32.Update(crc, castagnoli, names)
	s = &snapshot{}
	if crc != want || s.decode(b[recordHead:], unsafe.String(unsafe.SliceData(names), len(names))) != nil {
		return nil, 0, 0, damaged
	}
	return s, crc, end, nil
}

// decodeChanges reads whole records, and tells how many octets they are, and the crc of the last.
func decodeChanges(b []byte, before uint32) (recs []record, used int, crc uint32) {
	crc = before
	for rest := b; ; {
		kind, payload, more, next, ok := cutRecord(rest, crc)
		if !ok {
			return recs, len(b) - len(rest), crc
		}
		if kind == kindChange {
			var r record
			if r.decode(payload) != nil {
				return recs, len(b) - len(rest), crc
			}
			recs = append(recs, r)
		}
		rest, crc = more, next
	}
}

// A source is what a journal is read from: fewer octets than asked for are given only where it ends.
type source interface {
	read(at, n int64) ([]byte, error)
}

// A fileSource gives each piece in memory of its own.
type fileSource struct {
	fd   int
	size int64
}

func (s fileSource) read(at, n int64) ([]byte, error) {
	b := make([]byte, n)
	done, err := preadAll(s.fd, b, at)
	if err != nil {
		return nil, err
	}
	if done < len(b) { // cut meanwhile: what is missing shows as damage
		return nil, fmt.Errorf("%w: %w", errNoJournal, io.ErrUnexpectedEOF)
	}
	return b, nil
}

// append adds a change, under the lock, after read has read all. With durable it is on disk when append returns nil.
// errJournalMoved when the file is not as we read it: then read comes first. A record that somebody else did not
// write to its end is cut off before.
func (j *journal) append(p *place, r *record, durable bool) error {
	if err := j.add(p, r, durable); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *journal) add(p *place, r *record, durable bool) error {
	if j.start == 0 {
		return errNoJournal
	}
	fd, err := openat(p.fd, journalName, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errJournalMoved
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return err
	}
	if stampOf(&st) != j.stamp {
		return errJournalMoved
	}
	if st.Size > j.end {
		slog.Warn("the journal has a torn end, which is cut off", "folder", j.folder, "octets", st.Size-j.end)
		if err := ftruncate(fd, j.end); err != nil {
			return err
		}
	}
	b, crc := r.encode(j.crc)
	if j.end+int64(len(b)) > maxJournal {
		return unix.EFBIG
	}
	if err := writeAll(fd, b); err != nil {
		ftruncate(fd, j.end) // if that fails too, it is a torn end
		return err
	}
	if durable {
		if err := fdatasync(fd); err != nil {
			ftruncate(fd, j.end)
			j.failed = true
			return err
		}
	}
	if err := fstat(fd, &st); err != nil {
		return err
	}
	j.stamp, j.end, j.crc = stampOf(&st), j.end+int64(len(b)), crc
	return nil
}

// replace begins a new generation with a snapshot, under the lock. Without durable a power cut may
// leave nothing of it: for a folder that had no journal before.
func (j *journal) replace(p *place, validity uint32, s *snapshot, durable bool) error {
	next, err := j.renew(p, validity, s, durable)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	*j = next
	return nil
}

func (j *journal) renew(p *place, validity uint32, s *snapshot, durable bool) (journal, error) {
	next := journal{folder: j.folder, head: journalHead{validity: validity}}
	rand.Read(next.head.generation[:])
	head := next.head.encode()
	b, names, crc := s.encode(crcOf(head))
	next.start = int64(len(head) + len(b) + len(names))
	if next.start > maxJournal {
		return journal{}, unix.EFBIG
	}
	next.end, next.crc = next.start, crc
	if err := p.unlink(journalTmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return journal{}, err
	}
	fd, err := p.create(journalTmp)
	if err != nil {
		return journal{}, err
	}
	defer unix.Close(fd)
	for _, piece := range [][]byte{head, b, names} {
		if err == nil {
			err = writeAll(fd, piece)
		}
	}
	if err == nil && durable {
		err = fsync(fd)
	}
	var st unix.Stat_t
	if err == nil {
		err = fstat(fd, &st)
	}
	if err == nil {
		err = renameat(p.fd, journalTmp, p.fd, journalName)
	}
	if err != nil {
		p.unlink(journalTmp)
		return journal{}, err
	}
	next.stamp = stampOf(&st)
	if durable {
		err = fsync(p.fd)
	}
	return next, err
}

// wantsReplace tells whether so much has been added to the journal that it should be written anew, or whether only a
// new file can be trusted to reach the disk.
func (j *journal) wantsReplace() bool {
	return j.failed || j.end-j.start > max(64<<10, j.start/2)
}

func crcOf(head []byte) uint32 { return crc32.Checksum(head[:headSize-4], castagnoli) }

// octets gives a text as octets that must not be written to.
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
