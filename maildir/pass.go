package maildir

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// A sighting is a file name seen in a directory.
type sighting struct {
	line int // of the UID list, -1 for unknown ones
	dir  byte
	base string
	info *info
}

// A pass is one reading of new, cur, and new again where need be.
type pass struct {
	seen    []byte // per line: how often
	moved   []sighting
	unknown []sighting
	missing int  // lines not seen
	readCur bool // both directories were read
	whole   bool // each by one system call
	stable  bool // and did not change meanwhile, for sure
	twice   bool // some base name stands in two places
}

// pass reads new, and cur if asked or if something has left new. A file is renamed from new to cur, so new comes first.
func (f *Folder) pass(readCur bool) (*pass, error) {
	p := &pass{seen: make([]byte, len(f.lines)), whole: true, readCur: readCur}
	t := time.Now()
	newStamp, curStamp, err := f.stamps()
	if err != nil {
		return nil, err
	}
	f.new.saw(newStamp, t)
	if err := f.read(p, inNew, false); err != nil {
		return nil, err
	}
	if !p.readCur {
		for i, m := range f.lines {
			if m.dir == inNew && p.seen[i] == 0 {
				p.readCur = true
				break
			}
		}
	}
	if p.readCur {
		if _, curStamp, err = f.stamps(); err != nil {
			return nil, err
		}
		f.cur.saw(curStamp, time.Now())
		if err := f.read(p, inCur, false); err != nil {
			return nil, err
		}
		f.cur.cost = time.Since(f.cur.read)
	}
	newAfter, curAfter, err := f.stamps()
	if err != nil {
		return nil, err
	}
	p.stable = p.readCur && newAfter == newStamp && curAfter == curStamp && f.new.settled(f.new.read) && f.cur.settled(f.cur.read)
	if newAfter != newStamp {
		if err := f.read(p, inNew, true); err != nil {
			return nil, err
		}
	}
	for i, m := range f.lines {
		if p.seen[i] == 0 && m.dir != gone && (p.readCur || m.dir == inNew) {
			p.missing++
		}
	}
	return p, nil
}

// read reads one directory; again when it is not for the first time in this pass, and only what is new counts.
func (f *Folder) read(p *pass, dir byte, again bool) error {
	var known map[string]bool
	if again {
		known = map[string]bool{}
		for _, s := range p.unknown {
			known[s.base] = true
		}
	}
	whole, err := f.dir.readNames(sub(dir)[:3], func(name []byte) {
		base := baseOf(name)
		i, ok := f.index.find(f.lines, base)
		if ok && f.lines[i].dir == gone { // it has come back
			ok = false
		}
		if !ok {
			if !again || !known[string(base)] {
				p.unknown = append(p.unknown, sighting{-1, dir, string(base), f.info(name[len(base):])})
			}
			return
		}
		if again && p.seen[i] > 0 {
			return
		}
		p.seen[i] = min(p.seen[i]+1, 200)
		m := f.lines[i]
		if p.seen[i] > 1 || m.dir != nowhere && (m.dir != dir || m.info.text != string(name[len(base):])) {
			p.moved = append(p.moved, sighting{i, dir, m.base, f.info(name[len(base):])})
		} else if m.dir == nowhere {
			f.seenAt(i, dir, f.info(name[len(base):]))
		}
	})
	p.whole = p.whole && whole
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrGone
	}
	return err
}

// apply takes over where files are now, and their flags. UIDs are not touched.
func (f *Folder) apply(p *pass, locked bool) {
	for _, s := range p.moved {
		m := f.lines[s.line]
		if p.seen[s.line] > 1 {
			// Two names for one message: mostly one file that was renamed while we read. The one that is there counts.
			p.twice = true
			if m.dir != nowhere && f.there(m.path()) && (m.dir == inCur || !f.there(sub(s.dir)+s.base+s.info.text)) {
				continue
			}
		}
		f.seenAt(s.line, s.dir, s.info)
	}
	if p.twice && locked {
		f.twins(p)
	}
	f.inNew = 0
	f.unseen = 0
	for _, m := range f.lines {
		switch m.dir {
		case inNew:
			f.inNew++
		case nowhere:
			f.unseen++
		}
	}
	for uid := range f.doubt {
		if i, ok := findUID(f.lines, uid); ok && p.seen[i] > 0 {
			delete(f.doubt, uid)
		}
	}
}

// seenAt notes that a message lies there, under that name.
func (f *Folder) seenAt(i int, dir byte, in *info) {
	m := f.lines[i]
	if m.dir == dir && m.info == in {
		return
	}
	if m.dir == nowhere {
		if dir == inNew {
			f.recent.add(m.UID)
		}
		f.changed = true // never shown: it may still change
	} else {
		c := *m
		m = &c
		f.lines[i] = m
		f.touched = append(f.touched, m)
	}
	m.dir, m.info, m.Flags = dir, in, in.flags
}

// there tells whether a file has this name right now.
func (f *Folder) there(path string) bool {
	var st unix.Stat_t
	return statat(f.dir.fd, path, &st) == nil
}

// bury marks what was not seen as gone when that is sure, and doubts it otherwise.
func (f *Folder) bury(p *pass, sure bool) {
	if p.missing == 0 {
		return
	}
	for i, m := range f.lines {
		if p.seen[i] > 0 || m.dir == gone || !p.readCur && m.dir != inNew {
			continue
		}
		if !sure && m.dir != nowhere {
			d := f.doubt[m.UID]
			if d.looks == 0 {
				d.since = time.Now()
			}
			d.looks++
			if d.looks < maxDoubts || time.Since(d.since) < minDoubt {
				if f.doubt == nil {
					f.doubt = map[uint32]doubt{}
				}
				f.doubt[m.UID] = d
				f.cur.read = time.Time{} // look again next time
				continue
			}
		}
		f.mark(i, gone)
		p.missing--
	}
	if p.missing > 0 && sure {
		p.missing = 0
	}
}

// mark notes that a message is gone.
func (f *Folder) mark(i int, dir byte) {
	m := f.lines[i]
	if m.dir != nowhere {
		f.changed = true
	} else {
		f.unseen--
	}
	if m.dir == inNew {
		f.inNew--
	}
	c := *m
	c.dir = dir
	f.lines[i] = &c
	delete(f.sizes, m.UID)
	delete(f.doubt, m.UID)
}
