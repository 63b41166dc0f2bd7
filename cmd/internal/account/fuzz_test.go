package account

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/tools/txtar"
)

// safe tells whether a name can be an element of a path.
func safe(name string) bool {
	return name != "" && name != "." && name != ".." && filepath.Base(name) == name && strings.IndexFunc(name, unicode.IsControl) < 0
}

func FuzzUsers(f *testing.F) {
	for _, file := range txtar.Parse([]byte(town)).Files {
		f.Add(file.Data)
	}
	for _, m := range made {
		f.Add([]byte("bob:" + m.stored + ":1:2:Bob:/home/bob:/bin/sh:userdb_mail=maildir:~/Maildir userdb_quota_rule=*:storage=1G:messages=10 nologin\n"))
	}
	f.Add([]byte("bob:" + dovecots + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parseUsers("users", "hamburger.edu", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "users:") {
				t.Error(err)
			}
			return
		}
		if len(table.names) != len(table.line) {
			t.Error("names without lines")
		}
		for _, name := range table.names {
			u, err := parseUser(table.line[name], "hamburger.edu")
			if err != nil || u.name != name || !safe(name) {
				t.Errorf("%q: %+v, %v", table.line[name], u, err)
			}
			if key, err := localKey(name); key != name || err != nil {
				t.Errorf("%q is not its own key: %q, %v", name, key, err)
			}
		}
	})
}

func FuzzAliases(f *testing.F) {
	for _, file := range txtar.Parse([]byte(town)).Files {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parseAliases("aliases", "hamburger.edu", data)
		if err != nil && !strings.HasPrefix(err.Error(), "aliases:") {
			t.Error(err)
		}
		for name, targets := range table {
			if !safe(name) || len(targets) == 0 {
				t.Errorf("%q: %v", name, targets)
			}
			for _, to := range targets {
				if strings.ContainsAny(to.text, "\r\n\x00") {
					t.Errorf("%q: %q", name, to.text)
				}
				if _, _, err := split(to.text); to.kind == toAddress && err != nil {
					t.Errorf("%q: %q: %v", name, to.text, err)
				}
			}
		}
	})
}

func FuzzRoutes(f *testing.F) {
	f.Add([]byte("crepes.fr 127.0.0.1:2525\n.x [::1]:26 tls=none # c\n* /run/lmtp lmtp auth=a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parseRoutes("routes", "/post", data)
		if err != nil && !strings.HasPrefix(err.Error(), "routes:") {
			t.Error(err)
		}
		for to, r := range table {
			if r.Host == "" || r.Port < 1 || r.Port > 65535 || to == "" {
				t.Errorf("%q: %+v", to, r)
			}
		}
		table.find(string(data))
	})
}

func FuzzMail(f *testing.F) {
	f.Add([]byte("mailbox /var/mail/%d/%n\nspool spool\n"))
	f.Add([]byte("mailbox ../%u%%\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMail("mail", "/post", data)
		if err != nil && !strings.HasPrefix(err.Error(), "mail:") {
			t.Error(err)
		}
		if err != nil || m.mailbox == "" {
			return
		}
		a, b := expand(m.mailbox, "bob", "hamburger.edu"), expand(m.mailbox, "carol", "hamburger.edu")
		if !filepath.IsAbs(a) || a == b {
			t.Errorf("%q: %q and %q", m.mailbox, a, b)
		}
	})
}

func FuzzLoginFile(f *testing.F) {
	f.Add([]byte("tokens ./judge --strict\ncertificates ca.pem name # ours\nscram always\n"))
	f.Add([]byte("certificates /etc/ssl/ca.pem address\nscram never\ntokens judge\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLogin("login", "/post", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "login:") {
				t.Error(err)
			}
			return
		}
		if l.roots != "" && !filepath.IsAbs(l.roots) || l.tokens != nil && (l.tokens[0] == "" || strings.Contains(l.tokens[0], "/") && !filepath.IsAbs(l.tokens[0])) {
			t.Errorf("%q: %+v", data, l)
		}
	})
}

// FuzzAddress: no address, name or password makes trouble of ours, and no Maildir is
// outside the pattern.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"bob@hamburger.edu", `"a\"b"@x`, "postmaster", "../x", "a+b@[::1]", "luise@bücher.example", "@", "%d%n@crepes.fr"} {
		f.Add(seed)
	}
	o := office(f, town)
	f.Fuzz(func(t *testing.T, addr string) {
		if u, err := o.Lookup(addr); err == nil {
			if rest, ok := strings.CutPrefix(u.Maildir, "/var/mail/"+u.Domain+"/"); !ok || !safe(rest) {
				t.Errorf("%q has the Maildir %q", addr, u.Maildir)
			}
		}
		switch got := leads(o.Resolve(addr)); {
		case strings.HasPrefix(got, "error: "):
			t.Errorf("%q: %s", addr, got)
		case strings.ContainsAny(got, "\r\n\x00"):
			t.Errorf("%q leads to %q", addr, got)
		}
		o.Route(addr)
	})
}
