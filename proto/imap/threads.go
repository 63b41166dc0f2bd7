package imap

import (
	"cmp"
	"slices"
	"strconv"
)

// A leaf is what THREAD has to know of a message (RFC 5256 §3). Ids and
// subjects are numbers from 1 on: equal ones are equal, 0 is none.
type leaf struct {
	sent    int64    // RFC 5256 §2.2
	subject uint32   // the base subject
	reply   bool     // it answers or forwards
	id      uint32   // its own
	refs    []uint32 // what it refers to, from the first to its parent
}

// threads are messages as THREAD gives them: trees, of which the top may be a
// dummy that only holds its children together.
type threads struct {
	order []int32 // the messages by the date they were sent
	tops  []int32 // messages, and dummies above them, in order
	kids  []int32 // the children of each node, node by node, in order
	from  []int32 // where in kids those of a node begin
}

// byDate gives the places of messages by the date they were sent, and those of
// one date as they came.
func byDate(leaves []leaf) []int32 {
	type at struct {
		sent int64
		i    int32
	}
	all := make([]at, len(leaves))
	for i := range leaves {
		all[i] = at{leaves[i].sent, int32(i)}
	}
	slices.SortFunc(all, func(a, b at) int {
		return cmp.Or(cmp.Compare(a.sent, b.sent), cmp.Compare(a.i, b.i))
	})
	order := make([]int32, len(all))
	for k, a := range all {
		order[k] = a.i
	}
	return order
}

// orderedSubject makes threads of the messages with one base subject (RFC 5256
// §3, ORDEREDSUBJECT). subjects is how many numbers there are.
func orderedSubject(leaves []leaf, _, subjects int) *threads {
	t := &threads{order: byDate(leaves)}
	parent := make([]int32, len(leaves))
	first := make([]int32, subjects+1)
	for i := range first {
		first[i] = none
	}
	for _, i := range t.order {
		parent[i] = first[leaves[i].subject]
		if parent[i] == none {
			first[leaves[i].subject] = i
		}
	}
	t.grow(parent, len(leaves))
	return t
}

// references makes threads of the messages that refer to each other (RFC 5256
// §3, REFERENCES). ids and subjects are how many numbers of each there are.
// Messages up to len(leaves) are nodes, those above are dummies.
func references(leaves []leaf, ids, subjects int) *threads {
	t := &threads{order: byDate(leaves)}
	f := linked(leaves, ids)
	parent, nodes := pruned(f.parent, int32(len(leaves)))
	parent, nodes = t.joined(leaves, parent, nodes, subjects)
	t.grow(parent, nodes)
	return t
}

// linked is step (1).
func linked(leaves []leaf, ids int) *forest {
	node := make([]int32, ids+1)
	for i := range node {
		node[i] = none
	}
	for i := range leaves { // of those with one id the first has it
		if id := leaves[i].id; id != 0 && node[id] == none {
			node[id] = int32(i)
		}
	}
	nodes := int32(len(leaves))
	for i := range leaves {
		for _, id := range leaves[i].refs {
			if node[id] == none {
				node[id] = nodes
				nodes++
			}
		}
	}
	f := newForest(int(nodes))
	for i := range leaves {
		last := none
		for _, id := range leaves[i].refs { // (A)
			next := node[id]
			if last != none && f.parent[next] == none {
				f.link(next, last)
			}
			last = next
		}
		if me := int32(i); f.parent[me] != last { // (B)
			f.cut(me)
			if last != none {
				f.link(me, last)
			}
		}
	}
	return f
}

// pruned is steps (2) and (3): no dummy but at the top, and there only with
// several children. Each message gets the parent it has then; nodes is how many
// there are.
func pruned(parent []int32, messages int32) (pruned []int32, nodes int) {
	// above is for each dummy the next message above it, or the dummy at the top.
	above := make([]int32, int32(len(parent))-messages)
	for i := range above {
		above[i] = none
	}
	var way []int32
	anchor := func(at int32) int32 {
		way = way[:0]
		for at >= messages && above[at-messages] == none {
			way = append(way, at)
			if parent[at] == none {
				break
			}
			at = parent[at]
		}
		if at >= messages && above[at-messages] != none {
			at = above[at-messages]
		}
		for _, d := range way {
			above[d-messages] = at
		}
		return at
	}
	pruned = make([]int32, messages, len(parent))
	children := make([]int32, len(above))
	for i := range pruned {
		pruned[i] = none
		if parent[i] == none {
			continue
		}
		if pruned[i] = anchor(parent[i]); pruned[i] >= messages {
			children[pruned[i]-messages]++
		}
	}
	number := make([]int32, len(above)) // of those that stay
	nodes = int(messages)
	for d, n := range children {
		if number[d] = none; n > 1 {
			number[d] = int32(nodes)
			nodes++
		}
	}
	for i, p := range pruned {
		if p >= messages {
			pruned[i] = number[p-messages]
		}
	}
	return pruned, nodes
}

// joined is steps (4) and (5): threads of one subject become one.
func (t *threads) joined(leaves []leaf, parent []int32, nodes, subjects int) ([]int32, int) {
	messages := int32(len(leaves))
	dummy := func(n int32) bool { return n >= messages }
	// The tops in order, each with the message that stands for it.
	type top struct {
		node    int32
		subject uint32
	}
	var tops []top
	seen := make([]bool, nodes)
	for _, i := range t.order {
		n := i
		if p := parent[i]; p != none {
			if n = p; !dummy(p) || seen[p] {
				continue
			}
			seen[p] = true
		}
		tops = append(tops, top{n, leaves[i].subject})
	}
	reply := func(n int32) bool { return !dummy(n) && leaves[n].reply }
	table := make([]int32, subjects+1)
	for i := range table {
		table[i] = none
	}
	for _, t := range tops { // (B)
		switch e := table[t.subject]; {
		case t.subject == 0:
		case e == none, !dummy(e) && (dummy(t.node) || reply(e) && !reply(t.node)):
			table[t.subject] = t.node
		}
	}
	into := make([]int32, nodes) // a dummy that takes another's children
	for i := range into {
		into[i] = int32(i)
	}
	for _, t := range tops { // (C)
		e := table[t.subject]
		switch {
		case t.subject == 0, e == t.node:
		case dummy(t.node): // then e is one, too
			into[t.node] = e
		case dummy(e), reply(t.node) && !reply(e):
			parent[t.node] = e
		default:
			d := int32(nodes)
			nodes++
			parent[t.node], parent[e], table[t.subject] = d, d, d
		}
	}
	for i, p := range parent {
		if p != none && int(p) < len(into) {
			parent[i] = into[p]
		}
	}
	return parent, nodes
}

// grow is step (6): siblings stand in the order of their dates, and a dummy
// where the first of its children would.
func (t *threads) grow(parent []int32, nodes int) {
	t.from = make([]int32, nodes+1)
	for _, p := range parent {
		if p != none {
			t.from[p+1]++
		}
	}
	for i := range nodes {
		t.from[i+1] += t.from[i]
	}
	next := slices.Clone(t.from)
	t.kids = make([]int32, t.from[nodes])
	for _, i := range t.order {
		p := parent[i]
		if p == none {
			t.tops = append(t.tops, i)
			continue
		}
		if int(p) >= len(parent) && next[p] == t.from[p] {
			t.tops = append(t.tops, p)
		}
		t.kids[next[p]] = i
		next[p]++
	}
}

// below are the children of a node.
func (t *threads) below(node int32) []int32 { return t.kids[t.from[node]:t.from[node+1]] }

// append appends the thread-lists (RFC 5256 §5), with what stands for each
// message.
func (t *threads) append(b []byte, number func(i int32) uint32) []byte {
	var open [][]int32 // siblings that are still to come, from the outermost on
	for _, top := range t.tops {
		b = append(b, '(')
		at := top
		for {
			// A chain of messages, down to where it ends or parts.
			kids := t.below(at)
			if int(at) < len(t.order) {
				b = strconv.AppendUint(b, uint64(number(at)), 10)
				if len(kids) > 0 {
					b = append(b, ' ')
				}
			}
			if len(kids) == 1 {
				at = kids[0]
				continue
			}
			open = append(open, kids)
			b = t.up(b, &open)
			if len(open) == 0 {
				break
			}
			k := len(open) - 1
			b = append(b, '(')
			at, open[k] = open[k][0], open[k][1:]
		}
		b = append(b, ')')
	}
	return b
}

// up ends the siblings of which none are to come.
func (t *threads) up(b []byte, open *[][]int32) []byte {
	for k := len(*open) - 1; k >= 0 && len((*open)[k]) == 0; k-- {
		*open = (*open)[:k]
		if k > 0 {
			b = append(b, ')')
		}
	}
	return b
}
