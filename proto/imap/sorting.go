package imap

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"pennypost/maildir"
)

// A criterion is the rule sort-criterion: what to sort by (RFC 5256 §5).
type criterion struct {
	key     sortKey
	reverse bool
	g       *program // what was searched for, for its scores
}

// A rank is where a message stands by the first criterion, and its place among
// the messages.
type rank struct {
	first int64
	i     int32
}

// An ordering compares messages by their places.
type ordering struct {
	criteria []criterion
	values   [][]int64 // by criterion and place
}

// ordered gives the places of messages, whose UIDs rise, in the order of the
// criteria; those that are alike stay as they are (RFC 5256 §3, BASE.6.4.SORT).
func (v *view) ordered(ctx context.Context, by []criterion, msgs []maildir.Message) ([]int32, error) {
	o, err := v.ordering(ctx, by, msgs)
	if err != nil {
		return nil, err
	}
	ranks := make([]rank, len(msgs))
	for i := range ranks {
		ranks[i] = o.rank(i)
	}
	sortOnCores(ranks, o.compare)
	places := make([]int32, len(ranks))
	for k, r := range ranks {
		places[k] = r.i
	}
	return places, nil
}

// ordering makes ready to compare messages, whose UIDs rise.
func (v *view) ordering(ctx context.Context, by []criterion, msgs []maildir.Message) (*ordering, error) {
	o := &ordering{criteria: by}
	for _, c := range by {
		keysOf := v.keys
		if c.key == sortRelevancy {
			keysOf = c.relevancy(v)
		}
		keys, rows, err := keysOf(ctx, c.key, msgs)
		if err != nil {
			return nil, err
		}
		o.values = append(o.values, keys.(sortable).values(rows))
	}
	return o, nil
}

func (o *ordering) rank(i int) rank { return rank{o.values[0][i], int32(i)} }

func (o *ordering) compare(a, b rank) int {
	if a.first != b.first {
		if (a.first < b.first) != o.criteria[0].reverse {
			return -1
		}
		return 1
	}
	for k, c := range o.criteria {
		x, y := o.values[k][a.i], o.values[k][b.i]
		if x == y {
			continue
		}
		if (x < y) != c.reverse {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.i, b.i)
}

// sortOnCores sorts with two cores where that pays.
func sortOnCores(ranks []rank, compare func(a, b rank) int) {
	if len(ranks) < 4096 || runtime.GOMAXPROCS(0) < 2 {
		slices.SortFunc(ranks, compare)
		return
	}
	half := len(ranks) / 2
	a, b := slices.Clone(ranks[:half]), ranks[half:]
	onCores(2, func(i int) { slices.SortFunc([][]rank{a, b}[i], compare) })
	// What is taken from b stands behind what is written: nothing is lost.
	for k := 0; len(a) > 0; k++ {
		if len(b) > 0 && compare(b[0], a[0]) < 0 {
			ranks[k], b = b[0], b[1:]
		} else {
			ranks[k], a = a[0], a[1:]
		}
	}
}

// those are the messages with the given numbers, which rise.
func (v *view) those(numbers []int) []maildir.Message {
	var set numSet
	for _, n := range numbers {
		set = set.add(uint32(n))
	}
	msgs := make([]maildir.Message, 0, len(numbers))
	for _, m := range v.each(set) {
		msgs = append(msgs, m.Message)
	}
	return msgs
}

// inOrder brings the numbers of messages, which rise, into the order of the
// criteria.
func (v *view) inOrder(ctx context.Context, by []criterion, found []int) ([]int, error) {
	places, err := v.ordered(ctx, by, v.those(found))
	if err != nil {
		return nil, err
	}
	sorted := make([]int, len(found))
	for i, k := range places {
		sorted[i] = found[k]
	}
	return sorted, nil
}

// insert puts more messages into an order of others, all by their UIDs.
func (v *view) insert(ctx context.Context, by []criterion, sorted, more []uint32) ([]uint32, error) {
	all := slices.Concat(sorted, more)
	slices.Sort(all)
	msgs := make([]maildir.Message, len(all))
	for i, uid := range all {
		msgs[i].UID = uid
		if n, known := v.number(uid); known {
			msgs[i], _ = v.at(n)
		}
	}
	o, err := v.ordering(ctx, by, msgs)
	if err != nil {
		return nil, err
	}
	compare := func(a, b uint32) int {
		i, _ := slices.BinarySearch(all, a)
		j, _ := slices.BinarySearch(all, b)
		return o.compare(o.rank(i), o.rank(j))
	}
	slices.SortFunc(more, compare)
	out := make([]uint32, 0, len(all))
	for _, uid := range sorted {
		for len(more) > 0 && compare(more[0], uid) < 0 {
			out, more = append(out, more[0]), more[1:]
		}
		out = append(out, uid)
	}
	return append(out, more...), nil
}
