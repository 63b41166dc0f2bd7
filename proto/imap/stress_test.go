package imap_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pennypost/maildir"
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
	for _, c := range clients {
		c.sum(w)
	}
	t.Logf("%d commands, %d resynchronizations, %d changes by others", w.commands, w.resyncs, w.changes)
	if t.Failed() {
		return
	}
	// All is quiet now: those who look at the same mailbox see the same, at the latest when all that may have hidden
	// behind our own changes has been looked for.
	differs := "at first"
	for since := time.Now(); differs != "" && time.Since(since) < 20*time.Second && !t.Failed(); time.Sleep(100 * time.Millisecond) {
		differs = w.compare(clients)
	}
	if differs != "" {
		t.Error(differs)
	}
	kept := map[string]int{}
	c := newStressClient(w, seed, len(clients))
	for _, box := range stressBoxes {
		c.open("SELECT", box, "")
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

// compare tells how two clients see a mailbox differently, "" if none do.
func (w *stressWorld) compare(clients []*stressClient) string {
	pictures := map[string][]string{}
	for _, c := range clients {
		c.command("NOOP")
		if c.box == "" {
			continue
		}
		before := maps.Clone(c.flags)
		if len(c.uids) > 0 {
			c.command("%s 1:* (UID FLAGS)", c.fetchVerb())
		}
		picture := make([]string, 0, len(c.uids))
		for n, uid := range c.uids {
			// What a client is not told in time it never learns.
			if old, ok := before[uid]; ok && old != c.flags[uid] {
				w.t.Errorf("session %d was told %q of UID %d, which has %q", c.id, old, uid, c.flags[uid])
			}
			picture = append(picture, fmt.Sprint(n+1, " ", uid, " ", c.flags[uid]))
		}
		other, ok := pictures[c.box]
		if !ok {
			pictures[c.box] = picture
			continue
		}
		for i := range max(len(picture), len(other)) {
			if i >= len(picture) || i >= len(other) || picture[i] != other[i] {
				return fmt.Sprintf("session %d (read-only: %v) sees %d in %s, another %d: %v, %v", c.id, c.readOnly, len(picture), c.box, len(other),
					picture[min(i, len(picture)):min(i+1, len(picture))], other[min(i, len(other)):min(i+1, len(other))])
			}
		}
	}
	return ""
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

	commands, resyncs, changes int
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
		w.changes++
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
