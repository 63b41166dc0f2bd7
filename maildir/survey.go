package maildir

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Names of files of ours in a folder.
const (
	JournalName = journalName
	CacheName   = cacheName
)

// A JournalView is what the journal of a folder says, for those who compare it with the folder (maildircheck(8)).
type JournalView struct {
	UIDValidity   uint32
	UIDNext       uint32
	HighestModSeq uint64
	Bases         map[uint32]string // base names of the messages
	Paths         map[uint32]string // where they lie, below the folder
	Rest          int64             // octets at the end that are no whole records

	// List says that the journal was written by somebody who knew the UID list as it is now, Files that he knew new and cur as
	// they are now, and that nothing can have been hidden from him.
	List, Files bool
}

// ReadJournal reads the journal of the folder whose directory is open as fd, and takes no lock. fs.ErrNotExist when
// there is none; every other error says that it cannot be used.
func ReadJournal(fd int) (*JournalView, error) {
	p := &place{fd: fd}
	now, err := p.stamp(journalName)
	if err != nil {
		return nil, err
	}
	if now == (stamp{}) {
		return nil, fs.ErrNotExist
	}
	var j journal
	s, recs, err := j.readFile(p, now)
	if err != nil {
		return nil, err
	}
	v := &JournalView{
		UIDValidity: j.head.validity, UIDNext: s.next, HighestModSeq: s.modseq, Rest: j.stamp.size - j.end,
		Bases: make(map[uint32]string, len(s.uids)), Paths: make(map[uint32]string, len(s.uids)),
	}
	for i, uid := range s.uids {
		v.put(uid, nameAt(s.names, s.offsets[i]), s.table[s.wheres[i]])
	}
	seen := s.views
	for _, r := range recs {
		v.apply(&r)
		seen.take(&r.views)
	}
	return v, v.compare(p, &seen)
}

// put notes where a message lies.
func (v *JournalView) put(uid uint32, base string, w where) {
	v.Bases[uid] = base
	v.Paths[uid] = sub(w.dir) + base + w.text
	v.UIDNext = max(v.UIDNext, uid+1)
}

func (v *JournalView) apply(r *record) {
	v.HighestModSeq = max(v.HighestModSeq, r.modseq)
	for _, a := range r.added {
		v.put(a.uid, a.base, a.where)
	}
	for _, c := range r.changed {
		for _, uid := range c.uids {
			if base, ok := v.Bases[uid]; ok {
				v.put(uid, base, c.where)
			}
		}
	}
	for _, gone := range r.vanished {
		lost := func(uid uint32) {
			delete(v.Bases, uid)
			delete(v.Paths, uid)
		}
		if int64(gone.Last)-int64(gone.First) < int64(len(v.Bases)) {
			for uid := int64(gone.First); uid <= int64(gone.Last); uid++ {
				lost(uint32(uid))
			}
			continue
		}
		for uid := range v.Bases {
			if uid >= gone.First && uid <= gone.Last {
				lost(uid)
			}
		}
	}
}

// take notes what was looked at later.
func (v *views) take(later *views) {
	if later.new != nil {
		v.new = later.new
	}
	if later.cur != nil {
		v.cur = later.cur
	}
	if later.list != nil {
		v.list = later.list
	}
	if later.letters != nil {
		v.letters = later.letters
	}
}

// compare looks whether what the journal's writer has seen is what is there.
func (v *JournalView) compare(p *place, seen *views) error {
	if seen.list != nil {
		now, err := p.stamp(listName)
		if err != nil {
			return err
		}
		v.List = now == seen.list.stamp
	}
	v.Files = seen.new != nil && seen.cur != nil
	for name, d := range map[string]*dirView{"new": seen.new, "cur": seen.cur} {
		now, err := p.stamp(name)
		if err != nil {
			return err
		}
		v.Files = v.Files && now == d.stamp && d.own.IsZero() && d.settled(d.read)
	}
	return nil
}

// SurveyCache reads the cache of the folder whose directory is open as fd from its beginning to its end. It calls each
// for the entries of messages that have this UID and base name, the last one of a message last, and tells
// how many octets are no whole records. errors.Is(err, fs.ErrNotExist): there is no cache. Every other
// error says that it is none of this folder.
func SurveyCache(fd int, validity uint32, bases map[uint32]string, each func(uid uint32, e *Entry)) (rest int64, err error) {
	file, err := openat(fd, cacheName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(file)
	var st unix.Stat_t
	if err := fstat(file, &st); err != nil {
		return 0, err
	}
	var head [cacheHead]byte
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, fmt.Errorf("%w: it is no file", errNoCache)
	}
	if n, err := preadAll(file, head[:], 0); err != nil || n < cacheHead {
		return 0, errors.Join(fmt.Errorf("%w: it is cut off in its head", errNoCache), err)
	}
	id, _, ok := parseCacheHead(head[:])
	switch {
	case !ok:
		return 0, fmt.Errorf("%w: its head is damaged, or of another version", errNoCache)
	case id.validity != validity:
		return 0, fmt.Errorf("%w: it is of UIDVALIDITY %d", errNoCache, id.validity)
	}
	c := survey{id: id, fd: file, size: st.Size, bases: bases, each: each}
	return c.run()
}

// A survey walks over the records of a cache.
type survey struct {
	id    identity
	fd    int
	size  int64
	bases map[uint32]string
	each  func(uid uint32, e *Entry)
	rest  int64
}

func (c *survey) run() (int64, error) {
	buf := make([]byte, 2*maxEntry)
	var e Entry
	for at := int64(cacheHead); at < c.size; {
		n, err := preadAll(c.fd, buf[:min(int64(len(buf)), c.size-at)], at)
		if err != nil {
			return c.rest, err
		}
		if n == 0 { // cut meanwhile
			return c.rest, nil
		}
		used := 0
		for used < n {
			b := buf[used:n]
			if len(b) < maxEntry && used > 0 && at+int64(n) < c.size {
				break // read on
			}
			r, ok := c.id.parseRec(b)
			if ok && r.kind != entryRec && r.len() <= c.size-at-int64(used) {
				used += int(r.len())
				continue
			}
			if ok && r.len() <= int64(len(b)) {
				base, known := c.bases[r.uid]
				one := b[:r.len()]
				switch hash := hashBase(base); {
				case c.id.sum(one[recHead:]) != r.sum:
					c.rest += r.len()
				case known && hash == r.hash && c.id.parseEntry(one, r.uid, hash, &e):
					c.each(r.uid, &e)
				}
				used += int(r.len())
				continue
			}
			skip := len(b)
			if i := resync(b); i > 0 {
				skip = i
			}
			c.rest += int64(skip)
			used += skip
		}
		at += int64(used)
	}
	return c.rest, nil
}
