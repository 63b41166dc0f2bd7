package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// someEntry is an entry that tells by its octets whose it is.
func someEntry(uid uint32, base string) *Entry {
	r := rand.New(rand.NewPCG(uint64(uid), hashBase(base)))
	e := &Entry{
		Level: Sizes + Level(r.IntN(3)), Octets: r.Int64(), Size: r.Int64(), Lacks: uint8(r.IntN(3)), Modified: r.Int64(),
		Sent: r.Int64(), Zone: int16(r.IntN(2000) - 1000), HasSent: r.IntN(2) == 0,
	}
	if e.Level > Sizes {
		for i := range e.Texts {
			if r.IntN(4) > 0 {
				e.Texts[i] = []byte(strings.Repeat(fmt.Sprintf("%s %d;", base, uid), r.IntN(12)))
			}
		}
	}
	return e
}

func testPlace(t testing.TB, dir string) *place {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p, err := openPlace(unix.AT_FDCWD, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func testCache(t testing.TB, p *place) *cacheFile {
	t.Helper()
	f, err := openCache(p, 7, 1)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoCache) {
		if err = newCache(p, 7, 1); err == nil {
			f, err = openCache(p, 7, 1)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.release)
	return f
}

// put writes the entries of some messages.
func (f *cacheFile) put(p *place, uids []uint32, base func(uint32) string) error {
	var b []byte
	var locs []loc
	for _, uid := range uids {
		at := len(b)
		b, _ = f.appendEntry(b, uid, base(uid), someEntry(uid, base(uid)))
		locs = append(locs, loc{uid, uint32(len(b)-at) | uint32(someEntry(uid, base(uid)).Level)<<30, uint64(at)})
	}
	return f.write(p, b, locs)
}

// got reads the entries there are of some messages, and fails for one that is not as it was written.
func (f *cacheFile) got(t testing.TB, uids []uint32, base func(uint32) string) (found []uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		t.Fatal(err)
	}
	f.look(&st)
	var locs []want
	near := 0
	for _, uid := range uids {
		f.mu.Lock()
		l, ok := f.find(uid, Sizes, &near)
		f.mu.Unlock()
		if ok {
			locs = append(locs, want{l, 0})
		}
	}
	slices.SortFunc(locs, byPlace)
	_, err := f.read(nil, locs, func(w want, b []byte) {
		uid := w.uid
		var e Entry
		if !f.parseEntry(b, uid, hashBase(base(uid)), &e) {
			return
		}
		if want := someEntry(uid, base(uid)); !reflect.DeepEqual(&e, want) {
			t.Errorf("UID %d: %+v, want %+v", uid, e, want)
		}
		found = append(found, uid)
	})
	if err != nil {
		t.Error(err)
	}
	slices.Sort(found)
	return found
}

func baseName(uid uint32) string { return fmt.Sprintf("17000%d.M1P2.host", uid) }

func upTo(n uint32) (uids []uint32) {
	for uid := range n {
		uids = append(uids, uid+1)
	}
	return uids
}

func TestCacheFile(t *testing.T) {
	p := testPlace(t, t.TempDir())
	f := testCache(t, p)
	if err := f.put(p, []uint32{1, 2, 3, 9}, baseName); err != nil {
		t.Fatal(err)
	}
	if err := f.put(p, []uint32{5, 4, 2}, baseName); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.forget(p, 3), f.want(Header)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*cacheFile{f, testCache(t, p)} {
		if got := f.got(t, upTo(10), baseName); !slices.Equal(got, []uint32{1, 2, 4, 5, 9}) {
			t.Error(got)
		}
		if f.wish != Header {
			t.Error(f.wish)
		}
		// Another message under an old UID has no entry.
		other := func(uid uint32) string { return baseName(uid + uid%2) }
		if got := f.got(t, upTo(10), other); !slices.Equal(got, []uint32{2, 4}) {
			t.Error(got)
		}
	}
	// Nor has one of another UIDVALIDITY, nor what another maker made.
	if _, err := openCache(p, 8, 1); !errors.Is(err, errForeign) {
		t.Error(err)
	}
	if _, err := openCache(p, 7, 2); !errors.Is(err, errForeign) {
		t.Error(err)
	}
	if g, err := openCache(p, 7, 0); err != nil {
		t.Error(err)
	} else {
		g.release()
	}
	// What is too large is not written.
	big := &Entry{Level: Whole}
	big.Texts[TextStructure] = make([]byte, maxEntry)
	if b, ok := f.appendEntry([]byte("x"), 1, "x", big); ok || len(b) != 1 {
		t.Error(len(b), ok)
	}
}

// Indexes are written as the file grows, and serve those who open it; the file without them says the same.
func TestCacheIndex(t *testing.T) {
	p := testPlace(t, t.TempDir())
	f := testCache(t, p)
	const n = 5000
	order := upTo(n)
	rand.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	for part := range slices.Chunk(order, 100) {
		if err := f.put(p, part, baseName); err != nil {
			t.Fatal(err)
		}
	}
	for uid := uint32(1); uid <= n; uid += 7 {
		if err := f.forget(p, uid); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.DeleteFunc(upTo(n), func(uid uint32) bool { return uid%7 == 1 })
	g := testCache(t, p)
	if g.last == 0 || g.walked-g.indexed > indexEvery {
		t.Errorf("index at %d goes as far as %d of %d", g.last, g.indexed, g.walked)
	}
	if got := f.got(t, upTo(n), baseName); !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if got := g.got(t, upTo(n), baseName); !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if err := writeAt(rawFd(t, p), make([]byte, pointerLen), pointerAt); err != nil {
		t.Fatal(err)
	}
	if g = testCache(t, p); g.got(t, upTo(n), baseName) == nil || !slices.Equal(g.got(t, upTo(n), baseName), want) {
		t.Error("other entries without the index")
	}
	if g.last == 0 {
		t.Error("the index was not mended")
	}
}

func rawFd(t *testing.T, p *place) int {
	t.Helper()
	fd, err := openat(p.fd, cacheName, unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// However the file is cut or damaged, what is read from it is right, and it goes on to work.
func TestCacheDamaged(t *testing.T) {
	dir := t.TempDir()
	p := testPlace(t, dir)
	f := testCache(t, p)
	if err := f.put(p, upTo(6), baseName); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	if err := f.writeIndex(p); err != nil {
		t.Fatal(err)
	}
	f.mu.Unlock()
	if err := errors.Join(f.put(p, []uint32{7, 2}, baseName), f.forget(p, 4)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, cacheName)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openCache(p, 7, 1)
		if err != nil {
			if !errors.Is(err, errNoCache) && !errors.Is(err, errForeign) {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		defer f.release()
		f.got(t, upTo(10), baseName)
		if err := f.put(p, []uint32{10}, baseName); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := f.got(t, []uint32{10}, baseName); len(got) == 0 {
			// A record cut off before it may have taken it along, once.
			if err := f.put(p, []uint32{10}, baseName); err != nil || len(f.got(t, []uint32{10}, baseName)) == 0 {
				t.Errorf("%s: what was added is not there (%v)", what, err)
			}
		}
		f.got(t, upTo(10), baseName)
		if t.Failed() {
			t.Fatal(what)
		}
	}
	for n := 0; n < len(sound); n += 1 + n/500 {
		try(fmt.Sprint("cut at ", n), sound[:n])
	}
	for i := rand.N(8); i < len(sound)*8; {
		b := bytes.Clone(sound)
		b[i/8] ^= 1 << (i % 8)
		try(fmt.Sprint("bit ", i), b)
		if i++; i > 2*cacheHead*8 {
			i += rand.N(60)
		}
	}
	for from := cacheHead; from < len(sound); from += 50 {
		b := bytes.Clone(sound)
		clear(b[from:min(from+500, len(b))])
		try(fmt.Sprint("nulls from ", from), b)
	}
}

// Readers go on while the file is written anew, and what was there and is alive is there afterwards.
func TestCacheTidy(t *testing.T) {
	p := testPlace(t, t.TempDir())
	f := testCache(t, p)
	const n = 600
	for range 3 {
		if err := f.put(p, upTo(n), baseName); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.want(Whole); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 20 {
				if got := f.got(t, upTo(n), baseName); len(got) != n {
					t.Errorf("%d entries", len(got))
				}
			}
		})
	}
	odd := func(uid uint32) bool { return uid%2 == 1 }
	done, err := f.tidy(p, odd)
	wg.Wait()
	if !done || err != nil {
		t.Fatal(done, err)
	}
	g := testCache(t, p)
	if got := g.got(t, upTo(n), baseName); !slices.Equal(got, slices.DeleteFunc(upTo(n), func(uid uint32) bool { return !odd(uid) })) {
		t.Errorf("%d entries", len(got))
	}
	if g.wish != Whole || g.walked-g.indexed > recHead+indexHead+n*locLen {
		t.Errorf("wish %d, index as far as %d of %d", g.wish, g.indexed, g.walked)
	}
	if done, err := g.tidy(p, odd); done || err != nil {
		t.Error(done, err)
	}
	if err := g.put(p, []uint32{2}, baseName); err != nil || len(g.got(t, []uint32{1, 2, 3}, baseName)) != 3 {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(t.TempDir(), "tmp", "*")); len(left) > 0 {
		t.Error(left)
	}
}

// cacheVictim fills a cache until it is killed.
func cacheVictim(dir string) {
	p, err := openPlace(unix.AT_FDCWD, dir, true)
	for err == nil {
		var f *cacheFile
		if f, err = openCache(p, 7, 1); errors.Is(err, fs.ErrNotExist) {
			err = newCache(p, 7, 1)
			continue
		} else if err != nil {
			break
		}
		for range 50 {
			uids := upTo(1000)[rand.N(1000):]
			err = errors.Join(err, f.put(p, uids[:min(len(uids), 1+rand.N(60))], baseName))
		}
		if rand.N(4) == 0 {
			_, terr := f.tidy(p, func(uid uint32) bool { return uid%10 > 0 })
			err = errors.Join(err, terr)
		}
		f.release()
	}
	fmt.Println(err)
	os.Exit(1)
}

// Several processes fill one cache, and are killed while they do.
func TestCacheProcesses(t *testing.T) {
	dir := t.TempDir()
	p := testPlace(t, dir)
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	most := 0
	for range rounds {
		var victims []*exec.Cmd
		for range 2 {
			v := exec.Command(os.Args[0])
			v.Env = append(os.Environ(), cacheVictimEnv+"="+dir)
			v.Stdout = os.Stderr
			if err := v.Start(); err != nil {
				t.Fatal(err)
			}
			victims = append(victims, v)
		}
		for end := time.Now().Add(time.Duration(50+rand.N(150)) * time.Millisecond); time.Now().Before(end); {
			if f, err := openCache(p, 7, 1); err == nil {
				most = max(most, len(f.got(t, upTo(1000), baseName)))
				f.release()
			}
		}
		for _, v := range victims {
			v.Process.Signal(syscall.SIGKILL)
			if err := v.Wait(); err == nil || strings.HasPrefix(err.Error(), "exit") {
				t.Error(err)
			}
		}
		f := testCache(t, p)
		if err := f.put(p, []uint32{2000}, baseName); err != nil {
			t.Fatal(err)
		}
		f.got(t, upTo(2000), baseName)
	}
	if most < 300 {
		t.Errorf("no more than %d entries were there", most)
	}
}

// Whatever stands in the file, nothing but what was written for a message is read from it.
func FuzzCache(f *testing.F) {
	id := identity{validity: 7, maker: 1, salt: 12345}
	b := id.head()
	for uid := range uint32(3) {
		b, _ = id.appendEntry(b, uid, strconv.Itoa(int(uid)), someEntry(uid, strconv.Itoa(int(uid))))
	}
	f.Add(b, 3, 4)
	at := int64(len(b))
	b = id.appendIndex(b, 0, at, Whole, []loc{{1, 100 | 1<<30, cacheHead}, {2, 200 | 3<<30, 200}})
	copy(b[pointerAt:], id.pointer(at))
	f.Add(b, 100, 0)
	f.Add(id.seal(openRec(bytes.Clone(b)), len(b), cacheRec{kind: forgetRec, uid: 2}), 0, 0)
	dir := f.TempDir()
	p := testPlace(f, dir)
	f.Fuzz(func(t *testing.T, data []byte, at, with int) {
		// The sums are mended in one place, so that the fuzzer gets behind them.
		if at >= 0 && at+recHead <= len(data) && with > 0 && with <= len(data)-at-recHead {
			data = bytes.Clone(data)
			if id, _, ok := parseCacheHead(data); ok {
				id.seal(data[:at+recHead+with], at, cacheRec{kind: data[at+4], level: Level(data[at+5]), uid: uint32(data[at+12])})
			}
		}
		if err := os.WriteFile(filepath.Join(dir, cacheName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := openCache(p, 7, 1)
		if err != nil {
			return
		}
		defer c.release()
		var locs []want
		near := 0
		for uid := range uint32(300) {
			if l, ok := c.find(uid, Sizes, &near); ok {
				locs = append(locs, want{l, 0})
			}
		}
		slices.SortFunc(locs, byPlace)
		c.read(nil, locs, func(w want, b []byte) {
			var e Entry
			if c.parseEntry(b, w.uid, hashBase("x"), &e) {
				again, ok := c.appendEntry(nil, w.uid, "x", &e)
				var e2 Entry
				if !ok || !c.parseEntry(again, w.uid, hashBase("x"), &e2) || !reflect.DeepEqual(e, e2) {
					t.Fatalf("%+v became %+v", e, e2)
				}
			}
		})
		if err := c.put(p, []uint32{5}, baseName); err == nil {
			c.got(t, []uint32{5}, baseName)
		}
	})
}

func BenchmarkCacheRead(b *testing.B) {
	p := testPlace(b, b.TempDir())
	f := testCache(b, p)
	const n = 10000
	for part := range slices.Chunk(upTo(n), 100) {
		var rec []byte
		var locs []loc
		for _, uid := range part {
			e := &Entry{Level: Whole}
			for i := range e.Texts {
				e.Texts[i] = make([]byte, 200)
			}
			at := len(rec)
			rec, _ = f.appendEntry(rec, uid, baseName(uid), e)
			locs = append(locs, loc{uid, uint32(len(rec)-at) | uint32(Whole)<<30, uint64(at)})
		}
		if err := f.write(p, rec, locs); err != nil {
			b.Fatal(err)
		}
	}
	bases := make([]string, n+1)
	for i := range bases {
		bases[i] = baseName(uint32(i))
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			f, err := openCache(p, 7, 1)
			if err != nil {
				b.Fatal(err)
			}
			f.release()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/msg")
	})
	b.Run("read", func(b *testing.B) {
		var arena []byte
		var locs []want
		for b.Loop() {
			near, found := 0, 0
			for part := range slices.Chunk(upTo(n), 128) {
				locs = locs[:0]
				for _, uid := range part {
					l, _ := f.find(uid, Whole, &near)
					locs = append(locs, want{l, 0})
				}
				arena, _ = f.read(arena[:0], locs, func(w want, rec []byte) {
					var e Entry
					if f.parseEntry(rec, w.uid, hashBase(bases[w.uid]), &e) {
						found++
					}
				})
			}
			if found != n {
				b.Fatal(found)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/msg")
	})
}
