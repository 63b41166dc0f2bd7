package imap_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/maildir"
)

const usualFetch = "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE"

// Commands whose answers come from the cache when there is one.
var cachedCommands = []string{
	"FETCH 1:* (" + usualFetch + ")",
	"FETCH 1:* (BODY)",
	"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From To Subject References)])",
	"FETCH 1:* (ENVELOPE BODY.PEEK[HEADER.FIELDS (Subject X-Mailer)])",
	"FETCH 1:* (RFC822.SIZE BODY.PEEK[1])",
	"SEARCH SUBJECT re",
	"SEARCH OR FROM a LARGER 2000",
	"SEARCH SENTSINCE 1-Jan-2004 NOT TO b",
	"SEARCH SINCE 1-Jan-2001 SMALLER 100000 HEADER X-Mailer \"\"",
	"SEARCH OLDER 100 BODY the",
}

func ask(t *testing.T, dir string, commands ...string) []byte {
	t.Helper()
	var says strings.Builder
	says.WriteString("0 EXAMINE INBOX\r\n")
	for i, c := range commands {
		says.WriteString(fmt.Sprintf("%d %s\r\n", i+1, c))
	}
	out := play(t, dir, []byte(says.String()+"9 LOGOUT\r\n"))
	return regexp.MustCompile(`\* \d+ RECENT\r\n| ?\\Recent`).ReplaceAll(out, nil)
}

// The answers are the same, octet for octet, without a cache and with one, from
// one that was made by other commands, and from one that was torn.
func TestCacheSame(t *testing.T) {
	for _, from := range []string{"../../cmd/testdata/corpus", os.Getenv("PENNYPOST_CORPUS")} {
		if from == "" {
			continue
		}
		dir := t.TempDir()
		store, err := maildir.Create(dir, maildir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		store.Close()
		files, err := filepath.Glob(filepath.Join(from, "*.eml"))
		if err != nil || len(files) == 0 {
			t.Fatal(from, err)
		}
		for i, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "cur", fmt.Sprintf("%d.M%dP1.host:2,", 1000000000+i, i))
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			day := time.Unix(1000000000+86400*int64(i), 0)
			if err := os.Chtimes(path, day, day); err != nil {
				t.Fatal(err)
			}
		}
		cache := filepath.Join(dir, "pennypost-cache")
		want := make([][]byte, len(cachedCommands))
		for i, c := range cachedCommands {
			os.Remove(cache)
			want[i] = ask(t, dir, c)
			if n := bytes.Count(want[i], []byte("\r\n1 OK ")); n != 1 {
				t.Fatalf("%s: %.200q", c, want[i])
			}
		}
		if len(want[0]) < 300*len(files) {
			t.Errorf("%d octets", len(want[0]))
		}
		all := bytes.Join(want, nil)
		again := func(what string) {
			t.Helper()
			var got []byte
			for _, c := range cachedCommands {
				got = append(got, ask(t, dir, c)...)
			}
			if !bytes.Equal(got, all) {
				i := 0
				for i < min(len(got), len(all))-1 && got[i] == all[i] {
					i++
				}
				t.Fatalf("%s: %.100q, want %.100q", what, got[max(i-50, 0):], all[max(i-50, 0):])
			}
		}
		again("from the cache")
		again("from the cache once more")
		data, err := os.ReadFile(cache)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{len(data) - 7, len(data) / 2, len(data) / 3, 200, 64, 10, 0} {
			if err := os.WriteFile(cache, data[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			again(fmt.Sprint("cut at ", n))
		}
	}
}

// lay makes a Maildir of a few messages, and returns their files.
func lay(t *testing.T) (dir string, files []string) {
	dir = t.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
	for i := range 3 {
		path := filepath.Join(dir, "cur", fmt.Sprintf("%d.M%dP1.host:2,S", 1000000000+i, i))
		if err := os.WriteFile(path, fmt.Appendf(nil, "Subject: number %d\n\ntext\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
		day := time.Unix(1000000000+int64(i), 0)
		if err := os.Chtimes(path, day, day); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	return dir, files
}

// A message that was changed where it lies is seen to be another one when it is opened.
func TestCacheChanged(t *testing.T) {
	dir, files := lay(t)
	if out := ask(t, dir, "FETCH 2 ENVELOPE"); !bytes.Contains(out, []byte(`"number 1"`)) {
		t.Fatalf("%s", out)
	}
	if err := os.WriteFile(files[1], []byte("Subject: changed\n\nand other text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := ask(t, dir, "FETCH 2 (RFC822.SIZE ENVELOPE BODY[])", "FETCH 2 (ENVELOPE RFC822.SIZE)")
	if n := bytes.Count(out, []byte(`(NIL "changed"`)); n != 2 || bytes.Count(out, []byte("SIZE 36")) != 2 {
		t.Errorf("%s", out)
	}
}

// Entries are those of a name: when another message gets a UID, nothing of the one before is told.
func TestCacheSwapped(t *testing.T) {
	dir, _ := lay(t)
	want := ask(t, dir, "FETCH 1:* (ENVELOPE INTERNALDATE)")
	list := filepath.Join(dir, "dovecot-uidlist")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.NewReplacer("1000000000.M0", "1000000002.M2", "1000000002.M2", "1000000000.M0").Replace(string(text))
	if err := os.WriteFile(list, []byte(swapped), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, "pennypost-journal"))
	for range 2 {
		out := string(ask(t, dir, "FETCH 1:* (ENVELOPE INTERNALDATE)"))
		if a, b := strings.Index(out, "number 2"), strings.Index(out, "number 0"); a < 0 || b < a {
			t.Errorf("%s", out)
		}
	}
	// A list that is lost gives another UIDVALIDITY, and other UIDs.
	os.Remove(list)
	os.Remove(filepath.Join(dir, "pennypost-journal"))
	if out := ask(t, dir, "FETCH 1:* (ENVELOPE INTERNALDATE)"); !bytes.Equal(out[bytes.Index(out, []byte("FETCH")):], want[bytes.Index(want, []byte("FETCH")):]) {
		t.Errorf("%s\nwant\n%s", out, want)
	}
}

// What one client asked for is looked up by the way for messages that come later.
func TestCacheFilling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, _ := lay(t)
		d := talk(t, dir)
		size := func() int64 {
			st, err := os.Stat(filepath.Join(dir, "pennypost-cache"))
			if err != nil {
				return 0
			}
			return st.Size()
		}
		time.Sleep(time.Minute)
		if size() != 0 {
			t.Error("a cache before anybody has asked")
		}
		d.say("2 FETCH 1:* ENVELOPE")
		asked := size()
		if err := os.WriteFile(filepath.Join(dir, "new", "1700000000.M1P1.host"), []byte("Subject: later\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.say("3 NOOP")
		time.Sleep(time.Minute)
		if now := size(); asked == 0 || now <= asked {
			t.Errorf("the cache has %d octets, and later %d", asked, now)
		}
		before := size()
		d.say("4 FETCH 4 ENVELOPE")
		if size() != before {
			t.Error("it was looked up again")
		}
		if d.say("5 APPEND INBOX {15+}\r\nSubject: own\r\n\r\n") == 0 || size() <= before {
			t.Error("an appended message is not in the cache")
		}
		if d.say("6 COPY 1 INBOX"); size() <= before+200 {
			t.Error("a copy is not in the cache")
		}
	})
}
