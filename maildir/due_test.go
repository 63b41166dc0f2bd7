package maildir

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Dues are what somebody outside was told, or has asked for without an answer yet: what a Maildir is held to after a
// power cut. Folders go by what they were first called, whatever their names became.
type dues struct {
	folders  map[string]*folderDue
	messages map[string][]messageDue // by the id in the message
	subs     map[string]due
	prepared []string // files in tmp that Finish has to bring out
	posix    bool     // a rename may leave both names
}

// due says whether something has to be there.
type due byte

const (
	never due = iota
	maybe
	certain
)

type folderDue struct {
	due      due
	names    []string // one of them
	validity uint32
	next     uint32
	modseq   uint64
	uids     map[uint32]string // the id of each UID that was told
	now      map[string]uint32 // the UID that was told last, by ids
	marked   map[string]string // keywords that messages were appended with, by their ids
}

// A messageDue is that from least to most copies of a message lie in some folders together.
type messageDue struct {
	in          []string
	least, most int
}

func newDues() *dues {
	return &dues{folders: map[string]*folderDue{}, messages: map[string][]messageDue{}, subs: map[string]due{}}
}

func (l *dues) folder(name string) *folderDue {
	f := l.folders[name]
	if f == nil {
		f = &folderDue{due: certain, names: []string{name}, uids: map[uint32]string{}, now: map[string]uint32{}, marked: map[string]string{}}
		l.folders[name] = f
	}
	return f
}

// message changes what is due of a message in one folder.
func (l *dues) message(id, folder string, least, most int) {
	l.folder(folder)
	for i, m := range l.messages[id] {
		if slices.Contains(m.in, folder) {
			l.messages[id][i] = messageDue{[]string{folder}, least, most}
			return
		}
	}
	l.messages[id] = append(l.messages[id], messageDue{[]string{folder}, least, most})
}

// moves is that a message is on its way: in one of two folders. Where a rename may leave both names, in both.
func (l *dues) moves(id, from, to string) {
	delete(l.folder(to).now, id) // it gets another one
	for i, m := range l.messages[id] {
		if slices.Contains(m.in, from) {
			m.in, m.most = []string{from, to}, 1
			if l.posix {
				m.most = 2
			}
			l.messages[id][i] = m
		}
	}
}

// moved is that it has come there.
func (l *dues) moved(id, to string) { l.message(id, to, 1, 1) }

// deleted is that a folder is being removed, or is.
func (l *dues) deleted(name string, d due) {
	l.folder(name).due = d
	for id, list := range l.messages {
		for i, m := range list {
			if slices.Equal(m.in, []string{name}) {
				l.messages[id][i].least = 0
			}
		}
	}
}

// tell notes a picture that somebody has seen. ids are those of its messages.
func (l *dues) tell(name string, st *State, ids []string) {
	f := l.folder(name)
	f.validity, f.next, f.modseq = st.UIDValidity, max(f.next, st.UIDNext), max(f.modseq, st.HighestModSeq)
	for i, m := range st.All() {
		if ids[i] != "" {
			f.uids[m.UID], f.now[ids[i]] = ids[i], m.UID
		}
	}
}

// found is a message as it lies there after the cut.
type found struct {
	folder string // as the dues call it
	m      Message
}

// slow is what is said of a Maildir that does not open at once.
const slow = "opening took too long"

// check opens a Maildir after a cut, and tells what is not as it has to be.
func (l *dues) check(t testing.TB, path string) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	l.files(path, bad)
	begun := time.Now()
	s, err := Open(path)
	if err != nil {
		bad("open: %v", err)
		return wrong
	}
	defer s.Close()
	list, err := s.List()
	if err != nil {
		bad("list: %v", err)
		return wrong
	}
	for _, name := range l.prepared {
		if _, err := s.Finish(name); err != nil {
			bad("finish: %v", err)
		}
	}
	there := map[string][]found{}
	named := map[string]string{}
	for key, f := range l.folders {
		var names []string
		for _, info := range list {
			if !info.NoSelect && slices.Contains(f.names, info.Name) {
				names = append(names, info.Name)
			}
		}
		switch {
		case len(names) > 1, len(names) == 0 && f.due == certain, len(names) > 0 && f.due == never:
			bad("folder %s: due %d, is %q of %q", key, f.due, names, f.names)
		case len(names) == 1:
			named[names[0]] = key
			l.openFolder(s, key, names[0], there, bad)
		}
	}
	for _, info := range list {
		if named[info.Name] == "" && !info.NoSelect && info.Name != inbox {
			bad("folder %s: nobody has made it", info.Name)
		}
	}
	l.counts(there, named, bad)
	l.subscriptions(s, bad)
	if took := time.Since(begun); took > time.Second {
		bad("%s: %v", slow, took)
	}
	return wrong
}

// files looks at the files themselves: nothing half is ever in new or cur.
func (l *dues) files(path string, bad func(string, ...any)) {
	for _, glob := range []string{"new/*", "cur/*", ".*/new/*", ".*/cur/*"} {
		names, _ := filepath.Glob(filepath.Join(path, glob))
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				bad("%v", err)
			} else if id, ok := whole(data); !ok || l.messages[id] == nil {
				bad("%s: half, or nobody's: %d octets %.40q", name, len(data), data)
			}
		}
	}
}

func (l *dues) openFolder(s *Store, key, name string, there map[string][]found, bad func(string, ...any)) {
	due := l.folders[key]
	f, err := s.OpenFolder(name)
	if err != nil {
		bad("%s: %v", name, err)
		return
	}
	defer f.Close()
	st, err := f.Sync(SyncOptions{Claim: true})
	if err != nil {
		bad("%s: %v", name, err)
		return
	}
	if due.validity != 0 && st.UIDValidity != due.validity {
		bad("%s: UIDVALIDITY %d became %d", name, due.validity, st.UIDValidity)
	}
	if st.HighestModSeq < due.modseq {
		bad("%s: HIGHESTMODSEQ %d became %d", name, due.modseq, st.HighestModSeq)
	}
	if gone, ok := f.Vanished(due.modseq); ok {
		for _, m := range st.All() {
			if uidSet(gone).has(m.UID) {
				bad("%s: UID %d is there, and has vanished", name, m.UID)
			}
		}
	}
	last := due.next
	for _, m := range st.All() {
		var data []byte
		r, err := f.Reader(m)
		if err == nil {
			data, err = io.ReadAll(r)
			r.Close()
		}
		id, ok := whole(data)
		if err != nil || !ok {
			bad("%s: UID %d: %v, half: %.40q", name, m.UID, err, data)
			continue
		}
		if n, err := f.Size(m); err != nil || n != int64(len(text(id))) {
			bad("%s: UID %d: %d octets, %v", name, m.UID, n, err)
		}
		if was, told := due.uids[m.UID]; told && was != id {
			bad("%s: UID %d was %s, is %s", name, m.UID, was, id)
		}
		if uid, told := due.now[id]; told && uid != m.UID {
			bad("%s: %s had UID %d, has %d", name, id, uid, m.UID)
		}
		if k := due.marked[id]; k != "" && !m.HasKeyword(k) {
			bad("%s: UID %d: has %q, not %s", name, m.UID, m.Keywords(), k)
		}
		last = max(last, m.UID+1)
		there[id] = append(there[id], found{key, m})
	}
	if st.UIDNext < last {
		bad("%s: UIDNEXT %d, was %d", name, st.UIDNext, last)
	}
	// What comes next gets a new UID.
	if uid, err := f.Append(AppendOptions{}, strings.NewReader(text("next"))); err != nil || uid < last {
		bad("%s: the next UID is %d %v, not %d", name, uid, err, last)
	}
	if again, err := f.Sync(SyncOptions{}); err != nil || again.Len() != st.Len()+1 || again.HighestModSeq < st.HighestModSeq {
		bad("%s: once more: %v", name, err)
	}
	f.Close() // what follows is what another process reads
	other, err := s.OpenFolder(name)
	if err != nil {
		bad("%s: %v", name, err)
		return
	}
	defer other.Close()
	again, err := other.Sync(SyncOptions{})
	if err != nil || again.Len() != st.Len()+1 || again.UIDValidity != st.UIDValidity || again.HighestModSeq < st.HighestModSeq {
		bad("%s: opened again: %v", name, err)
		return
	}
	for i, m := range st.All() {
		if now := again.At(i); now.UID != m.UID || now.Key() != m.Key() || now.Flags != m.Flags || now.ModSeq != m.ModSeq {
			bad("%s: opened again, UID %d %s %v is %d %s %v", name, m.UID, m.Flags, m.ModSeq, now.UID, now.Flags, now.ModSeq)
		}
	}
}

// counts compares what is there with what is due.
func (l *dues) counts(there map[string][]found, named map[string]string, bad func(string, ...any)) {
	opened := slices.Collect(maps.Values(named))
	for id, list := range l.messages {
		due := map[string]bool{}
		for _, m := range list {
			n, gone := 0, true
			for _, name := range m.in {
				due[name] = true
				gone = gone && !slices.Contains(opened, name)
			}
			for _, f := range there[id] {
				if slices.Contains(m.in, f.folder) {
					n++
				}
			}
			if n > m.most || n < m.least && !(gone && l.folders[m.in[0]].due != certain) {
				bad("%s: is in %q %d times, not %d to %d", id, m.in, n, m.least, m.most)
			}
		}
		for _, f := range there[id] {
			if !due[f.folder] {
				bad("%s: is in %s", id, f.folder)
			}
		}
	}
}

func (l *dues) subscriptions(s *Store, bad func(string, ...any)) {
	names, err := s.Subscriptions()
	if err != nil {
		bad("subscriptions: %v", err)
	}
	for name, d := range l.subs {
		if is := slices.Contains(names, name); is && d == never || !is && d == certain {
			bad("subscription %s: due %d, is %v", name, d, is)
		}
	}
	for _, name := range names {
		if l.subs[name] == never {
			bad("subscription %s: nobody has asked for it", name)
		}
	}
	if err := s.Subscribe("next"); err != nil {
		bad("subscribe: %v", err)
	}
}

// deadOwner gives the locks of this process to one that has died with the power.
func deadOwner(_ string, data []byte) []byte {
	if _, host, ok := strings.Cut(lockContent(), ":"); ok && bytes.Equal(data, []byte(lockContent())) {
		return []byte("4194305:" + host) // beyond the largest pid
	}
	return data
}

// What a reading has found, and nobody has seen to, because the lock was not to be had or another process has changed the
// folder meanwhile, is found again by the next look.
func TestFoundAgain(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "a")
	f := open(t, s, "INBOX")
	look(t, f, false)
	put(t, s, "cur/b:2,S", "b")
	put(t, s, "new/c", "c")
	time.Sleep(2 * fineGrain) // nothing can hide any more
	f.box.mu.Lock()
	p, more, err := f.box.look(false)
	f.box.mu.Unlock()
	if err != nil || !more || len(p.unknown) != 2 {
		t.Fatalf("%+v, %v, %v", p, more, err)
	}
	if st := look(t, f, false); st.Len() != 3 {
		t.Errorf("%d messages: %v", st.Len(), keys(st))
	}
}
