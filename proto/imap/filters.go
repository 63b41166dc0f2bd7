package imap

import (
	"slices"
	"strings"
)

// Where the values of filters are kept among the annotations of the server
// (RFC 5466 §3.2). The private one of two with one name counts.
var filterEntries = []string{"/private/filters/values/", "/shared/filters/values/"}

// maxFilters is how deep filters may name one another.
const maxFilters = 10

// filterKey = "FILTER" SP filter-name   (RFC 5466 §4). The search program that
// the filter holds stands in its place. One that cannot be had is refused later.
func (g *program) filterKey(p *parser) key {
	name := p.run("filter name", func(c byte) bool { return c != '/' && isAtom(c) })
	if p.err != nil || g.s == nil {
		return and{}
	}
	g.filtered = true
	k, err := g.filter(p, name)
	if err != nil {
		if g.trouble == nil {
			g.trouble = err
		}
		return and{}
	}
	return k
}

// filter gives the key of a filter.
func (g *program) filter(p *parser, name string) (key, error) {
	undefined := undefinedFilter(name)
	low := strings.ToLower(name)
	if slices.Contains(g.inside, low) || len(g.inside) == maxFilters {
		return nil, undefined // it holds itself (RFC 5466 §3.1)
	}
	if g.notes == nil {
		var err error
		if g.notes, err = g.s.user.Store.Metadata(""); err != nil {
			return nil, err
		}
	}
	for _, root := range filterEntries {
		value, there := g.notes[root+low]
		if !there {
			continue
		}
		g.inside = append(g.inside, low)
		defer func() { g.inside = g.inside[:len(g.inside)-1] }()
		k, err := g.written(p, value)
		if err != nil {
			return nil, undefined
		}
		return k, nil
	}
	return nil, undefined
}

// written reads a search program that does not come from the client now.
func (g *program) written(p *parser, value string) (key, error) {
	line, rest, _ := strings.Cut(value, "\r\n")
	q := &parser{line: line, rest: line, depth: p.depth, utf8: p.utf8, uidOnly: p.uidOnly}
	q.more = func(l announced) (text, line string, err error) {
		if l.size > int64(len(rest)) {
			return "", "", errLiteral
		}
		text, rest = rest[:l.size], rest[l.size:]
		line, rest, _ = strings.Cut(rest, "\r\n")
		return text, line, nil
	}
	keys := and{g.searchKey(q)}
	for q.err == nil && q.take(" ") {
		keys = append(keys, g.searchKey(q))
	}
	if err := q.end(); err != nil {
		return nil, err
	}
	p.holds = p.holds || q.holds
	return keys.sorted(), nil
}

// undefinedFilter reports a filter that is not there.
type undefinedFilter string

func (undefinedFilter) Error() string { return "no such filter" }

// badFilters says whether what the entries of the server are to become is no
// filter (RFC 5466 §3.2).
func badFilters(changes map[string]*string) bool {
	for entry, value := range changes {
		for _, root := range filterEntries {
			name, ok := strings.CutPrefix(entry, root)
			if !ok || value == nil {
				continue
			}
			// Whether the filters that it names are there is seen when they are used.
			if _, err := new(program).written(&parser{}, *value); err != nil || !isFilterName(name) {
				return true
			}
		}
	}
	return false
}

func isFilterName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return r == '/' || r > 0x7f || !isAtom(byte(r)) }) < 0
}
