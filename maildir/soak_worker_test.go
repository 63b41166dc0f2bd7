package maildir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// soakEnv tells the test program to be a worker of the soak test: "index generation seed folder mode path logs".
const soakEnv = "MAILDIR_TEST_SOAK"

// In the last folder each flag has one worker that changes it, so that none may be lost; in the others everybody does
// as he likes.
var soakFolders = []string{"INBOX", "Box", "Own"}

const ownFolder = 2

// roles are the workers, one process each. Those who may be killed keep nothing that they need later. Some are not
// there when Dovecot is, or when it is not.
var roles = []struct {
	name   string
	kill   bool
	beside bool // and Dovecot may be there
	run    func(w *worker)
}{
	{"deliverer", true, true, (*worker).deliverer},
	{"procmail", true, true, (*worker).procmail},
	{"mbsync", true, false, (*worker).mbsync},
	{"mua", true, false, (*worker).mua},
	{"mua", true, false, (*worker).mua},
	{"session", true, true, (*worker).session},
	{"session", true, true, (*worker).session},
	{"session", true, true, (*worker).session},
	{"daemon", true, true, (*worker).daemon},
	{"reader", false, true, (*worker).reader},
	{"poller", false, true, (*worker).poller},
	{"idler", false, true, (*worker).idler},
	{"follower", false, true, (*worker).follow},
	{theirs, false, true, (*worker).dovecot},
	{theirs, false, true, (*worker).dovecot},
}

// bits are those that a worker owns in the last folder: 0 to 4 are flags, the others keywords "own5", "own6" …
var bits = map[int][]int{3: {0}, 4: {1}, 5: {2, 5, 6}, 6: {3, 7, 8}, 7: {4, 9, 10}, 8: {11, 12, 13}, 13: {14}, 14: {15}}

// theirs is the role of a worker that has Dovecot do its work.
const theirs = "dovecot"

// A worker is one process of the soak test, or one of a daemon's sessions.
type worker struct {
	name              string
	index, generation int
	r                 *rand.Rand
	l                 *ledger
	s                 *Store
	log               *os.File
	n                 int
	bits              []int
	room              int           // messages that a folder should have at most: each costs all readers
	keywords          int           // in use, beside those with an owner
	rest              time.Duration // between two changes by programs other than ours, at most
	views             [3]view
}

// soakWorker is the main function of a worker.
func soakWorker(spec string) {
	f := strings.SplitN(spec, " ", 6)
	w := &worker{room: 250, keywords: 40}
	w.index, _ = strconv.Atoi(f[0])
	w.generation, _ = strconv.Atoi(f[1])
	seed, _ := strconv.ParseUint(f[2], 10, 64)
	w.r = rand.New(rand.NewPCG(seed, uint64(w.index)<<32|uint64(w.generation)))
	w.bits = bits[w.index]
	switch f[3] {
	case "slow":
		slowly, w.room, w.rest = inPieces(2048, 2*time.Millisecond), 100, 2*time.Millisecond
	case theirs: // it keeps those beyond 26 to itself
		w.keywords = 10
	case "worst": // a mail reader has no faster directory than we have
		slowly, w.room, w.rest = newestFirst(20, 2*time.Millisecond), 200, 5*time.Millisecond
	}
	w.name = roles[w.index].name
	file := fmt.Sprintf("%02d-%s", w.index, w.name)
	var err error
	if w.log, err = os.OpenFile(filepath.Join(f[4], file+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	linkedLong = 5 * time.Second
	if w.r.IntN(2) == 0 {
		Keep(time.Duration(1+w.r.IntN(2000)) * time.Millisecond)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(w.log, nil)))
	if w.l, err = openLedger(3); err == nil {
		w.s, err = Open(f[5])
	}
	if err != nil {
		w.fail("begin: %v", err)
	}
	w.say("begin, generation %d, process %d", w.generation, os.Getpid())
	roles[w.index].run(w)
	w.say("end")
}

// say writes a line to the log, in one call, so that it is there when we are killed.
func (w *worker) say(format string, args ...any) {
	now := time.Now()
	b := now.AppendFormat(make([]byte, 0, 200), "15:04:05.000000 ")
	b = fmt.Appendf(b, "%02d ", w.index)
	b = fmt.Appendf(b, format, args...)
	w.log.Write(append(b, '\n'))
}

// fail says what must never be, and ends the whole run.
func (w *worker) fail(format string, args ...any) {
	w.say("FAIL "+format, args...)
	fmt.Printf("%02d-%s: "+format+"\n", append([]any{w.index, w.name}, args...)...)
	if w.l != nil {
		w.l.head[ledgerFailed].Store(1)
	}
	os.Exit(3)
}

// next tells whether to go on.
func (w *worker) next() bool {
	w.n++
	return !w.l.stopped()
}

// did says what was done, and counts it as an operation when it had its effect.
func (w *worker) did(err error, format string, args ...any) {
	if err != nil {
		w.say(format+": %v", append(args, err)...)
		return
	}
	w.say(format, args...)
	w.l.head[ledgerOps+w.index].Add(1)
}

func (w *worker) folder() int { return w.r.IntN(len(soakFolders)) }

// wild gives a folder where everybody does as he likes.
func (w *worker) wild() int { return w.r.IntN(ownFolder) }

func (w *worker) dir(folder int) string {
	if folder == 0 {
		return w.s.Path()
	}
	return filepath.Join(w.s.Path(), "."+soakFolders[folder])
}

// A note is a message of the soak test: its id tells all of it.
func note(id string) string {
	return "Subject: " + id + "\n\n" + strings.Repeat("all of it\n", int(hash(id)>>7%60)) + "end " + id + "\n"
}

// noteID gives the id of a message that is whole.
func noteID(data string) (string, bool) {
	id, ok := strings.CutPrefix(data, "Subject: ")
	id, _, _ = strings.Cut(id, "\n")
	return id, ok && data == note(id)
}

func (w *worker) id() string { return fmt.Sprintf("%d.%d.%d", w.index, w.generation, w.n) }

// acked notes that a message is there from now on, until somebody takes it.
func (w *worker) acked(folder int, base, id string) {
	if id != "" && !w.l.text(base, id) {
		w.fail("%s was another message before %s", base, id)
	}
	w.l.base(soakFolders[folder], base).acked.Store(1)
}

// take says that a message may leave a folder from now on.
func (w *worker) take(folder int, base string) *baseEntry {
	e := w.l.base(soakFolders[folder], base)
	e.taken.Add(1)
	return e
}

func (w *worker) deliverer() {
	for w.next() {
		folder, id := w.folder(), w.id()
		if w.crowded(folder) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		d, err := w.s.Deliver(DeliverOptions{Folder: soakFolders[folder]})
		to := []int{folder}
		if err == nil && w.r.IntN(4) == 0 {
			to = append(to, (folder+1)%len(soakFolders))
			err = d.Also(w.s, DeliverOptions{Folder: soakFolders[to[1]]})
		}
		if err == nil {
			_, err = io.WriteString(d, strings.ReplaceAll(note(id), "\n", "\r\n"))
		}
		if err == nil && w.r.IntN(10) == 0 {
			d.Abort()
			continue
		}
		if err == nil {
			_, err = d.Commit()
		}
		if err != nil {
			w.fail("deliver: %v", err)
		}
		for i, base := range d.Names() {
			w.acked(to[i], base, id)
			w.did(nil, "delivered %s to %s as %s", id, soakFolders[to[i]], base)
		}
	}
}

// crowded tells whether a folder has so many messages that no more are wanted.
func (w *worker) crowded(folder int) bool {
	n := 0
	for _, sub := range []string{"new", "cur"} {
		entries, _ := os.ReadDir(filepath.Join(w.dir(folder), sub))
		n += len(entries)
	}
	return n > w.room
}

// daemon is one process with many sessions, as imapd is when it listens.
func (w *worker) daemon() {
	done := make(chan bool)
	for i := range uint64(4) {
		c := *w
		c.r = rand.New(rand.NewPCG(w.r.Uint64(), i))
		c.bits = nil
		c.n = int(i+1) << 40 // ids of its own
		switch i {
		case 3:
			go func() { c.reader(); done <- true }()
		default:
			c.bits = w.bits[i : i+1]
			go func() { c.session(); done <- true }()
		}
	}
	for range 4 {
		<-done
	}
}

// session is a client's: it looks, and changes what it sees.
func (w *worker) session() {
	for !w.l.stopped() {
		at := w.folder()
		to := (at + 1 + w.r.IntN(2)) % len(soakFolders)
		f, err := w.s.OpenFolder(soakFolders[at])
		if err != nil {
			w.fail("open: %v", err)
		}
		other, err := w.s.OpenFolder(soakFolders[to])
		if err != nil {
			w.fail("open: %v", err)
		}
		for n := 20 + w.r.IntN(300); n > 0 && w.next(); n-- {
			w.step(f, at, other, to)
		}
		f.Close()
		other.Close()
	}
}

// step is one operation of a session.
func (w *worker) step(f *Folder, at int, other *Folder, to int) {
	st := w.look(f, at, w.r.IntN(2) == 0)
	op := w.r.IntN(100)
	if st.Len() == 0 {
		op = 99
	}
	var some []Message
	if op < 99 {
		i := w.r.IntN(st.Len())
		some = st.List()[i:min(i+1+w.r.IntN(4), st.Len())]
	}
	crowd := st.Len()
	switch {
	case op < 50 && at == ownFolder:
		w.own(f, some, st)
	case op < 50:
		c := Change{Add: Flags(w.r.IntN(32)), Remove: Flags(w.r.IntN(32)), Replace: w.r.IntN(5) == 0}
		if w.r.IntN(3) == 0 {
			c.AddKeywords = []string{fmt.Sprint("k", w.r.IntN(w.keywords))}
		}
		if w.r.IntN(3) == 0 {
			c.RemoveKeywords = []string{fmt.Sprint("k", w.r.IntN(w.keywords))}
		}
		w.say("%s: store %v %+v", f.Name(), list(some), c)
		_, err := f.Store(some, c)
		w.done("store", err)
	case op < 60 && crowd > w.room/2 || op >= 60 && op < 66:
		w.say("%s: move %v to %s", f.Name(), list(some), other.Name())
		for _, m := range some {
			w.take(at, m.Key())
		}
		pairs, err := f.Move(some, other)
		w.done("move", err)
		w.arrived(other, to, pairs)
	case op < 76 && crowd > w.room/3:
		w.say("%s: expunge %v", f.Name(), list(some))
		for _, m := range some {
			w.take(at, m.Key())
		}
		w.done("expunge", f.Expunge(some))
		w.left(f, some)
	case op < 82 && crowd < w.room:
		w.say("%s: copy %v to %s", f.Name(), list(some), other.Name())
		pairs, err := f.Copy(some, other)
		w.done("copy", err)
		w.arrived(other, to, pairs)
	case op >= 94 && crowd < w.room:
		w.append(f, at)
	case len(some) > 0:
		w.read(f, at, some[0])
	}
}

// done looks at what an operation on messages said: they may be gone at any time.
func (w *worker) done(verb string, err error) {
	w.did(err, "%s: done", verb)
	if err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, fs.ErrNotExist) {
		w.fail("%s: %v", verb, err)
	}
}

func list(msgs []Message) string {
	var b strings.Builder
	for _, m := range msgs {
		fmt.Fprintf(&b, " %d:%s", m.UID, m.Key())
	}
	return b.String()
}

func (w *worker) append(f *Folder, at int) {
	o := AppendOptions{}
	if w.r.IntN(2) == 0 {
		o.Flags = Flags(w.r.IntN(32))
		o.Keywords = []string{fmt.Sprint("k", w.r.IntN(w.keywords))}
	}
	id := w.id()
	w.say("%s: append %s", f.Name(), id)
	uid, err := f.Append(o, strings.NewReader(note(id)))
	w.done("append", err)
	if err != nil {
		return
	}
	w.arrived(f, at, []Pair{{0, uid}})
}

// arrived checks that messages have come into a folder, whether they are there or were taken meanwhile.
func (w *worker) arrived(f *Folder, at int, pairs []Pair) {
	if len(pairs) == 0 {
		return
	}
	st := w.look(f, at, false)
	for _, p := range pairs {
		if p.To >= st.UIDNext {
			w.fail("%s: UID %d was given, and UIDNEXT is %d", f.Name(), p.To, st.UIDNext)
		}
		i, ok := st.Find(p.To)
		if !ok {
			w.say("%s: UID %d has come and is gone", f.Name(), p.To)
			continue
		}
		w.say("%s: UID %d has come as %s", f.Name(), p.To, st.At(i).Key())
		w.acked(at, st.At(i).Key(), "")
	}
}

// left checks that what was removed is not shown any more, at least by this process.
func (w *worker) left(f *Folder, msgs []Message) {
	st, err := f.Sync(SyncOptions{})
	if err != nil {
		w.fail("%s: %v", f.Name(), err)
	}
	for _, m := range msgs {
		if i, ok := st.Find(m.UID); ok && st.At(i).Key() == m.Key() && w.l.base(f.Name(), m.Key()).taken.Load() == 1 {
			w.fail("%s: UID %d was removed and is still there", f.Name(), m.UID)
		}
	}
}

// own changes flags that nobody else changes: what was acknowledged before has to be there still. With a condition
// (RFC 7162 §3.1.3) a message that somebody else has changed meanwhile has to be refused.
func (w *worker) own(f *Folder, some []Message, st *State) {
	bit := w.bits[w.r.IntN(len(w.bits))]
	on := w.r.IntN(2) == 0
	c := Change{}
	if strict && w.r.IntN(2) == 0 {
		c.UnchangedSince = st.HighestModSeq
	}
	late := map[uint32]bool{} // changed since we have looked
	for _, m := range some {
		e := w.l.base(f.Name(), m.Key())
		word := flagWord(e.word.Load())
		for b := range 16 {
			if !word.known(b) || word.pending(b) || word.is(b) == hasBit(m, b) {
				continue
			}
			if b == bit {
				w.fail("%s: UID %d, %s: %s was acknowledged as %v", f.Name(), m.UID, m.path(), bitName(bit), word.is(bit))
			}
			late[m.UID] = hasBit(m, bit) != on // else it is as if we had come first
		}
		e.begin(bit)
	}
	switch {
	case bit < 5 && on:
		c.Add = 1 << bit
	case bit < 5:
		c.Remove = 1 << bit
	case on:
		c.AddKeywords = []string{bitName(bit)}
	default:
		c.RemoveKeywords = []string{bitName(bit)}
	}
	w.say("%s: own %v %s %v unchanged since %d", f.Name(), list(some), bitName(bit), on, c.UnchangedSince)
	refused, err := f.Store(some, c)
	w.done("store", err)
	if err != nil {
		return
	}
	now := w.look(f, ownFolder, false)
	for _, m := range some {
		e := w.l.base(f.Name(), m.Key())
		if slices.Contains(refused, m.UID) {
			e.failed(bit)
			continue
		}
		if _, ok := now.Find(m.UID); !ok { // it was passed over, or has gone since
			e.lost(bit)
			continue
		}
		e.done(bit, on)
		if c.UnchangedSince > 0 && late[m.UID] {
			w.fail("%s: UID %d was changed after MODSEQ %d, and then by us all the same", f.Name(), m.UID, c.UnchangedSince)
		}
	}
	if len(refused) > 0 {
		w.say("%s: refused %v", f.Name(), refused)
	}
}

func bitName(bit int) string {
	if bit < 5 {
		return Flags(1 << bit).String()
	}
	return fmt.Sprint("own", bit)
}

func hasBit(m Message, bit int) bool {
	if bit < 5 {
		return m.Flags&(1<<bit) != 0
	}
	return m.HasKeyword(bitName(bit))
}
