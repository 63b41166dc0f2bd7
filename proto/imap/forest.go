package imap

// none is no node of a forest.
const none = int32(-1)

// A forest is nodes that are linked as parents and children, from whom links
// are taken away, too. It never has a loop.
type forest struct {
	parent []int32
	kids   []int32 // how many each has
	deep   *paths  // nil until somebody has stood deep
}

// near is how many parents are gone through one by one.
const near = 64

func newForest(nodes int) *forest {
	f := &forest{parent: make([]int32, nodes), kids: make([]int32, nodes)}
	for i := range f.parent {
		f.parent[i] = none
	}
	return f
}

// link makes child, which has no parent, a child of parent, unless that stands
// below it.
func (f *forest) link(child, parent int32) {
	if f.below(parent, child) {
		return
	}
	f.parent[child] = parent
	f.kids[parent]++
	if f.deep != nil {
		f.deep.link(child, parent)
	}
}

// cut takes a child from its parent, if it has one.
func (f *forest) cut(child int32) {
	p := f.parent[child]
	if p == none {
		return
	}
	f.parent[child] = none
	f.kids[p]--
	if f.deep != nil {
		f.deep.cut(child)
	}
}

// below says whether a node is another one, which has no parent, or stands
// below it.
func (f *forest) below(node, root int32) bool {
	if node == root || f.kids[root] == 0 {
		return node == root
	}
	at := node
	for range near {
		p := f.parent[at]
		if p == none {
			return at == root
		}
		at = p
	}
	if f.deep == nil {
		f.deep = newPaths(f.parent)
	}
	return f.deep.root(node) == root
}

// paths tells in the time of O(log n) what a node stands below, however deep: a
// link-cut tree (Sleator and Tarjan). Each path downwards is a splay tree, with
// what is higher to the left; the top of one points to the parent of the path.
type paths struct{ up, left, right []int32 }

func newPaths(parent []int32) *paths {
	t := &paths{make([]int32, len(parent)), make([]int32, len(parent)), make([]int32, len(parent))}
	for i := range parent {
		t.up[i], t.left[i], t.right[i] = parent[i], none, none // each path has one node yet
	}
	return t
}

func (t *paths) link(child, parent int32) {
	t.access(child)
	t.up[child] = parent
}

func (t *paths) cut(child int32) {
	t.access(child)
	t.up[t.left[child]] = none
	t.left[child] = none
}

func (t *paths) root(x int32) int32 {
	t.access(x)
	for t.left[x] != none {
		x = t.left[x]
	}
	t.splay(x)
	return x
}

// access makes one path of all from the root down to x, with x on top.
func (t *paths) access(x int32) {
	t.splay(x)
	t.right[x] = none
	for p := t.up[x]; p != none; p = t.up[x] {
		t.splay(p)
		t.right[p] = x
		t.splay(x)
	}
}

// top says whether x is the top of its path.
func (t *paths) top(x int32) bool {
	p := t.up[x]
	return p == none || t.left[p] != x && t.right[p] != x
}

func (t *paths) splay(x int32) {
	for !t.top(x) {
		p := t.up[x]
		if !t.top(p) {
			if g := t.up[p]; (t.left[g] == p) == (t.left[p] == x) {
				t.rotate(p)
			} else {
				t.rotate(x)
			}
		}
		t.rotate(x)
	}
}

// rotate puts x in the place of what is above it in its splay tree.
func (t *paths) rotate(x int32) {
	p := t.up[x]
	g := t.up[p]
	if !t.top(p) {
		if t.left[g] == p {
			t.left[g] = x
		} else {
			t.right[g] = x
		}
	}
	t.up[x] = g
	var b int32
	if t.left[p] == x {
		b = t.right[x]
		t.left[p], t.right[x] = b, p
	} else {
		b = t.left[x]
		t.right[p], t.left[x] = b, p
	}
	if b != none {
		t.up[b] = p
	}
	t.up[p] = x
}
