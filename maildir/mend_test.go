package maildir

import (
	"slices"
	"testing"
)

// What was noted is read as it was, and nothing leads out of the folder.
func FuzzRenamed(f *testing.F) {
	f.Add("5 cur \"1.a,S=1:2,S\" \"1.a,S=17:2,S\"\n", "1.a")
	f.Add("5 cur \"../x\" \"y\"\n7 tmp \"a\" \"b\"\n0 new \"a\" \"b\"", "a\nb\xff")
	f.Fuzz(func(t *testing.T, text, name string) {
		list := parseRenamed(text)
		if again := parseRenamed(string(printRenamed(list))); !slices.Equal(list, again) {
			t.Fatalf("%q: %v, %v", text, list, again)
		}
		if !validBase(name) {
			return
		}
		one := []Renamed{{5, "new", name, name + "x"}}
		if again := parseRenamed(string(printRenamed(one))); !slices.Equal(one, again) {
			t.Fatalf("%v, %v", one, again)
		}
	})
}
