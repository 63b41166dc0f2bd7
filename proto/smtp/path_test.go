package smtp

import (
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	label := strings.Repeat("a", 63)
	for _, test := range []struct {
		in, addr, rest string
		err            error
	}{
		{"<>", "", "", nil},
		{"<a@b>", "a@b", "", nil},
		{" <a@b> SIZE=1", "a@b", " SIZE=1", nil},
		{"<Alice@Crepes.FR>", "Alice@Crepes.FR", "", nil},
		{`<"a@b"@c>`, `"a@b"@c`, "", nil},
		{`<"a b"@c>`, `"a b"@c`, "", nil},
		{`<"a.b"@c>`, `a.b@c`, "", nil},
		{`<".a"@c>`, `".a"@c`, "", nil},
		{`<"a>"@c>`, `"a>"@c`, "", nil},
		{`<"\>\""@c>`, `">\""@c`, "", nil},
		{`<"\"@c>`, "", "", errPath},
		{`<"` + "\t" + `"@c>`, "", "", errPath},
		{`<a@[127.0.0.1]>`, `a@[127.0.0.1]`, "", nil},
		{`<a@[ipv6:::1]>`, `a@[ipv6:::1]`, "", nil},
		{`<a@[IPv6:::ffff:192.0.2.1]>`, `a@[IPv6:::ffff:192.0.2.1]`, "", nil},
		{`<a@[IPv6:fe80::1%eth0]>`, "", "", errPath},
		{`<a@[1.2.3]>`, "", "", errPath},
		{`<a@[1.2.3.4>`, "", "", errPath},
		{`<a@[]>`, "", "", errPath},
		{"<@a:b@c>", "b@c", "", nil},
		{"<@[192.0.2.1],@b:c@d>", "c@d", "", nil},
		{"<@a,b@c>", "", "", errPath},
		{"<@a:>", "", "", errPath},
		{"<@a:postmaster>", "", "", errPath},
		{"<postmaster>", "", "", errPath}, // of a sender
		{"<", "", "", errPath},
		{"", "", "", errBrackets},
		{"a@b", "", "", errBrackets},
		{"<a@b>x", "", "", errPath},
		{"<a@b> x>", "a@b", " x>", nil},
		{"<a@b\xc3\xa9>", "", "", errUTF8},
		{"<a@b\x7f>", "", "", errUTF8},
		{"<a@" + label + "." + label + "." + label + "." + label[:57] + ">", "a@" + label + "." + label + "." + label + "." + label[:57], "", nil},
		{"<a@" + label + "." + label + "." + label + "." + label[:62] + ">", "", "", errLong},
		{"<a@" + label + "." + label + "." + label + "." + label + ".a>", "", "", errLong},
		{"<" + strings.Repeat("a", 65) + "@b>", strings.Repeat("a", 65) + "@b", "", nil},
		{"<" + strings.Repeat("a", 253) + "@b>", "", "", errLong},
	} {
		addr, rest, err := new(Session).path(test.in, true)
		if err != nil {
			rest = ""
		}
		if addr != test.addr || rest != test.rest || err != test.err {
			t.Errorf("%.60s: %q %q %v, want %q %q %v", test.in, addr, rest, err, test.addr, test.rest, test.err)
		}
	}
	for in, want := range map[string]string{
		"<postmaster>":                        "postmaster",
		"<POSTmaster>":                        "postmaster",
		"<postmaster@b>":                      "postmaster@b",
		"<postmaster >":                       "",
		"<>":                                  "",
		"<postmasters>":                       "",
		"<" + strings.Repeat("a", 64) + "@b>": strings.Repeat("a", 64) + "@b",
		"<" + strings.Repeat("a", 65) + "@b>": "",
	} {
		if addr, _, err := new(Session).path(in, false); addr != want || (err == nil) != (want != "") {
			t.Errorf("%.60s: %q %v, want %q", in, addr, err, want)
		}
	}
}

func TestTrustedPath(t *testing.T) {
	for in, want := range map[string]string{
		"bob":         "bob",
		"<bob>":       "bob",
		" bob SIZE=5": "bob",
		`"bob@b"`:     "",
		"bob@b":       "bob@b",
		"<bob@>":      "",
		"bob@":        "",
		"bob>":        "",
		"<bob":        "",
		"bob smith":   "bob", // what follows is no parameter
		"@b":          "",
	} {
		if addr, _, err := (&Session{Trusted: true}).path(in, true); addr != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v, want %q", in, addr, err, want)
		}
	}
}

// An address that is taken is one that every other program takes, means the
// same when it is read again, and is plain ASCII.
func FuzzPath(f *testing.F) {
	for _, in := range []string{"<a@b>", `<"a\"b"@[192.0.2.1]>`, "<@a,@b:c@d> SIZE=1", "<postmaster>", "a@b", "<a@[IPv6:::1]>"} {
		f.Add(in, true, true)
		f.Add(in, false, false)
	}
	f.Fuzz(func(t *testing.T, in string, reverse, trusted bool) {
		s := &Session{Trusted: trusted}
		addr, rest, err := s.path(in, reverse)
		if err != nil || addr == "" || addr == "postmaster" {
			if err == nil && !reverse && addr == "" {
				t.Errorf("%q: no recipient", in)
			}
			return
		}
		if plain(addr, 500) != addr || len(addr) > maxPath {
			t.Errorf("%q: %q is not plain", in, addr)
		}
		if rest != "" && rest[0] != ' ' {
			t.Errorf("%q: leaves %q", in, rest)
		}
		again, rest, err := s.path("<"+addr+">", reverse)
		if len(addr) < maxPath-1 && (again != addr || rest != "" || err != nil) {
			t.Errorf("%q: %q is read again as %q %q %v", in, addr, again, rest, err)
		}
		i := strings.LastIndexByte(addr, '@')
		if trusted && i < 0 {
			return // a name without domain
		}
		if i <= 0 || !isDomain(addr[i+1:]) {
			t.Errorf("%q: %q has no domain", in, addr)
		}
	})
}

func TestUnxtext(t *testing.T) {
	for in, want := range map[string]string{"": "", "a@b": "a@b", "e+3Dmc2@b": "e=mc2@b", "+2B": "+"} {
		if got, ok := unxtext(in); got != want || !ok {
			t.Errorf("%q: %q %v", in, got, ok)
		}
	}
	for _, in := range []string{"+", "+4", "+4x", "+4a", "a=b", "a b", "\xff"} {
		if got, ok := unxtext(in); ok {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzParameters(f *testing.F) {
	f.Add("SIZE=1 BODY=7BIT")
	f.Add("=")
	f.Fuzz(func(t *testing.T, in string) {
		seen := map[string]bool{}
		parameters(in, func(key, value string) error {
			if seen[key] || key == "" || strings.ContainsAny(key+value, " =\r\n\x00") || strings.ToUpper(key) != key {
				t.Errorf("%q: %q %q", in, key, value)
			}
			seen[key] = true
			return authMailbox(value)
		})
	})
}

// Nothing that a client says of itself can add a field, end the header or be
// taken for what we found out ourselves.
func FuzzReceived(f *testing.F) {
	f.Add("crepes.fr", "192.0.2.1")
	f.Add("x) (y\r\nSubject: z", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, helo, peer string) {
		text := addressLiteral(peer) + word(helo)
		if strings.ContainsAny(text, "\r\n\t ()<>\\\"") || plain(text, len(text)) != text {
			t.Errorf("%q %q: %q", helo, peer, text)
		}
		if isDomain(helo) && (plain(helo, 500) != helo || strings.ContainsAny(helo, " ()<>\"\\;")) {
			t.Errorf("%q is no domain", helo)
		}
	})
}
