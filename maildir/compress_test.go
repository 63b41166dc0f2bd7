package maildir

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func gzipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}

func zstded(t testing.TB, text string) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(text), nil)
}

// lz4ed packs without compressing anything.
func lz4ed(text string) []byte {
	b := append([]byte(lz4Magic), 0, 1, 0, 0)
	for len(text) > 0 {
		n := min(len(text), 1<<16)
		block := []byte{0xf0}
		rest := n - 15
		for ; rest >= 255; rest -= 255 {
			block = append(block, 255)
		}
		block = append(append(block, byte(rest)), text[:n]...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(block))), block...)
		text = text[n:]
	}
	return b
}

// Dovecot's own files, one of each kind it writes: sizes and text are the plain ones, and copies stay as they are.
func TestPackedByDovecot(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	kinds := []string{"gz", "bz2", "lz4", "zstd"}
	sizes := map[string]string{"gz": ",S=1751,W=1813", "bz2": ",S=1752,W=1814", "lz4": ",S=1752,W=1814", "zstd": ",S=1753,W=1815"}
	want := map[string][]byte{}
	for i, kind := range kinds {
		data, err := os.ReadFile(filepath.Join("testdata/compressed", "dovecot."+kind))
		if err != nil {
			t.Fatal(err)
		}
		want[kind] = data
		put(t, s, fmt.Sprintf("cur/17000000%02d.M1P1.host%s:2,S", i, sizes[kind]), string(data))
		put(t, s, fmt.Sprintf("cur/17000001%02d.M1P1.host:2,SZ", i), string(data)) // as an administrator's script may leave it
	}
	f, box := open(t, s, "INBOX"), open(t, s, "Box")
	check := func(f *Folder, i int, m Message) {
		t.Helper()
		kind := kinds[i%len(kinds)]
		text := read(t, f, m)
		if head, _, _ := strings.Cut(text, "\n"); head != "Subject: zipped "+kind || strings.Count(text, "\n") != 62 || !strings.HasSuffix(text, "line 60 of text that repeats\n") {
			t.Errorf("%s: %.200q", kind, text)
		}
		if n, err := f.Size(m); err != nil || n != int64(len(text)+62) {
			t.Errorf("%s: %d octets, %v", kind, n, err)
		}
	}
	st := look(t, f, true)
	if st.Len() != 8 {
		t.Fatal(st.Len())
	}
	var all []Message
	for i, m := range st.All() {
		check(f, i, m)
		all = append(all, m)
	}
	if _, err := f.Copy(all[:4], box); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Move(all[4:], box); err != nil {
		t.Fatal(err)
	}
	for i, m := range look(t, box, true).All() {
		check(box, i, m)
		if kind := kinds[i%4]; !strings.HasSuffix(m.Key(), sizes[kind]) {
			t.Errorf("%s: %s", kind, m.Key())
		} else if data, err := os.ReadFile(filepath.Join(s.Path(), ".Box", m.path())); err != nil || !bytes.Equal(data, want[kind]) {
			t.Errorf("%s: not as it was: %v", kind, err)
		}
	}
}

// What the real Dovecot has packed we read, and it reads what we did with it.
func TestPackedWithDovecot(t *testing.T) {
	for _, kind := range []string{"gz", "bz2", "zstd", "lz4"} {
		d := newDovecot(t)
		conf, err := os.OpenFile(filepath.Join(d.dir, "dovecot.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conf, "mail_plugins = zlib\nplugin {\n zlib_save = %s\n}\n", kind)
		conf.Close()
		text := "Subject: packed\r\n\r\n" + strings.Repeat("what is said often\r\n", 5000)
		his := d.session()
		his.append("INBOX", `\Seen`, text)
		his.append("INBOX", "", text)
		his.do("CREATE Box")
		pictures := his.picture("INBOX")
		his.end()
		s, err := Open(d.path())
		if err != nil {
			t.Fatal(err)
		}
		f, box := open(t, s, "INBOX"), open(t, s, "Box")
		st := look(t, f, false)
		if got := read(t, f, st.At(0)); got != strings.ReplaceAll(text, "\r\n", "\n") {
			t.Errorf("%s: %d octets", kind, len(got))
		}
		if file, err := f.box.open(st.At(0)); err != nil {
			t.Error(err)
		} else if how, _, err := packed(file, st.At(0).Key()); how == nil {
			t.Errorf("%s: not packed, %v", kind, err)
		}
		same(t, kind, pictures, ours(t, f))
		if _, err := f.Copy([]Message{st.At(0)}, box); err != nil {
			t.Error(err)
		}
		if _, err := f.Move([]Message{st.At(1)}, box); err != nil {
			t.Error(err)
		}
		his = d.session()
		pictures = his.picture("Box")
		for _, line := range his.do("UID FETCH 1:* BODY.PEEK[HEADER]") {
			if strings.Contains(line, "BODY[HEADER]") && !strings.HasSuffix(line, "{19}") {
				t.Errorf("%s: %s", kind, line)
			}
		}
		his.end()
		same(t, kind, pictures, ours(t, box))
	}
}

// What is as long as its name says is not unpacked: whoever may append a message chooses its octets.
func TestPackedByClient(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	text := string(gzipped("Subject: other\n\nother\n"))
	if strings.Contains(text, "\r\n") {
		t.Skip()
	}
	if _, err := f.Append(AppendOptions{}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f, look(t, f, true).At(0)); got != text {
		t.Errorf("%q", got)
	}
}

func TestPackedLong(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < plainInRAM+100_000; i++ {
		fmt.Fprintf(&b, "line %d of a long message %x\n", i, rand.Uint64())
	}
	text := b.String()
	for kind, data := range map[string][]byte{"gzip": gzipped(text), "zstd": zstded(t, text), "lz4": lz4ed(text)} {
		s := newStore(t)
		f := open(t, s, "INBOX")
		put(t, s, "new/1.a", string(data))
		m := look(t, f, true).At(0)
		if got := read(t, f, m); got != text {
			t.Errorf("%s: %d octets, not %d", kind, len(got), len(text))
		}
		if left, _ := filepath.Glob(filepath.Join(s.Path(), "tmp/*")); len(left) > 1 { // the lock's source
			t.Errorf("%s: %v", kind, left)
		}
	}
}

// A message that is broken, grows without end or needs too much memory is an error, and no other one's.
func TestPackedBad(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	text := "Subject: whole\n\nall of it is here\n"
	zeros := strings.Repeat("\x00", plainFree+1)
	var window bytes.Buffer
	w, err := zstd.NewWriter(&window, zstd.WithWindowSize(zstdWindow*2))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, strings.Repeat("x", 1<<20))
	w.Close()
	bad := [][]byte{
		gzipped(text)[:20], gzipped(zeros), zstded(t, zeros), zstded(t, text)[:10], lz4ed(text)[:30], window.Bytes(),
		[]byte("\xfd7zXZ\x00 and so on"), []byte("BZh91AY&SY and so on"), []byte("\x1f\x8b\x08"), []byte(lz4Magic),
		append([]byte(lz4Magic), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0), append([]byte(lz4Magic), 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0),
	}
	for i, data := range bad {
		put(t, s, fmt.Sprintf("cur/17000000%02d.bad:2,", i), string(data))
	}
	put(t, s, "cur/1800000000.M1P1.good:2,", string(gzipped(text)))
	for i, m := range look(t, f, true).All() {
		r, err := f.Reader(m)
		if err == nil {
			r.Close()
		}
		if wrong := i < len(bad); wrong != (err != nil) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestLZ4Block(t *testing.T) {
	for _, c := range []struct {
		block, plain string
		ok           bool
	}{
		{"\x30abc", "abc", true},
		{"\x32abc\x03\x00\x10d", "abcabcabcd", true}, // six octets from three back
		{"\x1fa\x01\x00\x05\x10b", strings.Repeat("a", 1+15+5+4) + "b", true},
		{"\x00", "", true},
		{"", "", false},
		{"\x32abc\x04\x00\x10d", "", false}, // from before the beginning
		{"\x32abc\x00\x00\x10d", "", false},
		{"\x40abc", "", false},
		{"\xf0", "", false},
		{"\x1fa\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x10b", "", false}, // longer than a chunk
	} {
		got, ok := lz4Block(make([]byte, 0, 1000), []byte(c.block))
		if ok != c.ok || ok && string(got) != c.plain {
			t.Errorf("%q: %q %v", c.block, got, ok)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	text := strings.Repeat("some text\n", 20)
	f.Add(gzipped(text))
	f.Add(zstded(f, text))
	f.Add(lz4ed(text))
	files, _ := filepath.Glob("testdata/compressed/*")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		how := packingOf(data[:min(len(data), magicSize)])
		if how == nil {
			return
		}
		r, err := how.open(bytes.NewReader(data))
		if err != nil {
			return
		}
		io.CopyN(io.Discard, r, 1<<20)
		if c, ok := r.(io.Closer); ok {
			c.Close()
		}
	})
}
