package powercut

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"

	"pennypost/maildir/internal/disk"
)

// The semantics of file systems.
//
//   - posix: only what was synced is sure: the contents of a file by a sync of the file, an entry by a sync of the directory.
//     All else is there or not, in any combination; but a rename never loses the file. Contents that were not synced are
//     there, or not, or cut at any octet, or zeros.
//   - linux (ext4, xfs, btrfs): changes of entries become durable in their order. A sync makes those durable that came before
//     the last change of what is synced. Contents come when they like, cut at any octet.
//   - ordered: all changes become durable in their order, contents too; the last may be cut at any octet.
var semantics = []string{"posix", "linux", "ordered"}

// certainty says which sides of a change of entries are surely on the disk.
type certainty struct{ first, whole bool }

// posix tells what is sure after a cut.
func (l *Log) posix(cut int) []certainty {
	sure := make([]certainty, cut)
	synced := map[int]bool{} // directories that are synced later than the call we look at
	for i := cut - 1; i >= 0; i-- {
		switch o := &l.ops[i]; {
		case o.kind == disk.Sync:
			synced[o.node] = true
		case len(o.sides) > 0:
			sure[i] = certainty{synced[o.sides[0].dir], synced[o.sides[len(o.sides)-1].dir]}
		}
	}
	return sure
}

// committed counts the calls whose changes are surely on the disk where they get there in their order.
func (l *Log) committed(cut int, contents bool) int {
	last := make([]int, len(l.nodes)) // how many calls there were when a node was changed last
	sure := 0
	for i := range l.ops[:cut] {
		o := &l.ops[i]
		for _, s := range o.sides {
			last[s.dir], last[s.node] = i+1, i+1
		}
		switch o.kind {
		case disk.Sync:
			sure = max(sure, last[o.node])
		case disk.DataSync:
			if contents {
				sure = max(sure, last[o.node])
			}
		case disk.Write, disk.Truncate:
			if contents {
				last[o.node] = i + 1
			}
		}
	}
	return sure
}

// Cuts lists where the power may fail: before each call. The marks before it have happened by then.
func (l *Log) cuts() []int {
	var list []int
	for i := range len(l.ops) + 1 {
		if i == len(l.ops) || l.ops[i].mark == nil {
			list = append(list, i)
		}
	}
	return list
}

// States gives at most n states that the disk may be in, from cuts everywhere. The plain ones of each cut come first (all of what
// is not sure is there, or nothing, or each change alone, or all but one), then those that r chooses: two or three changes alone
// or missing, any subset, contents cut anywhere. The same r gives the same states.
func (l *Log) States(r *rand.Rand, n int) iter.Seq[*State] {
	return func(yield func(*State) bool) {
		type key struct {
			sum   [32]byte
			marks int
		}
		seen := map[key]bool{}
		cuts := l.cuts()
		marks := make([]int, len(l.ops)+1)
		for i := range l.ops {
			marks[i+1] = marks[i]
			if l.ops[i].mark != nil {
				marks[i+1]++
			}
		}
		given, dull := 0, 0
		for round := 0; given < n && dull < 3*n+1000; round++ {
			r.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
			for _, cut := range cuts {
				s := l.state(r, cut, round)
				k := key{s.Sum(), marks[cut]}
				if seen[k] {
					dull++
					continue
				}
				seen[k] = true
				if !yield(s) {
					return
				}
				if given++; given == n {
					return
				}
			}
		}
	}
}

// state makes one state after a cut, another one in each round.
func (l *Log) state(r *rand.Rand, cut, round int) *State {
	name := semantics[(round+cut)%len(semantics)]
	step := round / len(semantics)
	if name == "posix" {
		return l.posixState(r, cut, step)
	}
	sure := l.committed(cut, name == "ordered")
	end := cut // changes before it are on the disk
	switch step {
	case 0:
	case 1:
		end = sure
	default:
		end = sure + r.IntN(cut-sure+1)
	}
	if name == "ordered" {
		s := l.build(end, make([]certainty, end), l.ordered(r, end, end > sure && step > 0))
		s.Cut = cut
		return s
	}
	how := fmt.Sprintf("linux: entries of calls before %d", end)
	data := pick(r, step)
	return l.build(cut, make([]certainty, cut), choice{
		how:  how + ", " + data.how,
		kept: func(i int) verdict { return yes(i < end) },
		data: func(id int) dataVerdict {
			v := data.of(id)
			v.holes = false
			return v
		},
	})
}

func yes(ok bool) verdict {
	if ok {
		return keep
	}
	return drop
}

// ordered keeps all before end, with tear but for a piece of the last write.
func (l *Log) ordered(r *rand.Rand, end int, tear bool) choice {
	c := choice{
		how:  fmt.Sprintf("ordered: all before call %d", end),
		kept: func(int) verdict { return keep },
		data: func(int) dataVerdict { return allData },
	}
	if !tear || l.ops[end-1].kind != disk.Write {
		return c
	}
	last := l.ops[end-1]
	var before uint64 // octets written to the file since its sync
	for _, o := range l.ops[:end-1] {
		switch {
		case o.node != last.node:
		case o.kind == disk.Write:
			before += uint64(len(o.data))
		case o.kind == disk.Sync || o.kind == disk.DataSync:
			before = 0
		}
	}
	cut := before + uint64(r.IntN(len(last.data)+1))
	c.how += fmt.Sprintf(", the last write cut at %d", cut-before)
	c.data = func(id int) dataVerdict {
		if id == last.node {
			return dataVerdict{octets: cut}
		}
		return allData
	}
	return c
}

// posixState makes one of the states in which everything that is not sure has its own fate.
func (l *Log) posixState(r *rand.Rand, cut, step int) *State {
	sure := l.posix(cut)
	var open []int // changes that are not sure
	for i := range sure {
		if len(l.ops[i].sides) > 0 && !sure[i].whole {
			open = append(open, i)
		}
	}
	data := pick(r, step)
	c := choice{data: data.of}
	few := func(n int) []int {
		list := make([]int, 0, n)
		for range n {
			if len(open) > 0 {
				list = append(list, open[r.IntN(len(open))])
			}
		}
		return list
	}
	how := "all entries"
	c.kept = func(int) verdict { return keep }
	singly := step - 8 // first the plain ones, then each change for itself
	switch {
	case step < 4:
	case step < 8:
		how, c.kept = "no entries", func(int) verdict { return drop }
	case singly < 2*len(open) && r.IntN(2) == 0:
		one := []int{open[singly/2]}
		how, c.kept = only(one, singly%2 == 0)
	default:
		switch r.IntN(3) {
		case 0, 1:
			how, c.kept = only(few(1+r.IntN(3)), r.IntN(2) == 0)
		case 2:
			how = "entries at random"
			some := map[int]bool{}
			for _, i := range open {
				some[i] = r.IntN(2) == 0
			}
			c.kept = func(i int) verdict { return yes(some[i]) }
		}
	}
	c.how = "posix: " + how + ", " + data.how
	s := l.build(cut, sure, c)
	s.Posix = true
	return s
}

// only keeps some changes, or all others.
func only(some []int, there bool) (how string, kept func(i int) verdict) {
	how = fmt.Sprintf("entries but of calls %v", some)
	if there {
		how = fmt.Sprintf("entries of calls %v only", some)
	}
	return how, func(i int) verdict { return yes(slices.Contains(some, i) == there) }
}

// A pick is a fate of the contents that are not sure.
type picked struct {
	how string
	of  func(id int) dataVerdict
}

// pick chooses a fate; the steps 0 to 3 are the plain ones.
func pick(r *rand.Rand, step int) picked {
	if step > 7 {
		step = r.IntN(6)
	}
	switch step % 6 {
	case 0:
		return picked{"all contents", func(int) dataVerdict { return allData }}
	case 1:
		return picked{"no contents", func(int) dataVerdict { return noData }}
	case 2:
		return picked{"zeros", func(int) dataVerdict { return dataVerdict{holes: true} }}
	}
	// Each file at one octet, whichever way it is asked.
	salt := r.Uint64()
	return picked{"contents cut", func(id int) dataVerdict {
		own := rand.New(rand.NewPCG(salt, uint64(id)))
		most := []int{20, 100, 2000, 20000}[own.IntN(4)]
		switch own.IntN(6) {
		case 0:
			return allData
		case 1:
			return noData
		}
		return dataVerdict{octets: uint64(own.IntN(most)), holes: own.IntN(4) == 0}
	}}
}
