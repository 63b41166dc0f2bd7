package account

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	dir, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	long := filepath.Join(disk, strings.Repeat("x", 200), strings.Repeat("y", 100))
	for name, text := range map[string]string{
		"mail":                    "mailbox " + disk + "/%n\nspool spool\n",
		"domains/crepes.fr/users": "bob:{PLAIN}x\nann:{PLAIN}x\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	look := func(name string) error {
		t.Helper()
		u, err := o.Lookup(name + "@crepes.fr")
		if err != nil {
			t.Fatal(err)
		}
		s, err := o.Maildir(u)
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := look("bob"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a disk: %v", err)
	}
	os.Mkdir(disk, 0o755)
	if err := look("bob"); err != nil {
		t.Fatal(err)
	}
	os.Rename(disk, disk+".away")
	os.Mkdir(disk, 0o755)
	if err := look("bob"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "is its disk mounted") {
		t.Errorf("disk away: %v", err)
	}
	if left, _ := os.ReadDir(disk); len(left) > 0 {
		t.Errorf("made %v", left)
	}
	if err := look("ann"); err != nil { // she never had one
		t.Error(err)
	}
	os.RemoveAll(disk)
	os.Rename(disk+".away", disk)
	if err := look("bob"); err != nil {
		t.Error(err)
	}
	o.remember(long)
	if name := filepath.Base(o.memory(long)); len(name) > 255 || !o.remembers(long) || o.remembers(long+"x") {
		t.Errorf("%q", name)
	}
	if err := o.Forget(&User{Maildir: long}); err != nil || o.remembers(long) {
		t.Error(err)
	}
	if err := o.Forget(&User{Maildir: long}); err != nil {
		t.Error(err)
	}
}
