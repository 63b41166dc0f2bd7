package maildir

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What a list is read from and written to stays the same, and its UIDs rise, whatever stands in it.
func FuzzUIDList(f *testing.F) {
	f.Add("3 V1234 N7 G0123 Pfmt\n1 :a\n3 W12 Px O2 :b c\n5 :d:2,S\n")
	f.Add("1 99 5\n2 name\n4 other:2,S\n")
	f.Add("3 V0 N1\n1 :x\n")
	f.Add("3 V5\n7 :x\n6 :y\n0 :z\n4294967295 :w\n8 \n9 :v")
	f.Fuzz(func(t *testing.T, text string) {
		fo := &box{}
		fo.takeList(text, false)
		last := uint32(0)
		for _, bl := range fo.rows.blocks {
			for i := range bl.n {
				uid, base := bl.uid[i], bl.base(i)
				if uid <= last || uid > maxUID || !validBase(base) {
					t.Fatalf("UID %d after %d, %q", uid, last, base)
				}
				last = uid
				if k, j, ok := fo.lookup(base); !ok || fo.rows.blocks[k] != bl || i != j {
					t.Fatalf("%q is not found", base)
				}
			}
		}
		if fo.head.validity == 0 {
			return
		}
		if fo.head.next <= last {
			t.Fatalf("next UID %d after %d", fo.head.next, last)
		}
		print := func(fo *box) []byte {
			b := appendListHead(nil, fo.head)
			for _, bl := range fo.rows.blocks {
				for i := range bl.n {
					b = appendListLine(b, bl.uid[i], fo.exts[bl.uid[i]], bl.base(i))
				}
			}
			return b
		}
		fo.head.version = 3
		once := print(fo)
		again := &box{}
		again.takeList(string(once), false)
		if twice := print(again); !bytes.Equal(once, twice) || again.rewrite {
			t.Fatalf("%q became %q", once, twice)
		}
	})
}

func FuzzKeywords(f *testing.F) {
	f.Add("0 $Forwarded\n1 Work\n25 z\n")
	f.Add("0 a\n0 b\n26 c\n1 A\n-1 x\nx\n")
	f.Fuzz(func(t *testing.T, text string) {
		k := parseKeywords(text)
		for i, a := range k {
			for j, b := range k {
				if i != j && a != "" && strings.EqualFold(a, b) {
					t.Fatalf("%q twice", a)
				}
			}
		}
		if again := parseKeywords(string(k.text())); again != k {
			t.Fatalf("%q became %q", k, again)
		}
	})
}

func FuzzSubscriptions(f *testing.F) {
	f.Add("V\t2\n\nINBOX\nArch\t2024\n&AMQ-rger\n")
	f.Add("Sent\nArchive.2024\n")
	f.Fuzz(func(t *testing.T, text string) {
		names, _ := parseSubscriptions(text)
		for _, n := range names {
			if c, err := cleanName(n); err != nil || c != n {
				t.Fatalf("%q is no name", n)
			}
		}
		again, v2 := parseSubscriptions(string(printSubscriptions(names)))
		if !v2 || strings.Join(again, "\n") != strings.Join(names, "\n") {
			t.Fatalf("%q became %q", names, again)
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add("1700000000.M123456P1Q2R0a.host,S=100,W=120:2,FSab")
	f.Add("x:1,oops")
	f.Add("1.2.h:2,PSa,more:stuff")
	f.Fuzz(func(t *testing.T, name string) {
		base := string(baseOf([]byte(name)))
		in := parseInfo(name[len(base):])
		again := parseInfo(infoText(in.flags, in.letters, in.other, in.extra))
		if again.flags != in.flags || again.letters != in.letters || len(again.other) != len(in.other) || again.extra != in.extra {
			t.Fatalf("%q: %+v became %+v", name, in, again)
		}
		if once := infoText(again.flags, again.letters, again.other, again.extra); once != again.text {
			t.Fatalf("%q became %q", again.text, once)
		}
		if s, w := sizes(base); s < -1 || w < -1 {
			t.Fatal(s, w)
		}
		if byDelivery(base, base) != 0 || byDelivery(base, "1.M2.h") != -byDelivery("1.M2.h", base) {
			t.Fatalf("%q has no order", base)
		}
	})
}

func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"INBOX", "&AMQ-rger.x&AOQ-", "a&-b", "&", "&AMQ", "&2D3eAA-", "~peter/mail/&U,BTFw-/&ZeVnLIqe-", "&Jjo!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if out, ok := DecodeUTF7(s); ok {
			if !utf8.ValidString(out) || EncodeUTF7(out) != s {
				t.Fatalf("%q became %q", s, out)
			}
		}
		if utf8.ValidString(s) {
			if out, ok := DecodeUTF7(EncodeUTF7(s)); !ok || out != s {
				t.Fatalf("%q became %q", s, out)
			}
		}
	})
}

// The wire's form of what is stored is what was received, for all that has proper line ends.
func FuzzSpool(f *testing.F) {
	f.Add("a\r\nb\r\r\nc\rd\r\n", 3)
	f.Add("\r\n\r\n\n\r", 1)
	f.Fuzz(func(t *testing.T, in string, at int) {
		s := newSpool(t)
		defer s.discard()
		at = min(max(at, 0), len(in))
		s.Write([]byte(in[:at]))
		s.Write([]byte(in[at:]))
		if s.cr { // what finish would write
			*s.buf = append(*s.buf, '\r')
			s.s, s.w, s.last = s.s+1, s.w+1, '\r'
		}
		disk := *s.buf
		if int64(len(disk)) != s.s {
			t.Fatalf("%q: S=%d of %d", in, s.s, len(disk))
		}
		c, _ := countCRLF(bytes.NewReader(disk))
		if c.octets != s.w || c.lacks != lacking(s.s, s.last) {
			t.Fatalf("%q: W=%d, counted %d, which lack %d", in, s.w, c.octets, c.lacks)
		}
		var wire []byte
		for i, c := range disk {
			if c == '\n' && (i == 0 || disk[i-1] != '\r') {
				wire = append(wire, '\r')
			}
			wire = append(wire, c)
		}
		var want []byte
		for i := range len(in) { // a bare LF is the only thing that may change
			if in[i] == '\n' && (i == 0 || in[i-1] != '\r') {
				want = append(want, '\r')
			}
			want = append(want, in[i])
		}
		if !bytes.Equal(wire, want) {
			t.Fatalf("%q is sent as %q", in, wire)
		}
	})
}

// newSpool gives a spool without a file: what it would write stays in its buffer.
func newSpool(testing.TB) *spool {
	b := make([]byte, 0, 1<<20)
	return &spool{fd: math.MaxInt32, buf: &b, begun: time.Now()}
}
