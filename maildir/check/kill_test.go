package check

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/maildir/internal/disk"
)

// victimEnv tells the test program to mend the Maildir named there, and to be killed before the call of that number.
const victimEnv, callEnv = "CHECK_TEST_VICTIM", "CHECK_TEST_CALL"

func TestMain(m *testing.M) {
	haste = 40
	if path := os.Getenv(victimEnv); path != "" {
		victim(path)
		return
	}
	os.Exit(m.Run())
}

func victim(path string) {
	n, _ := strconv.Atoi(os.Getenv(callEnv))
	haste = 1000
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Op == disk.Open { // changes nothing
			return do()
		}
		if n--; n == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return do()
	}
	for f, err := range Maildir(path, Options{Repair: true}) {
		if err != nil || f.Mend != "" && !f.Mended {
			fmt.Println(f, err)
			os.Exit(1)
		}
	}
}

// byUID gives the text of each message that the list has.
func byUID(t *testing.T, root string) map[uint32]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, listName))
	if err != nil {
		t.Fatal(err)
	}
	l := parseList(string(data))
	texts := map[string]string{}
	for _, sub := range []string{"new", "cur"} {
		names, _ := os.ReadDir(filepath.Join(root, sub))
		for _, e := range names {
			base, _ := split(e.Name())
			data, _ := os.ReadFile(filepath.Join(root, sub, e.Name()))
			texts[base] = string(data)
		}
	}
	is := map[uint32]string{}
	for _, ln := range l.salvage(func(base string) bool { return texts[base] != "" }) {
		if text, ok := texts[ln.base]; ok {
			is[ln.uid] = text
		}
	}
	return is
}

// serve looks into the folder as a server does.
func serve(t *testing.T, root string, claim bool) {
	t.Helper()
	s, err := maildir.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := s.OpenFolder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.Sync(maildir.SyncOptions{Claim: claim}); err != nil {
		t.Fatal(err)
	}
}

// Mending is killed before each of its calls. No UID is lost or gets another message, whoever looks next, and the
// next mending goes on from there.
func TestKill(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	text := func(id string) string { return "Subject: " + id + "\n\nbody of " + id + "\n" }
	files := map[string]string{
		"cur/1.a,S=1:2,S":      text("a"),
		"cur/2.b,S=5,W=9:2,FS": text("b"),
		"new/3.c,S=2":          text("c"),
		"cur/4.d:2,SF":         text("d"),
		"cur/5.e\x01:2,Sa":     text("e"),
		"new/6.f":              text("f"),
		"cur/6.f:2,S":          text("f2"),
		"cur/7.g,W=7:2,":       text("g"),
		"cur/8.h:2,":           "",
		"tmp/9.i":              "half",
		"maildirsize":          "0S\n1 1\n",
		listName:               "3 V7 N20 Gx\n1 :1.a,S=1\n2 P4 :2.b,S=5,W=9\n3 :3.c,S=2\n4 :4.d\n5 :5.e\x01\n12 :6.f\n13 :7.g,W=7\ngarbage\n",
	}
	for call := 1; ; call += step {
		root := box(t, files)
		age(t, root+"/tmp/9.i", 40*time.Hour)
		if call%3 == 0 { // there is a journal, which knows the wrong names
			serve(t, root, false)
		}
		before := byUID(t, root)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimEnv+"="+root, callEnv+"="+strconv.Itoa(call))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() == 1 {
			t.Fatalf("call %d: %s", call, out)
		}
		killed := err != nil
		same := func(when string) {
			t.Helper()
			now := byUID(t, root)
			for uid, text := range before {
				if uid == 12 && strings.Contains(now[uid], " f") { // two had this name: either is right
					continue
				}
				if now[uid] != text {
					t.Errorf("call %d, %s: UID %d was %q, is %q", call, when, uid, text, now[uid])
				}
			}
		}
		same("killed")
		if call%2 == 0 { // a server comes first
			serve(t, root, call%4 == 0)
			same("served")
		}
		look(t, root, Options{Repair: true})
		same("mended")
		if left := wrong(look(t, root, Options{})); len(left) > 0 {
			t.Errorf("call %d: left: %q", call, left)
		}
		seen := map[string]int{}
		for _, text := range texts(snapshot(t, root)) {
			seen[text]++
		}
		want := map[string]int{}
		for _, id := range []string{"a", "b", "c", "d", "e", "f", "f2", "g"} {
			want[text(id)] = 1
		}
		if call%2 == 0 && seen[text("e")] == 2 { // the server has given the second name, which cannot be listed, another one
			want[text("e")] = 2
		}
		if !maps.Equal(seen, want) {
			t.Errorf("call %d: messages are %v", call, seen)
		}
		if t.Failed() {
			t.Fatalf("call %d", call)
		}
		if !killed {
			t.Logf("%d calls", call)
			return
		}
	}
}
