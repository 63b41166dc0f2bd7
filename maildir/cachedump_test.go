package maildir

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDumpCache(t *testing.T) {
	dir := t.TempDir()
	id := identity{validity: 7, maker: 3, salt: 99}
	b, _ := id.appendEntry(id.head(), 5, "1.a", &Entry{
		Level: Header, Octets: 17, Size: 20, Lacks: 2, Modified: time.Unix(1, 5).UnixNano(), Sent: 2, Zone: -90, HasSent: true,
		Texts: [textCount][]byte{TextSubject: []byte("hello\n"), TextFrom: {}},
	})
	at := len(b)
	b = id.seal(openRec(b), at, cacheRec{kind: wishRec, level: Whole})
	at = len(b)
	b = id.seal(openRec(b), at, cacheRec{kind: forgetRec, uid: 4})
	whole := bytes.Clone(b)
	const want = `cache version 1 uidvalidity 7 maker 3 octets 210 last index 0
at 64 octets 82 entry uid 5 name 457d0c18182dccf5 level 2 size 17 crlf 20 lacks 2 date 1970-01-01T00:00:01.000000005Z sent 1969-12-31T22:30:02-01:30
  subject "hello\n"
  from ""
at 146 octets 32 wish level 3
at 178 octets 32 forget uid 4
`
	path := filepath.Join(dir, cacheName)
	show := func(data []byte) (string, error) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err := DumpCache(&out, dir)
		return out.String(), err
	}
	got, err := show(whole)
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if err := DumpCache(io.Discard, path); err != nil {
		t.Error(err)
	}
	b[cacheHead+recHead+42]++
	if got, err := show(append(b, "half"...)); !errors.Is(err, errCacheDamaged) || !strings.Contains(got, "damaged: a record of kind 1") || !strings.Contains(got, "wish level 3") {
		t.Errorf("%v\n%s", err, got)
	}
	for _, data := range [][]byte{nil, whole[:20], []byte(strings.Repeat("x", 100))} {
		if _, err := show(data); !errors.Is(err, errNoCache) {
			t.Errorf("%q: %v", data, err)
		}
	}
	os.Remove(path)
	if err := DumpCache(io.Discard, dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// What cannot be read is passed over, and all octets are accounted for.
func FuzzSurveyCache(f *testing.F) {
	id := identity{validity: 7, salt: 99}
	b, _ := id.appendEntry(nil, 5, "1.a", &Entry{Level: Sizes, Octets: 17, Size: 20})
	f.Add(b)
	f.Add(append(bytes.Repeat([]byte("x"), 70000), b...))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, append(id.head(), data...), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := surveyCache(-100, path)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c.fd)
		sum := int64(0)
		if err := c.run(func(_ int64, r cacheRec, _ []byte) { sum += r.len() }); err != nil || sum+c.rest != int64(len(data)) {
			t.Fatalf("%v: %d and %d of %d octets", err, sum, c.rest, len(data))
		}
	})
}
