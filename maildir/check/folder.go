package check

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir"
)

// A folder is one mailbox that is being looked at.
type folder struct {
	c       *checker
	name    string // "INBOX", or as users see it
	sub     string // its directory below the Maildir; "" is INBOX
	dir     *dir
	list    *uidList          // nil: there is none
	exts    map[uint32]string // what the list has between UID and name
	uids    map[string]uint32
	known   *maildir.JournalView // what the journal knows of the same UIDVALIDITY
	entries map[uint32]cached    // what the cache says
	todo    []*task              // with Repair
}

// A file is a name in new or cur.
type file struct {
	sub  string // "new" or "cur"
	name string
	kind byte
	ino  uint64
}

func (f file) path() string { return f.sub + "/" + f.name }

// folder looks at one folder, and mends it.
func (c *checker) folder(name, sub string) {
	if c.stopped {
		return
	}
	d := c.root
	if sub != "" {
		var err error
		if d, err = openDir(c.root.fd, sub, false); err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
				c.fail(path.Join(c.path, sub), err)
			}
			return
		}
		defer d.close()
	}
	f := &folder{c: c, name: name, sub: sub, dir: d, uids: map[string]uint32{}}
	c.o.Tally.Folders++
	f.look()
	if c.o.Repair && len(f.todo) > 0 && !c.stopped {
		f.repair()
	}
}

func (f *folder) look() {
	f.directories()
	f.lists()
	f.journal()
	f.next()
	f.cache()
	files, ok := f.files()
	if !ok {
		return
	}
	f.c.o.Tally.Messages += len(files)
	f.gone(files)
	f.lost(files)
	f.misplaced(files)
	f.names(files)
	f.twice(files)
	f.keywords(files)
	f.contents(files)
	f.tmp()
	f.metadata(maildir.MetadataName)
	if f.sub == "" {
		f.metadata(maildir.AccountName)
	}
	f.control()
}

// below gives a path below the Maildir.
func (f *folder) below(name string) string { return path.Join(f.sub, name) }

// tell gives a finding away that nothing is done about.
func (f *folder) tell(severity Severity, kind, file, text string) {
	f.c.tell(Finding{Severity: severity, Kind: kind, Folder: f.name, File: f.below(file), UID: f.uidOf(file), Text: text})
}

// fail tells of a file that could not be read. One that has vanished is none.
func (f *folder) fail(name string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.c.fail(path.Join(f.c.path, f.sub, name), err)
	}
}

// uidOf gives the UID that the list has for a message's file.
func (f *folder) uidOf(file string) uint32 {
	sub, name := path.Split(file)
	if sub != "cur/" && sub != "new/" {
		return 0
	}
	base, _ := split(name)
	return f.uids[base]
}

// directories looks at the folder's directories themselves.
func (f *folder) directories() {
	for _, sub := range subs {
		st, err := f.dir.stat(sub)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.plan(Finding{Severity: Error, Kind: kindNoDir, File: sub, Text: "the directory " + sub + " is missing", Mend: "make it"}, (*mending).done)
		case err != nil:
			f.fail(sub, err)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			f.tell(Error, kindNoDir, sub, sub+" is no directory; links are not followed")
		default:
			f.rights(sub, &st, f.c.st.Mode&0o777)
		}
	}
	if f.sub == "" {
		return
	}
	if st, err := f.dir.stat("."); err == nil {
		f.rights("", &st, f.c.st.Mode&0o777)
	}
	if _, err := f.dir.stat("maildirfolder"); errors.Is(err, fs.ErrNotExist) {
		f.plan(Finding{
			Severity: Note, Kind: kindNoDir, File: "maildirfolder", Mend: "make it",
			Text: "the file maildirfolder is missing, which tells delivery agents that this is a folder",
		}, (*mending).marker)
	}
}

// rights compares owner and mode of a directory or control file with those of the Maildir.
func (f *folder) rights(name string, st *unix.Stat_t, want uint32) {
	if f.c.wrongOwner(st) {
		f.plan(Finding{
			Severity: Warning, Kind: kindOwner, File: name, Mend: fmt.Sprintf("give it to %d", f.c.st.Uid),
			Text: fmt.Sprintf("it belongs to user %d, the Maildir to %d", st.Uid, f.c.st.Uid),
		}, func(m *mending) error { return m.own(name) })
	}
	mode := st.Mode & 0o7777 &^ unix.S_ISGID
	if mode == want {
		return
	}
	severity := Note
	if missing := want &^ mode; missing&0o700 != 0 || mode&^want&0o7002 != 0 {
		severity = Warning
	}
	f.plan(Finding{
		Severity: severity, Kind: kindMode, File: name, Mend: fmt.Sprintf("make it %04o", want),
		Text: fmt.Sprintf("its mode is %04o, the Maildir's %04o asks for %04o", mode, f.c.st.Mode&0o777, want),
	}, func(m *mending) error { return m.m.SetMode(name, want) })
}

// files reads new and cur, so that a file that is moving from one to the other is seen; links, directories and devices
// are told of and left out.
func (f *folder) files() ([]file, bool) {
	files, seen := []file{}, map[file]bool{}
	for i, sub := range []string{"new", "cur", "new"} {
		entries, err := f.dir.entries(sub)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
				f.fail(sub, err)
				return nil, false
			}
			continue
		}
		for _, e := range entries {
			n := file{sub, e.name, e.kind, e.ino}
			if sub == "new" {
				if i > 0 && seen[n] {
					continue
				}
				seen[n] = true
			}
			files = append(files, n)
		}
	}
	return slices.DeleteFunc(files, f.noMessage), true
}

// noMessage tells whether a name in new or cur is none of a message, and tells of it.
func (f *folder) noMessage(e file) bool {
	if e.kind == unix.DT_REG {
		if e.name[0] == '.' && !strings.HasPrefix(e.name, ".nfs") {
			f.tell(Note, kindHidden, e.path(), "its name begins with a dot: no reader of Maildirs shows it")
		}
		return e.name[0] == '.'
	}
	if _, err := f.dir.stat(e.path()); err == nil {
		what := map[byte]string{unix.DT_DIR: "a directory", unix.DT_LNK: "a symbolic link", unix.DT_FIFO: "a pipe", unix.DT_SOCK: "a socket"}[e.kind]
		if what == "" {
			what = "a device"
		}
		f.plan(Finding{
			Severity: Error, Kind: kindNotMessage, File: e.path(), Text: "it is " + what + ", no message", Mend: "set it aside",
		}, func(m *mending) error { return m.asideFile(e) })
	}
	return true
}

// pause waits a moment for those who may be in the midst of something.
func pause(d time.Duration) { time.Sleep(d / haste) }

// haste makes all waiting shorter, in tests.
var haste time.Duration = 1

// gone notes the lines of the list whose files are not there: other programs may have removed them.
func (f *folder) gone(files []file) {
	if f.list == nil {
		return
	}
	there := make(map[string]bool, len(files))
	take := func(files []file) {
		for _, e := range files {
			base, _ := split(e.name)
			there[base] = true
		}
	}
	take(files)
	for try := 0; ; try++ {
		var uids []uint32
		for _, ln := range f.list.lines {
			if !there[ln.base] {
				uids = append(uids, ln.uid)
			}
		}
		if len(uids) == 0 {
			return
		}
		if try == 1 {
			slices.Sort(uids)
			f.c.tell(Finding{
				Severity: Note, Kind: kindListGone, Folder: f.name, File: f.below(listName), Count: len(uids), UID: uids[0],
				Text: fmt.Sprintf("%s of messages that are no longer there: UID %s", plural(len(uids), "line", "lines"), ranges(uids)),
			})
			return
		}
		for _, sub := range []string{"new", "cur"} { // a rename may have hidden one
			entries, err := f.dir.entries(sub)
			if err != nil {
				return
			}
			for _, e := range entries {
				take([]file{{name: e.name}})
			}
		}
	}
}

// ranges writes rising UIDs as IMAP does, and not more than a few of them.
func ranges(uids []uint32) string {
	var parts []string
	for i := 0; i < len(uids); {
		n := i + 1
		for n < len(uids) && uids[n] == uids[n-1]+1 {
			n++
		}
		if len(parts) == 8 {
			return strings.Join(append(parts, "…"), ",")
		}
		part := fmt.Sprint(uids[i])
		if n > i+1 {
			part += fmt.Sprintf(":%d", uids[n-1])
		}
		parts, i = append(parts, part), n
	}
	return strings.Join(parts, ",")
}

// names looks at what the files are called.
func (f *folder) names(files []file) {
	for _, e := range files {
		if f.c.stopped {
			return
		}
		base, text := split(e.name)
		in := parseInfo(text)
		why := baseFault(base)
		if why == "" && in.fault == "" || !f.there(e) {
			continue
		}
		if why != "" {
			f.plan(Finding{
				Severity: Error, Kind: kindBadName, File: e.path(), Text: why, Mend: "give it a name of its own",
			}, func(m *mending) error { return m.unique(e) })
			continue
		}
		f.plan(Finding{
			Severity: Warning, Kind: kindBadFlags, File: e.path(), Text: "its name " + in.fault,
			Mend: fmt.Sprintf("end its name in %q", in.right),
		}, func(m *mending) error { return m.flags(e) })
	}
}

// there tells whether a file has this name right now.
func (f *folder) there(e file) bool {
	st, err := f.dir.stat(e.path())
	return err == nil && st.Ino == e.ino
}

// twice finds base names that two files have, or two names.
func (f *folder) twice(files []file) {
	first := make(map[string]int32, len(files))
	for i, b := range files {
		base, _ := split(b.name)
		if base == "" {
			continue
		}
		at, ok := first[base]
		if !ok {
			first[base] = int32(i)
			continue
		}
		a := files[at]
		// A file that is renamed while the directory is read may have shown up twice: both must be there at once.
		if !f.there(b) || !f.there(a) || !f.there(b) {
			continue
		}
		if a.ino == b.ino {
			lesser, other := a, b
			if a.sub == b.sub && len(a.name) > len(b.name) || a.sub == "cur" && b.sub == "new" {
				lesser, other = b, a
			}
			f.plan(Finding{
				Severity: Error, Kind: kindNameTwice, File: lesser.path(), Mend: "remove this name, and leave the file its other one",
				Text: fmt.Sprintf("the same file is there as %s too", other.path()),
			}, func(m *mending) error { return m.unlinkTwin(lesser, other) })
			continue
		}
		if f.born(a).After(f.born(b)) { // the older one has been known by this name for longer
			a, b = b, a
			first[base] = int32(i)
		}
		f.plan(Finding{
			Severity: Error, Kind: kindNameTwice, File: b.path(), Mend: "give it a name and a UID of its own",
			Text: fmt.Sprintf("another message has the same base name: %s", a.path()),
		}, func(m *mending) error { return m.renameTwin(b, a) })
	}
}

// born tells when a file was made, as far as the file system knows.
func (f *folder) born(e file) time.Time {
	var st unix.Statx_t
	if unix.Statx(f.dir.fd, e.path(), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_CTIME, &st) != nil {
		return time.Time{}
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

// keywords looks at the names of the keyword letters, which are written before any file gets the letter.
func (f *folder) keywords(files []file) {
	var names [maxKeywords]string
	data, st, err := f.dir.read(keywordsName)
	for try := 0; err == nil; try++ {
		var faults []fault
		if names, faults = parseKeywords(string(data)); len(faults) == 0 {
			break
		}
		if try < 2 { // somebody may be writing it in place
			pause(200 * time.Millisecond)
			data, st, err = f.dir.read(keywordsName)
			continue
		}
		for _, ft := range faults {
			f.plan(Finding{
				Severity: Warning, Kind: ft.kind, File: keywordsName, Text: ft.text, Mend: "write the file anew, with the names that can be known",
			}, (*mending).mendKeywords)
		}
		break
	}
	if err == nil {
		f.rights(keywordsName, &st, f.c.mode())
	} else {
		f.fail(keywordsName, err)
	}
	var counts [maxKeywords]int
	var example [maxKeywords]string
	for _, e := range files {
		_, text := split(e.name)
		in := parseInfo(text)
		for i := range maxKeywords {
			if in.letters&(1<<i) != 0 && names[i] == "" {
				if counts[i]++; counts[i] == 1 {
					example[i] = e.path()
				}
			}
		}
	}
	for i, n := range counts {
		if n > 0 {
			f.plan(Finding{
				Severity: Warning, Kind: kindUnnamed, File: example[i], UID: f.uidOf(example[i]), Count: n,
				Text: fmt.Sprintf("%s the keyword letter %c, which has no name", plural(n, "message has", "messages have"), 'a'+byte(i)),
				Mend: fmt.Sprintf("call it unknown-%d, as it is shown", i),
			}, func(m *mending) error { return m.nameLetter(i) })
		}
	}
}
