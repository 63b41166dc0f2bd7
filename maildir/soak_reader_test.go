package maildir

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A view is what a worker saw of a folder the last time, and what it waits for.
type view struct {
	last  *State
	looks int
	odd   map[uint32]oddity
}

// An oddity is a message whose flags are not those that were acknowledged. Another process's change may show a
// little later, so it is one only when it lasts.
type oddity struct {
	word  flagWord
	since time.Time
}

// strict: a message that one process has seen going away has another UID when it is back. Not before processes tell
// each other.
const strict = true

// How long a change of another process may hide: a Folder reads cur again after a while, and the machine may be busy.
const patience = 15 * time.Second

// look syncs, and checks what is seen against what was seen before, by this worker and by all others.
func (w *worker) look(f *Folder, at int, claim bool) *State {
	v, name := &w.views[at], soakFolders[at]
	begun := time.Now()
	least := w.l.head[ledgerModSeq+at].Load()
	st, err := f.Sync(SyncOptions{Claim: claim})
	if err != nil {
		w.fail("%s: sync: %v", name, err)
	}
	raise(&w.l.head[ledgerSlow], uint64(time.Since(begun)))
	w.l.head[ledgerLooks+w.index].Add(1)
	v.looks++
	if st == v.last {
		return st
	}
	if all := &w.l.head[ledgerValidity+at]; !all.CompareAndSwap(0, uint64(st.UIDValidity)) && all.Load() != uint64(st.UIDValidity) {
		w.fail("%s: UIDVALIDITY %d was %d", name, st.UIDValidity, all.Load())
	}
	raise(&w.l.head[ledgerModSeq+at], st.HighestModSeq)
	if st.HighestModSeq < least {
		w.fail("%s: HIGHESTMODSEQ %d, and somebody has seen %d before", name, st.HighestModSeq, least)
	}
	var old []Message
	var d Diff
	known := uint64(0)
	if v.last != nil {
		old, known = v.last.List(), v.last.HighestModSeq
		if st.HighestModSeq < known {
			w.fail("%s: HIGHESTMODSEQ %d was %d", name, st.HighestModSeq, known)
		}
		if st.UIDNext < v.last.UIDNext {
			w.fail("%s: UIDNEXT %d was %d", name, st.UIDNext, v.last.UIDNext)
		}
	}
	bases := make(map[string]uint32, st.Len())
	for i, m := range st.All() {
		if i > 0 && st.At(i-1).UID >= m.UID || m.UID >= st.UIDNext {
			w.fail("%s: UID %d out of order", name, m.UID)
		}
		if u := bases[m.Key()]; u != 0 {
			w.fail("%s: %s is UID %d and %d", name, m.Key(), u, m.UID)
		}
		bases[m.Key()] = m.UID
		for len(old) > 0 && old[0].UID < m.UID {
			w.gone(at, old[0])
			old = old[1:]
		}
		if m.ModSeq > st.HighestModSeq {
			w.fail("%s: UID %d has MODSEQ %d, HIGHESTMODSEQ is %d", name, m.UID, m.ModSeq, st.HighestModSeq)
		}
		switch {
		case len(old) > 0 && old[0].UID == m.UID:
			if face(m) != face(old[0]) {
				d.Changed = append(d.Changed, m.UID)
				if strict && m.ModSeq <= known {
					w.fail("%s: UID %d has changed from %s to %s, with MODSEQ %d not above %d", name, m.UID, face(old[0]), face(m), m.ModSeq, known)
				}
			}
			if m.ModSeq < old[0].ModSeq {
				w.fail("%s: UID %d has MODSEQ %d and had %d", name, m.UID, m.ModSeq, old[0].ModSeq)
			}
			if m.ModSeq != old[0].ModSeq {
				w.say("%s: UID %d, MODSEQ %d: %s", name, m.UID, m.ModSeq, m.path())
				w.face(at, m)
			}
			if old[0].Key() != m.Key() {
				w.fail("%s: UID %d is %s, was %s", name, m.UID, m.Key(), old[0].Key())
			}
			old = old[1:]
		case v.last != nil && m.UID < v.last.UIDNext && (w.l.base(name, m.Key()).taken.Load() == 0 || strict && w.l.uid(at, m.UID).gone.Load() != 0):
			// One that nobody has seen in between may come back: who gave it the UID was killed, and it was away.
			w.fail("%s: UID %d (%s) has appeared below UIDNEXT %d", name, m.UID, m.Key(), v.last.UIDNext)
		default:
			if strict && m.ModSeq <= known {
				w.fail("%s: UID %d is new, with MODSEQ %d not above %d", name, m.UID, m.ModSeq, known)
			}
			if v.last != nil && m.UID < v.last.UIDNext {
				d.Late = append(d.Late, m.UID)
			}
			w.fresh(at, m)
		}
		if v.looks%16 == 0 {
			if t := w.l.uid(at, m.UID).gone.Load(); t != 0 && begun.Sub(time.Unix(0, t)) > patience {
				w.fail("%s: UID %d (%s) was gone for everybody %v ago, and is here", name, m.UID, m.Key(), begun.Sub(time.Unix(0, t)))
			}
		}
	}
	for _, m := range old {
		w.gone(at, m)
	}
	if v.last != nil {
		w.since(st, v.last, d)
	}
	v.last = st
	return st
}

// since checks what Since says about two pictures.
func (w *worker) since(st, last *State, d Diff) {
	is := st.Since(last)
	for _, m := range last.All() {
		if _, ok := st.Find(m.UID); !ok {
			d.Gone = append(d.Gone, m.UID)
		}
	}
	d.Fresh, _ = st.Find(last.UIDNext)
	if fmt.Sprint(is) != fmt.Sprint(d) {
		w.fail("Since says %v, and it is %v", is, d)
	}
}

// face checks that a message looks the same to everybody who sees it as of the same MODSEQ.
func (w *worker) face(at int, m Message) {
	if strict && !w.l.face(at, m) {
		w.fail("%s: UID %d as of MODSEQ %d is %s, and looked otherwise to somebody else", soakFolders[at], m.UID, m.ModSeq, face(m))
	}
}

// fresh is a message that was not there before.
func (w *worker) fresh(at int, m Message) {
	name := soakFolders[at]
	u, h := w.l.uid(at, m.UID), hash(m.Key())
	if !u.base.CompareAndSwap(0, h) && u.base.Load() != h {
		w.fail("%s: UID %d is %s, and was another for somebody else", name, m.UID, m.Key())
	}
	w.say("%s: UID %d, MODSEQ %d, is %s", name, m.UID, m.ModSeq, m.path())
	w.face(at, m)
	if !strict {
		u.gone.Store(0)
	}
	e := w.l.base(name, m.Key())
	first := e.uid.Load()
	raise(&e.uid, uint64(m.UID))
	if first != 0 && first != uint64(m.UID) && e.taken.Load() == 0 {
		w.fail("%s: %s has UID %d and had %d, and was never away", name, m.Key(), m.UID, first)
	}
}

// gone is a message that is not there any more.
func (w *worker) gone(at int, m Message) {
	w.say("%s: UID %d is gone: %s", soakFolders[at], m.UID, m.path())
	w.missing(at, m)
	w.l.uid(at, m.UID).gone.CompareAndSwap(0, time.Now().UnixNano())
}

// missing checks that a message which is not there may be missing.
func (w *worker) missing(at int, m Message) {
	if w.l.base(soakFolders[at], m.Key()).taken.Load() == 0 {
		w.fail("%s: UID %d (%s) is gone, and nobody took it", soakFolders[at], m.UID, m.path())
	}
}

// read reads one message.
func (w *worker) read(f *Folder, at int, m Message) {
	file, err := f.Reader(m)
	if errors.Is(err, ErrGone) {
		w.missing(at, m)
		return
	}
	if err != nil {
		w.fail("%s: UID %d: %v", f.Name(), m.UID, err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		w.fail("%s: UID %d: %v", f.Name(), m.UID, err)
	}
	id, ok := noteID(string(data))
	if !ok {
		w.fail("%s: UID %d (%s) is not whole: %q", f.Name(), m.UID, file.Name(), data[:min(len(data), 80)])
	}
	if !w.l.text(m.Key(), id) {
		w.fail("%s: UID %d (%s) is %s, and was another message", f.Name(), m.UID, m.Key(), id)
	}
}

// flags checks the flags that only one worker changes: what was acknowledged has to show, at once or soon.
func (w *worker) flags(f *Folder) {
	v := &w.views[ownFolder]
	words := map[uint32]flagWord{}
	if v.last != nil {
		for _, m := range v.last.All() {
			words[m.UID] = flagWord(w.l.base(f.Name(), m.Key()).word.Load())
		}
	}
	st := w.look(f, ownFolder, false)
	if v.odd == nil {
		v.odd = map[uint32]oddity{}
	}
	for _, m := range st.All() {
		word, ok := words[m.UID]
		if !ok {
			continue
		}
		wrong := -1
		for bit := range 16 {
			if word.known(bit) && !word.pending(bit) && word.is(bit) != hasBit(m, bit) {
				wrong = bit
			}
		}
		now := flagWord(w.l.base(f.Name(), m.Key()).word.Load())
		o := v.odd[m.UID]
		switch {
		case wrong < 0 || now != word:
			delete(v.odd, m.UID)
		case o.word != word || o.since.IsZero():
			v.odd[m.UID] = oddity{word, time.Now()}
		case time.Since(o.since) > patience:
			w.fail("%s: UID %d (%s): %s has been acknowledged as %v for %v", f.Name(), m.UID, m.path(), bitName(wrong),
				word.is(wrong), time.Since(o.since))
		}
	}
}

// reader follows all folders and never changes anything. It opens them anew now and then.
func (w *worker) reader() {
	for w.next() {
		at := w.folder()
		f, err := w.s.OpenFolder(soakFolders[at])
		if err != nil {
			w.fail("open: %v", err)
		}
		for range 1 + w.r.IntN(100) {
			if at == ownFolder {
				w.flags(f)
			}
			if st := w.look(f, at, false); st.Len() > 0 {
				w.read(f, at, st.At(w.r.IntN(st.Len())))
			}
			time.Sleep(time.Duration(w.r.IntN(4000)) * time.Microsecond)
			if !w.next() {
				break
			}
		}
		f.Close()
	}
}

// poller waits for changes without inotify.
func (w *worker) poller() {
	PollOnly(true)
	w.idler()
}

// idler waits for changes as IDLE does: whenever there is one, it has to be told.
func (w *worker) idler() {
	at := w.folder()
	f, err := w.s.OpenFolder(soakFolders[at])
	if err != nil {
		w.fail("open: %v", err)
	}
	defer f.Close()
	c, stop := watchFolder(f)
	defer stop()
	wake := func(d time.Duration) bool {
		select {
		case <-c:
			return true
		case <-time.After(d):
			return false
		}
	}
	for w.next() {
		woken := wake(100 * time.Millisecond)
		before := w.views[at].last
		if st := w.look(f, at, false); st == before || before == nil || woken {
			continue
		}
		// We have seen something of which nobody has told us yet.
		if !wake(pollInterval*2 + patience) {
			w.fail("%s: a change, and the watch did not tell", f.Name())
		}
	}
}
