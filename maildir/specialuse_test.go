package maildir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A use goes where its folder goes, and with it.
func TestSpecialUse(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("Gesendet", `\Sent`); err != nil {
		t.Fatal(err)
	}
	if err := s.RenameFolder("Gesendet", "A.b"); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if want := []Info{{Name: "INBOX"}, {Name: "A", NoSelect: true}, {Name: "A.b", Use: `\Sent`, Told: true}}; err != nil || !slices.Equal(list, want) {
		t.Error(list, err)
	}
	os.Remove(filepath.Join(s.Path(), ".A.b", useName))
	os.Symlink("/etc/passwd", filepath.Join(s.Path(), ".A.b", useName))
	if list, err = s.List(); err != nil || list[2].Use != "" {
		t.Error(list, err)
	}
}

func FuzzUses(f *testing.F) {
	f.Add(`\Sent \Trash`)
	f.Add("\\Sent\n\\Sent x \\")
	f.Fuzz(func(t *testing.T, text string) {
		uses := parseUses(text)
		for _, use := range uses {
			if len(use) < 2 || use[0] != '\\' || strings.ContainsAny(use, " ()\"\r\n") {
				t.Errorf("%q", use)
			}
		}
		if again := parseUses(strings.Join(uses, " ")); !slices.Equal(again, uses) {
			t.Errorf("%q became %q", uses, again)
		}
	})
}
