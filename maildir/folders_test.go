package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func names(t testing.TB, s *Store) string {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var b []string
	for _, i := range list {
		if i.NoSelect {
			i.Name = "(" + i.Name + ")"
		}
		b = append(b, i.Name)
	}
	return strings.Join(b, " ")
}

func TestFolders(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"Sent", "Arch.2023.Jan", "Arch.2024", "Entwürfe", "Inbox.sub", "a&b"} {
		if err := s.CreateFolder(name); err != nil {
			t.Fatal(err)
		}
	}
	want := "INBOX (Arch) (Arch.2023) Arch.2023.Jan Arch.2024 Entwürfe INBOX.sub Sent a&b"
	if got := names(t, s); got != want {
		t.Errorf("%s", got)
	}
	for _, dir := range []string{".Entw&APw-rfe", ".INBOX.sub", ".a&-b"} {
		if _, err := os.Stat(filepath.Join(s.Path(), dir, "maildirfolder")); err != nil {
			t.Error(err)
		}
	}
	if err := s.CreateFolder("Sent"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := s.CreateFolder("inbox"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if _, err := s.OpenFolder("None"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	f := open(t, s, "Arch.2023.Jan")
	if _, err := f.Append(AppendOptions{}, strings.NewReader("x\r\n")); err != nil {
		t.Fatal(err)
	}
	st := look(t, f, false)
	if err := s.RenameFolder("Arch", "Arch.2023.x"); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if err := s.RenameFolder("Arch.2024", "Sent"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := s.RenameFolder("Arch", "Old.Mail"); err != nil {
		t.Fatal(err)
	}
	want = "INBOX Entwürfe INBOX.sub (Old) (Old.Mail) (Old.Mail.2023) Old.Mail.2023.Jan Old.Mail.2024 Sent a&b"
	if got := names(t, s); got != want {
		t.Errorf("%s", got)
	}
	// An open folder goes on under its new name.
	if now := look(t, f, false); now != st {
		t.Error("renaming changed a folder")
	}
	if now := look(t, open(t, s, "Old.Mail.2023.Jan"), false); now.UIDValidity != st.UIDValidity || !slices.Equal(uids(now), uids(st)) {
		t.Error(uids(now))
	}
	if err := s.DeleteFolder("Old.Mail.2023.Jan"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Sync(SyncOptions{}); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	if err := s.DeleteFolder("Old.Mail.2023.Jan"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := s.DeleteFolder("INBOX"); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if err := s.CreateFolder("Old.Mail.2023.Jan"); err != nil {
		t.Fatal(err)
	}
	if now := look(t, open(t, s, "Old.Mail.2023.Jan"), false); now.UIDValidity <= st.UIDValidity {
		t.Errorf("UIDVALIDITY %d after %d", now.UIDValidity, st.UIDValidity)
	}
	deliver(t, s, "x\n")
	if err := s.RenameFolder("INBOX", "Was"); err != nil {
		t.Fatal(err)
	}
	if n := look(t, open(t, s, "INBOX"), true).Len(); n != 0 {
		t.Error(n)
	}
	if n := look(t, open(t, s, "Was"), true).Len(); n != 1 {
		t.Error(n)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Path(), "..*")); len(left) > 0 {
		t.Error(left)
	}
}

func TestFoldersFound(t *testing.T) {
	s := newStore(t)
	for _, dir := range []string{".UTF8-Käse", ".bad&", ".ssh", "..DOVECOT-TRASHED", ".x..y", ".inbox", ".tab\there"} {
		if err := os.MkdirAll(filepath.Join(s.Path(), dir, "cur"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(filepath.Join(s.Path(), ".ssh", "cur"))
	os.Symlink(t.TempDir(), filepath.Join(s.Path(), ".link"))
	if got := names(t, s); got != "INBOX UTF8-Käse bad&" {
		t.Error(got)
	}
	for _, name := range []string{"UTF8-Käse", "bad&"} {
		f := open(t, s, name)
		if _, err := f.Append(AppendOptions{}, strings.NewReader("x\r\n")); err != nil {
			t.Error(err)
		}
	}
	if err := s.RenameFolder("UTF8-Käse", "Brötchen"); err != nil {
		t.Error(err)
	}
	if got := names(t, s); got != "INBOX Brötchen bad&" {
		t.Error(got)
	}
	if _, err := s.OpenFolder("link"); err == nil {
		t.Error("a symbolic link was followed")
	}
}

// hostile are names that must reach no path.
var hostile = []string{
	"", ".", "..", "...", "a..b", ".a", "a.", "/", "/etc", "a/b", "../x", "..", "a/../b", "~", "~root", "~/x", "a\x00b", "a\nb", "a\rb",
	"a\tb", "\x7f", "\xff", "a\xc3", "\u0085", "\u2028", "cur/x", "./cur", strings.Repeat("x", 255), strings.Repeat("ä", 100),
	strings.Repeat("a.", 600) + "a", "INBOX.", "INBOX..x", "inbox/x",
}

func TestHostileNames(t *testing.T) {
	s := newStore(t)
	before := tree(t, filepath.Dir(s.Path()))
	for _, name := range hostile {
		if _, err := s.OpenFolder(name); !errors.Is(err, ErrName) {
			t.Errorf("open %q: %v", name, err)
		}
		if err := s.CreateFolder(name); !errors.Is(err, ErrName) {
			t.Errorf("create %q: %v", name, err)
		}
		if err := s.DeleteFolder(name); !errors.Is(err, ErrName) {
			t.Errorf("delete %q: %v", name, err)
		}
		if err := s.RenameFolder("INBOX", name); !errors.Is(err, ErrName) {
			t.Errorf("rename to %q: %v", name, err)
		}
		if err := s.RenameFolder(name, "x"); !errors.Is(err, ErrName) {
			t.Errorf("rename %q: %v", name, err)
		}
		if err := s.Subscribe(name); !errors.Is(err, ErrName) {
			t.Errorf("subscribe %q: %v", name, err)
		}
		if _, err := s.Deliver(DeliverOptions{Folder: name}); !errors.Is(err, ErrName) && name != "" {
			t.Errorf("deliver to %q: %v", name, err)
		} else if name == "" && err != nil {
			t.Error(err)
		}
	}
	after := tree(t, filepath.Dir(s.Path()))
	after = slices.DeleteFunc(after, func(p string) bool { return strings.HasPrefix(p, s.Path()+"/tmp/") })
	if !slices.Equal(before, after) {
		t.Errorf("%q became %q", before, after)
	}
}

func tree(t testing.TB, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSubscriptions(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"INBOX", "Arch.Käse", "a&b", "INBOX"} {
		if err := s.Subscribe(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, s, "subscriptions"); got != "V\t2\n\nINBOX\nArch\tK&AOQ-se\na&-b\n" {
		t.Errorf("%q", got)
	}
	if err := s.Unsubscribe("INBOX"); err != nil {
		t.Fatal(err)
	}
	if err := s.Unsubscribe("never"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Subscriptions(); err != nil || !slices.Equal(got, []string{"Arch.Käse", "a&b"}) {
		t.Error(got, err)
	}
	put(t, s, "subscriptions", "Sent\nArchive.&AMQ-\n../x\n") // version 1
	if got, err := s.Subscriptions(); err != nil || !slices.Equal(got, []string{"Sent", "Archive.Ä"}) {
		t.Error(got, err)
	}
	// A lock left by somebody who died is void after a while.
	put(t, s, "subscriptions.lock", "")
	old := time.Now().Add(-time.Minute)
	os.Chtimes(filepath.Join(s.Path(), "subscriptions.lock"), old, old)
	if err := s.Subscribe("More"); err != nil {
		t.Error(err)
	}
}

func TestValidityGrows(t *testing.T) {
	s := newStore(t)
	root, err := s.dir()
	if err != nil {
		t.Fatal(err)
	}
	defer root.close()
	seen := map[uint32]bool{}
	results := make(chan uint32)
	for range 8 {
		go func() {
			for range 10 {
				v, err := nextValidity(root)
				if err != nil {
					t.Error(err)
				}
				results <- v
			}
		}()
	}
	last := uint32(0)
	for range 80 {
		v := <-results
		if seen[v] {
			t.Errorf("%d given twice", v)
		}
		seen[v] = true
		last = max(last, v)
	}
	put(t, s, "dovecot-uidvalidity", "00000001") // others may have kept only one of the two
	if v, err := nextValidity(root); err != nil || v != last+1 {
		t.Error(v, err)
	}
	for _, e := range tree(t, s.Path()) {
		if strings.Contains(e, "dovecot-uidvalidity.") {
			os.Remove(e)
		}
	}
	put(t, s, "dovecot-uidvalidity", "7f000001")
	if v, err := nextValidity(root); err != nil || v != 0x7f000002 {
		t.Error(v, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Path(), "dovecot-uidvalidity*")); len(left) != 2 {
		t.Error(left)
	}
}

func TestUTF7(t *testing.T) {
	for plain, coded := range map[string]string{
		"Ärger.xä": "&AMQ-rger.x&AOQ-", "a&b": "a&-b", "日本語": "&ZeVnLIqe-", "😀": "&2D3eAA-", "Hat ~peter": "Hat ~peter", "台北": "&U,BTFw-",
	} {
		if got := EncodeUTF7(plain); got != coded {
			t.Errorf("%s: %s", plain, got)
		}
		if got, ok := DecodeUTF7(coded); !ok || got != plain {
			t.Errorf("%s: %s", coded, got)
		}
	}
	for _, bad := range []string{"&", "&AMQ", "&AMQ=-", "&Jjo!-", "&AG", "&AGE-", "&2D0-", "ä", "&AMQ-&AMQ-", "\x01"} {
		if got, ok := DecodeUTF7(bad); ok {
			t.Errorf("%q is taken for %q", bad, got)
		}
	}
}

func TestTmpIsCleaned(t *testing.T) {
	s := newStore(t)
	for name, hours := range map[string]int{"young": 35, "old": 37} {
		put(t, s, "tmp/"+name, "x")
		at := time.Now().Add(-time.Duration(hours) * time.Hour)
		os.Chtimes(filepath.Join(s.Path(), "tmp", name), at, at)
	}
	again, err := Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if left, _ := os.ReadDir(filepath.Join(s.Path(), "tmp")); fmt.Sprint(left) != "[- young]" {
		t.Error(left)
	}
}

// What somebody has left who was killed while he made or removed a folder goes after a while.
func TestStagesAreCleaned(t *testing.T) {
	s := newStore(t)
	name := func(prefix string, age time.Duration) string {
		return fmt.Sprintf("%s%d.M1P1Q1R1.host", prefix, time.Now().Add(-age).Unix())
	}
	young, doubted := name(stagingName, 35*time.Hour), name(trashName, 30*time.Second)
	for _, dir := range []string{young, doubted, name(stagingName, 37*time.Hour), name(trashName, time.Hour)} {
		if err := os.MkdirAll(filepath.Join(s.Path(), dir, "cur", "deeper"), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, s, filepath.Join(dir, "cur", "x"), "x")
		os.Symlink("/etc", filepath.Join(s.Path(), dir, "link"))
	}
	put(t, s, name(stagingName, 38*time.Hour), "a plan that was never one")
	if _, err := s.List(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(s.Path(), "..*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if want := []string{young, doubted}; !slices.Equal(left, want) {
		t.Errorf("%q, not %q", left, want)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error("a link was followed")
	}
}

func TestWritable(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	if !f.Writable() {
		t.Error("our own folder is not writable")
	}
	cur := filepath.Join(s.Path(), "cur")
	if os.Geteuid() == 0 { // who may write everywhere; be somebody else for a moment
		os.Chmod(s.Path(), 0o755)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer unix.Setfsuid(0)
		defer os.Chmod(cur, 0o700)
		os.Chmod(cur, 0o555)
		unix.Setfsuid(65534)
	} else {
		defer os.Chmod(cur, 0o700)
		os.Chmod(cur, 0o500)
	}
	if f.Writable() {
		t.Error("a folder that cannot be written to is writable")
	}
}

// Dovecot and we take turns in giving out UIDVALIDITYs, and neither falls behind the other.
func TestValidityWithDovecot(t *testing.T) {
	d := newDovecot(t)
	his := d.session()
	defer his.end()
	last := uint32(0)
	for i := range 6 {
		name := fmt.Sprint("f", i)
		if i%2 == 0 {
			his.do("CREATE %s", name)
			his.do("STATUS %s (UIDVALIDITY)", name)
		}
		s, err := Open(d.path())
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			if err := s.CreateFolder(name); err != nil {
				t.Fatal(err)
			}
		}
		v := look(t, open(t, s, name), false).UIDValidity
		if v <= last {
			t.Errorf("%s: %d after %d", name, v, last)
		}
		if lines := his.do("STATUS %s (UIDVALIDITY)", name); !strings.Contains(lines[0], fmt.Sprintf("(UIDVALIDITY %d)", v)) {
			t.Errorf("%s: %d here, there %q", name, v, lines)
		}
		last = v
		s.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(d.path(), validityName+".*")); len(left) != 1 {
		t.Error(left)
	}
}

// What came from elsewhere may have a larger UIDVALIDITY than was ever given out here.
func TestValidityOutlived(t *testing.T) {
	s := newStore(t)
	for _, away := range []func() error{
		func() error { return s.DeleteFolder("a") },
		func() error { return s.RenameFolder("a", "b") },
	} {
		if err := s.CreateFolder("a"); err != nil {
			t.Fatal(err)
		}
		put(t, s, ".a/"+listName, "3 V4000000000 N1\n")
		if err := away(); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateFolder("a"); err != nil {
			t.Fatal(err)
		}
		if v := look(t, open(t, s, "a"), false).UIDValidity; v <= 4000000000 {
			t.Error(v)
		}
		if err := s.DeleteFolder("a"); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(s.Path(), validityName), []byte("00000007"), 0o600) // somebody's old note
	}
}
