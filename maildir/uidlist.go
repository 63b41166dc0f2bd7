package maildir

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	listName     = "dovecot-uidlist"
	listTmp      = "dovecot-uidlist.tmp"
	maxListSize  = 1 << 30
	maxUID       = math.MaxUint32 - 1
	recentChange = time.Minute // a list changed so lately may not be on disk yet
)

// A listHead is the first line of a UID list.
type listHead struct {
	version  int
	validity uint32
	next     uint32
	fields   []string // those besides V and N, verbatim
}

// field gives the value of a further field of the header.
func (h *listHead) field(letter byte) string {
	for _, f := range h.fields {
		if f[0] == letter {
			return f[1:]
		}
	}
	return ""
}

// parseListHead reads the first line, without its end; false when the UID validity cannot be known.
func parseListHead(line string) (h listHead, ok bool) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return h, false
	}
	switch words[0] {
	case "1": // Courier: 1 validity next
		if len(words) < 3 {
			return h, false
		}
		v, okV := parseUID(words[1])
		n, okN := parseUID(words[2])
		return listHead{version: 1, validity: v, next: n}, okV && okN
	case "3":
		h.version = 3
		for _, w := range words[1:] {
			switch w[0] {
			case 'V':
				h.validity, ok = parseUID(w[1:])
				if !ok {
					return h, false
				}
			case 'N':
				if n, err := strconv.ParseUint(w[1:], 10, 32); err == nil { // without it the lines tell
					h.next = uint32(n)
				}
			default:
				h.fields = append(h.fields, w)
			}
		}
		h.next = max(h.next, 1)
		return h, h.validity != 0
	}
	return h, false
}

// parseUID reads a number from 1 to 2^32-2: UIDs and UIDVALIDITY alike.
func parseUID(s string) (uint32, bool) {
	if len(s) == 0 || len(s) > 10 {
		return 0, false
	}
	var v uint64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		v = v*10 + uint64(s[i]-'0')
	}
	return uint32(v), v > 0 && v <= maxUID
}

// parseListLines reads whole lines that follow the header; last is the UID before them. It returns how many octets
// were whole lines, and how many lines made no sense and were passed over.
func parseListLines(text string, version int, last uint32, each func(uid uint32, ext, base string)) (used, bad int) {
	for used < len(text) {
		n := strings.IndexByte(text[used:], '\n')
		if n < 0 {
			break
		}
		line := text[used : used+n]
		used += n + 1
		uid, ext, base, ok := parseListLine(line, version)
		if !ok || uid <= last {
			bad++
			continue
		}
		last = uid
		each(uid, ext, base)
	}
	return used, bad
}

// parseListLine takes "UID [Kvalue ...] :name" apart. ext holds the fields between, each with a space before it.
func parseListLine(line string, version int) (uid uint32, ext, base string, ok bool) {
	n := 0
	for n < len(line) && line[n] >= '0' && line[n] <= '9' {
		n++
	}
	if uid, ok = parseUID(line[:n]); !ok || n == len(line) || line[n] != ' ' {
		return 0, "", "", false
	}
	if version == 1 {
		base = line[n+1:]
	} else {
		i := strings.Index(line[n:], " :")
		if i < 0 {
			return 0, "", "", false
		}
		ext, base = line[n:n+i], line[n+i+2:]
		if strings.Contains(ext, "  ") {
			ext = ""
		}
	}
	if i := strings.IndexByte(base, ':'); i >= 0 { // older Dovecots wrote the flags too
		base = base[:i]
	}
	if !validBase(base) {
		return 0, "", "", false
	}
	return uid, ext, base, true
}

// validBase tells whether a text can be the base name of a message's file.
func validBase(base string) bool {
	return base != "" && len(base) <= 255 && base[0] != '.' && strings.IndexByte(base, '/') < 0 && strings.IndexByte(base, 0) < 0
}

// extField gives the value of one of a line's fields between UID and name.
func extField(ext string, letter byte) (string, bool) {
	for f := range strings.SplitSeq(ext, " ") {
		if f != "" && f[0] == letter {
			return f[1:], true
		}
	}
	return "", false
}

func appendListHead(b []byte, h listHead) []byte {
	b = append(b, "3 V"...)
	b = strconv.AppendUint(b, uint64(h.validity), 10)
	b = append(b, " N"...)
	b = strconv.AppendUint(b, uint64(h.next), 10)
	for _, f := range h.fields {
		b = append(append(b, ' '), f...)
	}
	return append(b, '\n')
}

func appendListLine(b []byte, uid uint32, ext, base string) []byte {
	b = strconv.AppendUint(b, uint64(uid), 10)
	b = append(b, ext...)
	b = append(b, " :"...)
	b = append(b, base...)
	return append(b, '\n')
}

// readList brings the lines up to the UID list on disk. No lock is needed: the list only grows, or is replaced.
func (f *Folder) readList() error {
	now, err := f.dir.stamp(listName)
	if err != nil {
		return err
	}
	if now == f.list && (now != stamp{}) {
		return nil
	}
	if (now == stamp{}) {
		return f.listMissing()
	}
	if now.ino == f.list.ino && now.size > f.listEnd && f.listEnd > 0 && !f.rewrite {
		// The number of an inode may be that of another list by now: what we read last has to be there still.
		data, st, err := f.dir.readFile(listName, f.listEnd-int64(len(f.listTail)), maxListSize)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if rest, ok := strings.CutPrefix(string(data), f.listTail); err == nil && st.Ino == now.ino && ok {
			last := uint32(0)
			if n := len(f.lines); n > 0 {
				last = f.lines[n-1].UID
			}
			fresh := len(f.lines)
			used, bad := parseListLines(rest, f.head.version, last, f.addLine)
			if bad == 0 && !f.doubled {
				f.list, f.listEnd = stampOf(&st), f.listEnd+int64(used)
				f.listWhole = used == len(rest)
				f.listTail = tail(f.listTail + rest[:used])
				if len(f.lines) > fresh {
					return f.settle(&st)
				}
				return nil
			}
		}
	}
	data, st, err := f.dir.readFile(listName, 0, maxListSize)
	if errors.Is(err, fs.ErrNotExist) {
		return f.listMissing()
	}
	if err != nil {
		return err
	}
	cut := st.Ino == f.list.ino && st.Size < f.list.size
	f.list = stampOf(&st)
	f.takeList(asString(data), cut)
	return f.settle(&st)
}

// asString gives octets that nobody will change as a string, which the base names of all messages are parts of.
func asString(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// tail gives the end of a text, enough to know it again.
func tail(s string) string { return strings.Clone(s[max(0, len(s)-100):]) }

// settle makes sure that UIDs somebody else has just written are on disk before anyone hears of them from us.
func (f *Folder) settle(st *unix.Stat_t) error {
	if f.distrust || time.Since(time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec))) > recentChange {
		return nil
	}
	fd, err := openat(f.dir.fd, listName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed again: the next look tells
	}
	if err != nil {
		f.list = stamp{}
		return err
	}
	defer unix.Close(fd)
	if err = fdatasync(fd); readOnly(err) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err == nil {
		err = fsync(f.dir.fd)
	}
	if err != nil {
		f.doubtList() // look writes a new one first
	}
	return nil
}

// doubtList notes that a sync of the list has failed. What can be read there may never reach the disk, whatever a second
// sync says: only a new file can be trusted, and nobody hears of a UID before there is one.
func (f *Folder) doubtList() { f.distrust, f.rewrite, f.list = true, true, stamp{} }

// listMissing is when there is no UID list. What we know of it we keep, and write it again: only who never saw
// a list begins a new one.
func (f *Folder) listMissing() error {
	if f.head.validity != 0 {
		f.rewrite = true
		f.list = stamp{}
		return nil
	}
	if !f.dir.readOnly() {
		return nil // lookLocked takes over what Courier has left
	}
	text, err := f.dir.courierLines(func() (uint32, error) { return 0, unix.EROFS })
	if err == nil && text != "" {
		f.takeList(text, false)
		f.rewrite = true
	}
	return nil
}

// takeList reads a whole list. Messages that we know keep what we know of them. cut says that the list is shorter than it was.
func (f *Folder) takeList(text string, cut bool) {
	line, rest, ok := strings.Cut(text, "\n")
	_, crlf := strings.CutSuffix(line, "\r")
	if crlf { // somebody's editor has been there
		rest = strings.ReplaceAll(rest, "\r\n", "\n")
	}
	head, good := parseListHead(line)
	if !ok || !good {
		// Without a header the UIDs mean nothing; but if we knew the folder, we still do.
		f.rewrite, f.listEnd, f.listWhole, f.listTail = true, int64(len(text)), false, ""
		return
	}
	if f.head.validity != 0 && head.validity != f.head.validity {
		f.forget()
	}
	oldLines, oldIndex, oldExt, oldNext := f.lines, f.index, f.exts, f.head.next
	f.head = head
	f.lines = make([]*Message, 0, max(len(oldLines), strings.Count(rest, "\n")))
	f.index, f.exts, f.doubled, f.unseen = index{}, nil, false, 0
	f.changed = true
	f.index.build(nil, cap(f.lines))
	used, bad := parseListLines(rest, head.version, 0, func(uid uint32, ext, base string) {
		before := len(f.lines)
		f.addLine(uid, ext, base)
		if i, ok := oldIndex.findString(oldLines, base); ok && oldLines[i].UID == uid {
			f.lines[before] = oldLines[i]
			if oldLines[i].dir != nowhere {
				f.unseen--
			}
		}
	})
	f.listEnd, f.listWhole = int64(len(line)+1+used), used == len(rest)
	f.listTail = tail(text[:f.listEnd])
	damaged := bad > 0 || crlf || !f.listWhole || cut || f.head.next < oldNext
	f.rewrite = f.distrust || damaged || f.doubled || head.version != 3
	f.head.next = max(f.head.next, oldNext)
	if damaged { // what it has lost, we may still know
		f.carryOver(oldLines, oldExt)
	}
	if f.doubled {
		f.dropDoubled()
	}
}

// addLine takes in one line of the list.
func (f *Folder) addLine(uid uint32, ext, base string) {
	if i, ok := f.index.findString(f.lines, base); ok {
		// The same file twice: it came back after it was gone. The later UID counts; the former line is
		// dropped when the list is read or written as a whole.
		f.lines[i] = &Message{UID: f.lines[i].UID, dir: gone, info: noInfo}
		f.doubled = true
		f.index.move(base, i, len(f.lines))
		f.lines = append(f.lines, f.message(uid, base))
	} else {
		f.lines = append(f.lines, f.message(uid, base))
		f.index.add(f.lines)
	}
	f.unseen++
	if ext != "" {
		if f.exts == nil {
			f.exts = map[uint32]string{}
		}
		f.exts[uid] = ext
	}
	f.head.next = max(f.head.next, uid+1)
}

// message makes the picture of a message of which nothing is known yet. They are made many at a time.
func (f *Folder) message(uid uint32, base string) *Message {
	if len(f.slab) == 0 {
		f.slab = make([]Message, min(max(len(f.lines), 8), 256))
	}
	m := &f.slab[0]
	f.slab = f.slab[1:]
	m.UID, m.base, m.info = uid, base, noInfo
	return m
}

// noInfo stands where nothing is known yet.
var noInfo = &info{}

// carryOver keeps the lines of messages that we saw, and which a damaged list has lost.
func (f *Folder) carryOver(old []*Message, ext map[uint32]string) {
	var lost []*Message
	for _, m := range old {
		if m.dir == nowhere || m.dir == gone {
			continue
		}
		if _, ok := f.index.findString(f.lines, m.base); ok {
			continue
		}
		if _, taken := findUID(f.lines, m.UID); !taken {
			lost = append(lost, m)
		}
	}
	if len(lost) == 0 {
		return
	}
	merged := make([]*Message, 0, len(f.lines)+len(lost))
	i := 0
	for _, m := range f.lines {
		for i < len(lost) && lost[i].UID < m.UID {
			merged = append(merged, lost[i])
			i++
		}
		merged = append(merged, m)
	}
	f.lines = append(merged, lost[i:]...)
	for _, m := range lost {
		if e := ext[m.UID]; e != "" {
			if f.exts == nil {
				f.exts = map[uint32]string{}
			}
			f.exts[m.UID] = e
		}
		f.head.next = max(f.head.next, m.UID+1)
	}
	f.index.build(f.lines, 0)
}

// dropDoubled removes the lines that addLine has emptied.
func (f *Folder) dropDoubled() {
	kept := f.lines[:0:0]
	for _, m := range f.lines {
		if m.base != "" {
			kept = append(kept, m)
		}
	}
	f.lines, f.doubled = kept, false
	f.index.build(f.lines, 0)
	f.rewrite = true
}

// forget drops all that is known under a UIDVALIDITY that is no more.
func (f *Folder) forget() {
	f.head, f.lines, f.index, f.exts = listHead{}, nil, index{}, nil
	f.new, f.cur = dirView{}, dirView{}
	f.sizes, f.unseen, f.doubled = nil, 0, false
	f.changed = true
}

// writeList puts the list on disk, under the lock: the lines with UIDs from fresh on are appended, or all of it is
// written anew when there is reason to. Nobody may hear of a UID before this has returned nil.
func (f *Folder) writeList(fresh uint32) error {
	if f.doubled {
		f.dropDoubled()
	}
	if !f.rewrite && f.listWhole && f.listEnd > 0 {
		dead := 0
		for _, m := range f.lines {
			if m.dir == gone {
				dead++
			}
		}
		if dead <= 64 || dead*4 <= len(f.lines) {
			at, _ := findUID(f.lines, fresh)
			err := f.appendList(f.lines[at:])
			if err == nil {
				return nil
			}
			if f.distrust {
				f.rewriteList() // others read it too; the error stands all the same
			}
			if !errors.Is(err, errListMoved) {
				return err
			}
		}
	}
	return f.rewriteList()
}

var errListMoved = errors.New("the UID list is not the one we read")

// appendList writes lines at the end of the list.
func (f *Folder) appendList(lines []*Message) error {
	fd, err := openat(f.dir.fd, listName, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errListMoved
		}
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return err
	}
	if st.Ino != f.list.ino || st.Size != f.listEnd {
		return errListMoved
	}
	var b []byte
	for _, m := range lines {
		b = appendListLine(b, m.UID, f.exts[m.UID], m.base)
	}
	if err := writeAll(fd, b); err != nil {
		// Half a line may stand there: take it away, nobody has read it as a line.
		if ftruncate(fd, f.listEnd) != nil {
			f.rewrite = true
		}
		return err
	}
	if err := fdatasync(fd); err != nil {
		f.doubtList()
		return err
	}
	if err := fstat(fd, &st); err != nil {
		return err
	}
	f.list, f.listEnd, f.listTail = stampOf(&st), st.Size, tail(f.listTail+string(b))
	return nil
}

// rewriteList writes the whole list, without the lines of messages that are gone.
func (f *Folder) rewriteList() error {
	kept := make([]*Message, 0, len(f.lines))
	for _, m := range f.lines {
		if m.dir != gone {
			kept = append(kept, m)
		} else {
			delete(f.exts, m.UID)
		}
	}
	h := f.head
	h.version = 3
	b := appendListHead(make([]byte, 0, 64+len(kept)*88), h)
	for _, m := range kept {
		b = appendListLine(b, m.UID, f.exts[m.UID], m.base)
	}
	before, err := f.dir.stamp(listName)
	if err != nil {
		return err
	}
	if err := f.dir.replace(listName, listTmp, b, nil); err != nil {
		if now, serr := f.dir.stamp(listName); serr == nil && now.ino != before.ino {
			f.doubtList() // it is there, but its name may not be on disk
		}
		return err
	}
	st, err := f.dir.stamp(listName)
	if err != nil {
		return err
	}
	f.head, f.lines = h, kept
	f.index.build(f.lines, 0)
	f.list, f.listEnd, f.listWhole, f.listTail = st, int64(len(b)), true, tail(string(b))
	f.rewrite, f.distrust = false, false
	return nil
}
