package sasl

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// errPrepare reports a text that cannot be a name or a password.
var errPrepare = errors.New("characters that cannot be prepared")

// Prepare is SASLprep (RFC 4013), by which names and passwords that look the
// same become the same. Code points that were unassigned in 2002 pass, as in a
// query (RFC 3454 §7).
func Prepare(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errPrepare
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			ascii = false
		case c < ' ', c == 0x7f:
			return "", errPrepare // C.2.1
		}
	}
	if ascii {
		return s, nil
	}
	s = norm.NFKC.String(strings.Map(mapped, s)) // RFC 4013 §2.1, §2.2
	if strings.ContainsFunc(s, prohibited) || !oneWay(s) {
		return "", errPrepare
	}
	return s, nil
}

// mapped is the mapping of RFC 4013 §2.1: spaces become the space, what nobody
// sees goes away (-1).
func mapped(r rune) rune {
	switch {
	case unicode.Is(nothing, r):
		return -1
	case unicode.Is(spaces, r):
		return ' '
	}
	return r
}

// nothing is table B.1 of RFC 3454.
var nothing = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x00ad, Hi: 0x00ad, Stride: 1},
	{Lo: 0x034f, Hi: 0x034f, Stride: 1},
	{Lo: 0x1806, Hi: 0x1806, Stride: 1},
	{Lo: 0x180b, Hi: 0x180d, Stride: 1},
	{Lo: 0x200b, Hi: 0x200d, Stride: 1},
	{Lo: 0x2060, Hi: 0x2060, Stride: 1},
	{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1},
	{Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
}, LatinOffset: 1}

// spaces is table C.1.2.
var spaces = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x00a0, Hi: 0x00a0, Stride: 1},
	{Lo: 0x1680, Hi: 0x1680, Stride: 1},
	{Lo: 0x2000, Hi: 0x200b, Stride: 1},
	{Lo: 0x202f, Hi: 0x202f, Stride: 1},
	{Lo: 0x205f, Hi: 0x205f, Stride: 1},
	{Lo: 0x3000, Hi: 0x3000, Stride: 1},
}, LatinOffset: 1}

// never are the tables C.2.2, C.3, C.6, C.7, C.8 and C.9.
var never = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0080, Hi: 0x009f, Stride: 1},
		{Lo: 0x0340, Hi: 0x0341, Stride: 1},
		{Lo: 0x06dd, Hi: 0x06dd, Stride: 1},
		{Lo: 0x070f, Hi: 0x070f, Stride: 1},
		{Lo: 0x180e, Hi: 0x180e, Stride: 1},
		{Lo: 0x200c, Hi: 0x200f, Stride: 1},
		{Lo: 0x2028, Hi: 0x202e, Stride: 1},
		{Lo: 0x2060, Hi: 0x2063, Stride: 1},
		{Lo: 0x206a, Hi: 0x206f, Stride: 1},
		{Lo: 0x2ff0, Hi: 0x2ffb, Stride: 1},
		{Lo: 0xe000, Hi: 0xf8ff, Stride: 1},
		{Lo: 0xfdd0, Hi: 0xfdef, Stride: 1},
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
		{Lo: 0xfff9, Hi: 0xffff, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1},
		{Lo: 0xe0001, Hi: 0xe0001, Stride: 1},
		{Lo: 0xe0020, Hi: 0xe007f, Stride: 1},
		{Lo: 0xf0000, Hi: 0x10ffff, Stride: 1},
	},
	LatinOffset: 1,
}

// prohibited is RFC 4013 §2.3. Controls of ASCII have been looked for.
func prohibited(r rune) bool {
	return unicode.Is(never, r) || unicode.Is(spaces, r) || r&0xfffe == 0xfffe // C.4: no character on any plane
}

// oneWay is the check of RFC 3454 §6: what has letters written from right to
// left has none written from left to right, and begins and ends with one.
func oneWay(s string) bool {
	rtl, ltr, begins, ends := false, false, false, false
	for i, r := range s {
		p, _ := bidi.LookupRune(r)
		c := p.Class()
		ends = c == bidi.R || c == bidi.AL
		rtl = rtl || ends
		ltr = ltr || c == bidi.L
		if i == 0 {
			begins = ends
		}
	}
	return !rtl || !ltr && begins && ends
}
