package imap

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/text/encoding"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

// A program is what SEARCH, SORT, THREAD and others ask of messages: keys, of
// which all have to match. It is asked of any view, and may be asked again.
type program struct {
	s     *Session
	key   key
	keys  int
	texts int

	charset encoding.Encoding // of the strings; nil: UTF-8
	unknown bool              // the charset is
	bounds  numSet            // the messages to look at …
	bounded bool              // … if not at all of them
	modSeq  bool              // MODSEQ is asked for, and so is to be told

	fuzzy    []key     // what FUZZY stands before, as it was written
	progress *progress // of the command that is at work; nil: nobody waits

	several bool // it is asked of several mailboxes

	filtered bool                // there are filters
	named    bool                // a charset that is not UTF-8 was named
	inside   []string            // the filters that are being read
	notes    maildir.Annotations // where they are
	trouble  error               // with one of them
}

// program = ["CHARSET" SP charset SP] search-key *(SP search-key)
// (RFC 9051 §9, search-program)
func (s *Session) program(p *parser) *program {
	g := &program{s: s, progress: &progress{s: s, tag: p.tagged, last: time.Now()}}
	if p.word("CHARSET") {
		if s.has(utf8Accept) {
			p.fail("all is UTF-8, as you wanted") // RFC 6855 §3
		}
		p.sp()
		g.setCharset(p.astring())
		p.sp()
	}
	g.searchKeys(p)
	return g
}

// criteria = charset SP search-key *(SP search-key)   (RFC 5256 §5,
// search-criteria)
func (s *Session) criteria(p *parser) *program {
	g := &program{s: s, progress: &progress{s: s, tag: p.tagged, last: time.Now()}}
	g.setCharset(p.astring())
	p.sp()
	g.searchKeys(p)
	return g
}

func (g *program) searchKeys(p *parser) {
	keys := and{g.searchKey(p)}
	for p.err == nil && p.take(" ") {
		keys = append(keys, g.searchKey(p))
	}
	if p.err == nil {
		g.key = keys.sorted()
	}
}

// setCharset takes the name of the charset that the strings are in.
func (g *program) setCharset(name string) {
	switch name = strings.ToUpper(name); name {
	case "", "UTF-8", "US-ASCII":
	default:
		var known bool
		g.charset, known = mimetree.Charset(name)
		g.unknown, g.named = !known, true
	}
}

// refused is the answer to a program that cannot be asked (RFC 9051 §6.4.4).
func (g *program) refused() (r reply, yes bool) {
	undefined, isUndefined := errors.AsType[undefinedFilter](g.trouble)
	switch {
	case g.filtered && g.named: // RFC 5466 §3.1
		return reply{"BAD", "BADCHARSET (UTF-8)", "filters are in UTF-8"}, true
	case isUndefined:
		return no("UNDEFINED-FILTER "+string(undefined), "no such filter, or it is no search program"), true
	case g.trouble != nil:
		return g.s.failed(g.trouble), true
	case g.unknown:
		return no("BADCHARSET (US-ASCII UTF-8)", "only these charsets"), true
	}
	return reply{}, false
}

// find returns the numbers of the messages in v that match, rising.
func (g *program) find(ctx context.Context, v *view) ([]int, error) {
	set := v.every()
	if g.bounded {
		set = g.bounds
	}
	if w := g.progress; w != nil && !g.several {
		w.goal = set.count()
	}
	return g.among(ctx, v, set)
}

// within bounds find to the messages with the given numbers.
func (g *program) within(set numSet) { g.bounds, g.bounded = set, true }

// among is find for the messages with the given numbers.
func (g *program) among(ctx context.Context, v *view, set numSet) ([]int, error) {
	a := &asking{ctx: ctx, v: v, progress: g.progress, total: set.count()}
	a.key = a.bind(g.key)
	defer a.remember()
	return a.run(set)
}

// An asking is one program asked of one view.
type asking struct {
	ctx context.Context
	v   *view
	key key

	recalled []*recalled
	progress *progress
	total    int // messages that are asked for
}

// bind gives a key as it stands for the view: what "*" is there is known.
func (a *asking) bind(k key) key {
	switch k := k.(type) {
	case and:
		bound := make(and, len(k))
		for i := range k {
			bound[i] = a.bind(k[i])
		}
		return bound.sorted()
	case or2:
		return or2{a.bind(k.a), a.bind(k.b)}.sorted()
	case not:
		return not{a.bind(k.key)}
	case text:
		return a.recall(k, k.name())
	case header:
		if k.column() == "" {
			return a.recall(k, k.name())
		}
	case seqs:
		return seqs(a.v.resolve(numSet(k), false).in(uint32(a.v.len())))
	case uids:
		return uids(a.v.resolve(numSet(k), true).in(a.v.lastUID()))
	}
	return k
}

// run asks for the messages with the given numbers: first with what is known
// anyway, then on all cores of those for which that is not enough.
func (a *asking) run(set numSet) (found []int, err error) {
	if a.key, err = a.byColumns(a.key, false); err != nil {
		return nil, err
	}
	found, open, err := a.sieve(nil, a.v.each(set))
	if err == nil && len(open) >= columnsWorth && len(open) >= a.v.len()/4 {
		if a.key, err = a.byColumns(a.key, true); err == nil {
			found, open, err = a.sieve(found, a.v.some(open))
		}
	}
	if err != nil {
		return nil, err
	}
	if len(open) > 0 {
		yes, err := a.runOpen(open)
		if err != nil {
			return nil, err
		}
		for i, n := range open {
			if yes[i] {
				found = append(found, n)
			}
		}
	}
	slices.Sort(found)
	return found, a.ctx.Err()
}

// sieve appends to found which messages match, as far as that is known, and
// gives those of which more has to be known.
func (a *asking) sieve(found []int, msgs iter.Seq2[int, seen]) (_, open []int, err error) {
	c := candidate{asking: a}
	for n, m := range msgs {
		c.m, c.seq, c.gone, c.wants = m.Message, n, m.gone, 0
		if err := c.decide(a.key); err != nil {
			return nil, nil, err
		}
		switch {
		case c.wants > 0:
			open = append(open, n)
		case c.yes:
			found = append(found, n)
		}
	}
	return found, open, nil
}

// seekers bounds how many goroutines of the process search beside those who
// asked.
var seekers = make(chan struct{}, 2*runtime.GOMAXPROCS(0))

// onAllCores lets as many goroutines work as there are cores, and pieces of
// work, this one first of all.
func onAllCores(pieces int, work func(first bool)) {
	var wg sync.WaitGroup
more:
	for range min(runtime.GOMAXPROCS(0), pieces) - 1 {
		select {
		case seekers <- struct{}{}:
			wg.Go(func() {
				defer func() { <-seekers }()
				work(false)
			})
		default:
			break more
		}
	}
	work(true)
	wg.Wait()
}

// runOpen asks for messages of which more has to be known, some at a time.
func (a *asking) runOpen(open []int) (yes []bool, err error) {
	yes = make([]bool, len(open))
	size := min(together, len(open)/(2*runtime.GOMAXPROCS(0))+1)
	var next atomic.Int64
	var mu sync.Mutex
	if a.progress != nil {
		a.progress.done.Add(int64(a.total - len(open)))
	}
	work := func(teller bool) {
		for a.ctx.Err() == nil {
			from := int(next.Add(int64(size))) - size
			if from >= len(open) {
				return
			}
			to := min(from+size, len(open))
			e := a.decideSome(open[from:to], yes[from:to])
			if w := a.progress; w != nil {
				if w.done.Add(int64(to - from)); teller && e == nil {
					e = w.tell()
				}
			}
			if e != nil {
				next.Store(int64(len(open)))
				mu.Lock()
				err = e
				mu.Unlock()
				return
			}
		}
	}
	onAllCores((len(open)+size-1)/size, work)
	if err == nil {
		err = a.ctx.Err()
	}
	return yes, err
}

// some gives the messages with these numbers.
func (v *view) some(numbers []int) iter.Seq2[int, seen] {
	return func(yield func(int, seen) bool) {
		for _, n := range numbers {
			if m, gone := v.at(n); !yield(n, seen{m, gone}) {
				return
			}
		}
	}
}

// A seen is a message of a view.
type seen struct {
	maildir.Message
	gone bool
}

// each gives the messages with the given numbers.
func (v *view) each(set numSet) iter.Seq2[int, seen] {
	return func(yield func(int, seen) bool) {
		if len(v.gone) > 0 || len(v.late) > 0 {
			for n := range set.all() {
				if m, gone := v.at(n); !yield(n, seen{m, gone}) {
					return
				}
			}
			return
		}
		for _, s := range set {
			for i, m := range v.state.From(int(s.lo) - 1) {
				if i >= int(s.hi) {
					break
				}
				if !yield(i+1, seen{m, false}) {
					return
				}
			}
		}
	}
}
