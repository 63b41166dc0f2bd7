package account

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
)

// office lays out a post office from txtar text and opens it, on a machine called
// mail.hamburger.edu whose system files come from the folder "etc" of the text.
func office(t *testing.T, text string) *Office {
	t.Helper()
	o, err := tryOffice(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func tryOffice(t *testing.T, text string) (*Office, error) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(text)).Files {
		write(t, filepath.Join(dir, f.Name), string(f.Data))
	}
	etc := filepath.Join(dir, "etc")
	post := filepath.Join(dir, "post")
	if _, err := os.Stat(post); err != nil {
		post = ""
	}
	return open(post, system{
		passwd:   filepath.Join(etc, "passwd"),
		shadow:   filepath.Join(etc, "shadow"),
		aliases:  filepath.Join(etc, "aliases"),
		mailname: filepath.Join(etc, "mailname"),
		hosts:    filepath.Join(etc, "hosts"),
		nsswitch: filepath.Join(etc, "nsswitch.conf"),
		hostname: func() (string, error) { return "mail.hamburger.edu", nil },
	}.ready())
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBobLogsIn(t *testing.T) {
	o := office(t, `
-- post/domains/hamburger.edu/users --
bob:{PLAIN}hungry
`)
	for _, name := range []string{"bob", "bob@hamburger.edu", "BOB@Hamburger.EDU"} {
		u, err := o.Login(name, "hungry")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if u.Address() != "bob@hamburger.edu" || u.Maildir != "/var/mail/hamburger.edu/bob" {
			t.Errorf("%s: %+v", name, u)
		}
	}
	for _, c := range [][2]string{{"bob", "Hungry"}, {"bob", ""}, {"alice", "hungry"}, {"bob@crepes.fr", "hungry"}, {"bob", "hungry\x00"}, {"", ""}, {"@", "x"}} {
		if _, err := o.Login(c[0], c[1]); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", c, err)
		}
	}
}
