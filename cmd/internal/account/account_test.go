package account

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"pennypost/cmd/internal/status"
)

// office lays out a post office from txtar text and opens it, on a machine called
// mail.hamburger.edu whose system files come from the folder "etc" of the text.
func office(t testing.TB, text string) *Office {
	t.Helper()
	o, err := tryOffice(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func tryOffice(t testing.TB, text string) (*Office, error) {
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
	o, err := open(post, system{
		passwd:   filepath.Join(etc, "passwd"),
		shadow:   filepath.Join(etc, "shadow"),
		aliases:  filepath.Join(etc, "aliases"),
		mailname: filepath.Join(etc, "mailname"),
		hosts:    filepath.Join(etc, "hosts"),
		nsswitch: filepath.Join(etc, "nsswitch.conf"),
		hostname: func() (string, error) { return "mail.hamburger.edu", nil },
	}.ready())
	if err == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, err
}

func write(t testing.TB, path, text string) {
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

// Bare names are those of the host's domain, of the only one, or of the only domain
// that has them.
func TestBareLoginNames(t *testing.T) {
	o := office(t, `
-- post/me --
hamburger.edu
-- post/domains/hamburger.edu/users --
bob:{PLAIN}hungry
-- post/domains/crepes.fr/users --
bob:{PLAIN}yummy
alice:{PLAIN}yummy
carl:{PLAIN}yummy
-- post/domains/pie.example/users --
carl:{PLAIN}yummy
`)
	for _, c := range []struct{ name, password, want string }{
		{"bob", "hungry", "bob@hamburger.edu"},
		{"bob", "yummy", ""},
		{"bob@crepes.fr", "yummy", "bob@crepes.fr"},
		{"alice", "yummy", "alice@crepes.fr"},
		{"alice@hamburger.edu", "yummy", ""},
		{"carl", "yummy", ""}, // which one?
	} {
		u, err := o.Login(c.name, c.password)
		if c.want == "" && !errors.Is(err, ErrRefused) || c.want != "" && (err != nil || u.Address() != c.want) {
			t.Errorf("%s: %v, %v", c.name, u, err)
		}
	}
}

// An unknown name, a name without a password and a wrong password take the time of
// one check each (PROMISES: no one learns which users exist).
func TestLoginTakesTheSameTime(t *testing.T) {
	stored, err := Hash("ARGON2ID", "hungry")
	if err != nil {
		t.Fatal(err)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:"+stored+"\ncarol:\nlocked:!\n-- post/domains/empty.example/users --\n")
	took := func(name, password string) time.Duration {
		var all []time.Duration
		for range 5 {
			start := time.Now()
			if _, err := o.Login(name, password); !errors.Is(err, ErrRefused) {
				t.Fatal(name, err)
			}
			all = append(all, time.Since(start))
		}
		return slices.Min(all) // the others waited for somebody else's processor
	}
	wrong := took("bob@hamburger.edu", "wrong")
	for _, c := range [][2]string{
		{"eve@hamburger.edu", "wrong"},
		{"carol@hamburger.edu", "wrong"},
		{"locked@hamburger.edu", "!"},
		{"eve@nowhere.example", "wrong"},
		{"eve@empty.example", "wrong"},
		{"eve", "wrong"},
		{"../etc/passwd", "x"},
		{"bob@hamburger.edu", ""},
		{"bob@hamburger.edu", "hungry\x00"},
	} {
		if who, err := o.credentials(c[0]); c[0] != "bob@hamburger.edu" && (err != nil || who.user != nil || !strings.HasPrefix(who.stored, "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$")) {
			t.Errorf("%q is compared with %q, %v", c, who.stored, err)
		}
		if d := took(c[0], c[1]); d < wrong/6 { // a busy machine makes some slower
			t.Errorf("%q: %v, a wrong password: %v", c, d, wrong)
		}
	}
	// The stand-in's password is nobody else's.
	if _, err := o.Login("eve@hamburger.edu", "hungry"); !errors.Is(err, ErrRefused) {
		t.Error("eve:", err)
	}
	if _, err := o.Login("bob@hamburger.edu", "hungry"); err != nil {
		t.Error("bob:", err)
	}
	// Nor does bob, whose password is remembered now, learn by it who is there.
	if d := took("eve@hamburger.edu", "hungry"); d < wrong/6 {
		t.Errorf("eve, after bob: %v, a wrong password: %v", d, wrong)
	}
}

// A password that was right is not hashed again, until it is another one.
func TestRightPasswordIsRemembered(t *testing.T) {
	stored, err := Hash("ARGON2ID", "hungry")
	if err != nil {
		t.Fatal(err)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:"+stored+"\n")
	if _, err := o.Login("bob", "hungry"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 100 {
		if _, err := o.Login("bob", "hungry"); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d > 200*time.Millisecond {
		t.Errorf("a hundred logins took %v", d)
	}
	if err := o.SetPassword("bob", "{PLAIN}full"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Login("bob", "hungry"); !errors.Is(err, ErrRefused) {
		t.Error("the old password:", err)
	}
	if _, err := o.Login("bob", "full"); err != nil {
		t.Error("the new password:", err)
	}
}

// ü may come as one character or as two.
func TestPasswordInEveryForm(t *testing.T) {
	const one, two = "h\u00fcngry", "hu\u0308ngry"
	stored, err := Hash("SHA256-CRYPT", two)
	if err != nil {
		t.Fatal(err)
	}
	o := office(t, "-- post/domains/hamburger.edu/users --\nours:"+stored+"\ntheirs:{PLAIN}"+two+"\n")
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"ours", one, nil},
		{"ours", two, nil},
		{"ours", "hungry", ErrRefused},
		{"theirs", two, nil},
		{"theirs", one, ErrRefused}, // as it was written
	} {
		if _, err := o.Login(c.name, c.password); !errors.Is(err, c.want) {
			t.Errorf("%s %+q: %v, want %v", c.name, c.password, err, c.want)
		}
	}
}

// A file is read again when it changes; a bad one changes nothing and is told of once.
func TestFilesAreReadAgain(t *testing.T) {
	var said bytes.Buffer
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n")
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	users := filepath.Join(o.dir, "domains/hamburger.edu/users")
	write(t, users, "bob:{PLAIN}sleepy\nalice:{PLAIN}yummy\n")
	if _, err := o.Login("bob", "sleepy"); err != nil {
		t.Error("changed in place:", err)
	}
	write(t, users, "bob:{PLAIN}hungry\n:::\n")
	for range 3 {
		if _, err := o.Login("alice@hamburger.edu", "yummy"); err != nil {
			t.Error("after a bad change:", err)
		}
	}
	if n := strings.Count(said.String(), "users:2:"); n != 1 {
		t.Errorf("told %d times: %s", n, &said)
	}
	if _, err := open(o.dir, o.sys); err == nil || status.Code(err) != 78 || !strings.Contains(err.Error(), users+":2: ") {
		t.Error("opened anew:", err)
	}
	write(t, users+".new", "carol:{PLAIN}full\n")
	if err := os.Rename(users+".new", users); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Login("carol", "full"); err != nil {
		t.Error("replaced:", err)
	}
	if _, err := o.Login("bob", "sleepy"); !errors.Is(err, ErrRefused) {
		t.Error("gone:", err)
	}
	write(t, filepath.Join(o.dir, "domains/crepes.fr/users"), "alice:{PLAIN}yummy\n")
	if _, err := o.Login("alice@crepes.fr", "yummy"); err != nil {
		t.Error("a new domain:", err)
	}
	if err := os.RemoveAll(filepath.Join(o.dir, "domains/crepes.fr")); err != nil {
		t.Fatal(err)
	}
	if o.Local("crepes.fr") || !o.Local("HAMBURGER.edu") || o.Local("example.org") || !o.Local("localhost") {
		t.Error("domains:", o.Domains())
	}
}

func TestMistakesAreTold(t *testing.T) {
	const users, aliases = "-- post/domains/hamburger.edu/users --\n", "-- post/domains/hamburger.edu/aliases --\n"
	for _, c := range []struct{ text, want string }{
		{"-- post/me --\nmail.hamburger.edu\nother\n", "me:2: "},
		{"-- post/me --\n# c\n\nno good\n", "me:3: "},
		{"-- post/mail --\nmailbox /var/mail/%n\nspol /x\n", `mail:2: unknown word "spol"`},
		{"-- post/mail --\nmailbox /var/mail/%x\n", "mail:1: "},
		{"-- post/mail --\nmailbox /var/mail/%\n", "mail:1: "},
		{"-- post/mail --\nmailbox /var/mail\n", "mail:1: "},
		{"-- post/mail --\nspool\n", "mail:1: "},
		{"-- post/mail --\nmailbox mail/%n\n", "is inside this file"},
		{"-- post/mail --\nspool /a\nspool /b\n", "mail:2: "},
		{"-- post/routes --\nexample.org\n", "routes:1: "},
		{"-- post/routes --\n* smart.example:0\n", "routes:1: "},
		{"-- post/routes --\n* smart.example:x\n", "routes:1: "},
		{"-- post/routes --\n* ::1\n", "routes:1: "},
		{"-- post/routes --\n* [::1\n", "routes:1: "},
		{"-- post/routes --\n* smart.example tls=maybe\n", `routes:1: unknown option "tls=maybe"`},
		{"-- post/routes --\n* smart.example verify\n", `routes:1: unknown option "verify"`},
		{"-- post/routes --\n* a\n# x\n* b\n", "routes:3: "},
		{"-- post/routes --\n/etc a\n", "routes:1: "},
		{users + "bob\nalice\nBob:x\n", `users:3: "bob" is there already`},
		{users + "../x:\n", "users:1: "},
		{users + "..:\n", "users:1: "},
		{users + "a/b:\n", "users:1: "},
		{users + "bob@crepes.fr:\n", "users:1: "},
		{users + strings.Repeat("x", 65) + ":\n", "users:1: "},
		{users + "bob:{ROT13}uhatel\n", "users:1: "},
		{users + "bob:hungry\n", "users:1: "}, // not a hash
		{users + "bob::x\n", "users:1: "},
		{users + "bob::-1\n", "users:1: "},
		{users + "bob:::4294967295\n", "users:1: "},
		{users + "bob:::::home\n", "users:1: "},
		{users + "bob:::::::userdb_mail=mbox:/x\n", "users:1: "},
		{users + "bob:::::::allow_nets=127.0.0.0/8\n", "users:1: "},
		{users + "bob\x00:\n", "users:1: "},
		{users + "@systems\n", "users:1: "},
		{users + "bob:\nthis is no user\n", "users:2: "},
		{users + "Bob <bob@hamburger.edu>\n", "users:1: "},
		{users + "\"bob\":\n", "users:1: "},
		{users + " bob:\n", "users:1: "},
		{aliases + "staff bob\n", "aliases:1: "},
		{aliases + " bob\n", "aliases:1: "},
		{aliases + "a: b\nA: c\n", "aliases:2: "},
		{aliases + "# x\na:\n", "aliases:2: "},
		{aliases + "a: |\n", "aliases:1: "},
		{aliases + "a: /\n", "aliases:1: "},
		{aliases + "a: :include:list\n", "aliases:1: "},
		{aliases + "a: :fail:\n", "aliases:1: "},
		{aliases + "a: \"x\n", "aliases:1: "},
		{aliases + "\"a: b\n", "aliases:1: "},
		{aliases + "a/b: c\n", "aliases:1: "},
		{aliases + "a@crepes.fr: c\n", "aliases:1: "},
		{aliases + "a: bob carol\n", "aliases:1: "},
		{aliases + "a: bob@\n", "aliases:1: "},
		{aliases + "a: b\x07\n", "aliases:1: "},
		{aliases + "a: b,\n c,\n d e\nf: g\n", "aliases:1: "},
		{"-- post/domains/ham burger/users --\n", "not the name of a domain"},
		{"-- post/domains/HAMBURGER.edu/users --\n-- post/domains/hamburger.edu/users --\n", "has a folder already"},
		{"-- post/tls/cert.pem --\nnonsense\n", ""},
	} {
		o, err := tryOffice(t, c.text)
		if err == nil {
			_, err = o.TLS()
		}
		if err == nil || status.Code(err) != status.Config || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestMailPattern(t *testing.T) {
	for _, c := range [][2]string{
		{"mailbox boxes/%d/%n", "POST/boxes/hamburger.edu/bob"},
		{"mailbox\t/srv/%u # here", "/srv/bob@hamburger.edu"},
		{"mailbox /srv/100%%/%n/Maildir/", "/srv/100%/bob/Maildir"},
	} {
		o := office(t, "-- post/mail --\nspool  spool\n"+c[0]+"\n-- post/domains/hamburger.edu/users --\nbob\ncarol:::::/home/carol::userdb_mail=maildir:~/Maildir x=y\n")
		if u, err := o.Lookup("bob"); err != nil || u.Maildir != strings.Replace(c[1], "POST", o.Dir(), 1) {
			t.Errorf("%s: %v, %v", c[0], u, err)
		}
		if u, err := o.Lookup("carol"); err != nil || u.Maildir != "/home/carol/Maildir" {
			t.Errorf("carol: %v, %v", u, err)
		}
		if o.Spool() != o.dir+"/spool" {
			t.Error(o.Spool())
		}
	}
}

// A file that an editor moves aside for a moment is not missed.
func TestFileIsAwayForAMoment(t *testing.T) {
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n")
	users := filepath.Join(o.dir, "domains/hamburger.edu/users")
	if err := os.Rename(users, users+"~"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(40 * time.Millisecond)
		if err := os.WriteFile(users, []byte("bob:{PLAIN}hungry\ncarol:\n"), 0o600); err != nil {
			t.Error(err)
		}
	})
	if _, err := o.Lookup("bob"); err != nil {
		t.Error("meanwhile:", err)
	}
	wg.Wait()
	if _, err := o.Lookup("carol"); err != nil {
		t.Error("afterwards:", err)
	}
	if err := os.Remove(users); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Lookup("bob"); !errors.Is(err, ErrUnknown) {
		t.Error("gone for good:", err)
	}
}

func TestAddressIsQuoted(t *testing.T) {
	o := office(t, "-- post/domains/hamburger.edu/users --\njürgen\na.b\n.c\n")
	for name, want := range map[string]string{
		"jürgen": "jürgen@hamburger.edu", "a.b": "a.b@hamburger.edu", ".c": `".c"@hamburger.edu`,
	} {
		u, err := o.Lookup(name)
		if err != nil || u.Address() != want {
			t.Errorf("%s: %v, %v", name, u, err)
			continue
		}
		if again, err := o.Lookup(u.Address()); err != nil || again.Name != u.Name {
			t.Errorf("%s: %v, %v", want, again, err)
		}
	}
}

// A link among the domains is a second name.
func TestDomainLink(t *testing.T) {
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:{PLAIN}hungry\n")
	if err := os.Symlink("hamburger.edu", filepath.Join(o.dir, "domains/hamburger.example")); err != nil {
		t.Fatal(err)
	}
	if u, err := o.Login("bob@hamburger.example", "hungry"); err != nil || u.Address() != "bob@hamburger.edu" {
		t.Error(u, err)
	}
	if len(o.Domains()) != 1 {
		t.Error(o.Domains())
	}
}

func TestDomainKey(t *testing.T) {
	for name, want := range map[string]string{
		"Hamburger.EDU": "hamburger.edu", "hamburger.edu.": "hamburger.edu", "BÜCHER.example": "xn--bcher-kva.example",
		"bu\u0308cher.example": "xn--bcher-kva.example", "XN--BCHER-KVA.example": "xn--bcher-kva.example", "a_b.example": "a_b.example",
		"r3---x.example": "r3---x.example", "localhost": "localhost", "日本。example": "xn--wgv71a.example",
		"": "", ".": "", "..": "", "a..b": "", ".a": "", "-a.b": "", "a-.b": "", "a/b": "", "a b": "", "a\x00": "", "[192.0.2.1]": "",
		strings.Repeat("a", 64) + ".b": "", strings.Repeat("a.", 129): "", "a\xff.b": "", "*.b": "", "a\u202eb.c": "",
	} {
		if got, _ := domainKey(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestSearch(t *testing.T) {
	t.Setenv("PENNYPOST", "/some/where")
	if got := Search(); got != "/some/where" {
		t.Error(got)
	}
	if _, err := Open(""); status.Code(err) != status.Config {
		t.Error("a post office that is missing:", err)
	}
	if _, err := os.Stat("/etc/pennypost"); err == nil {
		t.Skip("there is a post office here")
	}
	config := t.TempDir()
	t.Setenv("PENNYPOST", "")
	t.Setenv("XDG_CONFIG_HOME", config)
	if got := Search(); got != "" {
		t.Error(got)
	}
	if err := os.Mkdir(filepath.Join(config, "pennypost"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Search(); got != filepath.Join(config, "pennypost") {
		t.Error(got)
	}
}

// manyUsers is a post office with n users.
func manyUsers(tb testing.TB, n int) *Office {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "u%d:{PLAIN}hungry:::User %d::\n", i, i)
	}
	return office(tb, "-- post/domains/hamburger.edu/users --\n"+b.String())
}

func BenchmarkLogin(b *testing.B) {
	o := manyUsers(b, 100_000)
	for b.Loop() {
		if _, err := o.Login("u54321@hamburger.edu", "hungry"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	o := manyUsers(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := open(o.dir, o.sys); err != nil {
			b.Fatal(err)
		}
	}
}

// What may pass is no mistake in the files: whoever has mail tries again.
func TestTroubleIsTemporary(t *testing.T) {
	for err, want := range map[error]int{
		syscall.EMFILE: status.TempFail,
		syscall.ENFILE: status.TempFail,
		syscall.ENOMEM: status.TempFail,
		syscall.EIO:    status.TempFail,
		syscall.ENOENT: status.Config,
		syscall.EISDIR: status.Config,
	} {
		if got := status.Code(mistake(&fs.PathError{Op: "open", Path: "me", Err: err})); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
}
