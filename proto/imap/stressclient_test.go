package imap_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// The ways a client of TestStress speaks, by its number.
const (
	stressPlain     = iota // RFC 3501
	stressCondStore        // RFC 7162 §3.1
	stressQResync          // RFC 7162 §3.2
	stressRev2             // RFC 9051
	stressUIDOnly          // RFC 9586, with QRESYNC
	stressKinds
)

// A stressClient is a client with a picture of its own.
type stressClient struct {
	w    *stressWorld
	t    *testing.T
	id   int
	kind int
	r    *rand.Rand
	conn net.Conn
	in   *bufio.Reader
	caps string
	tags int
	log  []string

	commands, resyncs int

	box      string
	readOnly bool
	validity uint64
	uids     []uint32          // by message number; 0: not known yet
	flags    map[uint32]string // as told last, without \Recent; what the client has changed in silence is not in it
	mods     map[uint32]uint64 // MODSEQ as told last
	highest  uint64            // MODSEQ up to which all is known
	heard    uint64            // the largest in the responses to the current command
	ids      map[stressKey]string
	holds    bool // no EXPUNGE may come
}

func newStressClient(w *stressWorld, seed uint64, id int) *stressClient {
	store, err := maildir.Open(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := &imap.Session{
			Conn:    wire.New(server, 8192, 30*time.Minute),
			Preauth: &imap.User{Name: "bob", Store: store},
		}
		s.Serve(w.t.Context())
		server.Close()
	}()
	w.t.Cleanup(func() { client.Close(); <-done })
	c := &stressClient{
		w: w, t: w.t, id: id, conn: client, in: bufio.NewReader(client),
		r: rand.New(rand.NewPCG(seed, uint64(id))), ids: map[stressKey]string{},
	}
	c.caps, _ = c.response()
	c.caps = strings.NewReplacer("[", " ", "]", " ").Replace(c.caps) + " "
	c.kind = id % stressKinds
	feature := [stressKinds]string{"", "CONDSTORE", "QRESYNC", "IMAP4rev2", "UIDONLY"}[c.kind]
	switch {
	case feature == "":
	case !strings.Contains(c.caps, " "+feature+" "):
		c.kind = stressPlain
	case c.kind == stressUIDOnly:
		c.command("ENABLE QRESYNC UIDONLY")
	case c.kind == stressRev2 && id%2 == 0:
		c.command("ENABLE IMAP4rev2 CONDSTORE")
	default:
		c.command("ENABLE %s", feature)
	}
	return c
}

// sum adds what the client did to what all did.
func (c *stressClient) sum(w *stressWorld) {
	w.commands += c.commands
	w.resyncs += c.resyncs
}

// vanishes says that removed messages are told by UID.
func (c *stressClient) vanishes() bool { return c.kind == stressQResync || c.kind == stressUIDOnly }

// counts says that each change has a MODSEQ.
func (c *stressClient) counts() bool { return c.kind == stressCondStore || c.vanishes() }

func (c *stressClient) fetchVerb() string {
	if c.kind == stressUIDOnly {
		return "UID FETCH"
	}
	return "FETCH"
}

type stressStop struct{}

// fault ends the client; the last it said and heard is told.
func (c *stressClient) fault(format string, args ...any) {
	c.t.Errorf("session %d, kind %d: %s\n%s", c.id, c.kind, fmt.Sprintf(format, args...), strings.Join(c.log[max(0, len(c.log)-60):], "\n"))
	panic(stressStop{})
}

func (c *stressClient) work() {
	defer func() {
		if e := recover(); e != nil && e != (stressStop{}) {
			panic(e)
		}
	}()
	for time.Now().Before(c.w.until) && !c.t.Failed() {
		c.step()
		c.learn()
	}
}

// response reads one: the line, its literals cut out.
func (c *stressClient) response() (line string, literals [][]byte) {
	c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		text, err := c.in.ReadString('\n')
		if err != nil {
			c.fault("%v behind %q", err, text)
		}
		text, ok := strings.CutSuffix(text, "\r\n")
		if !ok || strings.ContainsRune(text, '\r') {
			c.fault("line end in %q", text)
		}
		line += text
		m := announces.FindStringSubmatch(text)
		if m == nil {
			c.note(fmt.Sprintf("S: %.300s", line))
			return line, literals
		}
		n, _ := strconv.Atoi(m[1])
		b := make([]byte, n)
		if _, err := io.ReadFull(c.in, b); err != nil {
			c.fault("literal: %v", err)
		}
		literals = append(literals, b)
	}
}

func (c *stressClient) note(line string) {
	if len(c.log) > 100 {
		c.log = append(c.log[:0], c.log[80:]...)
	}
	c.log = append(c.log, line)
}

// command says one, and hears all up to its end.
func (c *stressClient) command(format string, args ...any) string {
	return c.finish(c.say(format, args...), nil)
}

func (c *stressClient) say(format string, args ...any) string {
	c.tags++
	c.commands++
	c.heard = 0
	tag := fmt.Sprintf("t%d", c.tags)
	text := fmt.Sprintf(format, args...)
	c.note(fmt.Sprintf("C: %s %.300s", tag, text))
	verb, _, _ := strings.Cut(text, " ")
	c.holds = verb == "FETCH" || verb == "STORE" || verb == "SEARCH" || verb == "SORT" || verb == "THREAD"
	c.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c.conn, tag+" "+text+"\r\n"); err != nil {
		c.fault("%v", err)
	}
	return tag
}

func (c *stressClient) finish(tag string, each func(line string)) string {
	for {
		line, literals := c.response()
		switch {
		case strings.HasPrefix(line, "+ "):
			if each == nil {
				c.fault("nobody waits for that")
			}
			each(line)
		case strings.HasPrefix(line, "* "):
			c.untagged(line[2:], literals)
			if each != nil {
				each(line)
			}
		default:
			got, rest, _ := strings.Cut(line, " ")
			if got != tag {
				c.fault("want the end of %s", tag)
			}
			if strings.HasPrefix(rest, "BAD") {
				c.fault("BAD")
			}
			if strings.HasPrefix(rest, "NO") && !strings.HasPrefix(rest, "NO [EXPUNGEISSUED]") && !strings.HasPrefix(rest, "NO [MODIFIED ") {
				c.fault("NO")
			}
			c.highestIn(rest)
			c.holds = false
			return rest
		}
	}
}

// highestIn takes HIGHESTMODSEQ from a response code.
func (c *stressClient) highestIn(text string) {
	if v, ok := strings.CutPrefix(text, "OK [HIGHESTMODSEQ "); ok {
		v, _, _ = strings.Cut(v, "]")
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil || n == 0 {
			c.fault("HIGHESTMODSEQ")
		}
		c.highest = n
	}
}

func (c *stressClient) untagged(line string, literals [][]byte) {
	words := strings.Fields(line)
	n, err := strconv.Atoi(words[0])
	if err != nil {
		switch words[0] {
		case "BYE":
			c.fault("BYE")
		case "OK":
			if strings.HasPrefix(line, "OK [CLOSED]") {
				c.box, c.uids = "", nil
			}
			if v, ok := strings.CutPrefix(line, "OK [UIDVALIDITY "); ok {
				v, _, _ = strings.Cut(v, "]")
				c.validity, _ = strconv.ParseUint(v, 10, 64)
			}
			c.highestIn(line)
		case "SEARCH", "SORT":
			if c.kind == stressRev2 && words[0] == "SEARCH" {
				c.fault("SEARCH under IMAP4rev2")
			}
			for _, w := range words[1:] {
				if strings.HasPrefix(w, "(") {
					break // MODSEQ
				}
				if k, err := strconv.Atoi(w); err != nil || k < 1 {
					c.fault("a number in %s", words[0])
				}
			}
		case "VANISHED":
			if !c.vanishes() || c.holds {
				c.fault("VANISHED, in FETCH, STORE or SEARCH: %v", c.holds)
			}
			c.vanished(words[len(words)-1], words[1] == "(EARLIER)")
		}
		return
	}
	switch words[1] {
	case "EXISTS":
		if n < len(c.uids) {
			c.fault("%d EXISTS, and there were %d", n, len(c.uids))
		}
		c.uids = append(c.uids, make([]uint32, n-len(c.uids))...)
	case "RECENT":
		if n > len(c.uids) || c.kind == stressRev2 {
			c.fault("%d RECENT of %d", n, len(c.uids))
		}
	case "EXPUNGE":
		if n < 1 || n > len(c.uids) || c.holds || c.vanishes() {
			c.fault("EXPUNGE %d of %d, in FETCH, STORE or SEARCH: %v", n, len(c.uids), c.holds)
		}
		c.forget(c.uids[n-1])
		c.uids = slices.Delete(c.uids, n-1, n)
	case "FETCH":
		if n < 1 || n > len(c.uids) || c.kind == stressUIDOnly {
			c.fault("FETCH %d of %d", n, len(c.uids))
		}
		c.fetched(n, line, literals)
	case "UIDFETCH":
		if c.kind != stressUIDOnly {
			c.fault("UIDFETCH")
		}
		i, known := slices.BinarySearchFunc(c.uids, uint32(n), byUIDOrUnknown)
		if !known {
			if len(c.uids) == 0 || c.uids[len(c.uids)-1] != 0 {
				c.fault("UIDFETCH of a message too many")
			}
			c.uids = slices.Insert(c.uids[:len(c.uids)-1], i, uint32(n))
		}
		c.fetched(i+1, line, literals)
	default:
		c.fault("what is that?")
	}
}

// byUIDOrUnknown orders UIDs, those that are not known behind all others.
func byUIDOrUnknown(a, b uint32) int { return int(int64(a-1) - int64(b-1)) }

func (c *stressClient) forget(uid uint32) {
	delete(c.flags, uid)
	delete(c.mods, uid)
}

// vanished takes messages out of the picture.
func (c *stressClient) vanished(set string, earlier bool) {
	for r := range strings.SplitSeq(set, ",") {
		a, b, ok := strings.Cut(r, ":")
		if !ok {
			b = a
		}
		lo, err := strconv.ParseUint(a, 10, 32)
		hi, err2 := strconv.ParseUint(b, 10, 32)
		if err != nil || err2 != nil || lo == 0 {
			c.fault("VANISHED %s", set)
		}
		if lo > hi {
			lo, hi = hi, lo
		}
		if earlier {
			for uid := range c.flags {
				if uint64(uid) >= lo && uint64(uid) <= hi {
					c.forget(uid)
				}
			}
			continue
		}
		for uid := uint32(lo); uint64(uid) <= hi; uid++ {
			i := c.place(uid)
			if i < 0 {
				c.fault("%d has vanished, and was never there", uid)
			}
			c.uids = slices.Delete(c.uids, i, i+1)
			c.forget(uid)
		}
	}
}

// place is where a message is that vanishes: where its UID is known, else some
// place between those with lesser and greater UIDs.
func (c *stressClient) place(uid uint32) int {
	room := -1
	for i, u := range c.uids {
		if c.kind == stressUIDOnly { // without numbers, nobody knows where those are that are not known
			if u == uid {
				return i
			} else if u == 0 {
				room = i
			}
			continue
		}
		switch {
		case u == uid:
			return i
		case u == 0:
			room = i
		case u < uid:
			room = -1
		case u > uid:
			return room
		}
	}
	return room
}

// attribute is what stands in parentheses behind a name in a FETCH response.
func attribute(line, name string) (string, bool) {
	_, after, ok := strings.Cut(line, name+" (")
	text, _, _ := strings.Cut(after, ")")
	return text, ok
}

func (c *stressClient) fetched(n int, line string, literals [][]byte) {
	if !strings.HasSuffix(line, ")") {
		c.fault("FETCH does not end")
	}
	uid := c.uids[n-1]
	if _, after, ok := strings.Cut(line, "UID "); ok {
		end := strings.IndexAny(after, " )")
		v, err := strconv.ParseUint(after[:end], 10, 32)
		switch {
		case err != nil:
			c.fault("UID")
		case uid != 0 && uid != uint32(v):
			c.fault("message %d had UID %d", n, uid)
		}
		uid = uint32(v)
	} else if c.kind == stressQResync {
		c.fault("FETCH without UID")
	}
	if uid == 0 {
		return
	}
	c.uids[n-1] = uid
	last := uint32(0)
	for _, u := range c.uids {
		if u != 0 && u <= last {
			c.fault("UIDs do not rise")
		} else if u != 0 {
			last = u
		}
	}
	c.flagged(uid, line)
	if strings.Contains(line, "BODY[] {") && len(literals) > 0 {
		c.read(uid, line, literals[len(literals)-1])
	}
}

// flagged holds flags and MODSEQ against those told before.
func (c *stressClient) flagged(uid uint32, line string) {
	old := c.mods[uid]
	mod := old
	if text, ok := attribute(line, "MODSEQ"); ok {
		v, err := strconv.ParseUint(text, 10, 63)
		if err != nil || v == 0 || v < old {
			c.fault("MODSEQ %s behind %d", text, old)
		}
		mod = v
		c.mods[uid] = v
		c.heard = max(c.heard, v)
	} else if c.counts() && strings.Contains(line, "FLAGS (") {
		c.fault("FLAGS without MODSEQ")
	}
	text, ok := attribute(line, "FLAGS")
	if !ok {
		return
	}
	if c.kind == stressRev2 && strings.Contains(text, `\Recent`) {
		c.fault(`\Recent`)
	}
	list := slices.DeleteFunc(strings.Fields(text), func(f string) bool { return f == `\Recent` })
	slices.Sort(list)
	text = strings.Join(list, " ")
	if was, known := c.flags[uid]; known && was != text && c.counts() && mod == old && old != 0 {
		c.fault("UID %d had %q at MODSEQ %d, and has %q", uid, was, old, text)
	}
	c.flags[uid] = text
}

// read holds a message against what is known of it.
func (c *stressClient) read(uid uint32, line string, whole []byte) {
	key := stressKey{c.box, c.validity, uid}
	c.w.same(key, whole)
	if _, size, ok := strings.Cut(line, "RFC822.SIZE "); ok {
		if size, _, _ = strings.Cut(size, " "); size != strconv.Itoa(len(whole)) {
			c.fault("RFC822.SIZE of %d octets", len(whole))
		}
	}
	if _, id, ok := bytes.Cut(whole, []byte("Subject: ")); ok {
		id, _, _ = bytes.Cut(id, []byte("\r\n"))
		c.ids[key] = string(id)
		var n int
		kind, number, _ := strings.Cut(string(id), "-")
		n, _ = strconv.Atoi(number)
		if !bytes.Equal(whole, crlf(c.w.mail(kind, n))) {
			c.fault("the message is not whole")
		}
	}
}

// learn asks for the UIDs of new messages, as a client does that hears of
// removed ones by UID.
func (c *stressClient) learn() {
	if !c.vanishes() || !slices.Contains(c.uids, 0) {
		return
	}
	last := uint32(0)
	for _, u := range c.uids {
		if u == 0 || c.kind == stressUIDOnly {
			break
		}
		last = u
	}
	c.command("UID FETCH %d:* (FLAGS)", last+1)
}

func (c *stressClient) open(verb, box, with string) {
	tag := c.say("%s %s%s", verb, box, with)
	c.readOnly = verb == "EXAMINE"
	if c.box == "" {
		c.begin(box, with != "")
	}
	c.finish(tag, func(line string) {
		if c.box == "" { // the one before is closed
			c.begin(box, with != "")
		}
	})
	if c.box == "" {
		c.begin(box, with != "")
	}
	if c.counts() && c.highest == 0 {
		c.fault("no HIGHESTMODSEQ")
	}
}

// begin is an empty picture of a mailbox, or the one from before.
func (c *stressClient) begin(box string, known bool) {
	c.box, c.uids = box, nil
	if !known {
		c.flags, c.mods, c.highest = map[uint32]string{}, map[uint32]uint64{}, 0
	}
}

// resync goes away for a while and comes back with what it knows (RFC 7162
// §3.2.5): afterwards it has to know all that has changed before the
// HIGHESTMODSEQ it is told.
func (c *stressClient) resync() {
	c.command("UID FETCH 1:* (FLAGS)")
	c.command("NOOP")
	c.learn()
	c.command("NOOP")
	if slices.Contains(c.uids, 0) || len(c.uids) == 0 {
		return
	}
	box := c.box
	c.highest = max(c.highest, c.heard)
	c.command("UNSELECT")
	c.box = ""
	time.Sleep(time.Duration(c.r.IntN(20)) * time.Millisecond)
	uids := slices.Sorted(maps.Keys(c.flags))
	with := fmt.Sprintf(" (QRESYNC (%d %d", c.validity, c.highest)
	last := ^uint32(0) // of the UIDs that the client wants to hear of
	if len(uids) > 0 && c.r.IntN(2) == 0 {
		last = uids[len(uids)-1]
		with += fmt.Sprintf(" %d:%d", uids[0], uids[len(uids)-1])
		if c.r.IntN(2) == 0 && c.kind != stressUIDOnly {
			with += fmt.Sprintf(" (%d %d)", len(uids), last)
		}
	}
	c.resyncs++
	since := c.highest
	c.open("SELECT", box, with+"))")
	told := c.highest
	before, had := maps.Clone(c.flags), maps.Clone(c.mods)
	c.command("UID FETCH 1:* (FLAGS MODSEQ)")
	for uid, flags := range c.flags {
		was, known := before[uid]
		if c.mods[uid] <= told && (!known && uid <= last || known && was != flags) {
			c.fault("since %d UID %d had %q (%v, %d), and has %q at %d before %d", since, uid, was, known, had[uid], flags, c.mods[uid], told)
		}
	}
	for uid := range before {
		if _, still := c.flags[uid]; still && !slices.Contains(c.uids, uid) {
			c.fault("since %d UID %d is gone before %d, and nobody said so", since, uid, told)
		}
	}
}

// set is some of the message numbers, or UIDs where there are no numbers.
func (c *stressClient) set() string {
	n := len(c.uids)
	a, b := c.r.IntN(n)+1, c.r.IntN(n)+1
	if c.kind == stressUIDOnly {
		a, b = int(max(c.uids[a-1], 1)), int(max(c.uids[b-1], 1))
	}
	switch c.r.IntN(5) {
	case 0:
		return "1:*"
	case 1:
		return fmt.Sprintf("%d:%d", a, b)
	case 2:
		return fmt.Sprintf("%d,*,%d", a, b)
	default:
		return strconv.Itoa(a)
	}
}

// free are UIDs that may be removed.
func (c *stressClient) free() string {
	var set []string
	for _, u := range c.uids {
		if u != 0 && strings.HasPrefix(c.ids[stressKey{c.box, c.validity, u}], "free") && c.r.IntN(3) == 0 {
			set = append(set, strconv.Itoa(int(u)))
		}
	}
	return strings.Join(set, ",")
}

func (c *stressClient) step() {
	if c.box == "" || c.r.IntN(25) == 0 {
		verb := c.some("SELECT", "SELECT", "SELECT", "EXAMINE")
		box := stressBoxes[0]
		if c.r.IntN(2) == 0 {
			box = stressBoxes[c.r.IntN(len(stressBoxes))]
		}
		c.open(verb, box, "")
		return
	}
	to := stressBoxes[c.r.IntN(len(stressBoxes))]
	by := ""
	if c.kind == stressUIDOnly {
		by = "UID "
	}
	switch k := c.r.IntN(18); {
	case k == 0:
		c.command("NOOP")
	case k == 1:
		c.append(to)
	case k == 2:
		c.idle()
	case k == 3:
		c.command("STATUS %s (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE)", to)
	case len(c.uids) == 0:
		c.command("NOOP")
	case k == 4:
		c.command("%sFETCH %s (UID FLAGS INTERNALDATE ENVELOPE BODYSTRUCTURE)", by, c.set())
	case k == 5:
		c.command("%sFETCH %s (UID RFC822.SIZE BODY.PEEK[])", by, c.set())
	case k == 6:
		c.command("UID FETCH 1:* (RFC822.SIZE FLAGS BODY[])")
	case k == 7 && c.kind == stressUIDOnly:
		c.command("UID SEARCH OR TEXT line SUBJECT keep")
	case k == 7:
		c.command("SEARCH %s OR TEXT line SUBJECT keep", c.set())
	case k == 8:
		c.command("UID SEARCH UNSEEN SMALLER 2000")
	case k == 9 && c.vanishes():
		c.resync()
	case k == 10:
		c.sorted(by)
	case c.readOnly:
		c.command("UID FETCH * FLAGS")
	case k == 11 || k == 12:
		c.store(by)
	case k == 13:
		if set := c.free(); set != "" {
			c.command(`UID STORE %s +FLAGS (\Deleted)`, set)
		}
	case k == 14:
		if c.kind == stressUIDOnly || c.r.IntN(2) == 0 {
			c.command("UID EXPUNGE 1:*")
		} else {
			c.command("EXPUNGE")
		}
	case k == 15 && c.kind != stressUIDOnly:
		c.copied("COPY", strconv.Itoa(c.r.IntN(len(c.uids))+1), to)
	default:
		if set := c.free(); set != "" {
			c.copied("UID MOVE", set, to)
		}
	}
}

// store changes flags; what a client changes in silence it forgets.
func (c *stressClient) store(by string) {
	silent := c.some("", ".SILENT")
	if silent != "" {
		clear(c.flags)
	}
	unless := ""
	if c.counts() && c.highest > 0 && c.r.IntN(2) == 0 {
		unless = fmt.Sprintf("(UNCHANGEDSINCE %d) ", max(c.highest, c.heard))
	}
	c.command(`%sSTORE %s %s%sFLAGS%s (%s)`, by, c.set(), unless, c.some("+", "-", ""), silent,
		c.some(`\Seen`, `\Flagged`, `\Answered $Junk`, `red`, `\Draft`))
}

// sorted asks for all messages in some order, and holds their number against
// the picture.
func (c *stressClient) sorted(by string) {
	if !strings.Contains(c.caps, " SORT ") {
		return
	}
	tag := c.say("%sSORT (%s) UTF-8 ALL", by, c.some("SUBJECT", "REVERSE DATE", "SIZE ARRIVAL", "FROM"))
	found := -1
	c.finish(tag, func(line string) {
		if list, ok := strings.CutPrefix(line, "* SORT"); ok {
			list, _, _ = strings.Cut(list, " (")
			found = len(strings.Fields(list))
			if found > len(c.uids) {
				c.fault("%d messages sorted of %d", found, len(c.uids))
			}
		}
	})
	if found < 0 {
		c.fault("no SORT")
	}
}

func (c *stressClient) some(list ...string) string { return list[c.r.IntN(len(list))] }

func (c *stressClient) append(to string) {
	text := crlf(c.w.fresh())
	c.command("APPEND %s (%s) {%d+}\r\n%s", to, c.some(`\Seen`, "", "red"), len(text), text)
}

// copied holds COPYUID against itself: as many UIDs on both sides.
func (c *stressClient) copied(verb, set, to string) {
	check := func(line string) {
		_, code, ok := strings.Cut(line, "[COPYUID ")
		if !ok {
			return
		}
		code, _, _ = strings.Cut(code, "]")
		w := strings.Fields(code)
		if len(w) != 3 || setSize(w[1]) != setSize(w[2]) {
			c.fault("COPYUID")
		}
	}
	check(c.finish(c.say("%s %s %s", verb, set, to), check))
}

func setSize(set string) (n int) {
	for r := range strings.SplitSeq(set, ",") {
		a, b, ok := strings.Cut(r, ":")
		lo, _ := strconv.Atoi(a)
		hi, _ := strconv.Atoi(b)
		if !ok {
			hi = lo
		}
		n += hi - lo + 1
	}
	return n
}

func (c *stressClient) idle() {
	tag := c.say("IDLE")
	for {
		line, literals := c.response()
		if strings.HasPrefix(line, "+ ") {
			break
		}
		c.untagged(line[2:], literals)
	}
	go func() { // what comes meanwhile has to be heard
		time.Sleep(20 * time.Millisecond)
		io.WriteString(c.conn, "DONE\r\n")
	}()
	c.finish(tag, nil)
}
