package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	set := func(kv ...string) (settings []debug.BuildSetting) {
		for i := 0; i < len(kv); i += 2 {
			settings = append(settings, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
		}
		return settings
	}
	for _, c := range []struct {
		settings []debug.BuildSetting
		want     string
	}{
		{nil, "1.2.3"},
		{set("vcs.revision", revision, "vcs.modified", "false"), "1.2.3 (0123456789ab)"},
		{set("vcs.revision", revision, "vcs.modified", "true"), "1.2.3 (0123456789ab+)"},
		{set("vcs.revision", "short"), "1.2.3 (short)"},
	} {
		if got := compose("1.2.3", c.settings); got != c.want {
			t.Errorf("%v: %q, want %q", c.settings, got, c.want)
		}
	}
	if s := String(); !strings.HasPrefix(s, version) {
		t.Errorf("%q", s)
	}
}
