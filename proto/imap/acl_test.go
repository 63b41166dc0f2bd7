package imap

import (
	"testing"

	"pennypost/maildir"
)

// What Dovecot 2.3.19 (doveadm acl rights) makes of the same lists for the
// owner, but for the rights that we always leave him.
func TestOwnersRights(t *testing.T) {
	s := &Session{user: &User{Name: "bob"}}
	grant := func(who, letters string) maildir.Grant {
		r, _ := maildir.ParseRights(letters)
		return maildir.Grant{Who: who, Rights: r}
	}
	minus := func(who, letters string) maildir.Grant {
		g := grant(who, letters)
		g.Negative = true
		return g
	}
	for _, c := range []struct {
		list []maildir.Grant
		want string
	}{
		{nil, "lrswipkxtea"},
		{[]maildir.Grant{grant("owner", "lr")}, "lr"},
		{[]maildir.Grant{grant("user=bob", "lrw"), grant("owner", "lrwstipekxa")}, "lrw"},
		{[]maildir.Grant{grant("anyone", "lr"), minus("anyone", "r")}, "lrswipkxtea"},
		{[]maildir.Grant{minus("owner", "w")}, "lrsipkxtea"},
		{[]maildir.Grant{grant("user=alice", "lr")}, "lrswipkxtea"},
		{[]maildir.Grant{grant("anyone", "lr"), minus("anyone", "r"), grant("owner", "lrws")}, "lrws"},
		{[]maildir.Grant{grant("owner", "lrws"), minus("user=bob", "w")}, "lrs"},
		{[]maildir.Grant{grant("user=bob", "lrws"), minus("owner", "w")}, "lrs"},
		{[]maildir.Grant{grant("anyone", "lrws")}, "lrswipkxtea"},
	} {
		want, _ := maildir.ParseRights(c.want)
		if got := s.rightsIn(c.list); got != want|ownersAlways {
			t.Errorf("%+v: %s, want %s", c.list, got, c.want)
		}
	}
}
