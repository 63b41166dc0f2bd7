package imap_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

var (
	stressFor  = flag.Duration("stress", time.Second, "how long TestStress goes on")
	stressSeed = flag.Uint64("stress-seed", 0, "what TestStress does; 0: something new")
	stressWith = flag.Int("stress-sessions", 6, "sessions of TestStress")
)

// Many sessions and plain rename, link and unlink work on one Maildir at once.
// Each client holds what it is told against RFC 9051, and at the end nothing
// is missing that nobody removed, and all have the same picture.
func TestStress(t *testing.T) {
	seed := *stressSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-stress-seed=%d", seed)
	w := &stressWorld{t: t, dir: t.TempDir(), seen: map[stressKey][sha256.Size]byte{}, until: time.Now().Add(*stressFor)}
	store, err := maildir.Create(w.dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stressBoxes[1:] {
		if err := store.CreateFolder(name); err != nil {
			t.Fatal(err)
		}
	}
	store.Close()
	for i := range stressKept {
		base := fmt.Sprintf("%d.M%dP1.host", 1000000000+i, i)
		if err := os.WriteFile(filepath.Join(w.dir, "cur", base+":2,"), w.mail("keep", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	clients := make([]*stressClient, *stressWith)
	for i := range clients {
		clients[i] = newStressClient(w, seed, i)
		wg.Go(clients[i].work)
	}
	wg.Go(func() { w.meddle(rand.New(rand.NewPCG(seed, 1<<32))) })
	wg.Wait()
	if t.Failed() {
		return
	}
	// All is quiet now: those who look at the same mailbox see the same.
	pictures := map[string]string{}
	for _, c := range clients {
		c.command("NOOP")
		c.command("NOOP")
		if c.box == "" {
			continue
		}
		if len(c.uids) > 0 {
			c.told = nil
			c.command("FETCH 1:* (UID FLAGS)")
		}
		// \Recent is one session's alone.
		picture := strings.NewReplacer(` \Recent`, "", `\Recent `, "", `\Recent`, "").Replace(strings.Join(c.told, "\n"))
		if other, ok := pictures[c.box]; !ok {
			pictures[c.box] = picture
		} else if other != picture {
			a, b := strings.Split(picture, "\n"), strings.Split(other, "\n")
			i := 0
			for i < min(len(a), len(b))-1 && a[i] == b[i] {
				i++
			}
			t.Errorf("session %d (read-only: %v) sees %d in %s, another %d:\n%s\n%s", c.id, c.readOnly, len(a), c.box, len(b), a[i], b[i])
		}
	}
	kept := map[string]int{}
	c := newStressClient(w, seed, len(clients))
	for _, box := range stressBoxes {
		c.open("SELECT", box)
		if len(c.uids) > 0 {
			c.command("FETCH 1:* (UID BODY.PEEK[])")
		}
		for key, id := range c.ids {
			if key.box == box && slices.Contains(c.uids, key.uid) && strings.HasPrefix(id, "keep") {
				kept[box+" "+id]++
			}
		}
	}
	for i := range stressKept {
		if id := fmt.Sprintf("keep-%d", i); kept["INBOX "+id] < 1 {
			t.Errorf("%s was lost", id)
		}
	}
}

// Messages whose name begins with keep are never marked \Deleted, moved or
// unlinked.
const stressKept = 12

var stressBoxes = []string{"INBOX", "A", "A.B"}

type stressKey struct {
	box      string
	validity uint64
	uid      uint32
}

type stressWorld struct {
	t     *testing.T
	dir   string
	until time.Time

	mu    sync.Mutex
	count int
	seen  map[stressKey][sha256.Size]byte
}

// mail is a message that is like no other.
func (w *stressWorld) mail(kind string, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: a@b.c\nSubject: %s-%d\nContent-Type: text/plain\n\n", kind, n)
	for i := range n * 7 % 300 {
		fmt.Fprintf(&b, "line %d of %s-%d {5}\n", i, kind, n)
	}
	if n%5 == 0 {
		b.WriteString("no end")
	}
	return b.Bytes()
}

func (w *stressWorld) fresh() []byte {
	w.mu.Lock()
	w.count++
	n := w.count
	w.mu.Unlock()
	return w.mail("free", n)
}

// same holds what a UID stood for against what it stands for now.
func (w *stressWorld) same(k stressKey, text []byte) {
	sum := sha256.Sum256(text)
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, ok := w.seen[k]; ok && old != sum {
		w.t.Errorf("%v is another message now: %.80q", k, text)
	}
	w.seen[k] = sum
}

// meddle is what people and their scripts do to a Maildir.
func (w *stressWorld) meddle(r *rand.Rand) {
	for n := 0; time.Now().Before(w.until) && !w.t.Failed(); n++ {
		time.Sleep(time.Duration(r.IntN(4000)) * time.Microsecond)
		dir := w.dir
		if r.IntN(3) == 0 {
			dir = filepath.Join(w.dir, []string{".A", ".A.B"}[r.IntN(2)])
		}
		fresh := fmt.Sprintf("%d.M%dP2.host", time.Now().Unix(), n)
		if r.IntN(4) == 0 { // a delivery
			tmp := filepath.Join(dir, "tmp", fresh)
			if err := os.WriteFile(tmp, w.fresh(), 0o600); err != nil {
				w.t.Error(err)
			}
			if err := os.Rename(tmp, filepath.Join(dir, "new", fresh)); err != nil {
				w.t.Error(err)
			}
			continue
		}
		sub := []string{"cur", "cur", "cur", "new"}[r.IntN(4)]
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil || len(entries) == 0 {
			continue
		}
		name := entries[r.IntN(len(entries))].Name()
		path := filepath.Join(dir, sub, name)
		base, _, _ := strings.Cut(name, ":")
		switch r.IntN(4) {
		case 0, 1:
			var flags strings.Builder
			for _, f := range "DFRS" {
				if r.IntN(2) == 0 {
					flags.WriteString(string(f))
				}
			}
			err = os.Rename(path, filepath.Join(dir, "cur", base+":2,"+flags.String()))
		case 2:
			err = os.Link(path, filepath.Join(dir, "cur", fresh+":2,"))
		case 3:
			var text []byte
			if text, err = os.ReadFile(path); err == nil && bytes.Contains(text, []byte("Subject: free")) {
				err = os.Remove(path)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Error(err)
		}
	}
}

// A stressClient is a client with a picture of its own.
type stressClient struct {
	w    *stressWorld
	t    *testing.T
	id   int
	r    *rand.Rand
	conn net.Conn
	in   *bufio.Reader
	tags int
	log  []string

	box      string
	readOnly bool
	validity uint64
	uids     []uint32 // by message number; 0: not known yet
	ids      map[stressKey]string
	told     []string // FETCH responses without bodies
	holds    bool     // no EXPUNGE may come
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
	c.response()
	return c
}

type stressStop struct{}

// fault ends the client; the last it said and heard is told.
func (c *stressClient) fault(format string, args ...any) {
	c.t.Errorf("session %d: %s\n%s", c.id, fmt.Sprintf(format, args...), strings.Join(c.log[max(0, len(c.log)-12):], "\n"))
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
	}
}

// response reads one: the line, its literals cut out.
func (c *stressClient) response() (line string, literals [][]byte) {
	c.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
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
			c.log = append(c.log, fmt.Sprintf("S: %.300s", line))
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

// command says one, and hears all up to its end.
func (c *stressClient) command(format string, args ...any) string {
	return c.finish(c.say(format, args...), nil)
}

func (c *stressClient) say(format string, args ...any) string {
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	text := fmt.Sprintf(format, args...)
	c.log = append(c.log, fmt.Sprintf("C: %s %.300s", tag, text))
	verb, _, _ := strings.Cut(text, " ")
	c.holds = verb == "FETCH" || verb == "STORE" || verb == "SEARCH"
	c.conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
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
			if strings.HasPrefix(rest, "NO") && !strings.HasPrefix(rest, "NO [EXPUNGEISSUED]") {
				c.fault("NO")
			}
			c.holds = false
			return rest
		}
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
		case "SEARCH":
			for _, w := range words[1:] {
				if k, err := strconv.Atoi(w); err != nil || k < 1 {
					c.fault("a number in SEARCH")
				}
			}
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
		if n > len(c.uids) {
			c.fault("%d RECENT of %d", n, len(c.uids))
		}
	case "EXPUNGE":
		if n < 1 || n > len(c.uids) || c.holds {
			c.fault("EXPUNGE %d of %d, in FETCH, STORE or SEARCH: %v", n, len(c.uids), c.holds)
		}
		c.uids = slices.Delete(c.uids, n-1, n)
	case "FETCH":
		if n < 1 || n > len(c.uids) {
			c.fault("FETCH %d of %d", n, len(c.uids))
		}
		c.fetched(n, line, literals)
	default:
		c.fault("what is that?")
	}
}

func (c *stressClient) fetched(n int, line string, literals [][]byte) {
	if !strings.HasSuffix(line, ")") {
		c.fault("FETCH does not end")
	}
	if len(literals) == 0 {
		c.told = append(c.told, line)
	}
	_, after, ok := strings.Cut(line, "UID ")
	if !ok {
		return
	}
	end := strings.IndexAny(after, " )")
	v, err := strconv.ParseUint(after[:end], 10, 32)
	uid := uint32(v)
	switch {
	case err != nil:
		c.fault("UID")
	case c.uids[n-1] != 0 && c.uids[n-1] != uid:
		c.fault("message %d had UID %d", n, c.uids[n-1])
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
	if strings.Contains(line, "BODY[] {") && len(literals) > 0 {
		whole := literals[len(literals)-1]
		key := stressKey{c.box, c.validity, uid}
		c.w.same(key, whole)
		if _, size, ok := strings.Cut(line, "RFC822.SIZE "); ok {
			size, _, _ = strings.Cut(size, " ")
			if size != strconv.Itoa(len(whole)) {
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
}

func (c *stressClient) open(verb, box string) {
	c.uids = nil
	tag := c.say("%s %s", verb, box)
	c.box, c.readOnly = "", verb == "EXAMINE"
	c.finish(tag, func(line string) {
		if !strings.Contains(line, "[CLOSED]") {
			c.box = box
		}
	})
	c.box = box
}

// set is some of the message numbers.
func (c *stressClient) set() string {
	n := len(c.uids)
	switch a, b := c.r.IntN(n)+1, c.r.IntN(n)+1; c.r.IntN(5) {
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
		verb := "SELECT"
		if c.r.IntN(4) == 0 {
			verb = "EXAMINE"
		}
		box := stressBoxes[0]
		if c.r.IntN(2) == 0 {
			box = stressBoxes[c.r.IntN(len(stressBoxes))]
		}
		c.open(verb, box)
		return
	}
	to := stressBoxes[c.r.IntN(len(stressBoxes))]
	switch k := c.r.IntN(14); {
	case k == 0:
		c.command("NOOP")
	case k == 1:
		c.append(to)
	case k == 2:
		c.idle()
	case k == 3:
		c.command("STATUS %s (MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT SIZE)", to)
	case len(c.uids) == 0:
		c.command("CHECK")
	case k == 4:
		c.command("FETCH %s (UID FLAGS INTERNALDATE ENVELOPE BODYSTRUCTURE)", c.set())
	case k == 5:
		c.command("FETCH %s (UID RFC822.SIZE BODY.PEEK[])", c.set())
	case k == 6:
		c.command("UID FETCH 1:* (RFC822.SIZE FLAGS BODY[])")
	case k == 7:
		c.command("SEARCH %s OR TEXT line SUBJECT keep", c.set())
	case k == 8:
		c.command("UID SEARCH UNSEEN SMALLER 2000")
	case c.readOnly:
		c.command("UID FETCH * FLAGS")
	case k == 9:
		c.command(`%sSTORE %s %sFLAGS%s (%s)`, c.some("", ""), c.set(), c.some("+", "-", ""), c.some("", ".SILENT"),
			c.some(`\Seen`, `\Flagged`, `\Answered $Junk`, `red`, `\Draft`))
	case k == 10:
		if set := c.free(); set != "" {
			c.command(`UID STORE %s +FLAGS%s (\Deleted)`, set, c.some("", ".SILENT"))
		}
	case k == 11:
		c.command("%s", c.some("EXPUNGE", "UID EXPUNGE 1:*"))
	case k == 12:
		c.copied("COPY", strconv.Itoa(c.r.IntN(len(c.uids))+1), false, to)
	default:
		if set := c.free(); set != "" {
			c.copied("MOVE", set, true, to)
		}
	}
}

func (c *stressClient) some(list ...string) string { return list[c.r.IntN(len(list))] }

func (c *stressClient) append(to string) {
	text := crlf(c.w.fresh())
	c.command("APPEND %s (%s) {%d+}\r\n%s", to, c.some(`\Seen`, "", "red"), len(text), text)
}

// copied holds COPYUID against itself: as many UIDs on both sides.
func (c *stressClient) copied(verb, set string, byUID bool, to string) {
	if byUID {
		verb = "UID " + verb
	}
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
