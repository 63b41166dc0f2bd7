package maildir

import "io/fs"

// JournalName is the name of the journal in a folder.
const JournalName = journalName

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
