package main

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"pennypost/proto/mimetree"
)

const maxName = 200 // octets of a file's name

// safeName makes the name that a sender gave into one that can be given to a file: the last component
// behind / or \, without characters that are invisible or turn the writing direction, not hidden,
// no option, at most 200 octets. A part without a name gets one from its section and type.
func safeName(name string, c *mimetree.Content, section string) string {
	name = strings.ToValidUTF8(name, "_")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), isFormat(r), r == utf8.RuneError:
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = strings.TrimLeft(name, " ")
	if lead := len(name) - len(strings.TrimLeft(name, ".-")); lead > 0 {
		name = strings.Repeat("_", lead) + name[lead:]
	}
	if kept := len(strings.TrimRight(name, ". ")); kept < len(name) {
		name = name[:kept] + strings.Repeat("_", min(len(name)-kept, maxName))
	}
	if strings.Trim(name, "_") == "" {
		name = "part-" + section + extension(c)
	}
	return shorten(name, maxName)
}

// shorten cuts a name before its extension, between characters.
func shorten(name string, most int) string {
	if len(name) <= most {
		return name
	}
	ext := path.Ext(name)
	if len(ext) > 20 {
		ext = ""
	}
	stem := name[:most-len(ext)]
	for len(stem) > 0 && !utf8.ValidString(stem[max(0, len(stem)-utf8.UTFMax):]) && !utf8.RuneStart(name[len(stem)]) {
		stem = stem[:len(stem)-1]
	}
	return stem + ext
}

// numbered is "name-1.ext".
func numbered(name string, n int) string {
	suffix := fmt.Sprintf("-%d", n)
	ext := path.Ext(name)
	if len(ext) > 20 || ext == name {
		ext = ""
	}
	return shorten(name[:len(name)-len(ext)], maxName-len(suffix)-len(ext)) + suffix + ext
}

// extension is what a file of a type is usually called.
func extension(c *mimetree.Content) string {
	if c.IsMessage() {
		return ".eml"
	}
	if ext := mimetree.ExtensionOf(c.MediaType()); ext != "" {
		return ext
	}
	if c.Type == "text" {
		return ".txt"
	}
	return ".bin"
}

// isFormat reports whether a character is invisible or changes how others are shown.
func isFormat(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) ||
		r == 0x34f || r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0 || r >= 0xe0000 && r <= 0xe0fff
}

// escapePair writes a character beyond the first plane as JSON's two escapes.
func escapePair(r rune) string {
	hi, lo := utf16.EncodeRune(r)
	return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
}
