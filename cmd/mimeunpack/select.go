package main

import (
	"path"
	"slices"
	"strings"
)

// selects reports whether a part is one of those asked for. With no condition all are.
func (o *options) selects(l *leaf) bool {
	if l.hidden {
		return false
	}
	if len(o.sections) > 0 && !slices.ContainsFunc(o.sections, func(s string) bool { return strings.EqualFold(s, l.section) }) {
		return false
	}
	fits := func(patterns []string, s string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
			ok, _ := matchPattern(p, s)
			return ok
		})
	}
	if !fits(o.types, l.part.MediaType()) {
		return false
	}
	return len(o.names) == 0 || l.part.Filename() != "" && fits(o.names, l.part.Filename())
}

// chosen reports whether the user chose parts at all.
func (o *options) chosen() bool { return len(o.sections)+len(o.types)+len(o.names) > 0 }

// matchPattern is the shell's matching, without regard to case; a star matches a slash too, as it
// means nothing in a type or a name from elsewhere.
func matchPattern(pattern, s string) (bool, error) {
	hide := strings.NewReplacer("/", "\x00")
	return path.Match(hide.Replace(strings.ToLower(pattern)), hide.Replace(strings.ToLower(s)))
}
