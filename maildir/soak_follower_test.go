package maildir

import (
	"time"
)

// A follower keeps a picture of a folder as a QRESYNC client does (RFC 7162 §3.2): from time to time it learns what has
// changed and what has vanished since it asked the last time, and believes nothing else.
type follower struct {
	at    int
	since uint64
	face  map[uint32]string
	every time.Duration // between two questions
	next  time.Time
}

// follow lets several followers ask, some often and some rarely. Folders are opened anew all the time.
func (w *worker) follow() {
	var all []*follower
	for at := range soakFolders {
		for _, every := range []time.Duration{0, 300 * time.Millisecond, 5 * time.Second} {
			all = append(all, &follower{at: at, every: every})
		}
	}
	for w.next() {
		at := w.folder()
		f, err := w.s.OpenFolder(soakFolders[at])
		if err != nil {
			w.fail("open: %v", err)
		}
		for n := 1 + w.r.IntN(50); n > 0 && w.next(); n-- {
			st := w.look(f, at, false)
			for _, fl := range all {
				if fl.at == at && time.Now().After(fl.next) {
					w.resync(fl, f, st)
					fl.next = time.Now().Add(fl.every)
				}
			}
			time.Sleep(time.Duration(w.r.IntN(3000)) * time.Microsecond)
		}
		f.Close()
	}
}

// resync brings a follower up to a picture of the folder, and compares the two.
func (w *worker) resync(fl *follower, f *Folder, st *State) {
	name := soakFolders[fl.at]
	if fl.face == nil {
		fl.face = map[uint32]string{}
	} else if st.HighestModSeq != fl.since {
		vanished, whole := f.Vanished(fl.since)
		w.say("%s: since %d: %v %v", name, fl.since, vanished, whole)
		for _, r := range vanished {
			for uid := r.First; uid <= r.Last && uid < st.UIDNext; uid++ {
				if _, ok := st.Find(uid); ok {
					w.fail("%s: UID %d has vanished since %d, and is there", name, uid, fl.since)
				}
				delete(fl.face, uid)
			}
		}
		if !whole { // the server has to name all that is not there
			for uid := range fl.face {
				if _, ok := st.Find(uid); !ok {
					delete(fl.face, uid)
				}
			}
		}
	}
	for _, m := range st.All() {
		if m.ModSeq > fl.since {
			fl.face[m.UID] = face(m)
		}
	}
	for _, m := range st.All() {
		if is, ok := fl.face[m.UID]; !ok || is != face(m) {
			w.fail("%s: who follows since MODSEQ %d has UID %d as %q (%v), and it is %q, MODSEQ %d of %d", name, fl.since, m.UID,
				is, ok, face(m), m.ModSeq, st.HighestModSeq)
		}
	}
	if len(fl.face) != st.Len() {
		for uid := range fl.face {
			if _, ok := st.Find(uid); !ok {
				w.fail("%s: who follows since MODSEQ %d was not told that UID %d has vanished", name, fl.since, uid)
			}
		}
	}
	fl.since = st.HighestModSeq
	w.say("%s: followed to MODSEQ %d", name, fl.since)
}
