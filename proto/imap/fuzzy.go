package imap

import (
	"context"
	"slices"
	"strings"

	"pennypost/maildir"
)

// How FUZZY takes a string: as it is; as words in any order; as words of which
// the end may be another one (RFC 6203 §3). What matches one way matches those
// behind it, too, and is so much the less relevant.
const (
	asPhrase = iota
	asWords
	asStems
)

// relevancy is the score for each of them (RFC 6203 §4).
var relevancy = [...]int{asPhrase: 100, asWords: 60, asStems: 20}

const (
	maxWords = 10 // of one string that are taken apart
	minStem  = 4  // letters
)

// fuzzyKey = "FUZZY" SP search-key   (RFC 6203 §7). Dates, sizes, flags and UIDs
// are taken as they are.
func (g *program) fuzzyKey(p *parser) key {
	k := g.searchKey(p)
	if p.err != nil {
		return nil
	}
	g.fuzzy = append(g.fuzzy, k)
	loose := g.loosen(k, asStems)
	if g.texts > maxTexts {
		p.fail("too many BODY and TEXT keys")
	}
	return loose
}

// loosen gives a key that matches more, and all that k does.
func (g *program) loosen(k key, how int) key {
	switch k := k.(type) {
	case and:
		all := make(and, len(k))
		for i := range k {
			all[i] = g.loosen(k[i], how)
		}
		return all
	case or2:
		return or2{g.loosen(k.a, how), g.loosen(k.b, how)}
	case header:
		return k.needle.loosen(how, func(n needle) key { return header{k.field, n} })
	case text:
		return k.needle.loosen(how, func(n needle) key {
			g.texts++
			return text{n, k.headers}
		})
	}
	return k
}

// loosen makes a key for each word.
func (n needle) loosen(how int, one func(needle) key) key {
	words := strings.Fields(n.text)
	if how == asPhrase || len(words) == 0 || len(words) > maxWords {
		return one(n)
	}
	all := make(and, len(words))
	for i, w := range words {
		if r := []rune(w); how == asStems && len(r) > minStem {
			w = string(r[:max(minStem, len(r)-len(r)/4)])
		}
		all[i] = one(newNeedle(w))
	}
	return all
}

// scores says how relevant each of the messages that were found is.
func (g *program) scores(ctx context.Context, v *view, found []int) ([]int, error) {
	var set numSet
	for _, n := range slices.Sorted(slices.Values(found)) {
		set = set.add(uint32(n))
	}
	sums := map[int]int{}
	for _, k := range g.fuzzy {
		best := map[int]int{}
		for how := asStems; how >= asPhrase; how-- {
			strict := program{s: g.s, key: new(program).loosen(k, how)}
			hits, err := strict.among(ctx, v, set)
			if err != nil {
				return nil, err
			}
			for _, n := range hits {
				best[n] = relevancy[how]
			}
		}
		for n, score := range best {
			sums[n] += score
		}
	}
	list := make([]int, len(found))
	for i, n := range found {
		list[i] = max(1, sums[n]/len(g.fuzzy))
	}
	return list, nil
}

// relevancy gives the scores of messages as keys, the highest first (RFC 6203
// §6).
func (c criterion) relevancy(v *view) func(context.Context, sortKey, []maildir.Message) (keys, []uint32, error) {
	return func(ctx context.Context, _ sortKey, msgs []maildir.Message) (keys, []uint32, error) {
		numbers, rows, k := make([]int, len(msgs)), make([]uint32, len(msgs)), &numberKeys{}
		for i, m := range msgs {
			numbers[i], _ = v.number(m.UID)
			rows[i] = uint32(i)
		}
		scores, err := c.g.scores(ctx, v, numbers)
		for _, score := range scores {
			k.rows = append(k.rows, -int64(score))
		}
		return k, rows, err
	}
}
