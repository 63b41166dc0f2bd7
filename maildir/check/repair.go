package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir"
)

// A task is a finding, and what is done about it under the lock. What has to do with the UID list is gathered and done at
// the end, by one new list.
type task struct {
	Finding
	do     func(*mending) error
	listed bool // the new list does it
}

// errLater says that the new UID list will do it.
var errLater = errors.New("by the new list")

// plan tells of a finding that something can be done about; with Repair when that has been tried.
func (f *folder) plan(fd Finding, do func(*mending) error) {
	fd.Folder, fd.File = f.name, f.below(fd.File)
	if fd.UID == 0 && f.sub != fd.File {
		fd.UID = f.uidOf(strings.TrimPrefix(fd.File, f.sub+"/"))
	}
	if !f.c.o.Repair {
		f.c.tell(fd)
		return
	}
	f.todo = append(f.todo, &task{Finding: fd, do: do})
}

// A mending is the work on one folder under its lock.
type mending struct {
	f       *folder
	m       *maildir.Mender
	now     map[string]file      // by base name, how the messages are called now
	ino     map[uint64]file      // the same by inode
	list    *uidList             // as it is now, nil without one
	journal *maildir.JournalView // likewise
	uids    map[string]uint32

	write    bool                 // the list
	rebase   []maildir.Renamed    // messages in the list that get another base name
	rebasing map[uint32]int       // which of them has a UID
	unsized  map[uint32]bool      // lines that lose their fields S and W
	names    *[maxKeywords]string // of the keywords, to be written
}

// repair does all that is to be done in the folder.
func (f *folder) repair() {
	m := &mending{
		f: f, now: map[string]file{}, ino: map[uint64]file{}, uids: map[string]uint32{}, rebasing: map[uint32]int{}, unsized: map[uint32]bool{},
	}
	err := m.begin()
	if err == nil {
		for _, t := range f.todo {
			m.m.Touch()
			if t.Err = t.do(m); errors.Is(t.Err, errLater) {
				t.listed, t.Err = true, nil
			}
		}
		kerr, lerr := m.writeKeywords(), m.writeList()
		if err = m.m.Close(); err == nil {
			err = kerr
		}
		for _, t := range f.todo {
			if t.listed && t.Err == nil {
				t.Err = lerr
			}
		}
	}
	for _, t := range f.todo {
		if t.Err == nil {
			t.Err = err
		}
		t.Mended = t.Err == nil
		f.c.tell(t.Finding)
	}
	f.todo = nil
}

// begin takes the lock and looks again how the messages are called.
func (m *mending) begin() (err error) {
	if m.m, err = maildir.OpenMender(m.f.c.path, m.f.sub); err != nil {
		return err
	}
	for _, sub := range []string{"new", "cur"} {
		entries, err := m.f.dir.entries(sub)
		if err != nil {
			return errors.Join(err, m.m.Close())
		}
		for _, e := range entries {
			m.called(file{sub, e.name, e.kind, e.ino})
		}
	}
	data, _, err := m.f.dir.read(listName)
	if err == nil {
		m.list = parseList(string(data))
		for _, ln := range m.list.lines {
			m.uids[ln.base] = ln.uid
		}
	}
	return nil
}

// done is for what the lock alone has done.
func (*mending) done() error { return nil }

func (m *mending) marker() error { return m.m.Replace("maildirfolder", nil) }

func (m *mending) aside(name string) error { return m.m.Aside(name) }

func (m *mending) leftover(name string) error {
	return m.m.RemoveStale(name, m.f.c.begun.Add(-leftover))
}

func (m *mending) stale(name string, age time.Duration) error {
	err := m.m.RemoveStale(name, m.f.c.begun.Add(-age))
	if errors.Is(err, fs.ErrNotExist) { // its place was needed
		return nil
	}
	return err
}

// called notes how a file is called now.
func (m *mending) called(e file) {
	base, _ := split(e.name)
	m.now[base], m.ino[e.ino] = e, e
}

// find gives a file by what it is called now.
func (m *mending) find(e file) (file, error) {
	base, _ := split(e.name)
	if now, ok := m.now[base]; ok && now.ino == e.ino {
		return now, nil
	}
	if now, ok := m.ino[e.ino]; ok {
		return now, nil
	}
	return e, fs.ErrNotExist
}

// asideFile sets aside what is in new or cur.
func (m *mending) asideFile(e file) error {
	now, err := m.find(e)
	if err != nil {
		return gone(err)
	}
	return m.aside(now.path())
}

// each does something with messages; those that are gone are left out.
func (m *mending) each(files []file, do func(path string) error) error {
	for _, e := range files {
		m.m.Touch()
		now, err := m.find(e)
		if err == nil {
			err = do(now.path())
		}
		if gone(err) != nil {
			return err
		}
	}
	return nil
}

func (m *mending) own(path string) error {
	return m.m.SetOwner(path, int(m.f.c.st.Uid), int(m.f.c.st.Gid))
}

// flags puts the flags in the name of a file in order.
func (m *mending) flags(e file) error {
	now, err := m.find(e)
	if err != nil {
		return gone(err)
	}
	base, text := split(now.name)
	if to := base + parseInfo(text).right; to != now.name {
		return m.rename(now, to)
	}
	return nil
}

func (m *mending) rename(now file, to string) error {
	if err := m.m.Rename(now.path(), to); err != nil {
		return err
	}
	base, _ := split(now.name)
	delete(m.now, base)
	m.called(file{now.sub, to, now.kind, now.ino})
	return nil
}

// newBase gives a message another base name. Where it is in the list, the list has to follow.
func (m *mending) newBase(now file, base string) error {
	old, text := split(now.name)
	to := base + parseInfo(text).right
	uid := m.uids[old]
	if uid == 0 {
		return m.rename(now, to)
	}
	m.write = true
	if i, ok := m.rebasing[uid]; ok {
		m.rebase[i].To = to
	} else {
		m.rebasing[uid] = len(m.rebase)
		m.rebase = append(m.rebase, maildir.Renamed{UID: uid, Sub: now.sub, From: now.name, To: to})
	}
	return errLater
}

// unique gives a message a base name of its own.
func (m *mending) unique(e file) error {
	now, err := m.find(e)
	if err != nil {
		return gone(err)
	}
	return m.newBase(now, maildir.UniqueName())
}

// gone says that a message which is no longer there is well.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// resize counts a message again and gives it a name with the right sizes.
func (m *mending) resize(e file) error {
	now, err := m.find(e)
	if err != nil {
		return gone(err)
	}
	fd, _, err := m.f.dir.open(now.path())
	if err != nil {
		return gone(err)
	}
	defer unix.Close(fd)
	o, err := count(fd)
	if err != nil {
		return err
	}
	base, _ := split(now.name)
	if i, ok := m.rebasing[m.uids[base]]; ok { // it gets another name anyhow
		base, _ = split(m.rebase[i].To)
	}
	to := resized(base, o)
	if to == base {
		return nil
	}
	if _, taken := m.now[to]; taken {
		to = resized(maildir.UniqueName(), o)
	}
	return m.newBase(now, to)
}

// unlinkTwin removes one of two names that a file has in the folder.
func (m *mending) unlinkTwin(lesser, other file) error {
	if !m.f.there(lesser) || !m.f.there(other) {
		return nil // renamed since: the next run sees
	}
	return m.m.Unlink(lesser.path())
}

// renameTwin gives the second of two messages of the same base name one of its own.
func (m *mending) renameTwin(e, other file) error {
	_, text := split(e.name)
	if !m.f.there(e) {
		return nil
	}
	if err := m.rename(e, maildir.UniqueName()+parseInfo(text).right); err != nil {
		return err
	}
	if m.f.there(other) {
		m.called(other)
	}
	return nil
}

// mendKeywords plans to write the names of the keywords anew.
func (m *mending) mendKeywords() error {
	if m.names == nil {
		data, _, err := m.f.dir.read(keywordsName)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		names, _ := parseKeywords(string(data))
		m.names = &names
	}
	return nil
}

// nameLetter gives a letter the name by which it is shown.
func (m *mending) nameLetter(i int) error {
	if err := m.mendKeywords(); err != nil {
		return err
	}
	if m.names[i] == "" {
		m.names[i] = fmt.Sprintf("unknown-%d", i)
	}
	return nil
}

func (m *mending) writeKeywords() error {
	if m.names == nil {
		return nil
	}
	var text []byte
	for i, name := range m.names {
		if name != "" {
			text = fmt.Appendf(text, "%d %s\n", i, name)
		}
	}
	return m.m.Replace(keywordsName, text)
}

// mendList plans to write the UID list anew.
func (m *mending) mendList() error {
	m.write = true
	return errLater
}

// dropSizes plans to remove the sizes from a line.
func (m *mending) dropSizes(uid uint32) error {
	m.unsized[uid], m.write = true, true
	return errLater
}

// writeList writes the list as all tasks together want it.
func (m *mending) writeList() error {
	if !m.write {
		return nil
	}
	l := m.list
	if l == nil {
		l = &uidList{}
	}
	if len(l.faults) > 0 {
		if err := m.m.KeepAside(listName); err != nil {
			return err
		}
	}
	if err := m.head(l); err != nil {
		return err
	}
	l.next = max(l.next, m.f.nextUID())
	m.restore(l)
	l.lines = l.salvage(func(base string) bool {
		_, ok := m.now[base]
		return ok
	})
	to, taken := map[uint32]string{}, map[string]bool{}
	for _, r := range m.rebase {
		base, _ := split(r.To)
		to[r.UID], taken[base] = base, true
	}
	kept := l.lines[:0]
	for _, ln := range l.lines {
		if m.unsized[ln.uid] {
			ln.ext = withoutSizes(ln.ext)
		}
		if base, ok := to[ln.uid]; ok {
			ln = rebased(ln, base)
		} else if taken[ln.base] { // it had this name once, in a mending that was killed
			continue
		}
		kept = append(kept, ln)
	}
	l.lines = kept
	if len(m.rebase) == 0 {
		return m.m.Replace(listName, l.print())
	}
	return m.m.Rebase(m.rebase, l.print())
}

// head finds out UIDVALIDITY and next UID: where the list has lost them, by the journal, by Dovecot's index, and at last anew.
func (m *mending) head(l *uidList) error {
	validity, next := m.f.dir.dovecotIndex()
	j, err := maildir.ReadJournal(m.f.dir.fd)
	if err == nil {
		m.journal = j
	}
	if l.validity == 0 {
		switch {
		case j != nil:
			l.validity = j.UIDValidity
		case validity != 0:
			l.validity = validity
		default:
			if l.validity, err = m.m.NextValidity(); err != nil {
				return err
			}
		}
	}
	if validity == l.validity {
		l.next = max(l.next, next)
	}
	if j != nil && j.UIDValidity == l.validity {
		l.next = max(l.next, j.UIDNext)
	}
	return nil
}

// restore brings back lines that the list has lost and the journal has kept.
func (m *mending) restore(l *uidList) {
	if m.journal == nil || m.journal.UIDValidity != l.validity {
		return
	}
	listed, taken := map[string]bool{}, map[uint32]bool{}
	for _, ln := range l.lines {
		listed[ln.base], taken[ln.uid] = true, true
	}
	for uid, base := range m.journal.Bases {
		if _, there := m.now[base]; there && !listed[base] && !taken[uid] {
			l.lines = append(l.lines, line{uid: uid, base: base})
		}
	}
}

// nextUID is the highest next UID that was known when the folder was looked at.
func (f *folder) nextUID() uint32 {
	if f.list == nil {
		return 0
	}
	return f.list.nextUID()
}

// rebased gives a line another base name. The old one stays the message's GUID, as when Dovecot copies under a new name.
func rebased(ln line, base string) line {
	guid := false
	for _, field := range splitExt(ln.ext) {
		guid = guid || field[0] == 'G'
	}
	if !guid && !strings.ContainsFunc(ln.base, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		ln.ext += " G" + ln.base
	}
	ln.base = base
	ln.ext = withoutSizes(ln.ext)
	return ln
}

func withoutSizes(ext string) string {
	var b strings.Builder
	for _, field := range splitExt(ext) {
		if field[0] != 'S' && field[0] != 'W' {
			b.WriteString(" " + field)
		}
	}
	return b.String()
}
