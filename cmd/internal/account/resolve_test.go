package account

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pennypost/proto/sasl"
)

// leads writes Targets as one line.
func leads(t Targets, err error) string {
	switch {
	case errors.Is(err, ErrUnknown):
		return "unknown"
	case errors.Is(err, ErrLoop):
		return "loop"
	case errors.Is(err, ErrSyntax):
		return "syntax"
	case err != nil:
		return "error: " + err.Error()
	}
	var parts []string
	for _, u := range t.Users {
		parts = append(parts, u.Address())
	}
	parts = append(parts, t.Remote...)
	for _, c := range t.Commands {
		parts = append(parts, "|"+c.Line)
	}
	for _, f := range t.Files {
		if f.Maildir {
			f.Path += "/"
		}
		parts = append(parts, f.Path)
	}
	if t.Discard {
		parts = append(parts, "nobody")
	}
	for _, a := range t.Unknown {
		parts = append(parts, "?"+a)
	}
	return strings.Join(parts, " ")
}

const town = `
-- post/me --
mail.hamburger.edu
-- post/domains/hamburger.edu/users --
bob:{PLAIN}hungry
carol:
dave+jones:
jürgen:
-- post/domains/hamburger.edu/aliases --
# aliases(5)
staff: bob, carol,
	# a comment in between
	dave+jones
both: staff, bob, alice@crepes.fr
bob: bob, archive@example.org
"mr. smith": carol
Sales: carol # not # this
list: "|/usr/bin/list --owner \"x y\"", |"/bin/filter a, b", /var/archive/, /var/log/mail.txt, \bob
quoted: Bob <bob@hamburger.edu>, "odd name"@example.org
trash: /dev/null
a: b
b: c
c: a
ghost: nobody-here
mixed: nobody-here, carol
self: self
local: \local
out: Alice@CREPES.FR, Alice@crepes.fr
up@hamburger.edu: carol
-- post/domains/crepes.fr/users --
alice:{PLAIN}yummy
-- post/domains/crepes.fr/aliases --
*: alice
info: staff@hamburger.edu, info@hamburger.edu
-- post/domains/bücher.example/users --
luise:
-- post/domains/empty.example/users --
`

func TestResolve(t *testing.T) {
	o := office(t, town)
	for _, c := range [][2]string{
		{"bob@hamburger.edu", "bob@hamburger.edu archive@example.org"},
		{"BOB@HAMBURGER.EDU.", "bob@hamburger.edu archive@example.org"},
		{"bob+lists@hamburger.edu", "bob@hamburger.edu archive@example.org"},
		{`"bob"@hamburger.edu`, "bob@hamburger.edu archive@example.org"},
		{"carol+a+b@hamburger.edu", "carol@hamburger.edu"},
		{"dave+jones@hamburger.edu", "dave+jones@hamburger.edu"},
		{"dave@hamburger.edu", "unknown"},
		{"+carol@hamburger.edu", "unknown"},
		{"JÜRGEN@hamburger.edu", "jürgen@hamburger.edu"},
		{"ju\u0308rgen@hamburger.edu", "jürgen@hamburger.edu"},
		{"staff@hamburger.edu", "bob@hamburger.edu carol@hamburger.edu dave+jones@hamburger.edu archive@example.org"},
		{"both@hamburger.edu", "bob@hamburger.edu carol@hamburger.edu dave+jones@hamburger.edu alice@crepes.fr archive@example.org"},
		{`"Mr. Smith"@hamburger.edu`, "carol@hamburger.edu"},
		{"sales@hamburger.edu", "carol@hamburger.edu"},
		{"list@hamburger.edu", `bob@hamburger.edu |/usr/bin/list --owner "x y" |/bin/filter a, b /var/archive/ /var/log/mail.txt`},
		{"quoted@hamburger.edu", `bob@hamburger.edu archive@example.org "odd name"@example.org`},
		{"trash@hamburger.edu", "nobody"},
		{"a@hamburger.edu", "loop"},
		{"ghost@hamburger.edu", "unknown"},
		{"mixed@hamburger.edu", "carol@hamburger.edu ?nobody-here@hamburger.edu"},
		{"self@hamburger.edu", "unknown"},
		{"local@hamburger.edu", "unknown"},
		{"up@hamburger.edu", "carol@hamburger.edu"},
		{"out@hamburger.edu", "alice@crepes.fr"},
		{"eve@hamburger.edu", "unknown"},
		{"anybody@crepes.fr", "alice@crepes.fr"},
		{"info@crepes.fr", "bob@hamburger.edu carol@hamburger.edu dave+jones@hamburger.edu archive@example.org ?info@hamburger.edu"},
		{"luise@bücher.example", "luise@xn--bcher-kva.example"},
		{"luise@XN--BCHER-KVA.example", "luise@xn--bcher-kva.example"},
		{"postmaster@hamburger.edu", "bob@hamburger.edu"},
		{"Abuse@hamburger.edu", "bob@hamburger.edu"},
		{"postmaster@crepes.fr", "alice@crepes.fr"},
		{"postmaster@bücher.example", "luise@xn--bcher-kva.example"},
		{"postmaster@empty.example", "bob@hamburger.edu"},
		{"postmaster", "bob@hamburger.edu"},
		{"carol", "carol@hamburger.edu"}, // the host is mail.hamburger.edu
		{"carol@localhost", "carol@hamburger.edu"},
		{"carol@mail.hamburger.edu", "carol@hamburger.edu"},
		{"alice", "unknown"},
		{"eve@example.org", "eve@example.org"},
		{"eve@[192.0.2.1]", "eve@[192.0.2.1]"},
		{"eve@exa mple.org", "syntax"},
		{"eve@example.org\r\nRCPT TO:<x@y>", "syntax"},
		{"e\x00ve@example.org", "syntax"},
		{"@hamburger.edu", "syntax"},
		{"bob@", "syntax"},
		{"", "syntax"},
		{`"bob@hamburger.edu`, "syntax"},
		{`"../carol"@hamburger.edu`, "unknown"},
		{"../../etc/passwd@hamburger.edu", "unknown"},
		{"..@hamburger.edu", "unknown"},
		{"*@hamburger.edu", "unknown"},
		{"@@hamburger.edu", "unknown"},
		{"bob%example.org@hamburger.edu", "unknown"},
		{"example.org!eve@hamburger.edu", "unknown"},
		{strings.Repeat("x", 65) + "@hamburger.edu", "unknown"},
		{"|/bin/sh@hamburger.edu", "unknown"},
		{":include:/etc/passwd@hamburger.edu", "unknown"},
	} {
		if got := leads(o.Resolve(c[0])); got != c[1] {
			t.Errorf("%q\n got %s\nwant %s", c[0], got, c[1])
		}
	}
}

func TestInclude(t *testing.T) {
	o := office(t, `
-- post/domains/hamburger.edu/users --
bob:
carol:
`)
	dir := o.dir
	write(t, dir+"/list", "# the list\nbob, eve@example.org\n\ncarol # and carol\n:include:"+dir+"/more\n")
	write(t, dir+"/more", "team\ndave@example.org\n")
	write(t, dir+"/domains/hamburger.edu/aliases", "team: :include:"+dir+"/list\nbob: :include:"+dir+"/self\nlost: :include:/nowhere/at/all, bob\ncircle: :include:"+dir+"/circle\n")
	write(t, dir+"/self", "bob\nbob@example.org\n")
	write(t, dir+"/circle", ":include:"+dir+"/circle\n")
	for addr, want := range map[string]string{
		"bob":    "bob@hamburger.edu bob@example.org",
		"circle": "loop",
		"team":   "bob@hamburger.edu carol@hamburger.edu bob@example.org eve@example.org dave@example.org ?team@hamburger.edu",
	} {
		if got := leads(o.Resolve(addr)); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	write(t, dir+"/more", "dave@example.org\n")
	if got, want := leads(o.Resolve("team")), "bob@hamburger.edu carol@hamburger.edu bob@example.org eve@example.org dave@example.org"; got != want {
		t.Errorf("team: got %s, want %s", got, want)
	}
	if _, err := o.Resolve("lost"); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a list that is missing: %v, want a temporary error", err)
	}
}

// What leads too far, to too many, or in many ways to the same.
func TestManyMembers(t *testing.T) {
	var list, chain, wide strings.Builder
	for i := range maxMembers + 1 {
		fmt.Fprintf(&list, "m%d@example.org\n", i)
	}
	for i := range 30 {
		fmt.Fprintf(&chain, "c%d: c%d\n", i, i+1)
	}
	// Each leads to the next one twice: 2^15 ways, and one member.
	for i := range 15 {
		fmt.Fprintf(&wide, "w%d: w%d, w%d+x\n", i, i+1, i+1)
	}
	wide.WriteString("w15: bob\n")
	o := office(t, "-- post/domains/hamburger.edu/users --\nbob:\n")
	write(t, o.dir+"/list", list.String())
	write(t, o.dir+"/domains/hamburger.edu/aliases", chain.String()+wide.String()+"all: :include:"+o.dir+"/list\n")
	if got := leads(o.Resolve("w0")); got != "bob@hamburger.edu" {
		t.Error("w0:", got)
	}
	if got := leads(o.Resolve("c0")); got != "loop" {
		t.Error("30 deep:", got)
	}
	if got := leads(o.Resolve("c11")); got != "unknown" { // c30 is 19 below
		t.Error("20 deep:", got)
	}
	if got := leads(o.Resolve("all")); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, "10000") {
		t.Errorf("10001 members: %.80s", got)
	}
}

func TestOwns(t *testing.T) {
	o := office(t, town)
	bob, err := o.Lookup("bob@hamburger.edu")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"bob@hamburger.edu": true, "BOB+x@hamburger.edu": true, "staff@hamburger.edu": true, "postmaster@hamburger.edu": true,
		"carol@hamburger.edu": false, "alice@crepes.fr": false, "bob@example.org": false, "archive@example.org": false, "": false, "bob@": false,
	} {
		if o.Owns(bob, addr) != want {
			t.Errorf("owns %q: %v", addr, !want)
		}
	}
}

// Without a post office the users are the system's.
func TestNoPostOffice(t *testing.T) {
	o := office(t, `
-- etc/mailname --
hamburger.edu
-- etc/passwd --
root:x:0:0:root:/root:/bin/sh
bob:x:1000:1000:Bob,,,:/home/bob:/bin/sh
Carol:x:1001:1001::/home/carol:/bin/sh
+nis::::::
broken
-- etc/shadow --
root:{PLAIN}:1:::::
bob:$5$saltsalt$Vd1N5NufqNkyAtsfcsnH/P2C8.pW38Rel1.Aj1259f2:19000:0:99999:7:::
carol:$5$saltsalt$Vd1N5NufqNkyAtsfcsnH/P2C8.pW38Rel1.Aj1259f2:19000:0:99999:7::19001:
-- etc/aliases --
postmaster: root
root: bob
-- etc/nsswitch.conf --
passwd: files systemd
`)
	if o.Me() != "mail.hamburger.edu" || !slices.Equal(o.Domains(), []string{"hamburger.edu"}) || o.Spool() != "/var/spool/pennypost" {
		t.Error(o.Me(), o.Domains(), o.Spool())
	}
	for addr, want := range map[string]string{
		"postmaster":             "bob@hamburger.edu",
		"bob@localhost":          "bob@hamburger.edu",
		"bob@mail.hamburger.edu": "bob@hamburger.edu",
		"carol+x@hamburger.edu":  "carol@hamburger.edu",
		"abuse@hamburger.edu":    "bob@hamburger.edu",
		"eve":                    "unknown",
		"+nis":                   "unknown",
		"-s":                     "unknown",
		"0":                      "unknown",
	} {
		if got := leads(o.Resolve(addr)); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	u, err := o.Login("bob", "hungry")
	if err != nil || u.Maildir != "/home/bob/Maildir" || u.UID != 1000 || u.GID != 1000 || u.Gecos != "Bob,,," || !u.System {
		t.Errorf("%+v, %v", u, err)
	}
	for _, name := range []string{"root", "eve"} { // the superuser, nobody
		if _, err := o.Login(name, "hungry"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := o.Admit(name); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, proved: %v", name, err)
		}
	}
	for password, want := range map[string]error{"hungry": sasl.ErrExpired, "wrong": ErrRefused} {
		if _, err := o.Login("carol", password); !errors.Is(err, want) {
			t.Errorf("carol %s: %v, want %v", password, err, want)
		}
	}
	if _, err := o.Admit("carol"); !errors.Is(err, sasl.ErrExpired) {
		t.Error("carol, proved:", err)
	}
	if _, err := o.AddUser(NewUser{Address: "eve", UID: -1, GID: -1}, nil); err == nil {
		t.Error("a user was added to no post office")
	}
}

// A domain may have users of its own and the system's besides.
func TestSystemUsersOfADomain(t *testing.T) {
	o := office(t, `
-- post/domains/hamburger.edu/users --
@system
bob:{PLAIN}virtual
-- etc/passwd --
bob:x:1000:1000:Bob:/home/bob:/bin/sh
carol:x:1001:1001::/home/carol:/bin/sh
-- etc/shadow --
carol:$5$saltsalt$Vd1N5NufqNkyAtsfcsnH/P2C8.pW38Rel1.Aj1259f2:19000:0:99999:7:::
`)
	if u, err := o.Login("bob", "virtual"); err != nil || u.Maildir != "/var/mail/hamburger.edu/bob" {
		t.Error(u, err)
	}
	if u, err := o.Login("carol@hamburger.edu", "hungry"); err != nil || u.Maildir != "/home/carol/Maildir" {
		t.Error(u, err)
	}
	if _, err := o.Login("carol@hamburger.edu", "virtual"); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if err := o.SetPassword("carol@hamburger.edu", "{PLAIN}x"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func BenchmarkResolve(b *testing.B) {
	o := manyUsers(b, 100_000)
	for b.Loop() {
		if _, err := o.Resolve("u54321+x@hamburger.edu"); err != nil {
			b.Fatal(err)
		}
	}
}
