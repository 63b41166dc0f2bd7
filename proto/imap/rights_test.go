package imap_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A list that cannot be read allows nothing that it might forbid.
func TestUnreadableRights(t *testing.T) {
	dir := t.TempDir()
	play(t, dir, []byte("a CREATE a.b\r\n"))
	if err := os.Symlink("elsewhere", filepath.Join(dir, ".a.b", "dovecot-acl")); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"DELETE a.b", "RENAME a.b c", "GETQUOTAROOT a.b", "SELECT a.b", "GETMETADATA a.b /private/x", "APPEND a.b {1+}\r\nx",
	} {
		if said := string(play(t, dir, []byte("a "+command+"\r\n"))); !strings.Contains(said, "\r\na NO [UNAVAILABLE]") {
			t.Errorf("%s: %q", command, said)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".a.b", "cur")); err != nil {
		t.Error(err)
	}
}
