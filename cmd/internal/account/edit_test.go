package account

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pennypost/cmd/internal/status"
)

func TestEdit(t *testing.T) {
	o := office(t, `
-- post/domains/hamburger.edu/users --
# the users of hamburger.edu

bob:{PLAIN}hungry:1000:1000:Bob::	:x=y
 # dave is gone
@system
alice
carol:{PLAIN}x`)
	users := filepath.Join(o.dir, "domains/hamburger.edu/users")
	if err := os.Chmod(users, 0o640); err != nil {
		t.Fatal(err)
	}
	if u, err := o.AddUser(NewUser{Address: "Eve@HAMBURGER.edu", Password: "{PLAIN}a", UID: 7, GID: -1, Gecos: "Eve of h", Home: "/home/eve"}, nil); err != nil || u.Address() != "eve@hamburger.edu" || u.UID != 7 {
		t.Fatal(u, err)
	}
	if err := o.SetPassword("ALICE", "{PLAIN}yummy"); err != nil {
		t.Fatal(err)
	}
	if err := o.SetPassword("bob", "{PLAIN}full"); err != nil {
		t.Fatal(err)
	}
	if u, err := o.RemoveUser("carol"); err != nil || u.Name != "carol" {
		t.Fatal(u, err)
	}
	want := `# the users of hamburger.edu

bob:{PLAIN}full:1000:1000:Bob::	:x=y
 # dave is gone
@system
alice:{PLAIN}yummy
eve:{PLAIN}a:7::Eve of h:/home/eve:
`
	if got, err := os.ReadFile(users); string(got) != want || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
	if fi, err := os.Stat(users); err != nil || fi.Mode() != 0o640 {
		t.Error(fi.Mode(), err)
	}
	if names, err := filepath.Glob(filepath.Dir(users) + "/.*"); err != nil || len(names) != 0 {
		t.Error("left behind:", names, err)
	}

	prepared := false
	for _, c := range []struct {
		err  error
		want error
		code int
	}{
		{second(o.AddUser(NewUser{Address: "bob", UID: -1, GID: -1}, func(*User) error { prepared = true; return nil })), ErrExists, status.CantCreate},
		{second(o.AddUser(NewUser{Address: "mallory", UID: -1, GID: -1}, func(*User) error { return fs.ErrPermission })), fs.ErrPermission, status.NoPerm},
		{second(o.AddUser(NewUser{Address: "../x", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "x@../y", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "#x", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "x\nroot", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "x", Gecos: "a:b", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "x", Gecos: "a\nb:c", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "x", Home: "home", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{second(o.AddUser(NewUser{Address: "x", Password: "plain", UID: -1, GID: -1}, nil)), nil, status.DataErr},
		{o.SetPassword("mallory", "{PLAIN}x"), ErrUnknown, status.NoUser},
		{o.SetPassword("bob@example.org", "{PLAIN}x"), ErrUnknown, status.NoUser},
		{o.SetPassword("bob", "{PLAIN}x\ny"), nil, status.Config},
		{second(o.RemoveUser("mallory")), ErrUnknown, status.NoUser},
	} {
		if c.err == nil || c.want != nil && !errors.Is(c.err, c.want) || status.Code(c.err) != c.code {
			t.Errorf("%v (%d), want %v (%d)", c.err, status.Code(c.err), c.want, c.code)
		}
	}
	if prepared {
		t.Error("something was made for a user who was there")
	}
	if got, err := os.ReadFile(users); string(got) != want || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
	if list, err := o.Users("hamburger.edu"); err != nil || len(list) != 3 || list[2].Name != "eve" {
		t.Error(list, err)
	}
}

func second[T any](_ T, err error) error { return err }

// A users file that somebody broke by hand is told of, and not made worse.
func TestEditOfABadFile(t *testing.T) {
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:\n")
	users := filepath.Join(o.dir, "domains/hamburger.edu/users")
	write(t, users, "bob:\n:::\n")
	if _, err := o.AddUser(NewUser{Address: "eve@hamburger.edu", UID: -1, GID: -1}, nil); err == nil || !strings.Contains(err.Error(), "users:2: ") || status.Code(err) != status.Config {
		t.Error(err)
	}
}

// An edit follows a link, and a file that a cut-short edit left is no obstacle.
func TestEditThroughALink(t *testing.T) {
	o := office(t, "-- post/domains/hamburger.edu/aliases --\n")
	dir := filepath.Join(o.dir, "domains/hamburger.edu")
	write(t, o.dir+"/real", "bob:\n")
	write(t, o.dir+"/.real.new", "half")
	if err := os.Symlink(o.dir+"/real", dir+"/users"); err != nil {
		t.Fatal(err)
	}
	if err := o.SetPassword("bob@hamburger.edu", "{PLAIN}x"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(o.dir + "/real"); string(got) != "bob:{PLAIN}x\n" {
		t.Errorf("%q", got)
	}
	if fi, err := os.Lstat(dir + "/users"); err != nil || fi.Mode().Type() != fs.ModeSymlink {
		t.Error("the link is gone")
	}
}

// Edits at the same time wait for each other: none is lost, and a reader sees whole
// files only.
func TestEditsAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b/post")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			o, err := Create(dir) // as many programs
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := o.AddUser(NewUser{Address: fmt.Sprintf("u%d@hamburger.edu", i), Password: "{PLAIN}x", UID: -1, GID: -1}, nil); err != nil {
				t.Error(err)
			}
			if i%4 == 0 {
				if _, err := o.RemoveUser(fmt.Sprintf("u%d@hamburger.edu", i)); err != nil {
					t.Error(err)
				}
			} else if err := o.SetPassword(fmt.Sprintf("u%d@hamburger.edu", i), "{PLAIN}y"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	o, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	users, err := o.Users("hamburger.edu")
	if err != nil || len(users) != 15 {
		t.Error(len(users), err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "domains/hamburger.edu/users"))
	if err != nil || strings.Count(string(data), ":{PLAIN}y\n") != 15 {
		t.Errorf("%s, %v", data, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "domains/hamburger.edu/users")); err != nil || fi.Mode() != 0o600 {
		t.Error(fi, err)
	}
	names := []string{}
	for _, u := range users {
		names = append(names, u.Name)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 15 {
		t.Error(names)
	}
}
