package imap

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// parse gives a parser a command with its literals.
func parse(command string) *parser {
	line, rest, _ := strings.Cut(command, "\r\n")
	p := &parser{line: line, rest: line}
	p.more = func(l announced) (string, string, error) {
		if l.size > int64(len(rest)) {
			return "", "", errors.New("too short")
		}
		text := rest[:l.size]
		line, rest, _ = strings.Cut(rest[l.size:], "\r\n")
		return text, line, nil
	}
	return p
}

func TestAString(t *testing.T) {
	for command, want := range map[string]string{
		`abc`:                       "abc",
		`a]c`:                       "a]c",
		`""`:                        "",
		`"a b"`:                     "a b",
		`"a\"\\b"`:                  `a"\b`,
		"{3}\r\na\"b":               `a"b`,
		"{0+}\r\n":                  "",
		"{5+}\r\n\r\n{1}":           "\r\n{1}",
		`"` + "\xc3\xa4" + `"`:      "ä",
		"{18}\r\n0123456789012345":  "!",
		`"a`:                        "!",
		`"a\b"`:                     "!",
		"":                          "!",
		"(":                         "!",
		"{x}\r\n":                   "!",
		"{}\r\n":                    "!",
		"{-1}\r\n":                  "!",
		"{1}x\r\na":                 "!",
		"a\x00b":                    "!",
		"\"a\x00b\"":                "!",
		"{1}\r\n\x00":               "!",
		"a b":                       "!",
		"a{1}\r\nb":                 "!",
		"{9999999999999999999}\r\n": "!",
	} {
		p := parse(command)
		got := p.astring()
		if p.end() != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q (%v), want %q", command, got, p.err, want)
		}
	}
}

func TestNumSet(t *testing.T) {
	for text, want := range map[string]string{
		"1":               "1",
		"*":               "10",
		"2,4:7,9,12:*":    "2,4:7,9:12",
		"*:4,5:7":         "4:10",
		"4:2":             "2:4",
		"3,1:2,3":         "1:3",
		"50:*":            "10:50",
		"1,2,3,5":         "1:3,5",
		"4294967295":      "10", // as "*": no UID is that large
		"1:4294967295":    "1:10",
		"4294967294":      "4294967294",
		"0":               "!",
		"1,":              "!",
		"1:":              "!",
		":1":              "!",
		"1:2:3":           "!",
		"4294967296":      "!",
		"01":              "1",
		"1,*:1,2:3,7:*,*": "1:10",
	} {
		p := parse(text)
		set := p.numSet()
		got := ""
		if p.end() != nil {
			got = "!"
		} else {
			got = set.in(10).String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestNumSetHas(t *testing.T) {
	p := parse("2,4:7,9,12:*")
	set := p.numSet().in(15)
	for n := range uint32(20) {
		want := n == 2 || n >= 4 && n <= 7 || n == 9 || n >= 12 && n <= 15
		if set.has(n) != want {
			t.Errorf("has(%d) = %v", n, !want)
		}
	}
}

func TestDates(t *testing.T) {
	for text, want := range map[string]string{
		`"17-Jul-1996 02:44:25 -0700"`: "1996-07-17T02:44:25-07:00",
		`" 7-Feb-1994 21:52:25 +0000"`: "1994-02-07T21:52:25Z",
		`"7-Feb-1994 21:52:25 +0000"`:  "1994-02-07T21:52:25Z",
		`"31-Feb-1994 21:52:25 +0000"`: "",
		`"17-Jul-1996"`:                "",
		`17-Jul-1996`:                  "",
	} {
		p := parse(text)
		got := p.dateTime()
		if p.end() != nil {
			if want != "" {
				t.Errorf("%s: %v", text, p.err)
			}
			continue
		}
		if got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}

func TestFetchItems(t *testing.T) {
	for text, want := range map[string]fetchItem{
		"BODY[]":                          {what: "BODY[]", section: true},
		"body.peek[1.2.mime]":             {what: "BODY[1.2.MIME]", section: true, number: "1.2", text: "MIME", peek: true},
		"BODY[3]<1.20>":                   {what: "BODY[3]", section: true, number: "3", partial: true, offset: 1, most: 20},
		"BODY[TEXT]":                      {what: "BODY[TEXT]", section: true, text: "TEXT"},
		`BODY[1.HEADER.FIELDS (A "b c")]`: {what: `BODY[1.HEADER.FIELDS (A "b c")]`, section: true, number: "1", text: "HEADER.FIELDS", fields: map[string]bool{"a": true, "b c": true}},
		"RFC822.HEADER":                   {what: "RFC822.HEADER", section: true, text: "HEADER", peek: true},
		"bodystructure":                   {what: "BODYSTRUCTURE"},
		"BODY[1.]":                        {},
		"BODY[1.2":                        {},
		"BODY[.1]":                        {},
		"BODY[]<-1.2>":                    {},
		"BODY[1]TEXT":                     {},
		"BODY[HEADER.FIELDS(A)]":          {},
		"RFC822[]":                        {},
		"X":                               {},
	} {
		p := parse(text)
		got := p.fetchAtt()
		if p.end() != nil {
			got = fetchItem{}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v (%v), want %+v", text, got, p.err, want)
		}
	}
}

// A string that was written is read back.
func FuzzString(f *testing.F) {
	f.Add("abc")
	f.Add(`"\`)
	f.Add("a\r\nb\xff")
	f.Add("NIL")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.IndexByte(s, 0) >= 0 {
			return
		}
		for _, text := range []string{string(appendString(nil, s)), astring(s)} {
			p := parse(text)
			if got := p.astring(); p.end() != nil || got != s {
				t.Errorf("%q became %q, and that %q (%v)", s, text, got, p.err)
			}
		}
	})
}

// Whatever is sent, the parser comes to an end; what it takes means the same
// when it is written and read again.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		"1:*,3 (FLAGS BODY[1.HEADER.FIELDS (a b)]<0.1>)",
		"OR (SEEN NOT FROM x) UID 1:3",
		"+FLAGS.SILENT (\\Seen $x)",
		"\"INBOX\" (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}\r\nabc",
		"((((((((((",
		"(67890007 90060115194045000 41:211,214:541 (5,9990:9999 15000,29970:29979))",
		"(UNCHANGEDSINCE 12)", "(CHANGEDSINCE 12345 VANISHED)", "\"/flags/\\\\draft\" all 620162338",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rules := map[string]func(*parser){
			"items":   func(p *parser) { p.fetchItems() },
			"flags":   func(p *parser) { p.flagList() },
			"mailbox": func(p *parser) { p.mailbox() },
			"date":    func(p *parser) { p.date() },
			"time":    func(p *parser) { p.dateTime() },
			"qresync": func(p *parser) { p.sp(); p.qresyncParam() },
			"store":   func(p *parser) { since := int64(-1); p.modifiers(func(n string) { p.storeModifier(n, &since) }) },
			"fetch":   func(p *parser) { var m fetchModifiers; p.modifiers(func(n string) { m.read(p, n) }) },
			"modseq":  func(p *parser) { p.searchModSeq() },
			"status":  func(p *parser) { p.statusAtts() },
			"search":  func(p *parser) { new(program).searchKey(p) },
		}
		for name, rule := range rules {
			p := parse(s)
			rule(p)
			if p.end() == nil && p.rest != "" {
				t.Errorf("%s leaves %q", name, p.rest)
			}
		}
		p := parse(s)
		if set := p.numSet(); p.end() == nil && !slices.Contains(set, dollar) { // that is no number
			again := parse(set.in(100).String())
			if got := again.numSet().in(100); again.end() != nil || got.String() != set.in(100).String() {
				t.Errorf("%s: %s, and again %s", s, set.in(100), got)
			}
		}
	})
}

func TestDepth(t *testing.T) {
	for _, s := range []string{strings.Repeat("(", 100000), strings.Repeat("NOT ", 100000), strings.Repeat("OR SEEN ", 100000)} {
		p := parse(s + "SEEN")
		new(program).searchKey(p)
		if p.err == nil {
			t.Errorf("%.20q is taken", s)
		}
	}
}

func TestWild(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "a.b", true},
		{"%", "a.b", false},
		{"%", "a", true},
		{"%.%", "a.b", true},
		{"a*b", "ab", true},
		{"a*b", "a.x.b", true},
		{"a%b", "a.b", false},
		{"", "", true},
		{"", "a", false},
		{"a", "", false},
		{"*%", "a.b", true},
		{"%*", "a.b", true},
		{"a%%b", "axxb", true},
		{"*a*a*a", "aaa", true},
		{"*a*a*a", "aa", false},
		{"inbox.%", "INBOX.a", true},
		{"InBox.*", "INBOX.a.b", true},
		{"inboxes", "inboxes", true},
		{"inbox%", "inboxes", true},
	} {
		if got := newPattern(c.pattern).matches(&name{text: c.text, wire: c.text}); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.text, got)
		}
	}
}

// Short names and long ones, against what regular expressions say.
func TestWildRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(letters string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	matched := 0
	for i := range 20000 {
		most := 8
		if i%10 == 0 {
			most = 200
		}
		p := text("ab.*%*%", r.IntN(most))
		name := text("ab.", r.IntN(most))
		if r.IntN(2) == 0 { // one that is likely to match
			name = strings.NewReplacer("*", text("ab.", r.IntN(3)), "%", text("ab", r.IntN(3))).Replace(p)
		}
		re := strings.NewReplacer(".", `\.`, "*", ".*", "%", `[^.]*`).Replace(p)
		want, err := regexp.MatchString("^"+re+"$", name)
		if err != nil {
			t.Fatal(err)
		}
		if got := newGlob(p, "*%", "").matches(name); got != want {
			t.Fatalf("%q matches %q: %v", p, name, got)
		}
		re = strings.NewReplacer(".", `\.`, "*", ".*", "%", ".").Replace(p)
		found, err := regexp.MatchString("^"+re+"$", name)
		if err != nil {
			t.Fatal(err)
		}
		if got := newGlob(p, "*", "%?").matches(name); got != found {
			t.Fatalf("%q finds %q: %v", p, name, got)
		}
		if want {
			matched++
		}
	}
	if matched < 5000 {
		t.Errorf("only %d matched", matched)
	}
}

// A pattern costs no more than its length times that of the name.
func TestWildBlowUp(t *testing.T) {
	start := time.Now()
	newPattern(strings.Repeat("*a", 400) + "b").matches(&name{text: "x", wire: strings.Repeat("a", 1000)})
	newPattern(strings.Repeat("%*", 5000) + "b").matches(&name{text: "x", wire: strings.Repeat("a", 1000)})
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestFold(t *testing.T) {
	for _, c := range [][2]string{
		{"Grüße", "grüße"}, {"ÄRGER", "a\u0308rger"}, {"ﬁne", "FINE"}, {"a \r\n b", "A b"}, {"ſ", "s"}, {"Σ", "ς"},
	} {
		if a, b := newNeedle(c[0]).text, newNeedle(c[1]).text; a != b {
			t.Errorf("%q folds to %q, %q to %q", c[0], a, c[1], b)
		}
	}
}

// What is found in a text does not depend on the pieces it comes in.
func TestHaystack(t *testing.T) {
	text := strings.Repeat("Lorem ipsum dolor sit amét, ", 50) + "the Needle lies\r\n here " + strings.Repeat("filler ", 100)
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		for needle, want := range map[string]bool{"needle LIES here": true, "AMÉT, lorem": true, "needles": false} {
			h := &haystack{needle: newNeedle(needle)}
			for rest := text; rest != "" && !h.found; {
				n := min(len(rest), 1+r.IntN(40))
				for n < len(rest) && rest[n]&0xc0 == 0x80 {
					n++
				}
				h.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			if h.found != want {
				t.Errorf("%q found: %v", needle, h.found)
			}
		}
	}
}
