package account

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The disk with the post office is away, or nobody may look into it: that is no
// post office without domains, and no mail is refused for good.
func TestOfficeIsAway(t *testing.T) {
	o := office(t, "-- post/me --\nmail.hamburger.edu\n-- post/mail --\nmailbox box/%n\nspool spool\n-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n-- post/domains/hamburger.edu/aliases --\nrobert: bob\n")
	same := func(when string) {
		t.Helper()
		if _, err := o.Login("bob@hamburger.edu", "hungry"); err != nil {
			t.Errorf("%s: login: %v", when, err)
		}
		if x, err := o.Resolve("robert@hamburger.edu"); err != nil || len(x.Users) != 1 {
			t.Errorf("%s: %v, %v", when, x, err)
		}
		if !o.Local("hamburger.edu") || o.Me() != "mail.hamburger.edu" || o.Spool() != filepath.Join(o.dir, "spool") {
			t.Errorf("%s: local %v, me %s, spool %s", when, o.Local("hamburger.edu"), o.Me(), o.Spool())
		}
	}
	for _, dir := range []string{o.dir, filepath.Join(o.dir, "domains"), filepath.Join(o.dir, "domains/hamburger.edu")} {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		same(dir + " without permissions")
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		same(dir + " with permissions")
	}
	// Without its folder the folder's path is a file, which even root cannot look into.
	domains := filepath.Join(o.dir, "domains")
	aside := domains + "~"
	for range 2 {
		if err := os.Rename(domains, aside); err != nil {
			t.Fatal(err)
		}
		write(t, domains, "in the way")
		same("no folder")
		if err := os.Remove(domains); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, domains); err != nil {
			t.Fatal(err)
		}
		same("folder again")
	}
	gone := o.dir + "~"
	if err := os.Rename(o.dir, gone); err != nil {
		t.Fatal(err)
	}
	same("away")
	same("still away")
	// It comes back without the alias.
	if err := os.Remove(filepath.Join(gone, "domains/hamburger.edu/aliases")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(gone, o.dir); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * settled)
	if _, err := o.Lookup("bob@hamburger.edu"); err != nil {
		t.Error("back:", err)
	}
	if x, err := o.Resolve("robert@hamburger.edu"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an alias that is gone: %v, %v", x, err)
	}
}
