package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
)

// box makes a Maildir of files; their paths are below it. Everything is an hour old.
func box(t testing.TB, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "Maildir")
	for _, sub := range subs {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(root, 0o700)
	for name, text := range files {
		write(t, root, name, text)
	}
	return root
}

func write(t testing.TB, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	age(t, path, time.Hour)
}

// age makes a file older. Its ctime cannot be set: what is wrong with it is looked at twice.
func age(t testing.TB, path string, d time.Duration) {
	t.Helper()
	then := time.Now().Add(-d)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// look gives the findings as "severity kind file uid".
func look(t testing.TB, path string, o Options) []string {
	t.Helper()
	var list []string
	for f, err := range Maildir(path, o) {
		if err != nil {
			t.Error(err)
			continue
		}
		list = append(list, fmt.Sprintf("%s %s %s %d", f.Severity, f.Kind, f.File, f.UID))
		if o.Repair && f.Mend != "" && !f.Mended {
			t.Errorf("%s %s: %s: could not %s: %v", f.Kind, f.File, f.Text, f.Mend, f.Err)
		}
	}
	return list
}

func wrong(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.HasPrefix(s, "note ") })
}

const message = "Subject: x\n\nbody\n"

// Each thing that can be wrong is found, alone; it is mended, and then nothing is.
func TestFind(t *testing.T) {
	list := func(lines ...string) string { return "3 V7 N9 G00\n" + strings.Join(lines, "\n") + "\n" }
	for name, c := range map[string]struct {
		files  map[string]string
		make   func(root string) error
		want   string
		left   bool   // it cannot be mended
		after  string // a file that is there when it is mended
		during string // what the list holds then
	}{
		"nothing":      {files: map[string]string{"cur/1.a:2,S": message, "new/2.b": message, listName: list("1 :1.a"), ".A.B/cur/1.a:2,": message, ".A.B/maildirfolder": "", ".A.B/new/1.b": message, ".A.B/tmp/x": ""}},
		"empty list":   {files: map[string]string{listName: ""}, want: "error list-head dovecot-uidlist 0"},
		"nul list":     {files: map[string]string{listName: strings.Repeat("\x00", 100)}, want: "error list-head dovecot-uidlist 0"},
		"torn list":    {files: map[string]string{"cur/1.a:2,S": message, listName: list("1 :1.a") + "2 :1."}, want: "error list-torn dovecot-uidlist 0", during: "3 V7 N9 G00\n1 :1.a\n"},
		"line":         {files: map[string]string{listName: list("1 :1.a", "x", "5 W1 :b")}, want: "error list-line dovecot-uidlist 0", during: list("1 :1.a", "5 W1 :b")},
		"order":        {files: map[string]string{listName: list("5 :5", "1 :1")}, want: "error uid-order dovecot-uidlist 1", during: list("1 :1", "5 :5")},
		"uid twice":    {files: map[string]string{"cur/b": message, listName: list("1 :a", "1 :b")}, want: "error uid-twice dovecot-uidlist 1", during: list("1 :b")},
		"listed twice": {files: map[string]string{"cur/a": message, listName: list("1 :a", "4 :a")}, want: "error name-listed-twice dovecot-uidlist 4", during: list("4 :a")},
		"version 1":    {files: map[string]string{"cur/a": message, listName: "1 7 3\n1 a\n"}, want: "warning list-version-1 dovecot-uidlist 0", during: "3 V7 N3\n1 :a\n"},
		"list link":    {make: func(root string) error { return os.Symlink("/etc/passwd", filepath.Join(root, listName)) }, want: "error list-file dovecot-uidlist 0"},
		"size":         {files: map[string]string{"cur/1.a,S=1:2,S": message, listName: list("3 P9 :1.a,S=1")}, want: "error wrong-size cur/1.a,S=1:2,S 3", after: "cur/1.a,S=17,W=20:2,S", during: list("3 P9 G1.a,S=1 :1.a,S=17,W=20")},
		"crlf size":    {files: map[string]string{"new/1.a,S=17,W=17": message}, want: "error wrong-size new/1.a,S=17,W=17 0", after: "new/1.a,S=17,W=20"},
		"lacks":        {files: map[string]string{"new/1.a,E=1,S=17,W=20": message}, want: "error wrong-size new/1.a,E=1,S=17,W=20 0", after: "new/1.a,S=17,W=20"},
		"listed size":  {files: map[string]string{"cur/1.a:2,": message, listName: list("3 S17 W21 :1.a")}, want: "error wrong-size-in-list cur/1.a:2, 3", during: list("3 :1.a")},
		"compressed":   {files: map[string]string{"cur/1.a,S=17,W=20:2,Z": "\x1f\x8b\x08 and so on"}},
		"empty":        {files: map[string]string{"cur/1.a:2,": ""}, want: "error empty cur/1.a:2, 0"},
		"cut":          {files: map[string]string{"cur/1.a:2,": "Subject: ha"}, want: "error no-header-end cur/1.a:2, 0", left: true},
		"cut by name":  {files: map[string]string{"cur/1.a,S=99:2,": "Subject: ha\n\n"}, want: "error wrong-size cur/1.a,S=99:2, 0"},
		"header alone": {files: map[string]string{"cur/1.a,S=11:2,": "Subject: x\n"}},
		"nul":          {files: map[string]string{"cur/1.a:2,": message + strings.Repeat("\x00", 4000)}, want: "error nul-octets cur/1.a:2, 0", left: true},
		"all nul":      {files: map[string]string{"cur/1.a:2,": strings.Repeat("\x00", 4000)}, want: "error nul-octets cur/1.a:2, 0", left: true},
		"no name":      {files: map[string]string{"cur/:2,S": message}, want: "error bad-name cur/:2,S 0"},
		"only fields":  {files: map[string]string{"cur/,S=17:2,S": message}, want: "error bad-name cur/,S=17:2,S 0"},
		"control":      {files: map[string]string{"cur/a\nb:2,S": message}, want: "error bad-name cur/a\nb:2,S 0"},
		"flags order":  {files: map[string]string{"cur/1.a:2,SF": message, listName: list("3 :1.a")}, want: "warning bad-flags cur/1.a:2,SF 3", after: "cur/1.a:2,FS", during: list("3 :1.a")},
		"flags twice":  {files: map[string]string{"cur/1.a:2,SS": message}, want: "warning bad-flags cur/1.a:2,SS 0", after: "cur/1.a:2,S"},
		"flags none":   {files: map[string]string{"cur/1.a:S": message}, want: "warning bad-flags cur/1.a:S 0", after: "cur/1.a:2,"},
		"unnamed":      {files: map[string]string{"cur/1.a:2,Sc": message, "dovecot-keywords": "0 A\n"}, want: "warning unnamed-keyword cur/1.a:2,Sc 0"},
		"keywords":     {files: map[string]string{"dovecot-keywords": "0 A\n0 B\n"}, want: "warning keywords dovecot-keywords 0"},
		"new and cur":  {files: map[string]string{"cur/1.a:2,S": message, "new/1.a": message, listName: list("3 :1.a")}, want: "error name-twice", during: list("3 :1.a")},
		"two in cur":   {files: map[string]string{"cur/1.a:2,S": message, "cur/1.a:2,": message}, want: "error name-twice"},
		"two names": {
			files: map[string]string{"cur/1.a:2,S": message},
			make:  func(root string) error { return os.Link(root+"/cur/1.a:2,S", root+"/new/1.a") },
			want:  "error name-twice new/1.a 0", after: "cur/1.a:2,S",
		},
		"directory": {make: func(root string) error { return os.Mkdir(root+"/cur/1.a", 0o700) }, want: "error not-a-message cur/1.a 0"},
		"link":      {make: func(root string) error { return os.Symlink("/etc/passwd", root+"/new/1.a") }, want: "error not-a-message new/1.a 0"},
		"leftover":  {files: map[string]string{"tmp/1.a": "x"}, make: func(root string) error { return old(root+"/tmp/1.a", 37*time.Hour) }, want: "warning leftover tmp/1.a 0"},
		"young":     {files: map[string]string{"tmp/1.a": "x"}, make: func(root string) error { return old(root+"/tmp/1.a", 35*time.Hour) }},
		"staged":    {files: map[string]string{"..pennypost-1.M2.x": "x"}, make: func(root string) error { return old(root+"/..pennypost-1.M2.x", 37*time.Hour) }, want: "warning leftover ..pennypost-1.M2.x 0"},
		"lock":      {files: map[string]string{lockName: "1:elsewhere"}, want: "warning dead-lock dovecot-uidlist.lock 0"},
		"no tmp":    {make: func(root string) error { return os.Remove(root + "/tmp") }, want: "error no-directory tmp 0", after: "tmp"},
		"no cur":    {make: func(root string) error { return os.Remove(root + "/cur") }, want: "error no-directory cur 0", after: "cur"},
		"mode":      {files: map[string]string{"cur/1.a:2,S": message}, make: func(root string) error { return os.Chmod(root+"/cur/1.a:2,S", 0o666) }, want: "warning mode cur/1.a:2,S 0"},
		"dir mode":  {make: func(root string) error { return os.Chmod(root+"/new", 0o500) }, want: "warning mode new 0"},
		"quota":     {files: map[string]string{"cur/1.a:2,S": message, "maildirsize": "100S\n18 1\n"}, want: "warning quota maildirsize 0"},
		"no quota":  {files: map[string]string{"cur/1.a:2,S": message, "maildirsize": "100S\n27 2\n-10 -1\n"}},
		"bad quota": {files: map[string]string{"maildirsize": "100S\nx\n"}, want: "warning quota maildirsize 0"},
		"trash":     {make: func(root string) error { return os.MkdirAll(root+"/..pennypost-1000000000.x/cur", 0o700) }, want: "warning removed-folder ..pennypost-1000000000.x 0"},
		"renames":   {files: map[string]string{maildir.RenamesName: "1 cur \"a\" \"b\"\n"}, want: "warning rename-unfinished pennypost-renames 0"},
		"plan":      {files: map[string]string{planName: "garbage"}, want: "warning rename-unfinished pennypost-rename 0"},
		"journal":   {files: map[string]string{"pennypost-journal": "garbage"}, want: "error journal pennypost-journal 0"},
		"cache":     {files: map[string]string{listName: list("1 :a"), "pennypost-cache": "garbage"}, want: "warning cache pennypost-cache 0"},
		"metadata":  {files: map[string]string{maildir.MetadataName: "pennypost metadata 1\n/a \"b\"\nx\n"}, want: "warning metadata pennypost-metadata 0", left: true},
		"account":   {files: map[string]string{maildir.AccountName: "pennypost metadata 1\nchanges 3\n/a \"b\"\n"}},
		"utf7":      {files: map[string]string{".a&b&/maildirfolder": "", ".a&b&/cur/1.a": message, ".a&b&/new/1.b": message, ".a&b&/tmp/1": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := box(t, c.files)
			if c.make != nil {
				if err := c.make(root); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, root)
			got := wrong(look(t, root, Options{}))
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			if after := snapshot(t, root); !slices.Equal(before, after) {
				t.Fatalf("looking changed it:\n%q\n%q", before, after)
			}
			look(t, root, Options{Repair: true})
			if got := wrong(look(t, root, Options{})); !c.left && len(got) > 0 {
				t.Errorf("after mending: %q", got)
			}
			if _, err := os.Lstat(filepath.Join(root, c.after)); err != nil {
				t.Error(err)
			}
			if data, err := os.ReadFile(filepath.Join(root, listName)); c.during != "" && string(data) != c.during {
				t.Errorf("%q, want %q (%v)", data, c.during, err)
			}
			if n, m := texts(before), texts(snapshot(t, root)); !slices.Equal(n, m) && name != "two names" {
				t.Errorf("messages were %q, are %q", n, m)
			}
		})
	}
}

func old(path string, d time.Duration) error {
	then := time.Now().Add(-d)
	return os.Chtimes(path, then, then)
}

// snapshot gives all that is in a Maildir.
func snapshot(t testing.TB, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(path, root) + " " + info.Mode().String()
		if info.Mode().IsRegular() && !strings.HasPrefix(line, "/tmp/") { // reading would make it younger
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(data)
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// texts gives the texts of all messages, wherever they are.
func texts(snapshot []string) (list []string) {
	for _, line := range snapshot {
		if i := strings.Index(line, "Subject: "); i >= 0 {
			list = append(list, line[i:])
		}
	}
	slices.Sort(list)
	return list
}

func TestNoMaildir(t *testing.T) {
	for path, want := range map[string]error{t.TempDir(): ErrNone, filepath.Join(t.TempDir(), "x"): fs.ErrNotExist} {
		n := 0
		for _, err := range Maildir(path, Options{}) {
			if n++; !errors.Is(err, want) || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", path, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d", path, n)
		}
	}
}

// Who has seen enough need not see all.
func TestStop(t *testing.T) {
	root := box(t, map[string]string{"cur/1:2,SF": message, "cur/2:2,SF": message, ".A/cur/1": message})
	for range Maildir(root, Options{Repair: true}) {
		break
	}
	for f := range Maildir(root, Options{}) {
		t.Log(f)
	}
}

// What is set aside follows no link, and stays where it is when there is one.
func TestAsideLink(t *testing.T) {
	root, away := box(t, map[string]string{"cur/1.a:2,S": ""}), t.TempDir()
	if err := os.Symlink(away, root+"/pennypost-aside"); err != nil {
		t.Fatal(err)
	}
	for f, err := range Maildir(root, Options{Repair: true}) {
		if err != nil || f.Kind == kindEmpty && (f.Mended || f.Err == nil) {
			t.Error(f, err)
		}
	}
	if left, _ := os.ReadDir(away); len(left) > 0 {
		t.Error(left)
	}
	if _, err := os.Stat(root + "/cur/1.a:2,S"); err != nil {
		t.Error(err)
	}
}
