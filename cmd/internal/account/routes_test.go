package account

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestRoute(t *testing.T) {
	o := office(t, `
-- post/routes --
# destination host[:port] [options]
crepes.fr        127.0.0.1:2525
BÜCHER.example   [::1]:26  tls=none
.example.org     [2001:db8::1]
a.example.org    mx.example.org:587 tls=must   # its own
.sub.example.org deeper.example
lmtp.example     127.0.0.1 lmtp
sock.example     /run/lmtp lmtp
brackets.example [mail.example]:10025
lost.example     h auth=/nowhere/at/all
bad.example      h auth=bad
*                smart.example:465 tls=verify auth=smart-login
-- post/smart-login --
# for the smarthost
alice@crepes.fr
pass word # and all

-- post/bad --
alice
-- post/domains/hamburger.edu/users --
`)
	for to, want := range map[string]Route{
		"crepes.fr":           {Host: "127.0.0.1", Port: 2525, TLS: "may"},
		"CREPES.FR.":          {Host: "127.0.0.1", Port: 2525, TLS: "may"},
		"bücher.example":      {Host: "::1", Port: 26, TLS: "none"},
		"b.example.org":       {Host: "2001:db8::1", Port: 25, TLS: "may"},
		"b.c.example.org":     {Host: "2001:db8::1", Port: 25, TLS: "may"},
		"a.example.org":       {Host: "mx.example.org", Port: 587, TLS: "must"},
		"x.y.sub.example.org": {Host: "deeper.example", Port: 25, TLS: "may"},
		"lmtp.example":        {Host: "127.0.0.1", Port: 24, TLS: "may", LMTP: true},
		"sock.example":        {Host: "/run/lmtp", Port: 24, TLS: "may", LMTP: true},
		"brackets.example":    {Host: "mail.example", Port: 10025, TLS: "may"},
		"example.org":         {Host: "smart.example", Port: 465, TLS: "verify", User: "alice@crepes.fr", Password: "pass word # and all"},
		"anything at all":     {Host: "smart.example", Port: 465, TLS: "verify", User: "alice@crepes.fr", Password: "pass word # and all"},
	} {
		r, ok := o.Route(to)
		r.auth = ""
		if !ok || r != want {
			t.Errorf("%s: %+v, %v", to, r, ok)
		}
	}
	if r, ok := o.Route("lost.example"); !ok || !errors.Is(r.Err, fs.ErrNotExist) || r.User != "" {
		t.Errorf("a login that is missing: %+v, %v", r, ok)
	}
	if r, ok := o.Route("bad.example"); !ok || r.Err == nil {
		t.Errorf("a login of one line: %+v, %v", r, ok)
	}
	write(t, filepath.Join(o.dir, "bad"), "alice\nyummy")
	if r, _ := o.Route("bad.example"); r.Err != nil || r.User != "alice" || r.Password != "yummy" {
		t.Errorf("a login that was mended: %+v", r)
	}
	if err := os.Remove(filepath.Join(o.dir, "routes")); err != nil {
		t.Fatal(err)
	}
	if _, ok := o.Route("crepes.fr"); ok {
		t.Error("the routes are gone, the route is not")
	}
}
