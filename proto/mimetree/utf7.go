package mimetree

import (
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"
)

// utf7 decodes UTF-7 (RFC 2152). There is no encoder: nobody should write it.
type utf7 struct{}

func (utf7) NewDecoder() *encoding.Decoder {
	return &encoding.Decoder{Transformer: &utf7Decoder{}}
}

func (utf7) NewEncoder() *encoding.Encoder { return encoding.Replacement.NewEncoder() }

type utf7Decoder struct {
	shifted bool
	first   bool   // just behind the plus sign
	bits    uint32 // not yet a UTF-16 unit
	n       int    // how many
	high    rune   // a surrogate that waits for the second
}

func (d *utf7Decoder) Reset() { *d = utf7Decoder{} }

func (d *utf7Decoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for ; nSrc < len(src); nSrc++ {
		if nDst+2*utf8.UTFMax > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		if !d.shifted {
			if c == '+' {
				d.shifted, d.first, d.bits, d.n, d.high = true, true, 0, 0, 0
				continue
			}
			r := rune(c)
			if c >= utf8.RuneSelf {
				r = utf8.RuneError
			}
			nDst += utf8.EncodeRune(dst[nDst:], r)
			continue
		}
		v := base64Values[c]
		if v >= 64 { // the end of the base64
			if d.high != 0 {
				nDst += utf8.EncodeRune(dst[nDst:], utf8.RuneError)
			}
			switch {
			case c == '-' && d.first:
				dst[nDst] = '+'
				nDst++
			case c == '-':
			default:
				r := rune(c)
				if c >= utf8.RuneSelf {
					r = utf8.RuneError
				}
				nDst += utf8.EncodeRune(dst[nDst:], r)
			}
			d.shifted, d.high = false, 0
			continue
		}
		d.first = false
		d.bits, d.n = d.bits<<6|uint32(v), d.n+6
		if d.n < 16 {
			continue
		}
		d.n -= 16
		u := rune(d.bits >> d.n & 0xffff)
		switch {
		case d.high != 0 && utf16.DecodeRune(d.high, u) != utf8.RuneError:
			nDst += utf8.EncodeRune(dst[nDst:], utf16.DecodeRune(d.high, u))
			d.high = 0
			continue
		case d.high != 0:
			nDst += utf8.EncodeRune(dst[nDst:], utf8.RuneError)
			d.high = 0
		}
		if u >= 0xd800 && u < 0xdc00 {
			d.high = u
		} else {
			nDst += utf8.EncodeRune(dst[nDst:], u)
		}
	}
	return nDst, nSrc, nil
}

// iso2022 decodes ISO-2022-KR (RFC 1557) and the GB 2312 part of ISO-2022-CN (RFC 1922): between SO and
// SI the octets are those of an EUC encoding without their high bits.
type iso2022 struct{ euc encoding.Encoding }

func (e iso2022) NewDecoder() *encoding.Decoder {
	return &encoding.Decoder{Transformer: transform.Chain(&iso2022Lift{}, e.euc.NewDecoder().Transformer)}
}

func (iso2022) NewEncoder() *encoding.Encoder { return encoding.Replacement.NewEncoder() }

// iso2022Lift sets the high bits between SO and SI, and takes the escape sequences out.
type iso2022Lift struct {
	out    bool // shifted out
	escape int  // octets of an escape sequence seen
}

func (l *iso2022Lift) Reset() { *l = iso2022Lift{} }

func (l *iso2022Lift) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for ; nSrc < len(src); nSrc++ {
		if nDst == len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		switch c := src[nSrc]; {
		case l.escape > 0: // ESC, intermediates 0x20-0x2f, one final octet
			if l.escape++; c < 0x20 || c > 0x2f || l.escape > 4 {
				l.escape = 0
			}
		case c == 0x1b:
			l.escape = 1
		case c == 0x0e:
			l.out = true
		case c == 0x0f:
			l.out = false
		case c == '\n':
			l.out = false // RFC 1922: a line end shifts in
			dst[nDst] = c
			nDst++
		case l.out && c > 0x20 && c < 0x7f:
			dst[nDst] = c | 0x80
			nDst++
		default:
			dst[nDst] = c
			nDst++
		}
	}
	return nDst, nSrc, nil
}
