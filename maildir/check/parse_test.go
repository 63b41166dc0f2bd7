package check

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func kinds(faults []fault) []string {
	list := []string{}
	for _, f := range faults {
		list = append(list, f.kind)
	}
	return list
}

func TestParseList(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  []string
		lines int
		next  uint32
	}{
		{"3 V7 N3 Gab X1\n1 :a\n2 W10 P5 :b\n", []string{}, 2, 3},
		{"3 V7 N1\n1 :a\n9 :b:2,S\n", []string{}, 2, 10},
		{"1 7 3\n1 a\n2 b\n", []string{}, 2, 3},
		{"", []string{kindListHead}, 0, 1},
		{"\x00\x00\x00", []string{kindListHead}, 0, 1},
		{"3 V7 N3", []string{kindListHead}, 0, 3},
		{"4 V7 N3\n1 :a\n", []string{kindListHead}, 1, 2},
		{"3 N3\n1 :a\n", []string{kindListHead}, 1, 3},
		{"3 V0 N3\n", []string{kindListHead}, 0, 3},
		{"3 V7\n1 :a\n", []string{kindListHead}, 1, 2},
		{"3 V7  N3\n", []string{kindListHead}, 0, 3},
		{"3 V7 N3 x\n", []string{kindListHead}, 0, 3},
		{"3 V7 N3\n1 :a\n2 :b", []string{kindListTorn}, 1, 3},
		{"3 V7 N3\n1 :a\n0 :b\n4294967295 :c\nx\n5\n6 k :d\n7 :\n8 :a/b\n9 :.c\n10  :d\n", slices.Repeat([]string{kindListLine}, 9), 1, 3},
		{"3 V7 N3\n2 :a\n1 :b\n", []string{kindUIDOrder}, 2, 3},
		{"3 V7 N3\n1 :a\n1 :b\n1 :a\n", []string{kindUIDTwice, kindUIDTwice}, 3, 3},
		{"3 V7 N3\n1 :a\n2 :a\n", []string{kindBaseTwice}, 2, 3},
		{"3 V7 N3\r\n1 :a\r\n", []string{kindListLine}, 1, 3},
	} {
		l := parseList(c.text)
		if got := kinds(l.faults); !slices.Equal(got, c.want) || len(l.lines) != c.lines || l.nextUID() != c.next {
			t.Errorf("%q: %v, %d lines, next %d", c.text, l.faults, len(l.lines), l.nextUID())
		}
	}
}

func TestSalvage(t *testing.T) {
	l := parseList("3 V7 N3\n5 :e\n1 :gone\n1 :a\n2 :b\n2 :c\n3 :e\n4 W3 :d\n6 :d\n6 :d\n")
	l.lines = l.salvage(func(base string) bool { return base != "gone" })
	if got, want := string(l.print()), "3 V7 N7\n1 :a\n2 :b\n5 :e\n6 :d\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What we print has nothing wrong with it and reads as it was.
func FuzzList(f *testing.F) {
	f.Add("3 V7 N3 Gab X1\n1 :a\n2 W10 P5 :b\n")
	f.Add("1 7 3\n1 a\n1 b\n")
	f.Add("3 V7 N3\n2 :a\n1 :b\n2 :a")
	f.Fuzz(func(t *testing.T, text string) {
		l := parseList(text)
		if l.validity == 0 {
			l.validity = 1
		}
		l.lines = l.salvage(func(base string) bool { return len(base)%2 == 0 })
		again := parseList(string(l.print()))
		if len(again.faults) > 0 {
			t.Fatalf("%q: %v", l.print(), again.faults)
		}
		if again.validity != l.validity || again.nextUID() != l.nextUID() || !slices.Equal(again.fields, l.fields) || !slices.Equal(again.lines, l.lines) {
			t.Fatalf("%q became %q", text, l.print())
		}
	})
}

func TestParseKeywords(t *testing.T) {
	for text, faults := range map[string]int{
		"": 0, "0 a\n25 $Forwarded\n": 0, "0 a": 1, "0 a\r\n": 1, "x a\n": 1, "26 a\n": 1, "0 a b\n": 1, "0 a\n0 b\n": 1, "0 a\n1 A\n": 1, "0\n": 1, "0 \n": 1,
	} {
		if _, got := parseKeywords(text); len(got) != faults {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzKeywords(f *testing.F) {
	f.Add("0 a\n1 A\n26 x\n2 b")
	f.Fuzz(func(t *testing.T, text string) {
		names, faults := parseKeywords(text)
		seen := map[string]bool{}
		for _, n := range names {
			if n != "" && seen[strings.ToLower(n)] {
				t.Fatalf("%q twice", n)
			}
			seen[strings.ToLower(n)] = true
		}
		if len(faults) > strings.Count(text, "\n")*2+3 {
			t.Fatal(faults)
		}
	})
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"1.a": "", "1.a:2,": "", "1.a:2,DFPRSTabz": "", "1.a:2,S,extra": "", "1.a:1,x": "",
		"1.a:2,SS": "1.a:2,S", "1.a:2,SF": "1.a:2,FS", "1.a:2,aS,x=1": "1.a:2,Sa,x=1", "1.a:2": "1.a:2,", "1.a:": "1.a:2,", "1.a:2,S\x01": "1.a:2,S",
	} {
		base, text := split(name)
		in := parseInfo(text)
		if in.fault == "" != (want == "") || in.fault != "" && base+in.right != want {
			t.Errorf("%q: %q, %q", name, in.fault, in.right)
		}
	}
	for base, bad := range map[string]bool{"1.a": false, "": true, ",S=1": true, "a\nb": true, strings.Repeat("x", 221): true, "msg.1": false, "ü": false} {
		if got := baseFault(base); (got != "") != bad {
			t.Errorf("%q: %q", base, got)
		}
	}
}

// A name that was put right has nothing wrong, whatever it was.
func FuzzName(f *testing.F) {
	f.Add("1.M2P3.host,S=3,W=4:2,FS", int64(10))
	f.Add(",S=x,,E=2,q:2,zS,e", int64(0))
	f.Fuzz(func(t *testing.T, name string, size int64) {
		base, text := split(name)
		in := parseInfo(text)
		if again := parseInfo(in.right); again.fault != "" || again.letters != in.letters || again.right != in.right {
			t.Fatalf("%q became %q: %q", text, in.right, again.fault)
		}
		o := octets{size: max(size, 0), crlf: max(size, 0), lacks: 2}
		if wrong := sizingOf(resized(base, o)).differs(o, true); wrong != "" {
			t.Fatalf("%q became %q: %s", base, resized(base, o), wrong)
		}
	})
}

// Octets are counted the same in whatever pieces they come.
func FuzzCount(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\ny\n\x00\x00"), 3)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		if len(data) == 0 {
			return
		}
		var one, many scan
		one.take(data)
		for rest := data; len(rest) > 0; {
			n := min(max(piece, 16), len(rest)) // the first piece tells what it is
			many.take(rest[:n])
			rest = rest[n:]
		}
		a, b := one.end(), many.end()
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%q: %+v, %+v", data, a, b)
		}
		text := string(data)
		crlf := len(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
		header := strings.HasPrefix(text, "\n")
		for line := range bytes.Lines(data) {
			header = header || len(bytes.Trim(line, "\r")) == 1 && line[len(line)-1] == '\n'
		}
		if a.crlf != int64(crlf) || a.headerEnd != header || a.size != int64(len(data)) || a.nuls != int64(len(text)-len(strings.TrimRight(text, "\x00"))) {
			t.Fatalf("%q: %+v, want %d %v", data, a, crlf, header)
		}
	})
}

func FuzzEntries(f *testing.F) {
	f.Fuzz(func(_ *testing.T, text string) { appendEntries(nil, text) })
}

func FuzzIndex(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var b [32]byte
		copy(b[:], data)
		if _, next := indexHead(b, int64(len(data))); next > maxUID {
			t.Fatal(next)
		}
	})
}

func FuzzQuota(f *testing.F) {
	f.Add("100S,2C\n18 1\n-9 -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if u, why := parseQuota(text); why == "" && (u.octets < 0 || u.messages < 0) {
			t.Fatal(u)
		}
	})
}
