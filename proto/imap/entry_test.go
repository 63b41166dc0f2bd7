package imap

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// What the cache knows of a message is what its file says.
func TestEntryCorpus(t *testing.T) {
	dirs := []string{"../../cmd/testdata/corpus"}
	if dir := os.Getenv("PENNYPOST_CORPUS"); dir != "" {
		dirs = append(dirs, dir)
	}
	n := 0
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.eml"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n++
			t.Run(filepath.Base(file), func(t *testing.T) { checkEntry(t, text) })
		}
	}
	t.Log(n, "messages")
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("Subject: Re: [x] y\nFrom: a b <a@b>\nReferences: <a@b> <c@d>\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\na\n--x\nContent-Type: message/rfc822\n\nSubject: z\n\nq\n--x--\n"))
	f.Add([]byte("Content-Type: text/html\n\n<style>a</style><p>x &amp; y<!-- z --></p>"))
	f.Add([]byte("Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=\"\\\"\"\n\n--\"\nContent-Type: text/x; name=\"a\\\"\x80(\"\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) { checkEntry(t, text) })
}

// What comes from a cache that somebody has made up harms nobody.
func FuzzMadeUp(f *testing.F) {
	f.Add([]byte(`("text" "plain" NIL NIL NIL "7bit" 3 1 NIL NIL NIL NIL)`))
	f.Add([]byte(`((("a" "b" ("c" {3}` + "\r\n" + `d") NIL NIL "x" 1 NIL (") "mixed" NIL)`))
	f.Add([]byte(`("message" "rfc822" NIL NIL NIL "7bit" 3 (NIL) ("x" "y" NIL NIL NIL "z" 0) 7)`))
	f.Add([]byte{0, 1, 0, 4, 0, 8, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, text []byte) {
		once := appendBody([]byte("x"), text)
		if twice := appendBody(nil, once[1:]); once[0] != 'x' || !bytes.Equal(twice, once[1:]) {
			t.Errorf("%q became %q, then %q", text, once, twice)
		}
		if tree := readPartMap(text); tree != nil {
			again := readPartMap(appendPartMap(nil, tree))
			if !reflect.DeepEqual(tree, again) {
				t.Errorf("%q", text)
			}
		}
	})
}

func checkEntry(t *testing.T, text []byte) {
	entry := func(level maildir.Level) *maildir.Entry {
		e := &maildir.Entry{Level: level, Size: -1}
		if err := makeEntry(bytes.NewReader(text), int64(len(text)), level, e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	whole, head := entry(maildir.Whole), entry(maildir.Header)
	tree, err := mimetree.Parse(bytes.NewReader(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, got, want []byte) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	for i := range maildir.TextStructure {
		same("text of the header alone", head.Texts[i], whole.Texts[i])
	}
	if head.Sent != whole.Sent || head.HasSent != whole.HasSent || head.Zone != whole.Zone {
		t.Errorf("sent %v, %v", head, whole)
	}
	for k := range sortKeyCount {
		if k.level() == maildir.Header && k != sortRelevancy {
			checkBrief(t, k, text, head)
		}
	}
	same("ENVELOPE", whole.Texts[maildir.TextEnvelope], appendEnvelope(nil, tree.Envelope, nil))
	structure := whole.Texts[maildir.TextStructure]
	same("BODYSTRUCTURE", structure, appendStructure(nil, tree, true))
	same("BODY", appendBody(nil, structure), appendStructure(nil, tree, false))
	if n := int64(len(text)) + bare(text, false); whole.Size != n {
		t.Errorf("%d octets, want %d", whole.Size, n)
	}

	src := &source{ReaderAt: bytes.NewReader(text), text: text, stored: int64(len(text)), tree: tree}
	some := map[string]bool{"from": true, "subject": true, "references": true, "content-type": true}
	for _, names := range []map[string]bool{some, usualFields} {
		it := fetchItem{section: true, text: "HEADER.FIELDS", fields: names}
		want, _, err := src.headerFields(it)
		if err != nil {
			t.Fatal(err)
		}
		if usual := whole.Texts[maildir.TextFields]; it.usual() && usual != nil {
			same("HEADER.FIELDS", appendFields(nil, usual, it), want)
		}
	}

	parts := readPartMap(whole.Texts[maildir.TextParts])
	if parts == nil {
		t.Fatal("no part map")
	}
	same("part map", appendPartMap(nil, parts), whole.Texts[maildir.TextParts])
	for section := range tree.All() {
		for _, spec := range []string{section, section + ".MIME", section + ".HEADER", section + ".TEXT", section + ".1"} {
			want, ok := tree.Section(spec)
			got, found := parts.Section(spec)
			if want.Lines = 0; got != want || found != ok {
				t.Errorf("section %s: %v, want %v", spec, got, want)
			}
		}
	}

	for _, i := range []maildir.Text{maildir.TextSubject, maildir.TextPreview} {
		if !utf8.Valid(whole.Texts[i]) {
			t.Errorf("text %d: %q", i, whole.Texts[i])
		}
	}
	preview := string(whole.Texts[maildir.TextPreview])
	if utf8.RuneCountInString(preview) > previewLength || preview != shorten(preview) {
		t.Errorf("preview %q", preview)
	}
	subject := strings.TrimSuffix(string(whole.Texts[maildir.TextSubject]), "\x00")
	if again, _ := baseSubject(subject); again != subject {
		t.Errorf("base subject %q became %q", subject, again)
	}
	for id := range strings.SplitSeq(string(whole.Texts[maildir.TextThread]), "\x00") {
		if strings.ContainsAny(id, "\r\n \t") {
			t.Errorf("id %q", id)
		}
	}
}

// What is made in haste to sort by is what the cache would know.
func checkBrief(t *testing.T, k sortKey, text []byte, want *maildir.Entry) {
	t.Helper()
	e := &maildir.Entry{Level: maildir.Header, Size: -1}
	if err := brief[k].Make(bytes.NewReader(text), int64(len(text)), maildir.Header, e); err != nil {
		t.Fatal(err)
	}
	got, as := newKeys(k), newKeys(k)
	got.add(e)
	as.add(want)
	switch got := got.(type) {
	case *numberKeys:
		if got.rows[0] != as.(*numberKeys).rows[0] {
			t.Errorf("key %d: %v, want %v", k, got.rows, as.(*numberKeys).rows)
		}
	case *textKeys:
		if !bytes.Equal(got.all, as.(*textKeys).all) {
			t.Errorf("key %d: %q, want %q", k, got.all, as.(*textKeys).all)
		}
	case *linkKeys:
		if as := as.(*linkKeys); got.sent[0] != as.sent[0] || !slices.Equal(got.raw, as.raw) {
			t.Errorf("key %d: %v %v, want %v %v", k, got.sent, got.raw, as.sent, as.raw)
		}
	}
}

// The examples are those of RFC 5256 §2.1 and of mail. What begins with + tells
// of an answer or a forwarded message.
func TestBaseSubject(t *testing.T) {
	for subject, want := range map[string]string{
		"hello":                              "hello",
		"  Re: \t hello ":                    "+hello",
		"a\r\n b\tc  d":                      "a b c d",
		"a\u00a0\u00a0b":                     "a\u00a0\u00a0b",
		"Re: Re: Fwd: hello (fwd) (Fwd)":     "+hello",
		"re[2]: hello":                       "+hello",
		"Re [x] : hello":                     "+hello",
		"Re [x]: hello":                      "+hello",
		"[list] hello":                       "hello",
		"[list] Re: [other] hello":           "+hello",
		"[a] [b] [c]":                        "[c]",
		"[a]":                                "[a]",
		"[fwd: hello]":                       "+hello",
		"[fwd: hello] there":                 "there",
		"[Fwd: Re: [list] hello (fwd)]":      "+hello",
		"[fwd: [fwd: [a] b]]":                "+b",
		"fwd":                                "fwd",
		"fw: hello":                          "+hello",
		"regards":                            "regards",
		"Re: ":                               "+",
		"(fwd)":                              "+",
		"[a[b] x":                            "[a[b] x",
		strings.Repeat("[a] ", 250000) + "x": "x",
		strings.Repeat("[fwd:", 9) + "x":     strings.Repeat("[fwd:", 9) + "x",
	} {
		got, reply := baseSubject(subject)
		if reply {
			got = "+" + got
		}
		if got != want {
			t.Errorf("%.60q: %.60q, want %q", subject, got, want)
		}
	}
}

// RFC 5256 §2.2
func TestSentTime(t *testing.T) {
	for date, want := range map[string]string{
		"31 Dec 2000 16:01:33 -0800":         "2001-01-01T00:01:33Z",
		"1 Jan 2001 00:01:33 +0000":          "2001-01-01T00:01:33Z",
		"Mon, 1 Feb 1999 10:00:00 nonsense":  "1999-02-01T10:00:00Z",
		"Mon, 1 Feb 1999 10:00:00":           "1999-02-01T10:00:00Z",
		"Mon, 1 Feb 1999 31:99:00 +0000":     "1999-02-01T00:00:00Z",
		"1 Feb 1999 noon":                    "1999-02-01T00:00:00Z",
		"1 Feb 1999":                         "1999-02-01T00:00:00Z",
		"32 Feb 1999 10:00:00 +0000":         "",
		"yesterday":                          "",
		"":                                   "",
		strings.Repeat("1 Feb 1999 ", 10000): "1999-02-01T00:00:00Z",
	} {
		got := ""
		if at, ok := sentTime(date); ok {
			got = at.UTC().Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%.60q: %q, want %q", date, got, want)
		}
	}
}

func TestThread(t *testing.T) {
	for _, c := range []struct {
		e    mimetree.Envelope
		want []string
	}{
		{mimetree.Envelope{}, []string{""}},
		{mimetree.Envelope{MessageID: "<a@b>", References: "<1@x> (c) <2@x>", InReplyTo: "<3@x>"}, []string{"a@b", "1@x", "2@x"}},
		{mimetree.Envelope{MessageID: "<a@b>", InReplyTo: "your mail <3@x> <4@x>"}, []string{"a@b", "3@x"}},
		{mimetree.Envelope{MessageID: `<"01KF8JCEOCBS0045PS"@xxx.yyy.com>`}, []string{"01KF8JCEOCBS0045PS@xxx.yyy.com"}},
		{mimetree.Envelope{MessageID: `<"a>b"@c>`, References: "<x<y@z> <none> <@x>"}, []string{`"a>b"@c`, "y@z"}},
	} {
		got := strings.Split(strings.TrimSuffix(string(appendThread(nil, &c.e)), "\x00"), "\x00")
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.e, got, c.want)
		}
	}
	var refs strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&refs, "<%d@x> ", i)
	}
	got := strings.Split(string(appendThread(nil, &mimetree.Envelope{References: refs.String()})), "\x00")
	if n := len(got); n < 500 || n > 2000 || got[1] != "0@x" || got[n-2] != "4999@x" || got[n-3] != "4998@x" {
		t.Errorf("of many references %d are left: %.100q", n, got)
	}
}

func TestPreview(t *testing.T) {
	for text, want := range map[string]string{
		"Subject: x\n\nDear  Bob,\n\n\tplease\r\nfind it.\n":                                                       "Dear Bob, please find it.",
		"Content-Type: text/plain; charset=latin1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe\n":     "Grüße",
		"Content-Type: text/html\n\n<title>no</title><STYLE>p{}</style ><p>a&amp;b<br>c<!-- > -->d":                "a&b c d",
		"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/html\n\n<p>h\n--x\n\nplain\n--x--\n": "plain",
		"Content-Type: image/png\n\nx":          "",
		"\n" + strings.Repeat("word ", 100):     strings.TrimSpace(strings.Repeat("word ", 40)),
		"\n" + strings.Repeat("\u00e4", 100000): strings.Repeat("\u00e4", 200),
	} {
		e := &maildir.Entry{Level: maildir.Whole}
		if err := makeEntry(strings.NewReader(text), int64(len(text)), maildir.Whole, e); err != nil {
			t.Fatal(err)
		}
		if got := string(e.Texts[maildir.TextPreview]); got != want {
			t.Errorf("%.80q: %q, want %q", text, got, want)
		}
	}
}
