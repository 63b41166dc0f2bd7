package maildir

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// put lays a file into a Maildir as any program does.
func put(t testing.TB, s *Store, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Path(), name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s *Store, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.Path(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func keys(st *State) (list []string) {
	for _, m := range st.All() {
		list = append(list, fmt.Sprint(m.UID, "=", m.Key()))
	}
	return list
}

func TestUIDListTakenOver(t *testing.T) {
	tests := []struct {
		name, list string
		files      string
		want       string
		next       uint32
	}{
		{"dovecot", "3 V77 N10 Gabc Xnew\n2 :a\n5 P123 W9 :b\n", "cur/b:2,S cur/a:2, new/c", "2=a 5=b 10=c", 11},
		{"next lags", "3 V77 N1\n2 :a\n5 :b\n", "cur/a:2, cur/b:2, new/c", "2=a 5=b 6=c", 7},
		{"other order of fields", "3 N100 Zz V77\n2 :a\n", "cur/a:2, new/c", "2=a 100=c", 101},
		{"flags in the list", "3 V77 N10\n2 :a:2,S\n", "cur/a:2,R", "2=a", 10},
		{"version 1", "1 77 10\n2 a\n5 b:2,S\n", "cur/b:2,S cur/a:2, new/c", "2=a 5=b 10=c", 11},
		{"gone ones", "3 V77 N10\n2 :a\n5 :b\n", "cur/b", "5=b", 10},
		{"torn tail", "3 V77 N10\n2 :a\n5 :b", "cur/a cur/b", "2=a 10=b", 11},
		{"out of order", "3 V77 N10\n5 :a\n2 :b\n6 :c\n", "cur/a cur/b cur/c", "5=a 6=c 10=b", 11},
		{"nonsense between", "3 V77 N10\n2 :a\nwhat?\n0 :z\n4294967295 :y\n5 :b\n", "cur/a cur/b", "2=a 5=b", 10},
		{"zeros after a power cut", "3 V77 N10\n2 :a\n\x00\x00\x00\x00", "cur/a cur/b", "2=a 10=b", 11},
		{"the same twice", "3 V77 N10\n2 :a\n5 :b\n9 :a\n", "cur/a cur/b", "5=b 9=a", 10},
		{"line ends of an editor", "3 V77 N10\r\n2 :a\r\n5 W9 :b\r\n", "cur/a cur/b", "2=a 5=b", 10},
		{"next out of range", "3 V77 N4294967300\n2 :a\n", "cur/a new/c", "2=a 3=c", 4},
		{"no next", "3 V77\n", "cur/a", "1=a", 2},
		{"delivery order", "3 V77 N1\n", "new/10.M5P1.h new/9.M9P1.h new/10.M12P1.h cur/10.M1P1.h:2,", "1=9.M9P1.h 2=10.M1P1.h 3=10.M5P1.h 4=10.M12P1.h", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			put(t, s, listName, tt.list)
			for file := range strings.FieldsSeq(tt.files) {
				put(t, s, file, "x\n")
			}
			f := open(t, s, "INBOX")
			st := look(t, f, false)
			if got := strings.Join(keys(st), " "); got != tt.want || st.UIDValidity != 77 || st.UIDNext != tt.next {
				t.Errorf("%s, validity %d, next %d", got, st.UIDValidity, st.UIDNext)
			}
			again := look(t, open(t, s, "INBOX"), false)
			if !slices.Equal(keys(again), keys(st)) || again.UIDNext != st.UIDNext || again.UIDValidity != st.UIDValidity {
				t.Errorf("read again: %v, next %d; %q", keys(again), again.UIDNext, get(t, s, listName))
			}
		})
	}
}

func TestUIDListKeepsWhatItDoesNotKnow(t *testing.T) {
	s := newStore(t)
	put(t, s, listName, "3 V77 N10 Gabc Xnew\n2 P123 W9 O3 :a\nbroken\n5 :b\n")
	put(t, s, "cur/a", "x\n")
	put(t, s, "new/c", "x\n")
	look(t, open(t, s, "INBOX"), false)
	want := "3 V77 N11 Gabc Xnew\n2 P123 W9 O3 :a\n10 :c\n"
	if got := get(t, s, listName); got != want {
		t.Errorf("%q", got)
	}
}

// What Courier served keeps its UIDs.
func TestCourierTakenOver(t *testing.T) {
	s := newStore(t)
	put(t, s, courierList, "1 1234567890 9\n3 a\n7 b\n")
	put(t, s, "cur/a:2,S", "x\n")
	put(t, s, "cur/b:2,", "x\n")
	put(t, s, "new/c", "x\n")
	st := look(t, open(t, s, "INBOX"), true)
	if st.UIDValidity != 1234567890 || strings.Join(keys(st), " ") != "3=a 7=b 9=c" {
		t.Error(st.UIDValidity, keys(st))
	}
	head, lines, _ := strings.Cut(get(t, s, listName), "\n")
	if h, ok := parseListHead(head); !ok || h.validity != 1234567890 || lines != "3 :a\n7 :b\n9 :c\n" {
		t.Errorf("%q %q", head, lines)
	}
}

func TestUIDListOfOthersIsReadOn(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	deliver(t, s, "x\n")
	st := look(t, f, false)
	put(t, s, "new/x", "x\n")
	file, err := os.OpenFile(filepath.Join(s.Path(), listName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString("77 :x\n")
	file.Close()
	now := look(t, f, false)
	if got := uids(now); !slices.Equal(got, []uint32{1, 77}) || now.UIDNext != 78 || now.UIDValidity != st.UIDValidity {
		t.Error(got, now.UIDNext)
	}
}

// The list is lost, cut or emptied while we know the folder, or by the journal: nothing of it is lost.
func TestUIDListLost(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":     os.Remove,
		"emptied":     func(path string) error { return os.Truncate(path, 0) },
		"cut":         func(path string) error { return os.Truncate(path, 100) },
		"overwritten": func(path string) error { return os.WriteFile(path, []byte("garbage\n"), 0o600) },
		"link": func(path string) error {
			os.Remove(path)
			return os.Symlink("/etc/passwd", path)
		},
	} {
		lost := func(t *testing.T, closed bool) {
			s := newStore(t)
			f := open(t, s, "INBOX")
			for range 5 {
				deliver(t, s, "x\n")
			}
			st := look(t, f, true)
			if closed {
				f.Close()
				f = open(t, s, "INBOX")
			}
			if err := harm(filepath.Join(s.Path(), listName)); err != nil {
				t.Fatal(err)
			}
			deliver(t, s, "y\n")
			now := look(t, f, true)
			if now.UIDValidity != st.UIDValidity || !slices.Equal(uids(now), []uint32{1, 2, 3, 4, 5, 6}) {
				t.Errorf("%d %v", now.UIDValidity, uids(now))
			}
			again := look(t, alone(t, s, "INBOX"), false)
			if again.UIDValidity != st.UIDValidity || !slices.Equal(keys(again), keys(now)) {
				t.Errorf("%d %v", again.UIDValidity, keys(again))
			}
		}
		t.Run(name, func(t *testing.T) { lost(t, false) })
		t.Run(name+" while closed", func(t *testing.T) { lost(t, true) })
	}
}

// A message that leaves and comes back is another one: its former UID was reported gone.
func TestComesBack(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	put(t, s, "cur/a:2,S", "x\n")
	put(t, s, "cur/b:2,S", "x\n")
	look(t, f, false)
	away := filepath.Join(t.TempDir(), "a")
	if err := os.Rename(filepath.Join(s.Path(), "cur/a:2,S"), away); err != nil {
		t.Fatal(err)
	}
	if got := uids(look(t, f, false)); !slices.Equal(got, []uint32{2}) {
		t.Fatal(got)
	}
	if err := os.Rename(away, filepath.Join(s.Path(), "cur/a:2,S")); err != nil {
		t.Fatal(err)
	}
	if got := keys(look(t, f, false)); !slices.Equal(got, []string{"2=b", "3=a"}) {
		t.Error(got)
	}
	if got := keys(look(t, open(t, s, "INBOX"), false)); !slices.Equal(got, []string{"2=b", "3=a"}) {
		t.Error(got)
	}
}

// Many lines of expunged messages make the list short again.
func TestUIDListShrinks(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	for i := range 200 {
		put(t, s, fmt.Sprintf("cur/%d.a:2,", i), "x\n")
	}
	st := look(t, f, false)
	if err := f.Expunge(st.List()[:150]); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, "x\n")
	st = look(t, f, true)
	if n := strings.Count(get(t, s, listName), "\n"); n != 52 || st.Len() != 51 || st.UIDNext != 202 {
		t.Error(n, st.Len(), st.UIDNext)
	}
}

// UIDs run out: a new UIDVALIDITY, and all begins again.
func TestUIDsUsedUp(t *testing.T) {
	s := newStore(t)
	put(t, s, listName, "3 V77 N4294967293\n4294967290 :a\n")
	put(t, s, "cur/a:2,", "x\n")
	f := open(t, s, "INBOX")
	look(t, f, false)
	for range 3 {
		deliver(t, s, "x\n")
	}
	st := look(t, f, true)
	if st.UIDValidity == 77 || !slices.Equal(uids(st), []uint32{1, 2, 3, 4}) {
		t.Error(st.UIDValidity, uids(st))
	}
}

func TestStrangeNames(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a\nb:2,S", "x\n")
	put(t, s, "new/c\r", "x\n")
	put(t, s, "new/with space", "x\n")
	put(t, s, "new/"+strings.Repeat("n", 255), "x\n")
	put(t, s, "cur/"+strings.Repeat("c", 250)+":2,S", "x\n")
	os.Mkdir(filepath.Join(s.Path(), "cur", "directory"), 0o700)
	os.Symlink("/etc/passwd", filepath.Join(s.Path(), "cur", "link:2,"))
	put(t, s, "cur/.hidden", "x\n")
	f := open(t, s, "INBOX")
	st := look(t, f, true)
	if st.Len() != 5 {
		t.Fatal(keys(st))
	}
	if _, err := f.Store(st.List(), Change{Add: Draft | Flagged | Replied | Seen | Trashed, AddKeywords: []string{"k"}}); err != nil {
		t.Error(err)
	}
	for _, m := range st.All() {
		if strings.ContainsAny(m.Key(), "\n\r") {
			t.Errorf("%q", m.Key())
		}
	}
	if again := look(t, open(t, s, "INBOX"), false); !slices.Equal(keys(again), keys(st)) {
		t.Error(keys(again), keys(st))
	}
}

func TestUIDL(t *testing.T) {
	s := newStore(t)
	put(t, s, listName, "3 V1795426808 N10 G0\n2 :a\n3 PX12.old :b\n")
	put(t, s, "cur/a:2,", "x\n")
	put(t, s, "cur/b:2,", "x\n")
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	if got := f.UIDL(st.At(0)); got != "000000026b0409f8" {
		t.Error(got)
	}
	if got := f.UIDL(st.At(1)); got != "X12.old" {
		t.Error(got)
	}
	for format, want := range map[string]string{
		"%u.%v": "2.1795426808", "%08Xu": "00000002", "%f": "a", "%v-%u": "1795426808-2", "%m": "000000026b0409f8", "%": "000000026b0409f8", "%%%UXv": "%6B0409F8",
	} {
		f.box.head.fields = []string{"P" + format}
		if got := f.UIDL(st.At(0)); got != want {
			t.Errorf("%s: %s", format, got)
		}
	}
}

// A list that is written anew because most of its lines are those of messages that are gone is not damaged, though the
// newest messages have no line on it yet, and the fields of the others are read from it.
func TestUIDListWornOut(t *testing.T) {
	var log strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	s := newStore(t)
	var list strings.Builder
	list.WriteString("3 V77 N301 Gabc\n")
	for uid := range 300 {
		fmt.Fprintf(&list, "%d P%d :m%d\n", uid+1, uid, uid)
		put(t, s, fmt.Sprintf("cur/m%d:2,", uid), "x\n")
	}
	put(t, s, listName, list.String())
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	var gone []Message
	for i, m := range st.All() {
		if i >= 20 {
			gone = append(gone, m)
		}
	}
	if err := f.Expunge(gone); err != nil {
		t.Fatal(err)
	}
	f.Close()
	put(t, s, "new/n1", "x\n")
	f = open(t, s, "INBOX")
	if st = look(t, f, false); st.Len() != 21 || st.At(20).UID != 301 || st.UIDNext != 302 {
		t.Errorf("%d messages, UIDNEXT %d: %v", st.Len(), st.UIDNext, keys(st))
	}
	if text := get(t, s, listName); !strings.HasPrefix(text, "3 V77 N302 Gabc\n") || strings.Count(text, "\n") != 22 || !strings.Contains(text, "\n5 P4 :m4\n") || !strings.HasSuffix(text, "\n301 :n1\n") {
		t.Errorf("list:\n%s", text)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log.String())
	}
}
