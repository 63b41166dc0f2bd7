package maildir

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// A sighting is a file name seen in a directory.
type sighting struct {
	uid  uint32 // 0 for unknown ones
	mark uint32
	base string
}

// A pass is one reading of new, cur, and new again where need be.
type pass struct {
	rows    blocks         // as they were
	starts  []int          // places before each block, when cur is read
	seen    []byte         // how often, by place
	few     map[uint32]int // how often, by UID, when only new is read
	moved   []sighting
	found   []sighting // lines that were absent
	unknown []sighting
	lacking []uint32 // messages not seen
	lost    []string // base names of absent lines not seen
	missing int      // how many of both are still to be judged
	readCur bool     // both directories were read
	whole   bool     // each by one system call
	stable  bool     // and did not change meanwhile, for sure
	twice   bool     // some base name stands in two places

	version            uint64 // of the box behind it
	newStamp, curStamp stamp  // before the reading
	newRead, curRead   time.Time
}

// note counts a sighting of the message at a place.
func (p *pass) note(k, i int, uid uint32) (n int) {
	if p.seen == nil {
		p.few[uid]++
		return p.few[uid]
	}
	at := &p.seen[p.starts[k]+i]
	*at = min(*at+1, 200)
	return int(*at)
}

// has tells whether a message was seen.
func (p *pass) has(uid uint32) bool {
	if p.seen == nil {
		return p.few[uid] > 0
	}
	k, i, ok := p.rows.find(uid)
	return ok && p.seen[p.starts[k]+i] > 0
}

// news tells whether there is anything that the rows do not say.
func (p *pass) news() bool {
	return len(p.unknown) > 0 || p.missing > 0 || len(p.moved) > 0 || len(p.found) > 0
}

// all makes room to count every message.
func (p *pass) all(t *table) {
	p.starts, p.seen = t.starts(), make([]byte, t.len)
	p.rows, _ = t.freeze() // whatever becomes of the rows now
	for uid, n := range p.few {
		if k, i, ok := p.rows.find(uid); ok {
			p.seen[p.starts[k]+i] = byte(min(n, 200))
		}
	}
}

// pass reads new, and cur if asked or if something has left new. A file is renamed from new to cur, so new comes first.
func (b *box) pass(readCur bool) (*pass, error) {
	b.indexed()
	p := &pass{whole: true, readCur: readCur, few: map[uint32]int{}}
	if readCur {
		p.all(&b.rows)
	}
	t := time.Now()
	newStamp, curStamp, err := b.stamps()
	if err != nil {
		return nil, err
	}
	b.new.saw(newStamp, t)
	if err := b.read(p, inNew, false); err != nil {
		return nil, err
	}
	if !p.readCur {
		for _, uid := range b.inNew.list() {
			if !p.has(uid) {
				p.readCur = true
				p.all(&b.rows)
				break
			}
		}
	}
	if p.readCur {
		if _, curStamp, err = b.stamps(); err != nil {
			return nil, err
		}
		b.cur.saw(curStamp, time.Now())
		if err := b.read(p, inCur, false); err != nil {
			return nil, err
		}
		b.cur.cost = time.Since(b.cur.read)
		b.fresh = false
	}
	newAfter, curAfter, err := b.stamps()
	if err != nil {
		return nil, err
	}
	p.newStamp, p.curStamp = newStamp, curStamp
	p.stable = p.readCur && newAfter == newStamp && curAfter == curStamp && b.new.settled(b.new.read) && b.cur.settled(b.cur.read)
	if newAfter != newStamp {
		if err := b.read(p, inNew, true); err != nil {
			return nil, err
		}
	}
	p.lacks(b)
	p.version = b.version
	p.newRead, p.curRead = b.new.read, b.cur.read
	if len(p.unknown) > 0 || p.missing > 0 { // until that has been seen to, nobody shall think it was
		b.new.read = time.Time{}
		if p.readCur {
			b.cur.read = time.Time{}
		}
	}
	return p, nil
}

// seenTo notes that all which a pass has found has its UID, and that what it has missed is gone or will be looked for.
func (b *box) seenTo(p *pass) {
	if b.new.read.IsZero() && b.new.stamp == p.newStamp {
		b.new.read = p.newRead
	}
	if b.cur.read.IsZero() && b.cur.stamp == p.curStamp && p.readCur && p.missing == 0 {
		b.cur.read = p.curRead
	}
}

// lacks finds the messages that should have been seen and were not.
func (p *pass) lacks(b *box) {
	if !p.readCur {
		return // nothing has left new
	}
	at := 0
	for _, bl := range p.rows {
		for i := range bl.n {
			if p.seen[at] == 0 {
				p.lacking = append(p.lacking, bl.uid[i])
			}
			at++
		}
	}
	if len(b.absent) > 0 {
		found := map[string]bool{}
		for _, s := range p.found {
			found[s.base] = true
		}
		for base := range b.absent {
			if !found[base] {
				p.lost = append(p.lost, base)
			}
		}
	}
	p.missing = len(p.lacking) + len(p.lost)
}

// read reads one directory; again when it is not for the first time in this pass, and only what is new counts.
func (b *box) read(p *pass, dir byte, again bool) error {
	var known map[string]bool
	if again {
		known = map[string]bool{}
		for _, s := range append(p.unknown[:len(p.unknown):len(p.unknown)], p.found...) {
			known[s.base] = true
		}
	}
	whole, err := b.dir.readNames(sub(dir)[:3], func(name []byte) {
		base := baseOf(name)
		text := name[len(base):]
		k, i, ok := b.index.find(&b.rows, asString(base)) // asString: for the length of the call only
		if !ok {
			if again && known[string(base)] {
				return
			}
			s := sighting{base: string(base), mark: b.mark(dir, text, "")}
			if r, ok := b.absent[s.base]; ok {
				s.uid = r.uid
				p.found = append(p.found, s)
			} else {
				p.unknown = append(p.unknown, s)
			}
			return
		}
		bl := b.rows.blocks[k]
		uid := bl.uid[i]
		if again && p.has(uid) {
			return
		}
		in := b.info(bl.mark[i])
		n := p.note(k, i, uid)
		if n > 1 || in.dir != nowhere && (in.dir != dir || in.text != string(text)) {
			p.moved = append(p.moved, sighting{uid, b.mark(dir, text, in.more), bl.base(i)})
		} else if in.dir == nowhere {
			b.put(uid, b.mark(dir, text, ""))
		}
	})
	p.whole = p.whole && whole
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrGone
	}
	return err
}

// apply takes over where files are now, and their flags. UIDs are not touched.
func (b *box) apply(p *pass, locked bool) {
	for _, s := range p.found {
		if r, ok := b.absent[s.base]; ok {
			delete(b.absent, s.base)
			delete(b.doubt, r.uid)
			b.add(r.uid, 0, r.saved, s.base)
			b.put(r.uid, s.mark)
		}
	}
	for _, s := range p.moved {
		if p.count(s.uid) > 1 {
			// Two names for one message: mostly one file that was renamed while we read. The one that is there counts.
			p.twice = true
			r, ok := b.rows.get(s.uid)
			in := b.info(r.mark)
			if ok && in.dir != nowhere && b.there(b.path(r)) {
				if in.dir == inCur || !sameFile(b.dir.fd, b.path(r), b.dir.fd, b.pathOf(s)) {
					continue // gone again, or another file: a twin
				}
			}
		}
		b.put(s.uid, s.mark)
	}
	if p.twice && locked {
		b.twins(p)
	}
	for uid := range b.doubt {
		if p.has(uid) {
			delete(b.doubt, uid)
		}
	}
}

func (p *pass) count(uid uint32) int {
	if p.seen == nil {
		return p.few[uid]
	}
	if k, i, ok := p.rows.find(uid); ok {
		return int(p.seen[p.starts[k]+i])
	}
	return 0
}

// pathOf is where a file was seen, below the folder.
func (b *box) pathOf(s sighting) string { return b.info(s.mark).path(s.base) }

// there tells whether a file has this name right now.
func (b *box) there(path string) bool {
	var st unix.Stat_t
	return statat(b.dir.fd, path, &st) == nil
}

// bury marks what was not seen as gone when that is sure, and doubts it otherwise.
func (b *box) bury(p *pass, sure bool) {
	if p.missing == 0 {
		return
	}
	p.missing = 0
	for _, uid := range p.lacking {
		if _, ok := b.rows.get(uid); !ok {
			continue
		}
		if !sure && b.doubts(uid) {
			p.missing++
			continue
		}
		b.vanish(uid)
	}
	for _, base := range p.lost {
		uid := b.absent[base].uid
		if !sure && b.doubts(uid) {
			p.missing++
			continue
		}
		delete(b.exts, uid)
		delete(b.absent, base)
		delete(b.doubt, uid)
	}
}

// doubts tells whether a message that was not found may be there all the same, to be looked for again.
func (b *box) doubts(uid uint32) bool {
	d := b.doubt[uid]
	if d.looks == 0 {
		d.since = time.Now()
	}
	d.looks++
	if d.looks >= maxDoubts && time.Since(d.since) >= minDoubt {
		return false
	}
	if b.doubt == nil {
		b.doubt = map[uint32]doubt{}
	}
	b.doubt[uid] = d
	b.cur.read = time.Time{}
	return true
}
