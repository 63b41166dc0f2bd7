package imap

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// A memory is what the sessions of this process that have one mailbox open
// remember of it: the texts of messages never change. It may be forgotten at
// any time.
type memory struct {
	mu       sync.Mutex
	validity uint32
	octets   int64
	columns  map[string]*column
	recalls  map[string]*recall
	tables   [sortKeyCount]*table
	clock    int64 // counts uses
	idle     *time.Timer
}

const (
	memoryIdle   = 5 * time.Minute // after which it is forgotten
	maxRecalls   = 64              // searches that are remembered of one mailbox
	maxMemory    = 24 << 20        // octets of one mailbox
	maxMemories  = 64 << 20        // octets of all
	maxRemember  = 256             // octets of what was searched for
	columnsWorth = 256
)

// memories counts the octets of all.
var memories atomic.Int64

// memory gives what is remembered of the mailbox.
func (v *view) memory() *memory {
	if v.remembers == nil {
		v.remembers = v.folder.Shared(func() any { return &memory{} }).(*memory)
	}
	return v.remembers
}

func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
}

// clear forgets all. mu is held.
func (m *memory) clear() {
	memories.Add(-m.octets)
	m.octets, m.columns, m.recalls = 0, nil, nil
	clear(m.tables[:])
	if m.idle != nil {
		m.idle.Stop()
		m.idle = nil
	}
}

// enter locks the memory for use under a UIDVALIDITY.
func (m *memory) enter(validity uint32) {
	m.mu.Lock()
	if m.validity != validity {
		m.clear()
		m.validity = validity
	}
	if m.columns == nil {
		m.columns, m.recalls = map[string]*column{}, map[string]*recall{}
	}
	if m.idle == nil {
		m.idle = time.AfterFunc(memoryIdle, m.forget)
	} else {
		m.idle.Reset(memoryIdle)
	}
	m.clock++
}

// grow makes room for some more octets, and says whether there is any. What
// was not used for the longest time is forgotten for them. mu is held.
func (m *memory) grow(octets int64) bool {
	for m.octets+octets > maxMemory || memories.Load()+octets > maxMemories {
		if !m.drop() {
			return false
		}
	}
	m.octets += octets
	memories.Add(octets)
	return true
}

func (m *memory) drop() bool {
	oldest, last := "", m.clock
	for name, c := range m.columns {
		if c.used < last {
			oldest, last = name, c.used
		}
	}
	var table *table
	for _, t := range m.tables {
		if t != nil && t.used < last {
			table, last = t, t.used
		}
	}
	switch {
	case table != nil:
		m.shrink(table.held)
		m.tables[table.key] = nil
		return true
	case oldest == "":
		return false
	}
	m.shrink(m.columns[oldest].octets())
	delete(m.columns, oldest)
	return true
}

func (m *memory) shrink(octets int64) {
	m.octets -= octets
	memories.Add(-octets)
}

// A recall is one search that is remembered: about which messages was asked,
// and which of them matched.
type recall struct {
	asked, yes uidBits
	used       int64
}

// recall gives what is remembered of a search, as it is now.
func (m *memory) recall(validity uint32, name string) (asked, yes uidBits) {
	m.enter(validity)
	defer m.mu.Unlock()
	r := m.recalls[name]
	if r == nil {
		return nil, nil
	}
	r.used = m.clock
	return r.asked.clone(), r.yes.clone()
}

// remember takes in what was found out.
func (m *memory) remember(validity uint32, name string, asked, yes uidBits) {
	m.enter(validity)
	defer m.mu.Unlock()
	r := m.recalls[name]
	if r == nil {
		if len(m.recalls) >= maxRecalls {
			m.dropRecall()
		}
		r = &recall{asked: uidBits{}, yes: uidBits{}}
		m.recalls[name] = r
	}
	r.used = m.clock
	before := r.octets()
	r.asked.join(asked)
	r.yes.join(yes)
	if more := r.octets() - before; !m.grow(more) {
		m.shrink(before)
		delete(m.recalls, name)
	}
}

func (m *memory) dropRecall() {
	oldest, last := "", m.clock+1
	for name, r := range m.recalls {
		if r.used < last {
			oldest, last = name, r.used
		}
	}
	m.shrink(m.recalls[oldest].octets())
	delete(m.recalls, oldest)
}

func (r *recall) octets() int64 { return r.asked.octets() + r.yes.octets() }

// uidBits is a set of UIDs, by pages.
type uidBits map[uint32]*[pageWords]uint64

const pageWords = 64

func (u uidBits) has(uid uint32) bool {
	page := u[uid/(64*pageWords)]
	return page != nil && page[uid/64%pageWords]>>(uid%64)&1 != 0
}

func (u uidBits) add(uid uint32) {
	page := u[uid/(64*pageWords)]
	if page == nil {
		page = new([pageWords]uint64)
		u[uid/(64*pageWords)] = page
	}
	page[uid/64%pageWords] |= 1 << (uid % 64)
}

func (u uidBits) join(more uidBits) {
	for n, page := range more {
		mine := u[n]
		if mine == nil {
			mine = new([pageWords]uint64)
			u[n] = mine
		}
		for i, w := range page {
			mine[i] |= w
		}
	}
}

func (u uidBits) clone() uidBits {
	c := maps.Clone(u)
	for n, page := range c {
		p := *page
		c[n] = &p
	}
	return c
}

func (u uidBits) octets() int64 { return int64(len(u)) * (8*pageWords + 64) }
