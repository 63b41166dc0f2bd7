package cmd_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
