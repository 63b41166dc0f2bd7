package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// strange are names that are allowed.
var strange = []string{
	"a&b", "a&-b", "&", "&AMQ-", "Entwürfe", "日本.語", "a b", " x ", `back\slash`, `"quoted"`, "*star", "per%cent", "x~y", "x.~y", "{brace}",
	"😀", "-", "%s%n", "con", "a:b", "a,S=1", "cur", "new.tmp", "dovecot-uidlist", "INBOX.sub", "é", "e\u0301",
}

// What names we give folders, Dovecot lists, and the other way round.
func TestNamesWithDovecot(t *testing.T) {
	d := newDovecot(t)
	his := d.session()
	for i, name := range strange {
		if i%2 == 0 {
			his.do("CREATE {%d+}\r\n%s", len(EncodeUTF7(name)), EncodeUTF7(name))
		}
	}
	his.end()
	s, err := Open(d.path())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, name := range strange {
		if i%2 == 1 {
			if err := s.CreateFolder(name); err != nil {
				t.Error(err)
			}
		}
		f := open(t, s, name)
		if _, err := f.Append(AppendOptions{}, strings.NewReader("in "+name+"\n")); err != nil {
			t.Error(err)
		}
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range list {
		if !i.NoSelect {
			got = append(got, i.Name)
		}
	}
	want := append([]string{"INBOX"}, slices.Sorted(slices.Values(strange))...)
	if !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	his = d.session()
	for _, name := range strange {
		lines := his.do("STATUS {%d+}\r\n%s (MESSAGES)", len(EncodeUTF7(name)), EncodeUTF7(name))
		if len(lines) < 2 || !strings.HasSuffix(lines[len(lines)-2], "(MESSAGES 1)") {
			t.Errorf("%s: %q", name, lines)
		}
	}
	his.end()
}

// Directories with names that others have given them are listed or passed over; none leads out of the Maildir.
func TestNamesFound(t *testing.T) {
	s := newStore(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.MkdirAll(filepath.Join(outside, "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	listed := []string{"Käse", "&AMQ", "a&b", "x:y", strings.Repeat("long.", 20) + "x", "日本", "%s", "- -"}
	passed := []string{
		"~x", "a..b", ".x", "x.", "INBOX", "inbox", "Inbox.y", "bad\xff", "ctl\x01", "nl\nx", "del\x7f", "\u2028", "tab\tx", strings.Repeat("ä", 100),
	}
	for _, name := range slices.Concat(listed, passed) {
		if err := os.MkdirAll(filepath.Join(s.Path(), "."+name, "cur"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": outside, "self": ".", "up": "..", "loop": ".loop"} {
		if err := os.Symlink(to, filepath.Join(s.Path(), "."+name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"linkcur": outside, "dangling": "nowhere"} { // cur itself leads out
		os.Mkdir(filepath.Join(s.Path(), "."+name), 0o700)
		if err := os.Symlink(to, filepath.Join(s.Path(), "."+name, "cur")); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, ".file", "no directory")
	var got []string
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.NoSelect {
			continue
		}
		got = append(got, i.Name)
		f := open(t, s, i.Name)
		if _, err := f.Append(AppendOptions{}, strings.NewReader("x\n")); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(got)
	want := append([]string{"INBOX"}, listed...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	os.MkdirAll(filepath.Join(s.Path(), ".ssh"), 0o700) // the Maildir may be somebody's home
	put(t, s, ".ssh/id", "secret")
	for _, name := range slices.Concat(passed, []string{"link", "self", "up", "loop", "linkcur", "dangling", "file", "ssh"}) {
		if strings.EqualFold(name, inbox) {
			continue
		}
		if f, err := s.OpenFolder(name); err == nil {
			f.Close()
			t.Errorf("%q was opened", name)
		}
		if s.DeleteFolder(name) == nil {
			t.Errorf("%q was removed", name)
		}
		if s.RenameFolder(name, "other") == nil {
			t.Errorf("%q was renamed", name)
		}
	}
	get(t, s, ".ssh/id")
	if left, err := os.ReadDir(filepath.Join(outside, "cur")); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// A name that is too long for some folder below stops the whole rename.
func TestNamesTooLong(t *testing.T) {
	s := newStore(t)
	below := "a." + strings.Repeat("b", 200)
	for _, name := range []string{"a", below} {
		if err := s.CreateFolder(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RenameFolder("a", strings.Repeat("c", 60)); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if err := s.RenameFolder("a", strings.Repeat("c", 50)); err != nil {
		t.Error(err)
	}
	if got, want := names(t, s), fmt.Sprintf("INBOX %s %[1]s.%s", strings.Repeat("c", 50), strings.Repeat("b", 200)); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}
