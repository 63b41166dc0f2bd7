package account

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xdg "github.com/xdg-go/scram"

	"pennypost/proto/sasl"
)

// dovecots is what "doveadm pw -s SCRAM-SHA-256 -p hungry" has written.
const dovecots = "{SCRAM-SHA-256}4096,KSPZUaOq402w/+1Rdyo4DQ==,xwnxF1ukoh/9XZ93eW0lWR8lF3onXDbUb+ieUyGZUsU=,pm7KvSpHAZwAQFmuzA1jTfMrF4cZesVpfnHx2G8jVyg="

// prove has a client log in by SCRAM.
func prove(t *testing.T, o *Office, name, password string) error {
	t.Helper()
	client, err := xdg.SHA256.NewClient(name, password, "")
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewConversation()
	options := sasl.Options{Verifier: o.Verifier}
	s, _ := options.Server("SCRAM-SHA-256", nil, func(c sasl.Claim) error {
		if !c.Proved {
			return ErrRefused
		}
		_, err := o.Admit(c.Name)
		return err
	})
	return sasl.Exchange(s, nil, func(challenge []byte) ([]byte, error) {
		text, err := c.Step(string(challenge))
		return []byte(text), err
	})
}

func TestScram(t *testing.T) {
	ours, err := Hash("scram-sha-256", "hun\u00adgry")
	if err != nil {
		t.Fatal(err)
	}
	argon, err := Hash("ARGON2ID", "hungry")
	if err != nil {
		t.Fatal(err)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\nours:"+ours+"\ndovecots:"+dovecots+
		"\nplain:{PLAIN}hungry\nm\u00fcller:{PLAIN}hungry\nspace:{PLAIN}\u00a0\nshut:{PLAIN}hungry::::::nologin\ncarol:\nargon:"+argon+"\n")
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"ours", "hungry", nil},
		{"dovecots", "hungry", nil},
		{"dovecots@hamburger.edu", "hungry", nil},
		{"DOVECOTS", "hungry", nil},
		{"plain", "hungry", nil},
		{"plain", "hun\u00adgry", nil},
		{"ｐｌａｉｎ", "hungry", nil},
		{"pla\u00adin", "hungry", nil},
		{"mu\u0308ller", "hungry", nil},
		{"plain", "wrong", ErrRefused},
		{"ours", "wrong", ErrRefused},
		{"shut", "hungry", sasl.ErrBlocked},
		{"shut", "wrong", ErrRefused},
		{"carol", "hungry", ErrRefused},
		{"argon", "hungry", ErrRefused},
		{"eve", "hungry", ErrRefused},
		{"eve@nowhere.example", "hungry", ErrRefused},
	} {
		if err := prove(t, o, c.name, c.password); !errors.Is(err, c.want) {
			t.Errorf("SCRAM %s %q: %v, want %v", c.name, c.password, err, c.want)
		}
		want := c.want
		if c.name == "argon" || c.password == "hun\u00adgry" && c.name == "plain" {
			want = nil // SCRAM alone cannot, or a password is as it was written or as SASLprep has it
		}
		if _, err := o.Login(c.name, c.password); !errors.Is(err, want) {
			t.Errorf("%s %q: %v, want %v", c.name, c.password, err, want)
		}
	}
	if err := checkPassword(strings.Replace(dovecots, "4096", "4096000000", 1)); err == nil {
		t.Error("takes any work factor")
	}
	for _, text := range []string{"", "4096", "4096,,,", "0,eA==,eA==,eA==", "x" + dovecots[15:], dovecots[15:] + ",", strings.Replace(dovecots[15:], "=", "!", 1)} {
		if _, err := parseVerifier(text); err == nil {
			t.Errorf("%q is a verifier", text)
		}
	}
	if _, err := Hash("SCRAM-SHA-256", "\ufffd"); !errors.Is(err, ErrPassword) {
		t.Error("a password that nobody can send:", err)
	}
}

// What a client sees of somebody who is not there is what it sees of somebody who is,
// and the same in every process.
func TestScramTellsNobody(t *testing.T) {
	const text = "-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\ncarol:\n-- post/domains/crepes.fr/users --\nalice:" + dovecots + "\n-- post/mail --\nspool spool\n"
	o := office(t, text)
	seen := func(o *Office, name string) string {
		v, err := o.Verifier(name)
		if err != nil {
			t.Fatal(name, err)
		}
		return fmt.Sprintf("%d %s", v.Iterations, hex.EncodeToString(v.Salt))
	}
	again, err := open(o.dir, o.sys)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range []string{"bob@hamburger.edu", "eve@hamburger.edu", "carol@hamburger.edu", "eve@crepes.fr", "eve@nowhere.example"} {
		first := seen(o, name)
		if len(first) != len("4096 ")+2*scramSalt || !strings.HasPrefix(first, "4096 ") {
			t.Errorf("%s: %s", name, first)
		}
		for _, o := range []*Office{o, again} {
			for _, name := range []string{name, strings.ToUpper(name)} {
				if got := seen(o, name); got != first {
					t.Errorf("%s: %s, and before %s", name, got, first)
				}
			}
		}
		if other, twice := all[first]; twice {
			t.Errorf("%s has the salt of %s", name, other)
		}
		all[first] = name
	}
	fi, err := os.Stat(filepath.Join(o.Spool(), "scram-key"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", fi, err)
	}
	// The time is that of the others of the domain.
	took := func(name string) time.Duration {
		least := time.Hour
		for range 5 {
			start := time.Now()
			seen(o, name)
			least = min(least, time.Since(start))
		}
		return least
	}
	if known, unknown := took("bob@hamburger.edu"), took("eve@hamburger.edu"); unknown < known/4 {
		t.Errorf("unknown %v, known %v", unknown, known)
	}
	if known, unknown := took("alice@crepes.fr"), took("eve@crepes.fr"); unknown > 20*known+time.Millisecond {
		t.Errorf("unknown %v, known %v", unknown, known)
	}
}

// SCRAM is offered when everybody can do it, or as the post office says.
func TestScramIsOffered(t *testing.T) {
	for _, c := range []struct {
		office string
		want   bool
	}{
		{"-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\nalice:" + dovecots + "\ncarol:\n", true},
		{"-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n-- post/domains/empty.example/users --\n", true},
		{"-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\nalice:{SSHA}" + strings.Repeat("A", 32) + "\n", false},
		{"-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n@system\n", false},
		{"-- post/domains/hamburger.edu/users --\nbob:\n", false},
		{"-- post/domains/hamburger.edu/users --\nbob:\n-- post/login --\nscram always\n", true},
		{"-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n-- post/login --\nscram never\n", false},
	} {
		if got := office(t, c.office).Offers().Scram; got != c.want {
			t.Errorf("%s: %v", c.office, got)
		}
	}
}

// The stand-in of an unknown user is of the kind that most have.
func TestStandInIsOfTheMost(t *testing.T) {
	argon, _ := Hash("ARGON2ID", "a")
	crypt, _ := Hash("SHA256-CRYPT", "a")
	blowfish, _ := Hash("BLF-CRYPT", "a")
	var users bytes.Buffer
	for i, stored := range []string{argon, "{PLAIN}x", crypt, crypt[len("{SHA256-CRYPT}"):], blowfish, dovecots} {
		fmt.Fprintf(&users, "u%d:%s\n", i, stored)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\n"+users.String())
	c, err := o.credentials("eve")
	if err != nil || effort(c.stored) != effort(crypt) {
		t.Errorf("%s, %v", c.stored, err)
	}
	for stored, want := range map[string]string{
		argon:              "$argon2id$v=19$m=19456,t=2,p=1",
		crypt:              "$5$rounds=100000",
		"$6$salt$hash":     "$6",
		blowfish:           "$2b$11",
		"$y$j9T$salt$hash": "$y$j9T",
		dovecots:           "SCRAM-SHA-2564096",
		"{SSHA}x":          "SSHA",
		"{PLAIN}$x":        "PLAIN",
		"{CRYPT}$x":        "",
		"{x":               "",
	} {
		if got := effort(stored); got != want {
			t.Errorf("%s: %q, want %q", stored, got, want)
		}
	}
}
