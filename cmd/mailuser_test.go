package cmd_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Twenty at once: every user is there afterwards, once.
func TestMailuserAtOnce(t *testing.T) {
	o := newOffice(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			cmd := o.command("mailuser", "add", "--scheme", "PLAIN", fmt.Sprintf("u%d@crepes.fr", i))
			cmd.Stdin = strings.NewReader(fmt.Sprintf("pass%d\n", i))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("u%d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	users := strings.Fields(o.run("", "mailuser", "list", "crepes.fr"))
	if len(users) != 20 {
		t.Errorf("%d users: %v", len(users), users)
	}
	for i := range 20 {
		o.run(fmt.Sprintf("pass%d\n", i), "mailuser", "verify", fmt.Sprintf("u%d@crepes.fr", i))
	}
}

// What the superuser makes for others can be reached by them: the folders belong to
// whom the post office belongs to, the Maildirs to their users.
func TestMailuserAsSuperuser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not the superuser")
	}
	o := newOffice(t)
	if err := os.Chown(o.dir, 4711, 4712); err != nil {
		t.Skip(err)
	}
	o.run("hungry\n", "mailuser", "add", "bob@hamburger.edu")
	o.run("yummy\n", "mailuser", "add", "--uid", "4713", "--gid", "4714", "alice@hamburger.edu")
	for path, want := range map[string]string{
		"domains":                     "drwxr-xr-x 4711 4712",
		"domains/hamburger.edu":       "drwxr-xr-x 4711 4712",
		"domains/hamburger.edu/users": "-rw------- 4711 4712",
		"boxes":                       "drwx--x--x 4711 4712",
		"boxes/bob":                   "drwx------ 4711 4712",
		"boxes/bob/new":               "drwx------ 4711 4712",
		"boxes/alice":                 "drwx------ 4713 4714",
		"boxes/alice/cur":             "drwx------ 4713 4714",
	} {
		fi, err := os.Stat(filepath.Join(o.dir, path))
		if err != nil {
			t.Error(err)
			continue
		}
		st := fi.Sys().(*syscall.Stat_t)
		if got := fmt.Sprintf("%v %d %d", fi.Mode(), st.Uid, st.Gid); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// kill -9 at any moment leaves a users file that is the old one or the new one, and no
// lock that keeps the next edit waiting.
func TestMailuserKilled(t *testing.T) {
	o := newOffice(t, "alice", "bob")
	users := filepath.Join(o.dir, "domains/hamburger.edu/users")
	count := 40
	if testing.Short() {
		count = 5
	}
	for i := range count {
		before, err := os.ReadFile(users)
		if err != nil {
			t.Fatal(err)
		}
		cmd := o.command("mailuser", "passwd", "--scheme", "PLAIN", "bob")
		cmd.Stdin = strings.NewReader(fmt.Sprintf("secret%d\n", i))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		after, err := os.ReadFile(users)
		if err != nil {
			t.Fatal(err)
		}
		alice, _, _ := strings.Cut(string(before), "bob:")
		if string(after) != string(before) && string(after) != fmt.Sprintf("%sbob:{PLAIN}secret%d\n", alice, i) {
			t.Fatalf("before:\n%safter:\n%s", before, after)
		}
	}
	start := time.Now()
	o.run("hungry\n", "mailuser", "passwd", "bob")
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the next edit took %v", d)
	}
	o.run("hungry\n", "mailuser", "verify", "bob")
}
