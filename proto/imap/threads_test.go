package imap

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A container is a node of the plain model: RFC 5256 §3 word by word, and as
// slow as that is.
type container struct {
	leaf     *leaf // nil: a dummy
	number   int
	parent   *container
	children []*container
}

func (c *container) adopt(child *container) {
	if child.parent != nil {
		i := slices.Index(child.parent.children, child)
		child.parent.children = slices.Delete(child.parent.children, i, i+1)
	}
	if child.parent = c; c != nil {
		c.children = append(c.children, child)
	}
}

// within says whether c is d or a descendant of d.
func (c *container) within(d *container) bool {
	for ; c != nil; c = c.parent {
		if c == d {
			return true
		}
	}
	return false
}

func (c *container) first() *container {
	if c.leaf == nil {
		return c.children[0]
	}
	return c
}

func (c *container) sort() {
	for _, k := range c.children {
		k.sort()
	}
	slices.SortStableFunc(c.children, func(a, b *container) int {
		a, b = a.first(), b.first()
		return cmp.Or(cmp.Compare(a.leaf.sent, b.leaf.sent), cmp.Compare(a.number, b.number))
	})
}

func (c *container) String() string {
	var b strings.Builder
	if c.leaf != nil {
		fmt.Fprint(&b, c.number)
		if len(c.children) == 1 {
			return b.String() + " " + c.children[0].String()
		}
		if len(c.children) > 0 {
			b.WriteByte(' ')
		}
	}
	for _, k := range c.children {
		fmt.Fprintf(&b, "(%v)", k)
	}
	return b.String()
}

func model(leaves []leaf) string {
	root := &container{}
	byID := map[uint32]*container{}
	var all []*container
	for i := range leaves {
		c := &container{leaf: &leaves[i], number: i + 1}
		all = append(all, c)
		if id := leaves[i].id; id != 0 && byID[id] == nil {
			byID[id] = c
		}
	}
	nodes := slices.Clone(all)
	for _, c := range all { // (1)
		var last *container
		for _, id := range c.leaf.refs {
			next := byID[id]
			if next == nil {
				next = &container{}
				byID[id] = next
				nodes = append(nodes, next)
			}
			if last != nil && next.parent == nil && !last.within(next) {
				last.adopt(next)
			}
			last = next
		}
		if c.parent != nil {
			(*container)(nil).adopt(c)
		}
		if last != nil && !last.within(c) {
			last.adopt(c)
		}
	}
	for _, c := range nodes { // (2)
		if c.parent == nil {
			root.adopt(c)
		}
	}
	for again := true; again; { // (3)
		again = false
		for _, c := range nodes {
			if c.leaf != nil || c.parent == nil || c.parent == root && len(c.children) > 1 {
				continue
			}
			up := c.parent
			for len(c.children) > 0 {
				up.adopt(c.children[0])
			}
			(*container)(nil).adopt(c)
			again = true
		}
	}
	root.sort() // (4)
	table := map[uint32]*container{}
	subject := func(c *container) uint32 { return c.first().leaf.subject }
	reply := func(c *container) bool { return c.leaf != nil && c.leaf.reply }
	for _, c := range root.children { // (5) (B)
		if subject(c) == 0 {
			continue
		}
		if t := table[subject(c)]; t == nil || t.leaf != nil && (c.leaf == nil || reply(t) && !reply(c)) {
			table[subject(c)] = c
		}
	}
	for _, c := range slices.Clone(root.children) { // (C)
		s := subject(c)
		t := table[s]
		switch {
		case s == 0 || t == c:
		case t.leaf == nil && c.leaf == nil:
			for len(c.children) > 0 {
				t.adopt(c.children[0])
			}
			(*container)(nil).adopt(c)
		case t.leaf == nil, reply(c) && !reply(t):
			t.adopt(c)
		default:
			d := &container{}
			root.adopt(d)
			d.adopt(c)
			d.adopt(t)
			table[s] = d
		}
	}
	root.sort() // (6)
	return root.String()
}

func modelSubjects(leaves []leaf) string {
	root := &container{}
	var all []*container
	for i := range leaves {
		all = append(all, &container{leaf: &leaves[i], number: i + 1})
	}
	slices.SortStableFunc(all, func(a, b *container) int {
		return cmp.Or(cmp.Compare(a.leaf.subject, b.leaf.subject), cmp.Compare(a.leaf.sent, b.leaf.sent))
	})
	for i, c := range all {
		if i == 0 || c.leaf.subject != all[i-1].leaf.subject {
			root.adopt(c)
		} else {
			root.children[len(root.children)-1].adopt(c)
		}
	}
	root.sort()
	return root.String()
}

func told(t *threads) string {
	return string(t.append(nil, func(i int32) uint32 { return uint32(i) + 1 }))
}

// leavesFrom makes messages of octets.
func leavesFrom(b []byte) (leaves []leaf) {
	for len(b) > 3 && len(leaves) < 60 {
		l := leaf{sent: int64(b[0] % 16), subject: uint32(b[0]>>4) % 6, reply: b[0]&8 != 0, id: uint32(b[1] % 40)}
		n := int(b[2] % 8)
		for b = b[3:]; n > 0 && len(b) > 0; n, b = n-1, b[1:] {
			l.refs = append(l.refs, 1+uint32(b[0]%40))
		}
		leaves = append(leaves, l)
	}
	return leaves
}

// Whatever messages refer to, the threads are those of RFC 5256 §3.
func FuzzThreads(f *testing.F) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		leaves := leavesFrom(b)
		if got, want := told(references(leaves, 41, 6)), model(leaves); got != want {
			t.Errorf("REFERENCES %+v\n%s, want\n%s", leaves, got, want)
		}
		if got, want := told(orderedSubject(leaves, 0, 6)), modelSubjects(leaves); got != want {
			t.Errorf("ORDEREDSUBJECT %+v\n%s, want\n%s", leaves, got, want)
		}
	})
}

// A forest says the same of what stands deep as of what stands near.
func TestForest(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		const n = 400
		f := newForest(n)
		f.deep = newPaths(f.parent)
		for range 20000 {
			a, b := int32(r.IntN(n)), int32(r.IntN(n))
			if r.IntN(20) == 0 {
				f.cut(a)
			}
			if f.parent[a] != none {
				continue
			}
			want := false
			for at := b; at != none; at = f.parent[at] {
				want = want || at == a
			}
			if got := f.deep.root(b) == a; got != want {
				t.Fatalf("seed %d: below %v, want %v", seed, got, want)
			}
			f.link(a, b)
		}
	}
}

// hostile are messages that make plain algorithms slow.
var hostile = map[string]func(n int) []leaf{
	"one chain": func(n int) []leaf {
		leaves := make([]leaf, n)
		for i := range leaves {
			leaves[i] = leaf{id: uint32(i + 1), refs: []uint32{uint32(i)}}
		}
		leaves[0].refs = nil
		return leaves
	},
	"one chain, the last first": func(n int) []leaf {
		leaves := make([]leaf, n)
		for i := range leaves {
			leaves[i] = leaf{id: uint32(n - i), refs: []uint32{uint32(n - i - 1)}}
		}
		leaves[n-1].refs = nil
		return leaves
	},
	"many references": func(n int) []leaf {
		leaves := make([]leaf, n/100)
		r := rand.New(rand.NewPCG(1, 1))
		for i := range leaves {
			leaves[i].id = uint32(i + 1)
			for range 200 {
				leaves[i].refs = append(leaves[i].refs, 1+uint32(r.IntN(n)))
			}
		}
		return leaves
	},
	"deep and turned round": func(n int) []leaf {
		leaves := make([]leaf, n)
		for i := range n / 2 { // a chain, from which everything later hangs, and has something below it
			leaves[i] = leaf{id: uint32(i + 1), refs: []uint32{uint32(max(i, 1))}}
		}
		for i := n / 2; i < n; i++ {
			leaves[i] = leaf{id: uint32(i + 1), refs: []uint32{uint32(i + 2), uint32(1 + i%7), uint32(n / 2), uint32(i + 1), uint32(n / 2)}}
		}
		leaves[n-1].refs = nil
		return leaves
	},
	"one subject": func(n int) []leaf {
		leaves := make([]leaf, n)
		for i := range leaves {
			leaves[i] = leaf{subject: 1, reply: i%3 == 0, sent: int64(n - i)}
		}
		return leaves
	},
}

// The time is that of sorting, whatever messages refer to.
func TestThreadsLinear(t *testing.T) {
	for name, make := range hostile {
		t.Run(name, func(t *testing.T) {
			took := func(n int) time.Duration {
				leaves := make(n)
				begin := time.Now()
				told(references(leaves, n+2, 2))
				return time.Since(begin)
			}
			const n = 50000
			a, b := time.Hour, time.Hour // on a busy machine once is not enough
			for range 30 {
				if a, b = min(a, took(n)), min(b, took(2*n)); b <= 5*a/2 {
					return
				}
			}
			t.Errorf("%v, and %v for twice as many", a, b)
		})
	}
}
