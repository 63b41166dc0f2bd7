package maildir

import (
	"encoding/binary"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

// A box is what all Folders on one directory share within the process: what we know of its messages, and of the files
// that hold their state. Folders of another process have a box of their own; the two learn from each other by the disk.
type box struct {
	key     [2]uint64 // device and inode of the directory
	serial  uint64    // orders boxes whose mutexes are taken both
	users   atomic.Int32
	kept    bool        // it is on the shelf, and nobody uses it
	left    time.Time   // when the last one has left
	weight  int64       // octets of memory it takes there
	cleaned time.Time   // when its tmp was looked through; as kept, left and weight guarded by the shelf
	again   atomic.Bool // it was opened again without a look at its directories
	dir     *place
	root    *place // where UIDVALIDITY is given out

	// mu guards what follows. Whoever wants the folder's lock too takes that first, and never waits for it with mu held.
	mu sync.Mutex

	// The UID list: its head, the messages on it, and how far it was read.
	head      listHead
	named     listHead // as ID has read it
	rows      table
	unseen    int            // rows whose files were not looked for yet: mark 0
	absent    map[string]row // lines without a file that may still turn up, by base name
	exts      map[uint32]string
	extsKnown bool // exts and the head's fields are those of the whole list
	index     index
	lastLine  uint32          // the largest UID on the list
	dead      map[uint64]bool // hashes of the base names of such lines; nil: not known
	judged    uint32          // lines below this UID that are not in rows have no file any more
	list      stamp           // of the file as we read it
	listEnd   int64           // octets of it in whole lines
	listTail  string          // its last octets as far as listEnd
	listWhole bool            // nothing follows them
	rewrite   bool            // there is reason to write it anew
	distrust  bool            // what can be read there may not be on disk

	keywords keywordNames
	kwStamp  stamp
	more     []string // names of keywords beyond the letters
	infos    []*info  // by mark; only grows, until it is made anew with the rows
	marks    map[string]uint32
	key0     []byte // room for a key of marks

	new, cur dirView
	inNew    uidSet
	doubt    map[uint32]doubt
	beyond   map[string][]string // keywords from Courier for which there was no letter, by base names
	sizes    map[uint32]counted

	journal journal
	usable  bool   // the journal is there, and says all that log does not
	past    bool   // … but clients may have been told more than it says
	fresh   bool   // who changed cur last may have been killed with more of it, or have hidden somebody else's change
	told    views  // what it says of the views
	known   uint32 // UIDs below are in it, as messages or as gone; 0: not read
	log     changes
	modseq  uint64 // highest one given
	grave   graveyard
	ids     idents

	state   *State // the present one; nil when it has to be made
	version uint64 // changes with rows

	cache  cacheSlot
	shared any // of those who have the folder open
	pier   pier
}

// lockBoth takes the mutexes of two boxes, always in the same order.
func lockBoth(a, b *box) (unlock func()) {
	if a == b {
		a.mu.Lock()
		return a.mu.Unlock
	}
	if b.serial < a.serial {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
	return func() { b.mu.Unlock(); a.mu.Unlock() }
}

// An info is where a message lies, what stands behind its base name, taken apart, and its keywords. Messages that are alike
// in all this share one.
type info struct {
	dir      byte
	text     string // ":2,FS", verbatim; empty for a message that was never touched
	flags    Flags
	letters  uint32   // keyword letters: bit 0 is "a"
	more     string   // keywords beyond the letters: their places in the box's list, two octets each, rising
	keywords []string // the names of both
	other    string   // other letters, kept: P (passed on) and those not known
	extra    string   // from the first comma on, kept
}

// noInfo stands where nothing is known yet: its mark is 0.
var noInfo = &info{}

// same tells whether two infos mean the same to a client.
func (in *info) same(to *info) bool {
	if in == to {
		return true
	}
	if in.flags != to.flags || len(in.keywords) != len(to.keywords) {
		return false
	}
	for i, k := range in.keywords {
		if k != to.keywords[i] {
			return false
		}
	}
	return true
}

// mark gives the mark of an info.
func (b *box) mark(dir byte, text []byte, more string) uint32 {
	b.key0 = append(append(append(append(b.key0[:0], dir), text...), 0), more...)
	if m, ok := b.marks[string(b.key0)]; ok {
		return m
	}
	in := parseInfo(string(text))
	in.dir, in.more = dir, more
	in.keywords = b.keywords.names(in.letters)
	for k := range placesOf(more) {
		in.keywords = append(in.keywords, b.more[k])
	}
	if len(b.infos) == 0 {
		b.infos, b.marks = []*info{noInfo}, map[string]uint32{}
	}
	m := uint32(len(b.infos))
	b.infos = append(b.infos, in)
	b.marks[string(b.key0)] = m
	return m
}

// info gives that of a mark.
func (b *box) info(mark uint32) *info {
	if mark == 0 {
		return noInfo
	}
	return b.infos[mark]
}

// renewInfos forgets infos that nobody has any more.
func (b *box) renewInfos() {
	if len(b.infos) <= 1024+2*b.rows.len {
		return
	}
	old := b.infos
	b.remark(func(m uint32) uint32 {
		in := old[m]
		return b.mark(in.dir, octets(in.text), in.more)
	})
}

// remark gives every row a mark in a new list of infos.
func (b *box) remark(to func(old uint32) uint32) {
	b.infos, b.marks = nil, nil
	b.version++ // a reading that is on its way has marks of the old list
	known := map[uint32]uint32{0: 0}
	for k, bl := range b.rows.blocks {
		bl = b.rows.write(k)
		for i := range bl.n {
			m, ok := known[bl.mark[i]]
			if !ok {
				m = to(bl.mark[i])
				known[bl.mark[i]] = m
			}
			bl.mark[i] = m
		}
	}
}

// placesOf gives the places in a list of further keywords.
func placesOf(more string) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i+1 < len(more); i += 2 {
			if !yield(int(binary.BigEndian.Uint16(octets(more[i : i+2])))) {
				return
			}
		}
	}
}

// placesText is the list that placesOf reads.
func placesText(places []uint16) string {
	b := make([]byte, 0, 2*len(places))
	for _, k := range places {
		b = binary.BigEndian.AppendUint16(b, k)
	}
	return string(b)
}

// picture gives the present State. Nothing that was not found yet is in it.
func (b *box) picture() *State {
	if b.state != nil && b.state.UIDNext == b.head.next && b.state.HighestModSeq == b.modseq {
		return b.state
	}
	if b.unseen > 0 {
		b.setAside()
	}
	b.renewInfos()
	b.rows.tidy()
	s := &State{UIDValidity: b.head.validity, UIDNext: b.head.next, HighestModSeq: b.modseq, infos: b.infos}
	s.Keywords = append(b.keywords.all(), b.more...)
	s.blocks, s.ends = b.rows.freeze()
	b.state = s
	return s
}

// setAside takes lines whose files were not found out of the rows: they are not shown, and may still turn up.
func (b *box) setAside() {
	for _, uid := range b.rows.uids(func(m uint32) bool { return m == 0 }) {
		r, _ := b.rows.get(uid)
		b.rows.remove(uid)
		if b.absent == nil {
			b.absent = map[string]row{}
		}
		b.absent[r.base] = r
	}
	b.unseen = 0
}

// put gives a message a mark. One without a file so far appears.
func (b *box) put(uid, mark uint32) {
	k, i, ok := b.rows.blocks.find(uid)
	if !ok {
		return
	}
	old := b.rows.blocks[k].mark[i]
	if old == mark {
		return
	}
	from, to := b.info(old), b.info(mark)
	b.rows.write(k).mark[i] = mark
	if old == 0 {
		b.unseen--
		b.log.added = append(b.log.added, uid)
	} else {
		b.log.changed = append(b.log.changed, uid)
	}
	b.version++
	if from.dir != to.dir {
		if from.dir == inNew {
			b.inNew.remove(uid)
		}
		if to.dir == inNew {
			b.inNew.add(uid)
		}
	}
	b.state = nil
}

// add takes in a message with its file.
func (b *box) add(uid, mark, saved uint32, base string) {
	b.rows.add(row{uid: uid, mark: mark, saved: saved, base: base})
	b.index.add(&b.rows, base, uid)
	b.version++
	if mark == 0 {
		b.unseen++
	} else {
		b.log.added = append(b.log.added, uid)
		if b.info(mark).dir == inNew {
			b.inNew.add(uid)
		}
	}
	b.head.next = max(b.head.next, uid+1)
	b.state = nil
}

// vanish notes that a message is gone.
func (b *box) vanish(uid uint32) {
	r, ok := b.rows.get(uid)
	if !ok {
		return
	}
	b.rows.remove(uid)
	if b.dead != nil {
		b.dead[b.hash(r.base)] = true
	}
	b.version++
	if r.mark == 0 {
		b.unseen--
	} else {
		b.log.gone.add(uid)
	}
	b.inNew.remove(uid)
	delete(b.sizes, uid)
	delete(b.doubt, uid)
	b.state = nil
}

// clear forgets all messages and the views of them.
func (b *box) clear() {
	b.rows = table{age: b.rows.age + 1}
	b.unseen, b.absent, b.exts, b.extsKnown, b.index = 0, nil, nil, false, index{}
	b.infos, b.marks = nil, nil
	b.new, b.cur, b.inNew, b.doubt, b.sizes = dirView{}, dirView{}, nil, nil, nil
	b.lastLine, b.judged, b.dead = 0, 0, nil
	b.known = 0
	b.version++
	b.log, b.grave, b.ids = changes{}, graveyard{}, nil
	b.state = nil
}

// stamps looks at new and cur. Without them the folder is no more.
func (b *box) stamps() (n, c stamp, err error) {
	if b.dir == nil {
		return n, c, fs.ErrClosed
	}
	if n, err = b.dir.stampDir("new"); err == nil {
		c, err = b.dir.stampDir("cur")
	}
	if err == nil && (n == stamp{} || c == stamp{}) {
		if err = ErrGone; b.again.Swap(false) && b.dir.mend() { // as who opens it does
			return b.stamps()
		}
	}
	return n, c, err
}

// lookup gives the place of a base name in the rows.
func (b *box) lookup(base string) (k, i int, ok bool) {
	b.indexed()
	return b.index.find(&b.rows, base)
}

// indexed makes the index if it is not there. Names that stand for two UIDs stay with the later one.
func (b *box) indexed() {
	if b.index.uids != nil {
		return
	}
	for _, uid := range b.index.build(&b.rows) {
		b.vanish(uid)
		b.rewrite = true
	}
}
