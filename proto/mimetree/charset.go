package mimetree

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// charsets are those whose names no registry has, or whose registered meaning is of no use in mail.
var charsets = map[string]encoding.Encoding{
	"utf8":              encoding.Nop,
	"utf-8":             encoding.Nop,
	"us-ascii":          encoding.Nop,
	"ascii":             encoding.Nop,
	"utf-7":             utf7{},
	"utf7":              utf7{},
	"unicode-1-1-utf-7": utf7{},
	"utf-16":            unicode.UTF16(unicode.BigEndian, unicode.UseBOM),
	"utf-16be":          unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"utf-16le":          unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	"utf-32":            utf32.UTF32(utf32.BigEndian, utf32.UseBOM),
	"utf-32be":          utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM),
	"utf-32le":          utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM),
	"latin1":            charmap.ISO8859_1,
	"latin-1":           charmap.ISO8859_1,
	"iso8859-1":         charmap.ISO8859_1,
	"iso-8859-11":       charmap.Windows874,
	"tis-620":           charmap.Windows874,
	"cp932":             japanese.ShiftJIS,
	"ms932":             japanese.ShiftJIS,
	"sjis":              japanese.ShiftJIS,
	"shift-jis":         japanese.ShiftJIS,
	"x-sjis":            japanese.ShiftJIS,
	"eucjp":             japanese.EUCJP,
	"iso-2022-jp-1":     japanese.ISO2022JP,
	"iso-2022-jp-2":     japanese.ISO2022JP,
	"iso-2022-jp-3":     japanese.ISO2022JP,
	"iso-2022-jp-ms":    japanese.ISO2022JP,
	"cp50220":           japanese.ISO2022JP,
	"cp50221":           japanese.ISO2022JP,
	"cp949":             korean.EUCKR,
	"uhc":               korean.EUCKR,
	"ks_c_5601-1987":    korean.EUCKR,
	"ks_c_5601":         korean.EUCKR,
	"euckr":             korean.EUCKR,
	"iso-2022-kr":       iso2022{korean.EUCKR},
	"iso-2022-cn":       iso2022{simplifiedchinese.GBK},
	"iso-2022-cn-ext":   iso2022{simplifiedchinese.GBK},
	"cp936":             simplifiedchinese.GBK,
	"gb2312":            simplifiedchinese.GBK,
	"euc-cn":            simplifiedchinese.GBK,
	"x-gbk":             simplifiedchinese.GBK,
	"gb18030":           simplifiedchinese.GB18030,
	"hz":                simplifiedchinese.HZGB2312,
	"hz-gb-2312":        simplifiedchinese.HZGB2312,
	"cp950":             traditionalchinese.Big5,
	"big5-eten":         traditionalchinese.Big5,
	"cp1250":            charmap.Windows1250,
	"cp1251":            charmap.Windows1251,
	"cp1252":            charmap.Windows1252,
	"cp1253":            charmap.Windows1253,
	"cp1254":            charmap.Windows1254,
	"cp1255":            charmap.Windows1255,
	"cp1256":            charmap.Windows1256,
	"cp1257":            charmap.Windows1257,
	"cp1258":            charmap.Windows1258,
	"cp850":             charmap.CodePage850,
	"cp866":             charmap.CodePage866,
	"koi8r":             charmap.KOI8R,
	"koi8u":             charmap.KOI8U,
	"macroman":          charmap.Macintosh,
	"x-mac-roman":       charmap.Macintosh,
	"mac":               charmap.Macintosh,
	"viscii":            viscii,
}

// Charset finds a character set by the name that mail gives it; case does not matter. It reports
// false for a name that is unknown or says nothing (unknown-8bit, binary).
func Charset(name string) (encoding.Encoding, bool) {
	name = strings.Trim(strings.ToLower(name), "\"' \t<>;")
	if len(name) > 64 {
		return nil, false
	}
	if e, ok := charsets[name]; ok {
		return e, true
	}
	for _, e := range []func() (encoding.Encoding, error){
		func() (encoding.Encoding, error) { return ianaindex.MIME.Encoding(name) },
		func() (encoding.Encoding, error) { return htmlindex.Get(name) },
	} {
		if e, err := e(); err == nil && e != nil && e != encoding.Replacement {
			return e, true
		}
	}
	switch {
	case strings.HasPrefix(name, "windows_"), strings.HasPrefix(name, "iso_8859_"):
		return Charset(strings.ReplaceAll(name, "_", "-"))
	case strings.HasPrefix(name, "x-windows-"), strings.HasPrefix(name, "x-iso-"):
		return Charset(name[2:])
	case strings.HasPrefix(name, "windows") && len(name) > 7 && name[7] >= '0' && name[7] <= '9':
		return Charset("windows-" + name[7:])
	case strings.HasPrefix(name, "win-"):
		return Charset("windows-" + name[4:])
	case strings.HasPrefix(name, "iso8859-"):
		return Charset("iso-" + name[3:])
	case strings.HasPrefix(name, "iso88591"):
		return charmap.ISO8859_1, true
	}
	return nil, false
}

// decodeCharset is text in a charset as UTF-8. Where the charset is unknown, UTF-8 is taken when it is
// that, else windows-1252.
func decodeCharset(name, text string) string {
	e, ok := Charset(name)
	if !ok || e == encoding.Nop {
		return toUTF8(text)
	}
	if e == charmap.ISO8859_1 {
		e = charmap.Windows1252 // its C1 controls are never meant in a header
	}
	b, _, err := transform.String(e.NewDecoder(), text)
	if err != nil {
		return toUTF8(text)
	}
	return b
}

// toUTF8 is text that claims no charset or UTF-8, made valid: what is not UTF-8 is read as windows-1252.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b, err := charmap.Windows1252.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	return b
}

// NewTextWriter returns a writer that turns text in a charset into UTF-8 as it passes to w; Close ends
// the text and does not close w. ok is false when the charset is unknown: then octets that
// are not UTF-8 pass as windows-1252.
func NewTextWriter(w io.Writer, charset string) (_ io.WriteCloser, ok bool) {
	e, ok := Charset(charset)
	switch {
	case charset == "":
		return &utf8Writer{w: w}, true
	case !ok:
		return &utf8Writer{w: w}, false
	case e == encoding.Nop:
		return &utf8Writer{w: w, declared: true}, true
	}
	return transform.NewWriter(w, e.NewDecoder()), true
}

// A utf8Writer passes UTF-8 and reads what is not that as windows-1252, octet by octet.
type utf8Writer struct {
	w        io.Writer
	declared bool   // it is said to be UTF-8: what is not becomes U+FFFD
	rest     []byte // of a character cut in two
	out      []byte
}

func (u *utf8Writer) Write(p []byte) (int, error) {
	n := len(p)
	if len(u.rest) > 0 {
		p = append(u.rest, p...)
		u.rest = nil
	}
	full := len(p)
	for i := 1; i <= min(utf8.UTFMax-1, len(p)); i++ {
		if utf8.RuneStart(p[len(p)-i]) {
			if !utf8.FullRune(p[len(p)-i:]) {
				full = len(p) - i
			}
			break
		}
	}
	rest := append([]byte(nil), p[full:]...)
	if err := u.put(p[:full]); err != nil {
		return 0, err
	}
	u.rest = rest
	return n, nil
}

func (u *utf8Writer) put(p []byte) error {
	if utf8.Valid(p) {
		_, err := u.w.Write(p)
		return err
	}
	u.out = u.out[:0]
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n <= 1 {
			if n = 1; !u.declared {
				r = charmap.Windows1252.DecodeByte(p[0])
			}
		}
		u.out = utf8.AppendRune(u.out, r)
		p = p[n:]
	}
	_, err := u.w.Write(u.out)
	return err
}

func (u *utf8Writer) Close() error {
	rest := u.rest
	u.rest = nil
	if len(rest) == 0 {
		return nil
	}
	return u.put(rest)
}
