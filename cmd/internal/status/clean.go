package status

import (
	"unicode"
	"unicode/utf8"
)

func decode(s string) (rune, int) { return utf8.DecodeRuneInString(s) }

// printable tells whether r may be shown as it is: no control character, no
// format character that turns the writing direction, no broken UTF-8.
func printable(r rune) bool {
	return r != utf8.RuneError && unicode.IsPrint(r)
}
