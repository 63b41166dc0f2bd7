package queue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var monday = time.Date(2026, 11, 23, 12, 24, 9, 0, time.UTC)

func put(t testing.TB, q *Queue, e Envelope, text string) string {
	t.Helper()
	w, err := q.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	id, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func open(t testing.TB) *Queue {
	t.Helper()
	q, err := Open(filepath.Join(t.TempDir(), "var", "spool"))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func take(t testing.TB, q *Queue, id string) *Item {
	t.Helper()
	e, err := q.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	i, err := q.Take(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func TestMessageComesBackAsItWent(t *testing.T) {
	q := open(t)
	e := Envelope{
		Created: monday, From: "alice@crepes.fr", EightBit: true, SMTPUTF8: true, Envid: "QQ314159", Ret: "HDRS",
		To: []Recipient{
			{Address: "bob@hamburger.edu", Notify: "SUCCESS,FAILURE", Orcpt: "rfc822;bob@hamburger.edu"},
			{Address: `"a > b"@hamburger.edu`, Mailbox: true},
			{Address: "jörg@müller.de"},
		},
	}
	for _, text := range []string{"", "x", "Subject: x\n\nno end", "a\r\nb\r\n", "a\rb\n", "\r", "\x00\xff\n", strings.Repeat("line\r\n", 20000)} {
		id := put(t, q, e, text)
		i := take(t, q, id)
		if !reflect.DeepEqual(i.Envelope, e) {
			t.Errorf("envelope\n%+v, not\n%+v", i.Envelope, e)
		}
		got, err := io.ReadAll(i.Message())
		if want := strings.ReplaceAll(text, "\r\n", "\n"); err != nil || string(got) != want {
			t.Errorf("%.20q came back as %.20q, %v", want, got, err)
		}
		if err := i.Note(monday, Note{0, Tried, "mx: 451 \n2026-11-23T12:24:09Z delivered <bob@hamburger.edu> x"}); err != nil {
			t.Fatal(err)
		}
		if err := i.Note(monday, Note{1, Delivered, "ok"}); err != nil {
			t.Fatal(err)
		}
		i.Close()
		i = take(t, q, id)
		if i.Status[0].Word != Tried || i.Status[0].Tries != 1 || i.Status[1].Word != Delivered || i.Status[2].Word != Waiting {
			t.Errorf("%.20q: history says %+v", text, i.Status)
		}
		if w := i.Waits(); !reflect.DeepEqual(w, []int{0, 2}) || i.Done() {
			t.Errorf("waits %v", w)
		}
		got, _ = io.ReadAll(i.Message())
		if want := strings.ReplaceAll(text, "\r\n", "\n"); string(got) != want {
			t.Errorf("a note changed %.20q to %.20q", want, got)
		}
	}
}

// CRLF is found across writes, and a CR alone stays.
func TestWritesOfAnyLength(t *testing.T) {
	q := open(t)
	const text = "a\r\n\r\nb\r\rc\r\n\rd\n\r"
	for n := 1; n <= len(text); n++ {
		w, err := q.Create(Envelope{To: []Recipient{{Address: "b@c"}}})
		if err != nil {
			t.Fatal(err)
		}
		for p := []byte(text); len(p) > 0; {
			k := min(n, len(p))
			w.Write(p[:k])
			p = p[k:]
		}
		id, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(take(t, q, id).Message()); string(got) != "a\n\nb\r\rc\n\rd\n\r" {
			t.Errorf("in pieces of %d: %q", n, got)
		}
	}
}

func TestNobodyElseMayLook(t *testing.T) {
	q := open(t)
	id := put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, "x")
	for _, name := range []string{"", "new", "tmp", "cur", "new/" + id} {
		fi, err := os.Stat(filepath.Join(q.Dir(), name))
		if err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

func TestBadEnvelopesAreRefused(t *testing.T) {
	q := open(t)
	for _, e := range []Envelope{
		{},
		{To: []Recipient{{}}},
		{To: []Recipient{{Address: "a\nTo: <c@d>"}}},
		{To: []Recipient{{Address: "a> NOTIFY=NEVER"}}},
		{To: []Recipient{{Address: "a\x00b"}}},
		{To: []Recipient{{Address: "a\u0085b"}}},
		{To: []Recipient{{Address: strings.Repeat("a", 2000)}}},
		{To: []Recipient{{Address: "a@b", Notify: "NEVER ORCPT=x"}}},
		{From: "a\rb", To: []Recipient{{Address: "a@b"}}},
		{Envid: "a b", To: []Recipient{{Address: "a@b"}}},
	} {
		if w, err := q.Create(e); !errors.Is(err, ErrEnvelope) {
			t.Errorf("%+v: %v, %v", e, w, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(q.Dir(), "tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOneRunnerAtATime(t *testing.T) {
	q := open(t)
	id := put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, "x")
	e, _ := q.Find(id)
	i := take(t, q, id)
	if _, err := q.Take(e); !errors.Is(err, ErrBusy) {
		t.Errorf("a second runner: %v", err)
	}
	if err := i.Later(monday); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Take(e); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("under its old name: %v", err)
	}
	now, err := q.Find(id)
	if err != nil || !now.Due.Equal(monday) {
		t.Errorf("put off: %+v, %v", now, err)
	}
	i.Close()
	if j, err := q.Take(now); err != nil {
		t.Error(err)
	} else if err := j.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := q.Take(now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
}

// What people do with ls, mv and rm, and what lies around in a directory.
func TestOrdinaryToolsMayBeUsed(t *testing.T) {
	q := open(t)
	e := Envelope{To: []Recipient{{Address: "b@c"}, {Address: "d@e"}}}
	id := put(t, q, e, "x")
	i := take(t, q, id)
	i.Note(monday, Note{0, Delivered, "ok"})
	i.Later(monday.Add(time.Hour))
	i.Close()
	now, _ := q.Find(id)
	away := filepath.Join(t.TempDir(), "kept")
	if err := os.Rename(filepath.Join(q.Dir(), now.name), away); err != nil {
		t.Fatal(err)
	}
	if list, err := q.List(); err != nil || len(list) > 0 {
		t.Errorf("moved away: %v, %v", list, err)
	}
	if err := os.Rename(away, filepath.Join(q.Dir(), "new", "back:2,S")); err != nil {
		t.Fatal(err)
	}
	i = take(t, q, "back")
	if w := i.Waits(); !reflect.DeepEqual(w, []int{1}) {
		t.Errorf("moved back, it waits for %v", w)
	}
	i.Close()
	if err := q.Hold(i.Entry); err != nil {
		t.Fatal(err)
	}
	if e, err := q.Find("back"); err != nil || !e.Held {
		t.Errorf("%+v, %v", e, err)
	}
	for name, text := range map[string]string{"empty": "", "text": "Hello\n\nx\n", "short": "Pennypost-Queue: 1\nCreated: 2026-11-23T12:24:09Z\nFrom: <>\nTo: <a@b>\nSize: 0000000000000000005\n\n1234", "long": strings.Repeat("x", 100000)} {
		os.WriteFile(filepath.Join(q.Dir(), "new", name), []byte(text), 0o600)
		e, _ := q.Find(name)
		if _, err := q.Take(e); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	os.Mkdir(filepath.Join(q.Dir(), "new", "dir"), 0o700)
	os.Symlink("/etc/passwd", filepath.Join(q.Dir(), "new", "link"))
	for _, name := range []string{"dir", "link"} {
		e, _ := q.Find(name)
		if i, err := q.Take(e); err == nil {
			t.Errorf("%s: %+v", name, i)
		}
	}
}

func TestRemovedInTheMiddleOfATry(t *testing.T) {
	q := open(t)
	id := put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, "x")
	i := take(t, q, id)
	os.Remove(filepath.Join(q.Dir(), i.name))
	if err := errors.Join(i.Note(monday, Note{0, Tried, "451 later"}), i.Later(monday), i.Remove()); err != nil {
		t.Error(err)
	}
	if list, err := q.List(); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestListIsInOrderOfTheNextTry(t *testing.T) {
	q := open(t)
	var want []string
	for n := range 5 {
		id := put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, "x")
		want = append([]string{id}, want...)
		if n > 0 {
			i := take(t, q, id)
			i.Later(monday.Add(-time.Duration(n) * time.Minute))
			i.Close()
		}
	}
	want = append(want[4:], want[:4]...)
	list, err := q.List()
	var got []string
	for _, e := range list {
		got = append(got, e.ID)
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, not %v (%v)", got, want, err)
	}
}

// A line of the history that a crash has cut short, or filled with NULs, has
// not been acted on.
func TestTornHistory(t *testing.T) {
	q := open(t)
	for _, torn := range []string{"2026-11-23T12:24:09Z delivered <b@c> o", "2026-11-23T12:24:09Z delivered <b@c>\x00\x00\x00\n", "\x00\x00", "2026-11-23T12:24:09Z delivered <b\n", strings.Repeat("x", 20000) + "\n"} {
		id := put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, "x\n")
		f, err := os.OpenFile(filepath.Join(q.Dir(), "new", id), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(torn)
		f.Close()
		i := take(t, q, id)
		if len(i.Waits()) != 1 {
			t.Errorf("%.40q was believed", torn)
		}
		i.Note(monday, Note{0, Tried, "451 later"})
		i.Close()
		if i = take(t, q, id); i.Status[0].Word != Tried {
			t.Errorf("behind %.40q a note is lost: %+v", torn, i.Status)
		}
		i.Close()
	}
}

func TestChildIsCommittedOnce(t *testing.T) {
	for _, crash := range []string{"no", "before the notes", "before the rename"} {
		t.Run(crash, func(t *testing.T) {
			q := open(t)
			id := put(t, q, Envelope{From: "a@b", To: []Recipient{{Address: "b@c"}, {Address: "d@e"}}}, "x")
			i := take(t, q, id)
			w, err := i.Beget(Envelope{To: []Recipient{{Address: "a@b"}}})
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, "it failed")
			switch crash {
			case "before the notes":
				w.Sync()
			case "before the rename":
				w.Sync()
				i.Note(monday, Note{0, Reported, w.id}, Note{1, Reported, w.id})
			default:
				if err := i.Announce(monday, w, Reported, []int{0, 1}); err != nil {
					t.Fatal(err)
				}
			}
			i.Close()
			for range 3 { // whoever comes after
				i = take(t, q, id)
				if err := i.Settle(); err != nil {
					t.Fatal(err)
				}
				if !i.Done() {
					if w, err = i.Beget(Envelope{To: []Recipient{{Address: "a@b"}}}); err != nil {
						t.Fatal(err)
					}
					if err := i.Announce(monday, w, Reported, []int{0, 1}); err != nil {
						t.Fatal(err)
					}
				}
				i.Close()
			}
			if list, _ := q.List(); len(list) != 2 {
				t.Errorf("%v", list)
			}
			if left, _ := os.ReadDir(filepath.Join(q.Dir(), "tmp")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCleanTakesOnlyWhatIsOld(t *testing.T) {
	q := open(t)
	id := put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, "x")
	now := time.Now()
	for name, age := range map[string]time.Duration{"young": 35 * time.Hour, "old": 37 * time.Hour, id + ".c0": 100 * time.Hour, "gone.c0": 100 * time.Hour} {
		file := filepath.Join(q.Dir(), "tmp", name)
		os.WriteFile(file, nil, 0o600)
		os.Chtimes(file, now.Add(-age), now.Add(-age))
	}
	if err := q.Clean(now); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{"young": true, "old": false, id + ".c0": true, "gone.c0": false} {
		if _, err := os.Stat(filepath.Join(q.Dir(), "tmp", name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A writer killed at any moment leaves whole messages or none.
func TestKilledWriters(t *testing.T) {
	if dir := os.Getenv("QUEUE_TEST_DIR"); dir != "" {
		q, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			fmt.Println(put(t, q, Envelope{To: []Recipient{{Address: "b@c"}}}, strings.Repeat("a line of text\n", 5000)+"end"))
		}
	}
	q := open(t)
	acked := map[string]bool{}
	for range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=TestKilledWriters")
		cmd.Env = append(os.Environ(), "QUEUE_TEST_DIR="+q.Dir())
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(30+rand.IntN(100)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		for line := range strings.Lines(out.String()) {
			if id, ok := strings.CutSuffix(line, "\n"); ok {
				acked[id] = true
			}
		}
	}
	list, err := q.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		i, err := q.Take(e)
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(i.Message()); !bytes.HasSuffix(text, []byte("\nend")) || len(text) != 15*5000+3 {
			t.Errorf("%s is not whole: %d octets", e.ID, len(text))
		}
		i.Close()
		delete(acked, e.ID)
	}
	if len(acked) > 0 || len(list) == 0 {
		t.Errorf("lost: %v, there: %d", acked, len(list))
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("Pennypost-Queue: 1\nCreated: 2026-11-23T12:24:09Z\nFrom: <alice@crepes.fr>\nBody: 8BITMIME\nEnvid: x\nRet: FULL\nTo: <\"a>\"@b> NOTIFY=NEVER ORCPT=rfc822;x MAILBOX\nSize: 0000000000000000001\n\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, head, size, err := parseEnvelope(bufio.NewReaderSize(bytes.NewReader(data), maxLine))
		if err != nil {
			return
		}
		if head > int64(len(data)) || size < 0 {
			t.Fatalf("head %d, size %d of %d octets", head, size, len(data))
		}
		text, _, err := e.format()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, _, _, err := parseEnvelope(bufio.NewReader(bytes.NewReader(text)))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%+v became %+v (%v)", e, again, err)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add("2026-11-23T12:24:09Z tried <bob@hamburger.edu> mx: 451 later")
	f.Fuzz(func(t *testing.T, line string) {
		if _, _, addr, _, ok := parseNote(line); ok && addr == "" {
			t.Fatal("no address")
		}
	})
}

func BenchmarkPut(b *testing.B) {
	q := open(b)
	text := strings.Repeat("Do you like ketchup?\n", 100)
	for b.Loop() {
		put(b, q, Envelope{From: "a@b", To: []Recipient{{Address: "b@c"}}}, text)
	}
}
