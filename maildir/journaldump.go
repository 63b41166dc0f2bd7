package maildir

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// DumpJournal writes the journal at path, or that of the folder whose directory path is, as text for people: a line for each
// record, and one for each message of the snapshot. Where something is damaged a line tells the octet it begins at, and
// what follows is shown as far as it is whole; the error then tells the first such place. It needs no lock.
func DumpJournal(w io.Writer, path string) error {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	var st unix.Stat_t
	if err == nil {
		err = fstat(fd, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			unix.Close(fd)
			path = filepath.Join(path, journalName)
			if fd, err = openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
				err = fstat(fd, &st)
			}
		}
		defer unix.Close(fd)
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a file")
	}
	if err == nil && st.Size > maxJournal {
		err = unix.EFBIG
	}
	if err != nil {
		return &fs.PathError{Op: "dump journal", Path: path, Err: err}
	}
	out := bufio.NewWriter(w)
	d := dump{out: out, src: fileSource{fd, st.Size}, size: st.Size}
	err = d.run()
	if werr := out.Flush(); werr != nil {
		return werr
	}
	if err != nil {
		return fmt.Errorf("dump journal %s: %w", path, err)
	}
	return nil
}

type dump struct {
	out      *bufio.Writer
	src      fileSource
	size     int64
	keywords []string
	damage   error // the first
}

// damaged notes and shows that something is wrong at an octet.
func (d *dump) damaged(at int64, what string) {
	fmt.Fprintf(d.out, "at %d damaged: %s\n", at, what)
	if d.damage == nil {
		d.damage = fmt.Errorf("%w at octet %d: %s", errDamaged, at, what)
	}
}

func (d *dump) run() error {
	head, err := d.src.read(0, min(headSize, d.size))
	if err != nil {
		return err
	}
	var h journalHead
	crc, err := h.decode(head)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "journal version %d uidvalidity %d generation %s octets %d\n",
		journalVersion, h.validity, hex.EncodeToString(h.generation[:]), d.size)
	at := int64(headSize)
	if s, next, end, err := readSnapshot(d.src, d.size, crc); err == nil {
		d.snapshot(s)
		at, crc = end, next
	} else if !errors.Is(err, errDamaged) {
		return err
	} else if d.size == headSize {
		d.damaged(at, "nothing follows the head")
	}
	rest, err := d.src.read(at, d.size-at)
	if err != nil {
		return err
	}
	d.changes(rest, at, crc)
	return d.damage
}

// changes shows records. A damaged one is passed over when the one behind it continues what is written in it.
func (d *dump) changes(rest []byte, at int64, crc uint32) {
	for len(rest) > 0 {
		kind, payload, more, next, ok := cutRecord(rest, crc)
		switch {
		case ok && kind == kindChange:
			var r record
			if r.decode(payload) != nil {
				d.damaged(at, "a change that makes no sense")
				break
			}
			d.change(at, &r, payload)
		case ok && kind == kindSnapshot:
			d.damaged(at, "a snapshot that makes no sense")
		case ok:
			fmt.Fprintf(d.out, "at %d a record of the unknown kind %d, %d octets\n", at, kind, len(payload))
		case payload == nil:
			d.damaged(at, fmt.Sprintf("the last %d octets are no whole record", len(rest)))
			return
		default:
			next = binary.LittleEndian.Uint32(rest[8:])
			if _, _, _, _, ok := cutRecord(more, next); !ok && len(more) > 0 {
				d.damaged(at, fmt.Sprintf("the last %d octets are no whole records", len(rest)))
				return
			}
			d.damaged(at, fmt.Sprintf("a record of %d octets has a wrong checksum", len(payload)))
		}
		at += int64(len(rest) - len(more))
		rest, crc = more, next
	}
}

func (d *dump) lead(at int64, when time.Time, modseq uint64, by string) {
	fmt.Fprintf(d.out, "at %d %s", at, when.UTC().Format("2006-01-02T15:04:05.000000Z"))
	if modseq != 0 {
		fmt.Fprintf(d.out, " modseq %d", modseq)
	}
	if by != "" {
		fmt.Fprintf(d.out, " by %s", visible(by))
	}
}

func (d *dump) snapshot(s *snapshot) {
	d.keywords = s.keywords
	d.lead(headSize, s.time, s.modseq, s.by)
	fmt.Fprintf(d.out, " snapshot messages %d uidnext %d floor %d", len(s.uids), s.next, s.removed.floor)
	d.names(0, s.keywords)
	d.views(&s.views)
	d.out.WriteByte('\n')
	for i, uid := range s.uids {
		fmt.Fprintf(d.out, "  uid %d modseq %d saved %s %s\n", uid, s.modseqs[i], date(s.saved[i]),
			d.path(nameAt(s.names, s.offsets[i]), s.table[s.wheres[i]]))
	}
	for _, v := range s.removed.list {
		fmt.Fprintf(d.out, "  vanished %s modseq %d\n", v.UIDRange, v.modseq)
	}
	for _, id := range s.ids {
		fmt.Fprintf(d.out, "  uid %d emailid %s\n", id.uid, id.email)
	}
}

func (d *dump) change(at int64, r *record, payload []byte) {
	d.lead(at, r.time, r.modseq, r.by)
	d.names(len(d.keywords), r.keywords)
	d.keywords = append(d.keywords, r.keywords...)
	for _, a := range r.added {
		fmt.Fprintf(d.out, " added uid %d saved %s %s", a.uid, date(a.saved), d.path(a.base, a.where))
	}
	for _, c := range r.changed {
		var set uidSet
		for _, uid := range c.uids {
			set.add(uid)
		}
		fmt.Fprintf(d.out, " changed uid %s %s", ranges(set), d.path("*", c.where))
	}
	if len(r.vanished) > 0 {
		fmt.Fprintf(d.out, " vanished uid %s", ranges(r.vanished))
	}
	for _, id := range r.ids {
		fmt.Fprintf(d.out, " uid %d emailid %s", id.uid, id.email)
	}
	d.views(&r.views)
	for a := (decoder{b: payload[changeHead:]}); len(a.b) > 0; {
		if tag, v := a.attribute(); tag == 0 || tag >= tagAfter {
			fmt.Fprintf(d.out, " attribute %d octets %d", tag, len(v.b))
		}
	}
	d.out.WriteByte('\n')
}

// names shows names that were given to keywords, from the number first on.
func (d *dump) names(first int, list []string) {
	for i, k := range list {
		fmt.Fprintf(d.out, " keyword %d %s", first+i, visible(k))
	}
}

func (d *dump) views(v *views) {
	dir := func(name string, w *dirView) {
		if w == nil {
			return
		}
		fmt.Fprintf(d.out, " %s %s since %s read %s", name, w.stamp, clock(w.since), clock(w.read))
		if !w.own.IsZero() {
			fmt.Fprintf(d.out, " own %s", clock(w.own))
		}
		if w.cost > 0 {
			fmt.Fprintf(d.out, " cost %s", w.cost)
		}
	}
	dir("new", v.new)
	dir("cur", v.cur)
	if v.list != nil {
		fmt.Fprintf(d.out, " uidlist %s read %d", v.list.stamp, v.list.end)
	}
	if v.letters != nil {
		fmt.Fprintf(d.out, " keywords %s", *v.letters)
	}
}

// path shows where a message lies, and its further keywords.
func (d *dump) path(base string, w where) string {
	var s strings.Builder
	s.WriteString(visible(sub(w.dir) + base + w.text))
	for _, k := range w.more {
		if int(k) < len(d.keywords) {
			s.WriteString(" +" + visible(d.keywords[k]))
		} else {
			s.WriteString(" +" + strconv.Itoa(int(k)))
		}
	}
	return s.String()
}

// String gives a range as IMAP has it.
func (r UIDRange) String() string {
	if r.First == r.Last {
		return strconv.FormatUint(uint64(r.First), 10)
	}
	return fmt.Sprintf("%d:%d", r.First, r.Last)
}

func ranges(list []UIDRange) string {
	var b strings.Builder
	for i, r := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.String())
	}
	return b.String()
}

// String gives inode, time and size.
func (s stamp) String() string { return fmt.Sprintf("%d@%d.%09d/%d", s.ino, s.sec, s.nsec, s.size) }

func date(seconds uint32) string {
	return time.Unix(int64(seconds), 0).UTC().Format("2006-01-02T15:04:05Z")
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// visible gives a text that a terminal shows as one word: in quotes, with escapes, where it is none.
func visible(s string) string {
	for _, r := range s {
		if r <= ' ' || r == '"' || r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
