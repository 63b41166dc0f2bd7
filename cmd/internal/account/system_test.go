package account

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Where the name service switch knows users that passwd(5) does not, getent(1) is
// asked: once for each name, and never with what it could take for something else.
func TestGetent(t *testing.T) {
	bin := t.TempDir()
	asked := filepath.Join(bin, "asked")
	script := `#!/bin/sh
echo "$*" >>` + asked + `
case $3 in
bob) echo 'bob:*:2000:2001:Bob of LDAP:/net/bob:/bin/sh' ;;
odd) echo 'other:*:2000:2001::/net/other:/bin/sh' ;;
torn) echo 'torn:*:20' ;;
sick) exit 3 ;;
*) exit 2 ;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "getent"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	o := office(t, `
-- etc/passwd --
carol:x:1001:1001::/home/carol:/bin/sh
-- etc/nsswitch.conf --
passwd: files ldap # and so on
-- etc/mailname --
hamburger.edu
`)
	for range 2 {
		if u, err := o.Lookup("bob"); err != nil || u.UID != 2000 || u.Maildir != "/net/bob/Maildir" {
			t.Error(u, err)
		}
		for _, name := range []string{"eve", "odd", "torn", "-s", "2000", "$(id)", "bob;id", "*", strings.Repeat("x", 33)} {
			if _, err := o.Lookup(name); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := o.Lookup("sick"); err == nil || errors.Is(err, ErrUnknown) {
			t.Error("sick:", err)
		}
		if _, err := o.Lookup("carol"); err != nil {
			t.Error("carol:", err)
		}
	}
	got, err := os.ReadFile(asked)
	if want := "passwd -- bob\npasswd -- eve\npasswd -- odd\npasswd -- torn\npasswd -- sick\npasswd -- sick\n"; err != nil || string(got) != want {
		t.Errorf("%v: asked\n%s", err, got)
	}
}

func TestHostNames(t *testing.T) {
	for _, c := range []struct{ host, hosts, mailname, me, domain string }{
		{"Mail.Hamburger.EDU", "", "", "mail.hamburger.edu", "mail.hamburger.edu"},
		{"mail", "127.0.0.1 localhost\n127.0.1.1 x.example mail.hamburger.edu MAIL # us\n", "", "mail.hamburger.edu", "mail.hamburger.edu"},
		{"mail", "127.0.1.1 mail\n", "# ours\nHamburger.EDU\n", "mail", "hamburger.edu"},
		{"mail", "127.0.1.1\n", "no good\n", "mail", "mail"},
		{"no good", "", "", "localhost", "localhost"},
	} {
		dir := t.TempDir()
		write(t, dir+"/hosts", c.hosts)
		if c.mailname != "" {
			write(t, dir+"/mailname", c.mailname)
		}
		o, err := open("", system{
			hosts: dir + "/hosts", mailname: dir + "/mailname", passwd: dir + "/passwd", shadow: dir + "/shadow", aliases: dir + "/aliases",
			nsswitch: dir + "/nsswitch", hostname: func() (string, error) { return c.host, nil },
		}.ready())
		if err != nil {
			t.Fatal(err)
		}
		if o.Me() != c.me || o.Domain() != c.domain {
			t.Errorf("%s: me %s, domain %s", c.host, o.Me(), o.Domain())
		}
	}
}

// Many logins at once are checked a few at a time, and each gets its answer, also
// while the file changes.
func TestLoginsAtOnce(t *testing.T) {
	stored, err := Hash("ARGON2ID", "hungry")
	if err != nil {
		t.Fatal(err)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:"+stored+"\n")
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			password := "hungry"
			if i%2 == 0 {
				password = "thirsty"
			}
			_, err := o.Login("bob", password)
			if i%2 == 0 && !errors.Is(err, ErrRefused) || i%2 == 1 && err != nil {
				t.Errorf("%s: %v", password, err)
			}
		})
	}
	wg.Go(func() {
		for _, name := range []string{"alice", "carol", "dave"} {
			if _, err := o.AddUser(NewUser{Address: name, UID: -1, GID: -1}, nil); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}
