package maildir

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// courierFiles are what Courier 5.0 (Debian 12) wrote for two messages: a POP3 session, then IMAP sessions that set keywords
// (the third one after :list had been written), and subscriptions.
func courierFiles(t *testing.T) *Store {
	s := newStore(t)
	for _, sub := range []string{".Arch.2024", ".Käse"} {
		if err := os.MkdirAll(filepath.Join(s.Path(), sub, "cur"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(s.Path(), courierKeywords), 0o700)
	for name, text := range map[string]string{
		"cur/1700000001.M1P1.host,S=20:2,S": "Subject: one\n\nhello\n",
		"cur/1700000002.M2P1.host,S=24:2,":  "Subject: two\n\nhello two\n",
		"new/1700000003.M2P1.host,S=26":     "Subject: three\n\nhello\n\n\n\n",
		courierPOP3: "/3 3 1795447514\n1700000001.M1P1.host,S=20:2,S 23 1:1795447514:0\n" +
			"1700000002.M2P1.host,S=24:2, 27 2:1795447514:0\n",
		courierList:                "1 795447538 3\n1 1700000001.M1P1.host,S=20\n2 1700000002.M2P1.host,S=24\n",
		courierSubscribed:          "INBOX.Arch.2024\nINBOX\nINBOX.Sub\nINBOX.Käse\nINBOX.Entw&APw-rfe\n",
		courierKeywords + "/:list": "KwOne\nKwTwo\n$Label2\n\n1700000001.M1P1.host,S=20:2 0\n1700000002.M2P1.host,S=24:1\n",
		courierKeywords + "/.5984826.1700000001.M1P1.host,S=20": "$Label2\nKwOne\n",
		courierKeywords + "/.5984826.1700000002.M2P1.host,S=24": "KwTwo\n",
		courierKeywords + "/1700000002.M2P1.host,S=24":          "$Label2\nKwTwo\n",
		courierKeywords + "/.5984827.1700000002.M2P1.host,S=24": "",
	} {
		put(t, s, name, text)
	}
	return s
}

func TestCourier(t *testing.T) {
	s := courierFiles(t)
	f := open(t, s, "INBOX")
	for range 2 { // the second time from our own files
		st := look(t, f, false)
		var got []string
		for _, m := range st.All() {
			got = append(got, fmt.Sprintf("%d %s %v %s %q", m.UID, f.UIDL(m), m.Keywords(), m.Flags, read(t, f, m)[9:12]))
		}
		want := []string{
			`1 UID1-1795447514 [KwOne $Label2] S "one"`,
			`2 UID2-1795447514 [KwTwo $Label2]  "two"`,
			`3 000000032f6990f2 []  "thr"`,
		}
		if st.UIDValidity != 795447538 || st.UIDNext != 4 || !slices.Equal(got, want) {
			t.Errorf("%d %d %q", st.UIDValidity, st.UIDNext, got)
		}
		f.Close()
		f = open(t, s, "INBOX")
	}
	list, err := s.Subscriptions()
	if want := []string{"Arch.2024", "INBOX", "Sub", "Käse", "Entwürfe"}; err != nil || !slices.Equal(list, want) {
		t.Error(list, err)
	}
	if err := s.Unsubscribe("Sub"); err != nil {
		t.Error(err)
	}
	if list, err = s.Subscriptions(); err != nil || len(list) != 4 {
		t.Error(list, err)
	}
	if got := names(t, s); got != "INBOX (Arch) Arch.2024 Käse" {
		t.Error(got)
	}
	// It is taken over once: what Courier may do later is Courier's.
	put(t, s, courierList, "1 795447538 9\n7 1700000001.M1P1.host,S=20\n")
	put(t, s, "dovecot.index.log", "")
	if err := os.Remove(filepath.Join(s.Path(), listName)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if st := look(t, open(t, s, "INBOX"), false); st.UIDValidity == 795447538 && st.At(0).UID == 7 {
		t.Error("taken over twice")
	}
}

// Who only ever used POP3 keeps his UIDLs.
func TestCourierPOP3(t *testing.T) {
	s := courierFiles(t)
	os.Remove(filepath.Join(s.Path(), courierList))
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	for i, want := range []string{"UID1-1795447514", "UID2-1795447514", fmt.Sprintf("%08x%08x", 3, st.UIDValidity)} {
		if got := f.UIDL(st.At(i)); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// More keywords than letters.
func TestCourierManyKeywords(t *testing.T) {
	s := courierFiles(t)
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("k%02d", i))
	}
	put(t, s, courierKeywords+"/1700000001.M1P1.host,S=20", strings.Join(all, "\n")+"\n")
	f := open(t, s, "INBOX")
	look(t, f, false)
	m := look(t, f, false).At(0)
	got := slices.Sorted(slices.Values(m.Keywords()))
	if !slices.Equal(got, all) {
		t.Errorf("%q", got)
	}
}

// Whoever is killed while he takes over loses nothing: the next one has the same.
func TestCourierKilled(t *testing.T) {
	picture := func(s *Store) (list []string) {
		f := open(t, s, "INBOX")
		st := look(t, f, false)
		for _, m := range st.All() {
			list = append(list, fmt.Sprint(m.UID, st.UIDValidity, f.UIDL(m), m.Flags, slices.Sorted(slices.Values(m.Keywords()))))
		}
		return list
	}
	want := picture(courierFiles(t))
	for n := 0; ; n++ {
		s := courierFiles(t)
		alive := dieAfter(n)
		if f, err := s.OpenFolder("INBOX"); err == nil {
			f.Sync(SyncOptions{})
			f.Close()
		}
		calls := alive()
		s.Close()
		s, err := Open(s.Path())
		if err != nil {
			t.Fatal(err)
		}
		if got := picture(s); !slices.Equal(got, want) {
			t.Errorf("killed after %d of %d calls: %q, not %q", n, calls, got, want)
		}
		if n > calls {
			return
		}
	}
}

func TestParseCourier(t *testing.T) {
	pop3 := parseCourierPOP3("/1 9\na:2,S 10 7\nb c 11 0\n,x 5 0\nnot a line\nz\n/x 1 1:2\n")
	if want := []courierMessage{{"a", "UID7"}, {"b c", "b+20c"}, {",x", ",x"}}; !slices.Equal(pop3, want) {
		t.Errorf("%q", pop3)
	}
	for _, text := range []string{"", "/", "/4 1 1\na 1 1:1\n", "a 1\n"} {
		if got := parseCourierPOP3(text); got != nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	names, of := parseCourierKeywords("a\nb\n\nx:1 0 7 -1\n../y:0\n:\n")
	if !slices.Equal(names, []string{"a", "b"}) || len(of) != 1 || !slices.Equal(of["x"], []string{"b", "a"}) {
		t.Error(names, of)
	}
}

func FuzzCourier(f *testing.F) {
	f.Add("/3 3 1795447514\n1700000001.M1P1.host,S=20:2,S 23 1:1795447514:0\n")
	f.Add("KwOne\n\n1700000001.M1P1.host,S=20:2 0\n")
	f.Add("INBOX.Arch.2024\nINBOX.Entw&APw-rfe\n")
	f.Add(".12.base")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseCourierPOP3(text) {
			if !validBase(m.base) || m.uidl == "" || strings.ContainsAny(m.uidl, " \t\r\n") {
				t.Errorf("%q", m)
			}
		}
		_, of := parseCourierKeywords(text)
		for base := range maps.Keys(of) {
			if !validBase(base) {
				t.Errorf("%q", base)
			}
		}
		if base, _, ok := courierFile(text); ok && !validBase(base) {
			t.Errorf("%q", base)
		}
		for _, name := range parseCourierSubscriptions(text) {
			if clean, err := cleanName(name); err != nil || clean != name {
				t.Errorf("%q", name)
			}
		}
	})
}

// The real Courier's servers, where they are installed or unpacked below $PENNYPOST_COURIER, and then we: UIDs, UIDVALIDITY,
// keywords, subscriptions and UIDLs stay.
func TestCourierItself(t *testing.T) {
	root := os.Getenv("PENNYPOST_COURIER")
	imapd, pop3d := filepath.Join(root, "/usr/bin/imapd"), filepath.Join(root, "/usr/lib/courier/courier/courierpop3d")
	if _, err := os.Stat(pop3d); err != nil {
		t.Skip("Courier is not installed")
	}
	s := newStore(t)
	for i := range 30 {
		put(t, s, fmt.Sprintf("cur/17000000%02d.M1P1.host:2,", i), fmt.Sprintf("Subject: %d\n\ntext\n", i))
	}
	talk := func(program string, lines ...string) string {
		t.Helper()
		cmd := exec.Command(program, s.Path())
		cmd.Dir = s.Path()
		libs, _ := filepath.Glob(filepath.Join(root, "/usr/lib/*-linux-gnu"))
		cmd.Env = append(os.Environ(), "AUTHENTICATED=bob", "MAILDIR="+s.Path(), "IMAP_KEYWORDS=1", "IMAP_CAPABILITY=IMAP4rev1",
			"LD_LIBRARY_PATH="+strings.Join(libs, ":"))
		var out bytes.Buffer
		cmd.Stdout = &out
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			fmt.Fprintf(in, "%s\r\n", line)
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond)
		in.Close()
		cmd.Wait()
		return out.String()
	}
	uidls := talk(pop3d, "UIDL", "QUIT")
	if !strings.Contains(uidls, "30 UID30-") {
		t.Skipf("Courier does not work here: %q", uidls)
	}
	box := talk(imapd, "1 SELECT INBOX", "2 STORE 1:3 +FLAGS (KwOne $Label2)", "3 STORE 2 FLAGS (KwTwo \\Seen)", "4 STORE 5 +FLAGS (\\Deleted)",
		"5 EXPUNGE", "6 SUBSCRIBE INBOX.Käse", "7 SELECT INBOX", "8 LOGOUT")
	validity := strings.Fields(box[strings.Index(box, "UIDVALIDITY "):])[1]
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	if fmt.Sprint(st.UIDValidity)+"]" != validity {
		t.Errorf("UIDVALIDITY %d, not %s", st.UIDValidity, validity)
	}
	if st.Len() != 29 {
		t.Fatal(st.Len())
	}
	for i, m := range st.All() {
		n := i + 1
		if i >= 4 {
			n++
		}
		if m.UID != uint32(n) || !strings.Contains(uidls, fmt.Sprintf("\n%d %s\r\n", n, f.UIDL(m))) {
			t.Errorf("%d: UID %d, UIDL %s", n, m.UID, f.UIDL(m))
		}
	}
	for i, want := range []string{"[$Label2 KwOne]", "[KwTwo]", "[$Label2 KwOne]", "[]"} {
		if got := fmt.Sprint(slices.Sorted(slices.Values(st.At(i).Keywords()))); got != want {
			t.Errorf("%d: %s, not %s", i+1, got, want)
		}
	}
}
