package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// young is how long a file has to lie unchanged before what it says is believed: who copies a message straight into
// new or cur may be at it still.
const young = 2 * time.Second

// batch is how many findings are mended at once.
const batch = 10_000

// contents looks at the messages themselves: their modes, owners, sizes and octets.
func (f *folder) contents(files []file) {
	var loose looseRights
	again := files
	for try := 0; len(again) > 0 && try < 6; try++ {
		if try > 0 {
			again = f.follow(again)
		}
		var next []file
		var wait time.Duration
		for _, e := range again {
			if f.c.stopped {
				return
			}
			later, err := f.content(e, &loose, try == 5)
			if len(f.todo) >= batch { // a great many wrong names need not be held in memory
				f.repair()
			}
			switch {
			case later > 0:
				next, wait = append(next, e), max(wait, min(later, young))
			case errors.Is(err, fs.ErrNotExist): // renamed, or gone
				next = append(next, e)
			case errors.Is(err, fs.ErrPermission):
				f.tell(Error, kindUnread, e.path(), "it cannot be read: "+err.Error())
			case err != nil && !errors.Is(err, errIrregular) && !errors.Is(err, unix.ELOOP):
				f.fail(e.path(), err)
			}
		}
		if again = next; wait > 0 {
			time.Sleep(wait)
		}
	}
	loose.tell(f)
}

// follow finds out what the files are called now; those that are gone are left out.
func (f *folder) follow(files []file) []file {
	type id struct { // a base name may be that of two files, and a file may have two names
		base string
		ino  uint64
	}
	now := map[id]file{}
	for _, sub := range []string{"new", "cur", "new"} {
		entries, err := f.dir.entries(sub)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if base, _ := split(e.name); e.kind == unix.DT_REG {
				now[id{base, e.ino}] = file{sub, e.name, e.kind, e.ino}
			}
		}
	}
	var found []file
	for _, e := range files {
		base, _ := split(e.name)
		if n, ok := now[id{base, e.ino}]; ok {
			found = append(found, n)
		}
	}
	return found
}

// content looks at one message. later is how long to wait before it is looked at again: what is wrong with it may be that
// somebody is still writing. last forbids that.
func (f *folder) content(e file, loose *looseRights, last bool) (later time.Duration, err error) {
	base, _ := split(e.name)
	names := sizingOf(base)
	var st unix.Stat_t
	var o octets
	if f.c.o.Quick {
		if st, err = f.dir.stat(e.path()); err != nil {
			return 0, err
		}
		o.size = st.Size
	} else {
		var fd int
		if fd, st, err = f.dir.open(e.path()); err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		if o, err = count(fd); err != nil {
			return 0, err
		}
		if o.compressed { // the name tells the sizes of what is in it
			loose.see(f, e, &st)
			return 0, nil
		}
	}
	wrong := names.differs(o, !f.c.o.Quick)
	if wrong != "" && f.c.o.Quick && f.compressed(e) {
		wrong = ""
	}
	uid := f.uids[base]
	listed := f.listSizes(uid, base, o)
	lies := f.cacheLies(uid, o)
	sick := lies || o.size == 0 || wrong != "" || listed != "" || !f.c.o.Quick && (o.nuls >= nulTail || !o.headerEnd)
	if age := time.Since(time.Unix(st.Ctim.Unix())); sick && age < young/haste && age > -time.Minute && !last {
		return young/haste - max(age, 0), nil
	}
	loose.see(f, e, &st)
	if !sick {
		return 0, nil
	}
	if lies {
		c := f.entries[uid]
		f.badCache(fmt.Sprintf("the cache says of UID %d that it has %d octets, %d with CRLF: it has %d, %d with CRLF", uid, c.size, c.crlf, o.size, o.crlf), Error)
	}
	if o.size == 0 {
		f.plan(Finding{
			Severity: Error, Kind: kindEmpty, File: e.path(), UID: uid, Mend: "set it aside",
			Text: "the file is empty, as after a power cut",
		}, func(m *mending) error { return m.asideFile(e) })
		return 0, nil
	}
	if !f.c.o.Quick {
		whole := wrong == "" && len(names.s) > 0 // as long as its writer has said
		switch {
		case o.nuls == o.size:
			f.tell(Error, kindNul, e.path(), "the file holds nothing but NUL octets, as after a power cut")
		case o.nuls >= nulTail:
			f.tell(Error, kindNul, e.path(), fmt.Sprintf("the file ends in %d NUL octets, as after a power cut", o.nuls))
		case !o.headerEnd && whole:
			f.tell(Note, kindHeaderEnd, e.path(), "its header has no end, and it was so when it was written")
		case !o.headerEnd:
			f.tell(Error, kindHeaderEnd, e.path(), "its header has no end: the file may have been cut")
		}
	}
	if wrong != "" {
		if n := atoi(names.s); n > o.size {
			wrong += fmt.Sprintf("; %s may have been cut off", plural(int(n-o.size), "octet", "octets"))
		}
		f.plan(Finding{
			Severity: Error, Kind: kindSize, File: e.path(), UID: uid, Text: "its name says " + wrong,
			Mend: "put the right sizes into its name" + keeping(uid),
		}, func(m *mending) error { return m.resize(e) })
	}
	if listed != "" {
		f.plan(Finding{
			Severity: Error, Kind: kindListSize, File: e.path(), UID: uid, Text: listed, Mend: "remove them from the line",
		}, func(m *mending) error { return m.dropSizes(uid) })
	}
	return 0, nil
}

// nulTail is how many NUL octets at the end no writer has meant.
const nulTail = 8

func keeping(uid uint32) string {
	if uid == 0 {
		return ""
	}
	return fmt.Sprintf(", and keep UID %d", uid)
}

// atoi gives the number of the first value, or 0.
func atoi(values []string) int64 {
	if len(values) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(values[0], 10, 64)
	return n
}

// compressed tells whether a message is one that Dovecot has compressed.
func (f *folder) compressed(e file) bool {
	fd, _, err := f.dir.open(e.path())
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var s scan
	buf := make([]byte, 16)
	n, err := readFull(fd, buf)
	if err != nil || n == 0 {
		return false
	}
	s.take(buf[:n])
	return s.compressed
}

// listSizes tells whether the line of the list has sizes, for a name without them, that are wrong.
func (f *folder) listSizes(uid uint32, base string, o octets) string {
	ext := f.exts[uid]
	if ext == "" {
		return ""
	}
	z := sizingOf("")
	for _, field := range splitExt(ext) {
		switch field[0] {
		case 'S':
			z.s = append(z.s, field[1:])
		case 'W':
			z.w = append(z.w, field[1:])
		}
	}
	if wrong := z.differs(o, !f.c.o.Quick); wrong != "" {
		return "the UID list says " + wrong
	}
	return ""
}

// looseRights gathers messages whose owner or mode differs: there may be very many of them.
type looseRights struct {
	owners map[uint32]*group
	modes  map[uint32]*group
}

type group struct {
	example string
	files   []file // with Repair
	n       int
}

func (l *looseRights) see(f *folder, e file, st *unix.Stat_t) {
	add := func(m *map[uint32]*group, key uint32) {
		if *m == nil {
			*m = map[uint32]*group{}
		}
		g := (*m)[key]
		if g == nil {
			g = &group{example: e.path()}
			(*m)[key] = g
		}
		if g.n++; f.c.o.Repair {
			g.files = append(g.files, e)
		}
	}
	if f.c.wrongOwner(st) {
		add(&l.owners, st.Uid)
	}
	if mode := st.Mode & 0o7777; mode != f.c.mode() {
		add(&l.modes, mode)
	}
}

func (l *looseRights) tell(f *folder) {
	for uid, g := range l.owners {
		f.plan(Finding{
			Severity: Warning, Kind: kindOwner, File: g.example, Count: g.n, Mend: fmt.Sprintf("give it to %d", f.c.st.Uid),
			Text: fmt.Sprintf("%s to user %d, the Maildir to %d", plural(g.n, "message belongs", "messages belong"), uid, f.c.st.Uid),
		}, func(m *mending) error { return m.each(g.files, m.own) })
	}
	want := f.c.mode()
	for mode, g := range l.modes {
		severity := Note
		if mode&0o600 != 0o600 || mode&0o7113 != 0 { // its owner cannot read it, or everybody can do what nobody needs
			severity = Warning
		}
		f.plan(Finding{
			Severity: severity, Kind: kindMode, File: g.example, Count: g.n, Mend: fmt.Sprintf("make it %04o", want),
			Text: fmt.Sprintf("%s mode %04o, the Maildir's %04o asks for %04o", plural(g.n, "message has", "messages have"), mode, f.c.st.Mode&0o777, want),
		}, func(m *mending) error {
			return m.each(g.files, func(path string) error { return m.m.SetMode(path, want) })
		})
	}
}
