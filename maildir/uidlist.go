package maildir

import (
	"cmp"
	"errors"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"math"
	"slices"
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

// readList brings the rows up to the UID list on disk. No lock is needed: the list only grows, or is replaced.
func (b *box) readList() error {
	now, err := b.dir.stamp(listName)
	if err != nil {
		return err
	}
	if now == b.list && (now != stamp{}) {
		return nil
	}
	if (now == stamp{}) {
		return b.listMissing()
	}
	if now.ino == b.list.ino && now.size > b.listEnd && b.listEnd > 0 && !b.rewrite {
		// The number of an inode may be that of another list by now: what we read last has to be there still.
		data, st, err := b.dir.readFile(listName, b.listEnd-int64(len(b.listTail)), maxListSize)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !foreign(err) {
			return err
		}
		if rest, ok := strings.CutPrefix(string(data), b.listTail); err == nil && st.Ino == now.ino && ok {
			fresh := b.lastLine
			used, bad := parseListLines(rest, b.head.version, b.lastLine, b.addLine)
			if bad == 0 && !b.rewrite {
				b.list, b.listEnd = stampOf(&st), b.listEnd+int64(used)
				b.listWhole = used == len(rest)
				b.listTail = tail(b.listTail + rest[:used])
				if b.lastLine > fresh {
					return b.settle(&st)
				}
				return nil
			}
		}
	}
	return b.readWholeList()
}

func (b *box) readWholeList() error {
	data, st, err := b.dir.readFile(listName, 0, maxListSize)
	if errors.Is(err, unix.ELOOP) {
		slog.Warn("the UID list is a symbolic link, which is not followed", "folder", b.journal.folder)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return b.listMissing()
	}
	if foreign(err) && b.head.validity != 0 { // the journal has all that is needed
		slog.Warn("the UID list cannot be used", "folder", b.journal.folder, "err", err)
		return b.listMissing()
	}
	if err != nil {
		return err
	}
	cut := st.Ino == b.list.ino && st.Size < b.list.size
	b.list = stampOf(&st)
	b.takeList(asString(data), cut)
	return b.settle(&st)
}

// needExts makes sure that the fields of the list's lines and head are known; the journal does not have them. Rows stay as
// they are: some of them may have no line yet.
func (b *box) needExts() {
	if b.extsKnown || b.listEnd == 0 || b.dir == nil {
		return
	}
	data, st, err := b.dir.readFile(listName, 0, maxListSize)
	line, rest, whole := strings.Cut(asString(data), "\n")
	head, good := parseListHead(line)
	if err != nil || !whole || !good || stampOf(&st) != b.list || head.validity != b.head.validity {
		b.readWholeList()
		return
	}
	b.head.fields, b.extsKnown = head.fields, true
	parseListLines(rest, head.version, 0, func(uid uint32, ext, _ string) {
		if _, known := b.exts[uid]; !known {
			b.ext(uid, strings.Clone(ext))
		}
	})
}

// asString gives octets that nobody will change as a string, which the base names of all messages are parts of.
func asString(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// tail gives the end of a text, enough to know it again.
func tail(s string) string { return strings.Clone(s[max(0, len(s)-100):]) }

// settle makes sure that UIDs somebody else has just written are on disk before anyone hears of them from us.
func (b *box) settle(st *unix.Stat_t) error {
	if b.distrust || time.Since(time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec))) > recentChange {
		return nil
	}
	fd, err := openat(b.dir.fd, listName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed again: the next look tells
	}
	if err != nil {
		b.list = stamp{}
		return err
	}
	defer unix.Close(fd)
	if err = fdatasync(fd); readOnly(err) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err == nil {
		err = fsync(b.dir.fd)
	}
	if err != nil {
		b.doubtList() // look writes a new one first
	}
	return nil
}

// doubtList notes that a sync of the list has failed. What can be read there may never reach the disk, whatever a second
// sync says: only a new file can be trusted, and nobody hears of a UID before there is one.
func (b *box) doubtList() { b.distrust, b.rewrite, b.list = true, true, stamp{} }

// listMissing is when there is no UID list. What we know of it, by the journal perhaps, we keep, and write it again: only
// who never saw a list begins a new one.
func (b *box) listMissing() error {
	if b.head.validity != 0 {
		b.rewrite = true
		b.list = stamp{}
		return nil
	}
	if !b.dir.readOnly() {
		return nil // lookLocked takes over what Courier has left
	}
	text, err := b.dir.courierLines(func() (uint32, error) { return 0, unix.EROFS })
	if err == nil && text != "" {
		b.takeList(text, false)
		b.rewrite = true
	}
	return nil
}

// takeList reads a whole list. Messages that we know keep what we know of them. cut says that the list is shorter than it was.
func (b *box) takeList(text string, cut bool) {
	line, rest, ok := strings.Cut(text, "\n")
	_, crlf := strings.CutSuffix(line, "\r")
	if crlf { // somebody's editor has been there
		rest = strings.ReplaceAll(rest, "\r\n", "\n")
	}
	head, good := parseListHead(line)
	if !ok || !good {
		// Without a header the UIDs mean nothing; but if we knew the folder, we still do.
		slog.Warn("the UID list has no head, it is written anew", "folder", b.journal.folder, "octets", len(text))
		b.rewrite, b.listEnd, b.listWhole, b.listTail, b.extsKnown = true, int64(len(text)), false, "", true
		return
	}
	if b.head.validity != 0 && head.validity != b.head.validity {
		b.forget()
	}
	oldNext, oldExts := b.head.next, b.exts
	b.head, b.exts, b.extsKnown, b.lastLine, b.dead = head, nil, true, 0, map[uint64]bool{}
	listed := make([]row, 0, strings.Count(rest, "\n"))
	vanished, _ := b.grave.since(b.grave.floor)
	if b.past { // a power cut may have brought it back
		vanished = nil
	}
	used, bad := parseListLines(rest, head.version, 0, func(uid uint32, ext, base string) {
		b.head.next, b.lastLine = max(b.head.next, uid+1), uid
		r, known := b.rows.get(uid)
		if a, ok := b.absent[base]; ok && a.uid == uid {
			r, known = a, true
		}
		if known && r.base == base {
			listed = append(listed, r)
		} else if known {
			b.rebased(r)
			listed = append(listed, row{uid: uid, base: base, saved: r.saved})
		} else if uid >= b.judged && !uidSet(vanished).has(uid) {
			listed = append(listed, row{uid: uid, base: base})
		} else {
			b.dead[b.hash(base)] = true // it has no file, and we know that
			return
		}
		b.ext(uid, ext)
	})
	b.listEnd, b.listWhole = int64(len(line)+1+used), used == len(rest)
	b.listTail = tail(text[:b.listEnd])
	damaged := bad > 0 || crlf || !b.listWhole || cut || b.head.next < oldNext
	b.rewrite = b.distrust || damaged || head.version != 3
	b.head.next = max(b.head.next, oldNext)
	if damaged { // what it has lost, we may still know
		slog.Warn("the UID list is damaged, it is written anew", "folder", b.journal.folder, "lines", bad)
		listed = b.carryOver(listed, oldExts)
	}
	b.takeRows(listed)
	b.judged = b.head.next
	if damaged {
		b.judged = 0
	}
	b.indexed()
}

// rebased notes that a message is listed under another base name: a Mender has put sizes right. It is the same message still,
// whatever its EMAILID was made of.
func (b *box) rebased(r row) {
	delete(b.sizes, r.uid)
	if _, ok := b.ids.find(r.uid); !ok && r.mark != 0 {
		b.log.ids = append(b.log.ids, ident{r.uid, emailIDOf(r.base)})
	}
}

// ext notes the further fields of a line.
func (b *box) ext(uid uint32, ext string) {
	if ext == "" {
		return
	}
	if b.exts == nil {
		b.exts = map[uint32]string{}
	}
	b.exts[uid] = ext
}

// takeRows makes the rows those of a list, in place of what there is.
func (b *box) takeRows(listed []row) {
	if b.sameRows(listed) {
		return
	}
	if b.rows.len > 0 {
		// What is no longer on the list is gone.
		at := 0
		for _, bl := range b.rows.blocks {
			for i := range bl.n {
				for at < len(listed) && listed[at].uid < bl.uid[i] {
					at++
				}
				if bl.mark[i] != 0 && (at == len(listed) || listed[at].uid != bl.uid[i]) {
					b.log.gone.add(bl.uid[i])
					delete(b.sizes, bl.uid[i])
					delete(b.doubt, bl.uid[i])
				}
			}
		}
	}
	b.absent, b.unseen = nil, 0
	build := builder{rows: listed, n: len(listed)}
	for _, r := range listed {
		build.size += 1 + len(r.base)
		if r.mark == 0 {
			b.unseen++
		}
	}
	b.rows.take(&build)
	b.index = index{}
	b.inNew = nil
	for _, uid := range b.rows.uids(func(m uint32) bool { return b.info(m).dir == inNew }) {
		b.inNew.add(uid)
	}
	b.version++
	b.state = nil
}

// sameRows tells whether the rows are those already.
func (b *box) sameRows(listed []row) bool {
	if len(listed) != b.rows.len || len(b.absent) > 0 {
		return false
	}
	at := 0
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			if listed[at].uid != bl.uid[i] || listed[at].mark != bl.mark[i] {
				return false
			}
			at++
		}
	}
	return true
}

// addLine takes in one line that was added to the list.
func (b *box) addLine(uid uint32, ext, base string) {
	b.ext(uid, ext)
	b.lastLine = uid
	b.head.next = max(b.head.next, uid+1)
	if r, ok := b.rows.get(uid); ok {
		if r.base == base { // the journal has told us
			return
		}
		b.vanish(uid)
	} else if uid < b.judged {
		return
	}
	if k, i, ok := b.lookup(base); ok {
		// The same file twice: it came back after it was gone. The later UID counts; the former line is
		// dropped when the list is written as a whole.
		b.vanish(b.rows.blocks[k].uid[i])
		b.rewrite = true
	}
	delete(b.absent, base)
	b.add(uid, 0, 0, strings.Clone(base))
}

// carryOver keeps the lines of messages that we saw, and which a damaged list has lost.
func (b *box) carryOver(listed []row, exts map[uint32]string) []row {
	taken, names := map[uint32]bool{}, map[string]bool{}
	for _, r := range listed {
		taken[r.uid], names[r.base] = true, true
	}
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			if r := bl.row(i); r.mark != 0 && !taken[r.uid] && !names[r.base] {
				listed = append(listed, r)
				b.ext(r.uid, exts[r.uid])
				b.head.next = max(b.head.next, r.uid+1)
			}
		}
	}
	slices.SortFunc(listed, func(x, y row) int { return cmp.Compare(x.uid, y.uid) })
	return listed
}

// forget drops all that is known under a UIDVALIDITY that is no more.
func (b *box) forget() {
	b.clear()
	b.head, b.usable, b.told, b.more = listHead{}, false, views{}, nil
	if b.journal.validity() == 0 { // one that was not of the time before
		b.journal.lose(stamp{})
	}
}

// writeList puts the list on disk, under the lock: the lines with UIDs from fresh on are appended, or all of it is
// written anew when there is reason to. Nobody may hear of a UID before this has returned nil.
func (b *box) writeList(fresh uint32) error {
	if !b.rewrite && b.listWhole && b.listEnd > 0 && !b.listWorn() {
		err := b.appendList(fresh)
		if err == nil {
			return nil
		}
		if b.distrust {
			b.rewriteList() // others read it too; the error stands all the same
		}
		if !errors.Is(err, errListMoved) {
			return err
		}
	}
	return b.rewriteList()
}

var deadSeed = maphash.MakeSeed()

func (b *box) hash(base string) uint64 { return maphash.String(deadSeed, base) }

// died tells whether the list may have a line of this base name whose message is gone: a file that comes back
// gets a new UID, and then the former line has to go.
func (b *box) died(base string) bool {
	if b.dead == nil {
		b.dead = map[uint64]bool{}
		if b.listEnd == 0 {
			return false
		}
		data, _, err := b.dir.readFile(listName, 0, maxListSize)
		if err != nil {
			return false
		}
		_, lines, _ := strings.Cut(asString(data), "\n")
		parseListLines(lines, b.head.version, 0, func(uid uint32, _, base string) {
			if _, _, ok := b.rows.blocks.find(uid); !ok {
				b.dead[b.hash(base)] = true
			}
		})
	}
	return b.dead[b.hash(base)]
}

// listWorn tells whether many lines of the list are those of messages that are gone, as far as its length says.
func (b *box) listWorn() bool {
	const usual = 80 // octets of a line
	line := int64(usual)
	if n := b.rows.len; n > 0 {
		line = int64(b.rows.octets/n + len(strconv.Itoa(int(b.head.next))) + len(" :\n"))
	}
	lines := b.listEnd / line
	dead := lines - int64(b.rows.len)
	return dead > 64 && dead*4 > lines
}

var errListMoved = errors.New("the UID list is not the one we read")

// appendList writes the lines from a UID on at the end of the list.
func (b *box) appendList(fresh uint32) error {
	fd, err := openat(b.dir.fd, listName, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
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
	if st.Ino != b.list.ino || st.Size != b.listEnd {
		return errListMoved
	}
	var text []byte
	for k, i, _ := b.rows.blocks.find(fresh); k < len(b.rows.blocks); k, i = k+1, 0 {
		for bl := b.rows.blocks[k]; i < bl.n; i++ {
			text = appendListLine(text, bl.uid[i], b.exts[bl.uid[i]], bl.base(i))
		}
	}
	if err := writeAll(fd, text); err != nil {
		// Half a line may stand there: take it away, nobody has read it as a line.
		if ftruncate(fd, b.listEnd) != nil {
			b.rewrite = true
		}
		return err
	}
	if err := fdatasync(fd); err != nil {
		b.doubtList()
		return err
	}
	if err := fstat(fd, &st); err != nil {
		return err
	}
	b.list, b.listEnd, b.listTail = stampOf(&st), st.Size, tail(b.listTail+string(text))
	b.lastLine = max(b.lastLine, b.rows.last())
	b.judged = b.head.next
	return nil
}

// rewriteList writes the whole list, without the lines of messages that are gone.
func (b *box) rewriteList() error {
	if !b.distrust && !b.extsKnown {
		b.needExts()
	}
	if b.unseen > 0 {
		b.setAside()
	}
	kept := make([]row, 0, b.rows.len)
	for _, bl := range b.rows.blocks {
		for i := range bl.n {
			kept = append(kept, bl.row(i))
		}
	}
	if len(b.absent) > 0 {
		for _, r := range b.absent {
			kept = append(kept, r)
		}
		slices.SortFunc(kept, func(x, y row) int { return cmp.Compare(x.uid, y.uid) })
	}
	h := b.head
	h.version = 3
	text := appendListHead(make([]byte, 0, 64+len(kept)*88), h)
	for _, r := range kept {
		text = appendListLine(text, r.uid, b.exts[r.uid], r.base)
	}
	before, err := b.dir.stamp(listName)
	if err != nil {
		return err
	}
	if b.listEnd > 0 {
		// Messages without a line are gone for good: should a power cut bring one back, it would not be known again.
		for _, dir := range []string{"new", "cur"} {
			if err := b.dir.sync(dir); err != nil {
				return err
			}
		}
	}
	if err := b.dir.replace(listName, listTmp, text, nil); err != nil {
		if now, serr := b.dir.stamp(listName); serr == nil && now.ino != before.ino {
			b.doubtList() // it is there, but its name may not be on disk
		}
		return err
	}
	st, err := b.dir.stamp(listName)
	if err != nil {
		return err
	}
	b.head = h
	b.list, b.listEnd, b.listWhole, b.listTail = st, int64(len(text)), true, tail(string(text))
	b.rewrite, b.distrust, b.dead = false, false, map[uint64]bool{}
	b.lastLine, b.judged = b.rows.last(), b.head.next
	return nil
}
