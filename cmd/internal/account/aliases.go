package account

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"pennypost/cmd/internal/status"
)

const (
	maxDepth   = 20     // aliases that lead to aliases
	maxMembers = 10_000 // of one recipient
	maxTarget  = 4096   // octets of one target
)

// kind tells what a target of an alias is.
type kind int

const (
	toAddress  kind = iota // bob, bob@hamburger.edu, \bob
	toCommand              // |command
	toFile                 // /file, /maildir/
	toIncluded             // :include:/file
	toNobody               // /dev/null
)

// A target is one of the things that an alias stands for.
type target struct {
	kind  kind
	text  string // address, command line or path
	final bool   // \bob: no further aliases
}

// An aliasTable maps names, as localKey spells them, and "*" to targets.
type aliasTable map[string][]target

// An includeList is what a file named by :include: says.
type includeList []target

// parseAliases reads aliases(5): "name: target, target", and lines that begin with a
// blank carry on the one before. domain is the domain the file belongs to, "" for
// /etc/aliases.
func parseAliases(path, domain string, data []byte) (aliasTable, error) {
	table := aliasTable{}
	var names []string
	var line int // where the current entry began
	var entry strings.Builder
	flush := func() error {
		if line == 0 {
			return nil
		}
		name, targets, err := parseAlias(entry.String(), domain)
		if err != nil {
			return bad(path, line, "%v", err)
		}
		if _, twice := table[name]; twice {
			return bad(path, line, "%q is there already", name)
		}
		table[name] = targets
		names = append(names, name)
		entry.Reset()
		line = 0
		return nil
	}
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		text = strings.TrimRight(text, "\r\n")
		switch s := strings.TrimSpace(text); {
		case s == "" || s[0] == '#':
			continue
		case text[0] == ' ' || text[0] == '\t':
			if line == 0 {
				return nil, bad(path, n, "nothing to carry on")
			}
			entry.WriteByte(' ')
		default:
			if err := flush(); err != nil {
				return nil, err
			}
			line = n
		}
		entry.WriteString(text)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return table, nil
}

func parseAlias(text, domain string) (string, []target, error) {
	name, rest, err := aliasName(text, domain)
	if err != nil {
		return "", nil, err
	}
	targets, err := parseTargets(rest)
	if err != nil {
		return "", nil, err
	}
	if len(targets) == 0 {
		return "", nil, fmt.Errorf("%q leads nowhere", name)
	}
	return name, targets, nil
}

// aliasName reads what stands before the colon.
func aliasName(text, domain string) (name, rest string, err error) {
	if strings.HasPrefix(text, `"`) {
		end := quoteEnd(text)
		if end < 0 {
			return "", "", errors.New("a quote has no end")
		}
		if name, err = unquote(text[:end]); err != nil {
			return "", "", errors.New("a quote has no end")
		}
		rest = strings.TrimLeft(text[end:], " \t")
		if !strings.HasPrefix(rest, ":") {
			return "", "", errors.New("no colon after the name")
		}
		rest = rest[1:]
	} else {
		var ok bool
		if name, rest, ok = strings.Cut(text, ":"); !ok {
			return "", "", errors.New("no colon after the name")
		}
		name = strings.TrimRight(name, " \t")
	}
	if name == "*" {
		return name, rest, nil
	}
	if local, at, ok := strings.Cut(name, "@"); ok && domain != "" {
		if key, err := domainKey(at); err != nil || key != domain {
			return "", "", fmt.Errorf("%q is not in this domain", name)
		}
		name = local
		if name == "" || name == "*" {
			return "*", rest, nil
		}
	}
	key, err := localKey(name)
	if err != nil || strings.ContainsAny(name, "@,") {
		return "", "", fmt.Errorf("%q cannot be the name of an alias", name)
	}
	return key, rest, nil
}

// quoteEnd returns the offset behind the quoted string that s begins with, or -1.
func quoteEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// parseTargets reads "target, target"; a "#" after a blank or comma, and outside
// quotes, ends the list.
func parseTargets(text string) ([]target, error) {
	var targets []target
	for {
		text = strings.TrimLeft(text, " \t,")
		if text == "" || text[0] == '#' {
			return targets, nil
		}
		var word string
		var err error
		if word, text, err = cutTarget(text); err != nil {
			return nil, err
		}
		t, err := parseTarget(word)
		if err != nil {
			return nil, err
		}
		if targets = append(targets, t); len(targets) > maxMembers {
			return nil, fmt.Errorf("more than %d targets", maxMembers)
		}
	}
}

// cutTarget takes the first target off the list: up to a comma, or a comment,
// outside quotes.
func cutTarget(text string) (word, rest string, err error) {
	i := 0
	for i < len(text) {
		switch c := text[i]; {
		case c == '"':
			end := quoteEnd(text[i:])
			if end < 0 {
				return "", "", errors.New("a quote has no end")
			}
			i += end
		case c == ',':
			return strings.TrimRight(text[:i], " \t"), text[i+1:], nil
		case c == '#' && (text[i-1] == ' ' || text[i-1] == '\t'):
			return strings.TrimRight(text[:i], " \t"), "", nil
		default:
			i++
		}
	}
	return strings.TrimRight(text, " \t"), "", nil
}

func parseTarget(word string) (target, error) {
	if len(word) > maxTarget {
		return target{}, errors.New("a target is too long")
	}
	if !utf8.ValidString(word) || strings.IndexFunc(word, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) >= 0 {
		return target{}, errors.New("a control character in a target")
	}
	// "|command args" is quoted as a whole, or behind its bar.
	if strings.HasPrefix(word, `"`) && quoteEnd(word) == len(word) {
		inner, err := unquote(word)
		if err != nil {
			return target{}, errors.New("a quote has no end")
		}
		if t, special, err := parsePath(inner); special {
			return t, err
		}
		return parseAddress(word)
	}
	if t, special, err := parsePath(word); special {
		return t, err
	}
	return parseAddress(word)
}

// parsePath reads the targets that are no addresses: they begin with a bar, a
// slash or ":include:".
func parsePath(word string) (t target, special bool, err error) {
	switch {
	case word == "":
		return t, true, errors.New("an empty target")
	case word[0] == '|':
		command := strings.TrimSpace(word[1:])
		if strings.HasPrefix(command, `"`) && quoteEnd(command) == len(command) {
			command, err = unquote(command)
		}
		if err != nil || strings.TrimSpace(command) == "" {
			return t, true, errors.New("an empty command")
		}
		return target{kind: toCommand, text: command}, true, nil
	case word[0] == '/':
		path := filepath.Clean(word)
		switch {
		case path == "/dev/null":
			return target{kind: toNobody}, true, nil
		case path == "/":
			return t, true, errors.New("the root directory is no mailbox")
		case strings.HasSuffix(word, "/"):
			path += "/"
		}
		return target{kind: toFile, text: path}, true, nil
	case len(word) >= 9 && strings.EqualFold(word[:9], ":include:"):
		path := strings.TrimSpace(word[9:])
		if !filepath.IsAbs(path) {
			return t, true, errors.New(":include: wants an absolute path")
		}
		return target{kind: toIncluded, text: filepath.Clean(path)}, true, nil
	case word[0] == ':':
		return t, true, fmt.Errorf("%q is not known here", word)
	}
	return t, false, nil
}

// parseAddress reads bob, bob@hamburger.edu, Bob <bob@hamburger.edu> and \bob.
func parseAddress(word string) (target, error) {
	var t target
	if strings.HasSuffix(word, ">") {
		if i := strings.LastIndexByte(word, '<'); i >= 0 {
			word = word[i+1 : len(word)-1]
		}
	}
	if rest, ok := strings.CutPrefix(word, `\`); ok {
		t.final, word = true, rest
	}
	local, domain, err := split(word)
	if err != nil {
		return t, fmt.Errorf("%q is not an address", word)
	}
	if domain != "" && !(len(domain) > 2 && domain[0] == '[' && domain[len(domain)-1] == ']' && !strings.ContainsAny(domain, " <>@\\")) {
		if _, err := domainKey(domain); err != nil {
			return t, fmt.Errorf("%q is not an address", word)
		}
	}
	if word[0] != '"' && strings.ContainsAny(local, " \t<>()[]:;,\"\\@") {
		return t, fmt.Errorf("%q is not an address (commas go between addresses)", word)
	}
	t.text = word
	return t, nil
}

// parseIncluded reads a file of targets, with any number on a line.
func parseIncluded(path string, data []byte) (includeList, error) {
	var list includeList
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		text = strings.TrimRight(text, "\r\n")
		targets, err := parseTargets(text)
		if err != nil {
			return nil, bad(path, n, "%v", err)
		}
		if list = append(list, targets...); len(list) > maxMembers {
			return nil, status.Errorf(status.Config, "%s: more than %d members", path, maxMembers)
		}
	}
	return list, nil
}
