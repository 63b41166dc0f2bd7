package imap

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

func isGone(err error) bool {
	return errors.Is(err, maildir.ErrGone) || errors.Is(err, fs.ErrNotExist)
}

// A key is one search-key: what it asks of a message (RFC 9051 §6.4.4). The
// keys that cost most are asked last.
type key interface {
	// cost is what a message has to be read for.
	cost() cost
	// match says whether the message is one of those asked for.
	match(c *candidate) (bool, error)
}

type cost int

const (
	free     cost = iota // known already
	byStat               // its size or date, which the cache has
	byHeader             // its header, of which the cache has the usual fields
	byBody               // all of it
)

// and matches what all of its keys match; without keys everything.
type and []key

func (a and) cost() (c cost) {
	for _, k := range a {
		c = max(c, k.cost())
	}
	return c
}

func (a and) match(c *candidate) (bool, error) {
	for _, k := range a {
		if yes, err := k.match(c); !yes || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (a and) sorted() and {
	slices.SortStableFunc(a, func(x, y key) int { return int(x.cost() - y.cost()) })
	return a
}

type or2 struct{ a, b key }

func (o or2) cost() cost { return max(o.a.cost(), o.b.cost()) }

func (o or2) sorted() or2 {
	if o.b.cost() < o.a.cost() {
		o.a, o.b = o.b, o.a
	}
	return o
}

func (o or2) match(c *candidate) (bool, error) {
	if yes, err := o.a.match(c); yes || err != nil {
		return yes, err
	}
	return o.b.match(c)
}

type not struct{ key }

func (n not) match(c *candidate) (bool, error) {
	yes, err := n.key.match(c)
	return !yes && err == nil, err
}

type flagIs struct {
	flag maildir.Flags
	set  bool
}

func (flagIs) cost() cost                         { return free }
func (f flagIs) match(c *candidate) (bool, error) { return c.m.Flags&f.flag != 0 == f.set, nil }

type recent bool

func (recent) cost() cost { return free }
func (r recent) match(c *candidate) (bool, error) {
	return c.v.folder.Recent(c.m.UID) == bool(r), nil
}

type keyword struct {
	name string
	set  bool
}

func (keyword) cost() cost                         { return free }
func (k keyword) match(c *candidate) (bool, error) { return c.m.HasKeyword(k.name) == k.set, nil }

type uids numSet

func (uids) cost() cost                         { return free }
func (u uids) match(c *candidate) (bool, error) { return numSet(u).has(c.m.UID), nil }

// seqs are message numbers; those beyond the last match nothing (RFC 7377 §2).
type seqs numSet

func (seqs) cost() cost                         { return free }
func (q seqs) match(c *candidate) (bool, error) { return numSet(q).has(uint32(c.seq)), nil }

// A recalled is a key that was asked before.
type recalled struct {
	key
	name       string
	asked, yes uidBits // before

	mu           sync.Mutex
	found, fresh uidBits // now: which match, of which
}

// recall lets a key be asked of those messages only of which it was not asked
// before.
func (a *asking) recall(k key, name string) key {
	if len(name) > maxRemember {
		return k
	}
	r := &recalled{key: k, name: name, found: uidBits{}, fresh: uidBits{}}
	r.asked, r.yes = a.v.memory().recall(a.v.state.UIDValidity, name)
	a.recalled = append(a.recalled, r)
	return r
}

// remember keeps what was asked for later.
func (a *asking) remember() {
	for _, r := range a.recalled {
		if len(r.fresh) > 0 {
			a.v.memory().remember(a.v.state.UIDValidity, r.name, r.fresh, r.found)
		}
	}
}

func (r *recalled) match(c *candidate) (bool, error) {
	if r.asked.has(c.m.UID) {
		return r.yes.has(c.m.UID), nil
	}
	yes, err := r.key.match(c)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fresh.add(c.m.UID); yes {
			r.found.add(c.m.UID)
		}
	}
	return yes, err
}

type size struct {
	octets int64
	larger bool
}

func (size) cost() cost { return byStat }

func (z size) match(c *candidate) (bool, error) {
	if err := c.knows(maildir.Sizes); err != nil {
		return false, err
	}
	if z.larger {
		return c.known.Size > z.octets, nil
	}
	return c.known.Size < z.octets, nil
}

func (size) column() string { return columnSize }

func (z size) find(c *column) uidBits {
	return c.which(func(v int64) bool { return v > z.octets && z.larger || v < z.octets && !z.larger })
}

// age is WITHIN (RFC 5032): by INTERNALDATE, to the second.
type age struct {
	younger bool
	than    time.Time
}

func (age) cost() cost { return byStat }

func (a age) match(c *candidate) (bool, error) {
	if err := c.knows(maildir.Sizes); err != nil {
		return false, err
	}
	return c.known.Date().After(a.than) == a.younger, nil
}

func (age) column() string { return columnDate }

func (a age) find(c *column) uidBits {
	than := a.than.UnixNano()
	return c.which(func(v int64) bool { return v > than == a.younger })
}

// received is BEFORE, ON and SINCE: the day of INTERNALDATE, without regard to
// its time and zone.
type received struct {
	how string
	day time.Time
}

func (received) cost() cost { return byStat }

func (r received) match(c *candidate) (bool, error) {
	if err := c.knows(maildir.Sizes); err != nil {
		return false, err
	}
	return onDay(c.known.Date(), r.how, r.day), nil
}

func (received) column() string { return columnDate }

func (r received) find(c *column) uidBits {
	y, m, d := r.day.Date()
	from, to := time.Date(y, m, d, 0, 0, 0, 0, time.Local).UnixNano(), time.Date(y, m, d+1, 0, 0, 0, 0, time.Local).UnixNano()
	return c.which(func(v int64) bool { return within(v, from, to, r.how) })
}

// within says whether v is before, on or since the day between two times.
func within(v, from, to int64, how string) bool {
	switch how {
	case "BEFORE":
		return v < from
	case "ON":
		return from <= v && v < to
	}
	return v >= from
}

func onDay(t time.Time, how string, day time.Time) bool {
	y, m, d := t.Date()
	t = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	switch how {
	case "BEFORE":
		return t.Before(day)
	case "ON":
		return t.Equal(day)
	}
	return !t.Before(day)
}

// sent is SENTBEFORE, SENTON and SENTSINCE: the day of the Date field.
type sent struct {
	how string
	day time.Time
}

func (sent) cost() cost { return byHeader }

func (k sent) match(c *candidate) (bool, error) {
	if err := c.knows(maildir.Header); err != nil {
		return false, err
	}
	if !c.known.HasSent {
		return false, nil
	}
	there := c.known.Sent + 60*int64(c.known.Zone)
	return onDay(time.Unix(there, 0).UTC(), k.how, k.day), nil
}

func (sent) column() string { return columnSent }

func (k sent) find(c *column) uidBits {
	from, to := k.day.Unix(), k.day.AddDate(0, 0, 1).Unix()
	return c.which(func(v int64) bool { return v != noDate && within(v, from, to, k.how) })
}

// header is HEADER and the keys for single fields. An empty needle asks only
// for the field.
type header struct {
	field  string
	needle needle
}

func (header) cost() cost { return byHeader }

func (k header) name() string { return "HEADER " + k.field + " " + k.needle.text }

// column is that of the field, if it is one that the cache has.
func (k header) column() string {
	if usualFields[k.field] {
		return k.field
	}
	return ""
}

func (k header) find(c *column) uidBits { return c.find(&k.needle) }

func (k header) match(c *candidate) (bool, error) {
	h, err := k.fields(c)
	if err != nil {
		return false, err
	}
	for f := range h.All() {
		if f.Is(k.field) && k.needle.inField(f, &c.folded) {
			return true, nil
		}
	}
	return false, nil
}

// fields are the header fields among which that of the key is, if it is there.
func (k header) fields(c *candidate) (mimetree.Header, error) {
	if usualFields[k.field] {
		if err := c.knows(maildir.Header); err != nil {
			return nil, err
		}
		if usual := c.known.Texts[maildir.TextFields]; usual != nil {
			return mimetree.Header(usual), nil
		}
	}
	return c.header()
}
