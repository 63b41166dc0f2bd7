package account

import (
	"strings"
	"testing"

	"pennypost/maildir"
)

// The figures are Dovecot's for the same rules.
func TestParseRule(t *testing.T) {
	for text, want := range map[string]maildir.Limits{
		"*:storage=10":                    {Octets: 10240},
		"*:storage=1M":                    {Octets: 1 << 20},
		"*:storage=1g:messages=10":        {Octets: 1 << 30, Messages: 10},
		"*:bytes=500:messages=5":          {Octets: 500, Messages: 5},
		"*:bytes=5k":                      {Octets: 5120},
		"*:messages=10k":                  {Messages: 10240},
		"*:storage=0":                     {},
		"*:ignore":                        {},
		"*:storage=1T:bytes=7:":           {},
		"*:storage=1.5G":                  {},
		"*:storage=100%":                  {},
		"*:storage=+1M":                   {},
		"*:storage=10:foo=3":              {},
		"*:storage=9999999999999T":        {},
		"*:storage=-1":                    {},
		"*":                               {},
		":storage=1":                      {},
		"*:":                              {},
		"*:messages=99999999999999999999": {},
	} {
		l, err := parseRule(text)
		bad := want == maildir.Limits{} && text != "*:storage=0" && text != "*:ignore"
		if bad != (err != nil) || !bad && *l != want {
			t.Errorf("%s: %+v, %v", text, l, err)
		}
	}
	if l, err := parseRule("Trash:storage=+100%"); l != nil || err != nil {
		t.Error(l, err)
	}
	for _, l := range []maildir.Limits{{}, {Octets: 1}, {Octets: 1 << 50}, {Octets: 3 << 30, Messages: 1}, {Messages: 1 << 40}, {Octets: 1537}} {
		_, text, _ := strings.Cut(rule(l), "=")
		if got, err := parseRule(text); err != nil || *got != l {
			t.Errorf("%+v is written %q, read as %+v, %v", l, text, got, err)
		}
	}
}
