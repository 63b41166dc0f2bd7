package mimetree

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParams(t *testing.T) {
	for _, tt := range []struct{ field, value, name, want string }{
		{`text/plain; charset=us-ascii`, "text/plain", "charset", "us-ascii"},
		{`Text/HTML;CHARSET="utf-8"`, "text/html", "charset", "utf-8"},
		{`text/plain (a comment (nested)) ; charset = utf-8 (Unicode)`, "text/plain", "charset", "utf-8"},
		{`text/plain charset=utf-8`, "text/plain", "charset", "utf-8"},
		{`text/plain; charset="utf-8" format=flowed`, "text/plain", "format", "flowed"},
		{`text/plain; charset=utf-8 format=flowed`, "text/plain", "charset", "utf-8"},
		{`multipart/mixed; boundary=----=_Part_1`, "multipart/mixed", "boundary", "----=_Part_1"},
		{`multipart/mixed; boundary="a; b"`, "multipart/mixed", "boundary", "a; b"},
		{`multipart/mixed;; boundary=a; type`, "multipart/mixed", "boundary", "a"},
		{"multipart/mixed;\r\n\tboundary=a", "multipart/mixed", "boundary", "a"},
		{`attachment; filename=my file (1).pdf`, "attachment", "filename", "my file (1).pdf"},
		{`attachment; filename="C:\temp\x.txt"`, "attachment", "filename", `C:\temp\x.txt`},
		{`attachment; filename="a \"b\" c"`, "attachment", "filename", `a "b" c`},
		{`attachment; filename="never closed.txt`, "attachment", "filename", "never closed.txt"},
		{`attachment; filename=first; filename=second`, "attachment", "filename", "first"},
		{`attachment; filename*=iso-8859-1''na%EFve.txt`, "attachment", "filename", "naïve.txt"},
		{`attachment; filename*=utf-8'en'%E2%82%AC; filename=EUR`, "attachment", "filename", "€"},
		{`attachment; filename*1=c.txt; filename*0="a b "`, "attachment", "filename", "a b c.txt"},
		{`attachment; filename*0*=utf-8''%C3; filename*1*=%A4; filename*2=%.x`, "attachment", "filename", "ä%.x"},
		{`attachment; filename="=?utf-8?q?=C3=A4?="`, "attachment", "filename", "ä"},
		{"attachment; filename=\"\xe4.txt\"", "attachment", "filename", "ä.txt"},
		{"attachment; filename=\"ä.txt\"", "attachment", "filename", "ä.txt"},
		{``, "", "x", ""},
		{`;a=b`, "", "a", "b"},
	} {
		value, params := ParseParams(tt.field)
		if got := params.Get(tt.name); value != tt.value || got != tt.want {
			t.Errorf("%q: %q, %s=%q; want %q, %q", tt.field, value, tt.name, got, tt.value, tt.want)
		}
	}
	_, p := ParseParams(`a/b; filename*1*=b; x=y; filename*0*=utf-8''a; x=z; n*0=p; n*1=q`)
	if got, want := p.Joined(), (Params{{"filename*", "utf-8''ab"}, {"x", "y"}, {"n", "pq"}}); !slices.Equal(got, want) {
		t.Errorf("joined: %q, want %q", got, want)
	}
}

func TestDecodeWords(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                    "plain",
		"=?iso-8859-1?Q?Andr=E9?= Pirard":          "André Pirard", // RFC 2047 §8
		"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=":    "ab",
		"=?ISO-8859-1?Q?a?= b":                     "a b",
		"=?ISO-8859-1?Q?a_b?=":                     "a b",
		"=?utf-8?b?w6Q?=":                          "ä", // no padding
		"=?utf-8?q?=C3?=\r\n =?utf-8?q?=A4?=":      "ä", // a character in two words
		"=?utf-8*de?q?=C3=A4?=":                    "ä", // RFC 2231 §5
		"a=?utf-8?q?b?=c":                          "abc",
		"=?utf-8?q?a b?=":                          "a b",
		"=?utf-8?q?what??=":                        "what?",
		"=?unknown?q?=E4?=":                        "ä",
		"=?us-ascii?x?a?=":                         "=?us-ascii?x?a?=",
		"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=":       "日本",
		"=?iso-2022-kr?B?GyQpQw4wIQ8=?=":           "가",
		"=?gb2312?B?xOO6ww==?=":                    "你好",
		"=?koi8-r?B?8NLJ18XU?=":                    "Привет",
		"=?utf-7?Q?+AOQ-?=":                        "ä",
		"=?cp932?B?k/qWew==?=":                     "日本",
		"=?windows-1252?q?=80?=":                   "€",
		"\xe4 and =?utf-8?q?=C3=B6?=":              "ä and ö",
		"=?=?=":                                    "=?=?=",
		"=?utf-8?b?SGVsbG8=?==?utf-8?b?IHdvcmxk?=": "Hello world",
	} {
		if got := DecodeWords(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"bob@hamburger.edu":                      "|bob|hamburger.edu",
		"Bob <bob@hamburger.edu>":                "Bob|bob|hamburger.edu",
		`"Doe, Jane" <jane@x.org>, bob`:          "Doe, Jane|jane|x.org  |bob|",
		"bob@x.org (Bob B.)":                     "Bob B.|bob|x.org",
		"Friends: a@b, C <c@d>; e@f":             "{Friends} |a|b C|c|d {} |e|f",
		"undisclosed-recipients:;":               "{undisclosed-recipients} {}",
		`"a b"@x.org`:                            "|a b|x.org",
		"John Q. Public <j@x>":                   "John Q. Public|j|x",
		"<@a,@b:c@d>":                            "|c|d via @a,@b",
		"a@[192.0.2.1]":                          "|a|[192.0.2.1]",
		"=?utf-8?q?a,b?= <c@d>":                  "=?utf-8?q?a,b?=|c|d",
		"bob @ x . org":                          "|bob|x.org",
		"Bob B bob@x.org":                        "Bob B|bob|x.org",
		"a@b; c@d":                               "|a|b |c|d",
		",, a@b,,":                               "|a|b",
		"<>":                                     "||",
		`"Joe \"Q\"" <j@x>`:                      `Joe "Q"|j|x`,
		"pete(his account)@silly.test(his host)": "his account|pete|silly.test",
		"Pete <pete(his account)@silly.test>":    "Pete|pete|silly.test",
		"":                                       "",
	} {
		var got []string
		for _, a := range ParseAddresses(in) {
			switch a.Kind {
			case GroupStart:
				got = append(got, "{"+a.Local+"}")
			case GroupEnd:
				got = append(got, "{}")
			default:
				s := a.Name + "|" + a.Local + "|" + a.Domain
				if a.Route != "" {
					s += " via " + a.Route
				}
				got = append(got, s)
			}
		}
		if s := strings.Join(got, " "); s != strings.ReplaceAll(want, "  ", " ") {
			t.Errorf("%q: %q, want %q", in, s, want)
		}
	}
	for _, a := range []Address{{Local: "a b", Domain: "x"}, {Local: `q"\`, Domain: "x"}, {Local: "bob"}} {
		if local, domain := SplitAddr(a.Addr()); local != a.Local || domain != a.Domain {
			t.Errorf("%q is %q at %q", a.Addr(), local, domain)
		}
	}
}

func TestDates(t *testing.T) {
	for in, want := range map[string]string{
		"Fri, 21 Nov 1997 09:55:06 -0600":                                      "1997-11-21T09:55:06-06:00",
		"21 Nov 97 09:55:06 GMT":                                               "1997-11-21T09:55:06Z",
		"Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32\r\n -0330 (Newfoundland Time)": "1969-02-13T23:32:00-03:30",
		"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600":                      "",
		"Thu Nov 24 18:22:48 1986":                                             "1986-11-24T18:22:48Z",
		"Mon, 3 Jan 102 10:00:00 EST":                                          "2002-01-03T10:00:00-05:00",
		"1-Jan-2024 10:00:00 +0100":                                            "2024-01-01T10:00:00+01:00",
		"2024-02-29T10:00:00Z":                                                 "2024-02-29T10:00:00Z",
		"Tue, 12 Oct 2010 16:21:05 H0500":                                      "",
		"31 Feb 2024 10:00:00 +0000":                                           "",
		"nonsense":                                                             "",
		"":                                                                     "",
	} {
		got := ""
		if d, ok := ParseDate(in); ok {
			got = d.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestHeader(t *testing.T) {
	h := Header("\xef\xbb\xbfFrom : a\r\nrubbish\r\nSubject: one\r\n\ttwo\r\n three\r\nX:\r\nSubject: again\r\n\r\nBody: no\r\n")
	var got []string
	for f := range h.All() {
		got = append(got, fmt.Sprintf("%s=%s", f.Name, f.Text()))
	}
	if want := []string{"From=a", "Subject=one\ttwo three", "X=", "Subject=again"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if v := h.Values("SUBJECT"); len(v) != 2 || h.Get("subject") != v[0] || h.Get("Body") != "" {
		t.Errorf("%q", v)
	}
}

func TestFold(t *testing.T) {
	long := strings.Repeat("wörter und ", 30)
	for _, s := range []string{"", "plain", "a  b", " lead", long + "x", strings.Repeat("x", 500), "=?utf-8?q?literal?=", "tab\there", "日本語 テスト"} {
		want := strings.Trim(s, " ")
		if got := Header(FoldText("Subject", want)).Decoded("Subject"); got != want {
			t.Errorf("%q became %q by %q", want, got, FoldText("Subject", want))
		}
	}
	if out, err := FoldAddresses("To", ParseAddresses(`Jürgen <j@müller.example>, "Doe, Jane" <d@x>, G: a@b;`)); err != nil ||
		out != "To: =?utf-8?q?J=C3=BCrgen?= <j@xn--mller-kva.example>, \"Doe, Jane\" <d@x>, G:\n a@b;\n" && out != "To: =?utf-8?q?J=C3=BCrgen?= <j@xn--mller-kva.example>, \"Doe, Jane\" <d@x>, G: a@b;\n" {
		t.Errorf("%q, %v", out, err)
	}
	for _, bad := range []string{"jörg@x", "<>", "a b", ""} {
		if out, err := FoldAddresses("To", ParseAddresses(bad)); err == nil {
			t.Errorf("%q gives %q", bad, out)
		}
	}
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b", "\xff"} {
		if CheckValue(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestTransferEncodings(t *testing.T) {
	for _, tt := range []struct{ encoding, in, want, problem string }{
		{"base64", "aGVs\r\nbG8=\r\n", "hello", ""},
		{"base64", "aGVsbG8", "hello", "base64-cut"},
		{"base64", "aGVs!bG8=", "hello", "base64-foreign"},
		{"base64", "aGVsbG8=IHRoZXJl", "hello there", ""},
		{"quoted-printable", "a=\r\nb=C3=A4  \r\nc", "abä\r\nc", ""},
		{"quoted-printable", "a=zzb\x01=", "a=zzb\x01", "qp-bad-escape"},
		{"x-uuencode", "rubbish\nbegin 644 x\n#86)C\n`\nend\nmore", "abc", ""},
		{"x-uuencode", "begin 644 x\n#86)C\n", "abc", "uu-cut"},
		{"8bit", "\xe4", "\xe4", ""},
		{"8 bit", "\xe4", "\xe4", ""},
		{"wonder", "as it is", "as it is", "unknown-encoding"},
	} {
		var out strings.Builder
		d, _ := NewDecoder(&out, tt.encoding)
		d.Write([]byte(tt.in))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		problem := ""
		for _, p := range d.Problems() {
			problem = p.Code
		}
		if out.String() != tt.want || problem != tt.problem {
			t.Errorf("%s %q: %q %s, want %q %s", tt.encoding, tt.in, &out, problem, tt.want, tt.problem)
		}
	}
}
