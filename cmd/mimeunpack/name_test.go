package main

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pennypost/proto/mimetree"
)

func TestSafeName(t *testing.T) {
	jpeg := &mimetree.Content{Type: "image", Subtype: "jpeg"}
	for in, want := range map[string]string{
		"crepe.jpg":                           "crepe.jpg",
		"Crêpe à la crème.jpg":                "Crêpe à la crème.jpg",
		"../../etc/passwd":                    "passwd",
		`C:\Windows\system.ini`:               "system.ini",
		"/":                                   "part-2.jpg",
		"..":                                  "part-2.jpg",
		"":                                    "part-2.jpg",
		" \t":                                 "part-2.jpg",
		".profile":                            "_profile",
		"-rf":                                 "_rf",
		"--x.":                                "__x_",
		"a\nb\x1b[31m\x00.txt":                "ab[31m.txt",
		"evil\u202etxt.exe":                   "eviltxt.exe",
		"zero\u200bwidth\ufeff":               "zerowidth",
		"two  blanks":                         "two  blanks",
		"\xff\xfe":                            "part-2.jpg",
		strings.Repeat("ü", 300) + ".tar.gz":  strings.Repeat("ü", 98) + ".gz",
		strings.Repeat("x", 10_000) + ".jpeg": strings.Repeat("x", 195) + ".jpeg",
		"CON":                                 "CON",
	} {
		if got := safeName(in, jpeg, "2"); got != want {
			t.Errorf("%.40q: %q, want %q", in, got, want)
		}
	}
	if got := numbered("a.tar.gz", 3); got != "a.tar-3.gz" {
		t.Error(got)
	}
	if got := numbered(strings.Repeat("x", 200), 12); len(got) != maxName || !strings.HasSuffix(got, "x-12") {
		t.Error(got)
	}
}

func FuzzSafeName(f *testing.F) {
	for _, s := range []string{"a.txt", "../x", "..", "\u202e", "\xff", strings.Repeat("é", 150), "-", "." + strings.Repeat(" ", 300)} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		for _, name := range []string{safeName(s, &mimetree.Content{Type: "a", Subtype: "b"}, "1.2"), numbered(safeName(s, &mimetree.Content{}, "1"), n&0xfffff)} {
			if name == "" || len(name) > maxName || name[0] == '.' || name[0] == '-' || strings.ContainsAny(name, `/\`) || !utf8.ValidString(name) ||
				strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || isFormat(r) }) {
				t.Errorf("%q became %q", s, name)
			}
		}
	})
}
