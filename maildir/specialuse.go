package maildir

import (
	"slices"
	"strings"
)

// useName is a file in a folder that says what the folder is for: words like \Sent, on one line. It goes where the folder
// goes.
const useName = "pennypost-use"

// readUses reads what the folder in dir is for; nothing when nobody said so.
func readUses(root *place, dir string) []string {
	data, _, err := root.readFile(dir+"/"+useName, 0, 1024)
	if err != nil {
		return nil
	}
	return parseUses(string(data))
}

// parseUses reads words that are a backslash and letters, and passes over all others.
func parseUses(text string) (uses []string) {
	for word := range strings.FieldsSeq(text) {
		name, ok := strings.CutPrefix(word, `\`)
		ok = ok && name != "" && strings.IndexFunc(name, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' }) < 0
		if ok && !slices.Contains(uses, word) {
			uses = append(uses, word)
		}
	}
	return uses
}
