package maildir

import (
	"cmp"
	"slices"
	"time"
)

// What was removed is remembered for so long, and for so many ranges. After that a client that was away gets a
// list of all that is there.
const (
	maxVanished = 10_000
	vanishedAge = 366 * 24 * time.Hour
)

// A vanishing is UIDs that were removed by one change.
type vanishing struct {
	UIDRange
	modseq uint64
}

// A graveyard is what was removed from a folder, as far back as that is known.
type graveyard struct {
	list  []vanishing // modseqs not falling
	floor uint64      // it knows all that was removed after this modseq
}

// add takes in what a change has removed. One that comes late is told with those before it.
func (g *graveyard) add(uids []UIDRange, modseq uint64) {
	if n := len(g.list); n > 0 {
		modseq = max(modseq, g.list[n-1].modseq)
	}
	for _, u := range uids {
		g.list = append(g.list, vanishing{u, modseq})
	}
}

// since gives the UIDs that were removed after a modseq, rising. False when that is further back than is known.
func (g *graveyard) since(modseq uint64) ([]UIDRange, bool) {
	if modseq < g.floor {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(g.list, modseq, func(v vanishing, m uint64) int {
		if v.modseq <= m {
			return -1
		}
		return 1
	})
	var all []UIDRange
	for _, v := range g.list[i:] {
		all = append(all, v.UIDRange)
	}
	return joined(all), true
}

// trim forgets what is too old or too much, a change at a time. The last change stays.
func (g *graveyard) trim(now time.Time) {
	old := uint64(max(now.Add(-vanishedAge).UnixMicro(), 0)) // modseqs are microseconds since 1970, or a little more
	drop := 0
	for i := 1; i < len(g.list); i++ {
		if g.list[i].modseq == g.list[i-1].modseq {
			continue
		}
		if len(g.list)-drop <= maxVanished && g.list[i-1].modseq >= old {
			break
		}
		drop, g.floor = i, g.list[i-1].modseq
	}
	if drop > 0 {
		g.list = slices.Clone(g.list[drop:])
	}
}

// joined sorts ranges, and makes one of those that meet.
func joined(list []UIDRange) []UIDRange {
	slices.SortFunc(list, func(a, b UIDRange) int { return cmp.Compare(a.First, b.First) })
	out := list[:0]
	for _, r := range list {
		if n := len(out); n > 0 && uint64(r.First) <= uint64(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}
