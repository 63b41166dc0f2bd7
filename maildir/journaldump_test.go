package maildir

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

func TestDumpJournal(t *testing.T) {
	p, path := newPlace(t)
	file := filepath.Join(path, journalName)
	if err := DumpJournal(new(bytes.Buffer), path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var j journal
	s := someSnapshot(2)
	s.by = "pen\x1b[31mny"
	if err := j.replace(p, 77, s, false); err != nil {
		t.Fatal(err)
	}
	var ends []int64
	for i := range 5 {
		ends = append(ends, j.end)
		if err := j.append(p, someRecord(i), false); err != nil {
			t.Fatal(err)
		}
	}
	show := func(path string) (string, error) {
		t.Helper()
		var b bytes.Buffer
		err := DumpJournal(&b, path)
		for _, r := range b.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q is shown", r)
			}
		}
		return b.String(), err
	}
	text, err := show(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"journal version 1 uidvalidity 77 generation ",
		" modseq 1763900000000002 by \"pen\\x1b[31mny\" snapshot messages 2 uidnext 10 floor 12 keyword 0 $Over keyword 1 zwölf new 1@2.",
		"  uid 4 modseq 1763900000000001 saved 2023-11-14T22:13:21Z cur/1700000001.M000001P",
		"  vanished 5:9 modseq 17\n",
		"2025-11-23T12:13:21.000000Z modseq 1763900001000000 by penny added uid 100 saved 1970-01-01T00:00:05Z new/17.x added",
		" keyword 2 k1 changed uid 1,4:5 cur/*:2,ST +3 changed uid 9 cur/*:2,\n",
		" vanished uid 4:9,1\n",
		" uid 3 emailid Mca978112ca1bbdcafac2 new 1@2.000000003/0 since 2025-",
		" uidlist 4@5.000000006/700 read 650 keywords 7@8.000000009/10\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if again, err := show(file); err != nil || again != text {
		t.Error(err, again)
	}

	data := must(os.ReadFile(file))(t)
	data[ends[2]+20] ^= 1
	lay(t, file, data[:len(data)-1])
	text, err = show(file)
	if err == nil || !errors.Is(err, errDamaged) {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if n := len(lines); !strings.Contains(lines[n-3], " damaged: a record of ") || !strings.Contains(lines[n-2], " uid 3 emailid M") ||
		!strings.Contains(lines[n-1], " octets are no whole record") {
		t.Errorf("%s", text)
	}
	for _, cut := range []int{0, 10, 39, 40, 60, 200} {
		lay(t, file, data[:cut])
		if _, err := show(file); err == nil {
			t.Errorf("cut at %d is shown", cut)
		}
	}
}

func FuzzDumpJournal(f *testing.F) {
	f.Add([]byte("x"), byte(1))
	b, _ := someRecord(0).encode(0)
	f.Add(b[recordHead:], byte(kindChange))
	f.Fuzz(func(t *testing.T, payload []byte, kind byte) {
		b := append(make([]byte, recordHead), payload...)
		seal(b, kind, 0)
		var out bytes.Buffer
		d := dump{out: bufio.NewWriter(&out)}
		d.changes(b, 0, 0)
		d.out.Flush()
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Fatalf("%q", out.String())
		}
	})
}
