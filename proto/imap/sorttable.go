package imap

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"pennypost/maildir"
)

// A table is keys of the messages of a mailbox, and which message each row is
// about. Rows are only added to it.
type table struct {
	key  sortKey
	used int64 // by the clock of the memory that it is in
	held int64 // octets that are counted there

	mu    sync.Mutex
	keys  keys
	index []rowOf // UIDs rising
}

type rowOf struct{ uid, row uint32 }

// keys gives what some messages, whose UIDs rise, are sorted by, and the row of
// each.
func (v *view) keys(ctx context.Context, k sortKey, msgs []maildir.Message) (keys, []uint32, error) {
	m, validity := v.memory(), v.state.UIDValidity
	m.enter(validity)
	t := m.tables[k]
	if t == nil {
		t = &table{key: k, keys: newKeys(k)}
		m.tables[k] = t
	}
	t.used = m.clock
	m.mu.Unlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.index) > 2*v.len()+1000 { // most of these are gone
		t.keys, t.index = newKeys(k), nil
	}
	if missing := t.missing(msgs); len(missing) > 0 {
		if err := t.load(ctx, v.folder, missing); err != nil {
			return nil, nil, err
		}
		m.count(validity, t)
	}
	rows := make([]uint32, len(msgs))
	j := 0
	for i, msg := range msgs {
		for t.index[j].uid != msg.UID {
			j++
		}
		rows[i] = t.index[j].row
	}
	return t.keys.snapshot(), rows, nil
}

// count takes in how large a table has become: it is forgotten when there is no
// room for it.
func (m *memory) count(validity uint32, t *table) {
	m.enter(validity)
	defer m.mu.Unlock()
	if m.tables[t.key] != t {
		return // it was forgotten meanwhile
	}
	t.used = m.clock
	m.shrink(t.held)
	if t.held = t.keys.octets() + 8*int64(cap(t.index)); !m.grow(t.held) {
		m.tables[t.key] = nil
	}
}

// missing are those of some messages of which there is no row.
func (t *table) missing(msgs []maildir.Message) []maildir.Message {
	if len(t.index) == 0 {
		return msgs
	}
	var missing []maildir.Message
	j := 0
	for _, m := range msgs {
		for j < len(t.index) && t.index[j].uid < m.UID {
			j++
		}
		if j == len(t.index) || t.index[j].uid != m.UID {
			missing = append(missing, m)
		}
	}
	return missing
}

// load adds the rows of messages, which it reads on all cores.
func (t *table) load(ctx context.Context, folder *maildir.Folder, msgs []maildir.Message) error {
	var maker *maildir.Maker
	if t.key.level() == maildir.Header {
		e := folder.Entries(t.key.level(), entries)
		if !e.Wished() {
			maker = brief[t.key]
		}
		e.Close()
	}
	parts := make([]keys, (len(msgs)+pieceLen-1)/pieceLen)
	errs := make([]error, len(parts))
	onCores(len(parts), func(i int) {
		parts[i] = newKeys(t.key)
		errs[i] = t.read(ctx, folder, maker, msgs[i*pieceLen:min((i+1)*pieceLen, len(msgs))], parts[i])
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	at := len(t.index)
	for _, m := range msgs {
		t.index = append(t.index, rowOf{m.UID, uint32(len(t.index))})
	}
	for _, p := range parts {
		t.keys.join(p)
	}
	if at > 0 && t.index[at-1].uid > t.index[at].uid {
		slices.SortFunc(t.index, func(a, b rowOf) int { return cmp.Compare(a.uid, b.uid) })
	}
	return nil
}

// read adds the rows of messages. Of one that has gone nothing is known.
func (t *table) read(ctx context.Context, folder *maildir.Folder, brief *maildir.Maker, msgs []maildir.Message, to keys) error {
	e := folder.Entries(t.key.level(), entries)
	defer e.Close()
	e.Glance(brief)
	for _, known := range e.All(msgs) {
		if known.Err != nil && !isGone(known.Err) {
			return known.Err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		to.add(known.Entry)
	}
	return nil
}

// onCores does n things, some at once.
func onCores(n int, do func(i int)) {
	var next atomic.Int64
	onAllCores(n, func(bool) {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			do(i)
		}
	})
}
