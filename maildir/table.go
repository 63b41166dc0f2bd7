package maildir

import "slices"

// blockLen is how many messages a block holds: with their arrays it fills a piece of memory of the allocator's.
const blockLen = 120

// A block is some messages that follow one another. Once a State shows it, it never changes.
type block struct {
	owner  uint64 // of the tables' ages: who may still write here
	n      int
	uid    [blockLen]uint32
	off    [blockLen]uint16 // of the base name in names
	mark   [blockLen]uint32 // place of its info in the box
	saved  column[uint32]   // when it got its UID: seconds since 1970
	modseq column[uint64]
	names  string // base names, each behind an octet that holds its length; others may stand between them
}

// A column is a number for each message of a block. While all are the same it is but one.
type column[T uint32 | uint64] struct {
	one  T
	many *[blockLen]T
}

func (c *column[T]) at(i int) T {
	if c.many != nil {
		return c.many[i]
	}
	return c.one
}

// set changes one of n numbers. The array is never shared between blocks.
func (c *column[T]) set(i, n int, v T) {
	if c.many == nil {
		if n <= 1 {
			c.one = v
		}
		if c.one == v {
			return
		}
		c.spread()
	}
	c.many[i] = v
}

func (c *column[T]) spread() {
	c.many = new([blockLen]T)
	for i := range c.many {
		c.many[i] = c.one
	}
}

// move copies the numbers from place i to the end n on to place j.
func (c *column[T]) move(j, i, n int) {
	if c.many != nil {
		copy(c.many[j:], c.many[i:n])
	}
}

// squeeze makes n numbers one if they are the same.
func (c *column[T]) squeeze(n int) {
	if c.many == nil {
		return
	}
	for _, v := range c.many[:n] {
		if v != c.many[0] {
			return
		}
	}
	c.one, c.many = c.many[0], nil
}

// copy gives a column of its own to a copied block.
func (c *column[T]) copy() {
	if c.many != nil {
		many := *c.many
		c.many = &many
	}
}

// fill takes over numbers.
func (c *column[T]) fill(list []T) {
	c.one, c.many = list[0], nil
	for _, v := range list {
		if v != c.one {
			c.spread()
			copy(c.many[:], list)
			return
		}
	}
}

// copy gives a block that may be written to.
func (b *block) copy(owner uint64) *block {
	c := *b
	c.owner = owner
	c.saved.copy()
	c.modseq.copy()
	return &c
}

// base gives a base name.
func (b *block) base(i int) string {
	at := int(b.off[i])
	n := int(b.names[at])
	return b.names[at+1 : at+1+n]
}

// find gives the place of a UID, or where it would stand and false.
func (b *block) find(uid uint32) (int, bool) {
	lo, hi := 0, b.n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if b.uid[mid] < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < b.n && b.uid[lo] == uid
}

// move copies the messages from place i on to place j.
func (b *block) move(j, i int) {
	copy(b.uid[j:], b.uid[i:b.n])
	copy(b.off[j:], b.off[i:b.n])
	copy(b.mark[j:], b.mark[i:b.n])
	b.saved.move(j, i, b.n)
	b.modseq.move(j, i, b.n)
}

// A row is one message of a table.
type row struct {
	uid    uint32
	mark   uint32
	saved  uint32
	modseq uint64
	base   string
}

func (b *block) row(i int) row {
	return row{b.uid[i], b.mark[i], b.saved.at(i), b.modseq.at(i), b.base(i)}
}

// blocks are messages with UIDs strictly rising; no block is empty.
type blocks []*block

// find gives the block and the place in it of a UID, or where it would stand (at the end of a block, mostly) and false.
func (bs blocks) find(uid uint32) (k, i int, ok bool) {
	lo, hi := 0, len(bs)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if b := bs[mid]; b.uid[b.n-1] < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(bs) {
		return lo, 0, false
	}
	i, ok = bs[lo].find(uid)
	return lo, i, ok
}

// A table is the messages of a box. What it has given away in freeze is never written to: a change copies one block, and the
// list of blocks.
type table struct {
	blocks blocks
	len    int
	octets int // of all base names
	age    uint64
	shared bool // the list of blocks belongs to a State as well
	text   []byte
}

// own makes sure that the list of blocks is nobody else's.
func (t *table) own() {
	if t.shared {
		t.blocks, t.shared = slices.Clone(t.blocks), false
	}
}

// write gives a block that may be written to.
func (t *table) write(k int) *block {
	b := t.blocks[k]
	if b.owner == t.age {
		return b
	}
	t.own()
	c := b.copy(t.age)
	t.blocks[k] = c
	return c
}

// freeze gives the blocks as they are now, and where each ends.
func (t *table) freeze() (blocks, []int32) {
	ends, n := make([]int32, len(t.blocks)), 0
	for k, b := range t.blocks {
		n += b.n
		ends[k] = int32(n)
		if b.owner == t.age {
			b.saved.squeeze(b.n)
			b.modseq.squeeze(b.n)
		}
	}
	t.shared = true
	t.age++
	t.text = nil
	return t.blocks, ends
}

// get gives the message with a UID.
func (t *table) get(uid uint32) (r row, ok bool) {
	k, i, ok := t.blocks.find(uid)
	if ok {
		r = t.blocks[k].row(i)
	}
	return r, ok
}

// last is the largest UID.
func (t *table) last() uint32 {
	if len(t.blocks) == 0 {
		return 0
	}
	b := t.blocks[len(t.blocks)-1]
	return b.uid[b.n-1]
}

// add takes in a message; its UID is not there yet.
func (t *table) add(r row) {
	t.own()
	t.len++
	t.octets += len(r.base)
	if r.uid > t.last() {
		t.push(r)
		return
	}
	k, i, _ := t.blocks.find(r.uid)
	b := t.write(k)
	if b.n == blockLen {
		half := b.copy(t.age)
		half.move(0, b.n/2)
		half.n = b.n - b.n/2
		b.n /= 2
		t.blocks = slices.Insert(t.blocks, k+1, half)
		if i > b.n {
			b, i = half, i-b.n
		}
	}
	if len(b.names)+len(r.base) >= 1<<16-1 {
		b.pack()
	}
	b.move(i+1, i)
	b.n++
	at := len(b.names)
	b.names += string(appendName([]byte(nil), r.base))
	b.put(i, r, at)
}

func (b *block) put(i int, r row, off int) {
	b.uid[i], b.mark[i], b.off[i] = r.uid, r.mark, uint16(off)
	b.saved.set(i, b.n, r.saved)
	b.modseq.set(i, b.n, r.modseq)
}

// push adds behind the last one. The names of the last block grow in a piece of memory that has room: what a State has of
// them does not change.
func (t *table) push(r row) {
	k := len(t.blocks) - 1
	if k < 0 || t.blocks[k].n == blockLen {
		if k >= 0 {
			b := t.write(k)
			b.pack()
		}
		t.blocks = append(t.blocks, &block{owner: t.age})
		t.text = make([]byte, 0, 1024)
		k++
	}
	b := t.write(k)
	if len(t.text) != len(b.names) || t.text == nil {
		t.text = append(make([]byte, 0, len(b.names)*5/4+512), b.names...)
	}
	if len(t.text)+len(r.base) >= 1<<16-1 {
		b.pack()
		t.text = append(make([]byte, 0, len(b.names)*5/4+512), b.names...)
	}
	off := len(t.text)
	t.text = appendName(t.text, r.base)
	b.names = asString(t.text)
	b.n++
	b.put(b.n-1, r, off)
}

// pack gives the names of a block no more room than they need.
func (b *block) pack() {
	n := 0
	for i := range b.n {
		n += 1 + len(b.base(i))
	}
	text := make([]byte, 0, n)
	for i := range b.n {
		at := len(text)
		text = appendName(text, b.base(i))
		b.off[i] = uint16(at)
	}
	b.names = asString(text)
}

// remove takes a message out.
func (t *table) remove(uid uint32) bool {
	k, i, ok := t.blocks.find(uid)
	if !ok {
		return false
	}
	t.len--
	t.octets -= len(t.blocks[k].base(i))
	t.own()
	if t.blocks[k].n == 1 {
		t.blocks = slices.Delete(t.blocks, k, k+1)
		t.text = nil
		return true
	}
	b := t.write(k)
	b.move(i, i+1)
	b.n--
	return true
}

// tidy makes many small blocks into few.
func (t *table) tidy() {
	if len(t.blocks) <= 2*(t.len/blockLen)+8 {
		return
	}
	var fresh builder
	for _, b := range t.blocks {
		for i := range b.n {
			fresh.add(b.row(i))
		}
	}
	t.take(&fresh)
}

// take replaces all by what a builder has built.
func (t *table) take(b *builder) {
	age := t.age + 1
	*t = table{blocks: b.done(age), len: b.n, octets: b.size - b.n, age: age}
}

// A builder makes the blocks of many messages, UIDs rising, with all their names in one text.
type builder struct {
	rows []row
	n    int
	size int
}

func (b *builder) add(r row) {
	b.rows = append(b.rows, r)
	b.n++
	b.size += 1 + len(r.base)
}

func (b *builder) done(age uint64) (list blocks) {
	buf := make([]byte, 0, b.size)
	for _, r := range b.rows {
		buf = appendName(buf, r.base)
	}
	text, at := asString(buf), 0
	list = make(blocks, 0, (b.n+blockLen-1)/blockLen)
	for rows := range slices.Chunk(b.rows, blockLen) {
		c := &block{owner: age}
		size := 0
		for i, r := range rows {
			c.n++
			c.put(i, r, size)
			size += 1 + len(r.base)
		}
		c.names = text[at : at+size]
		at += size
		list = append(list, c)
	}
	b.rows = nil
	return list
}

// uids lists all UIDs with one of these marks, rising.
func (t *table) uids(is func(mark uint32) bool) (list []uint32) {
	for _, b := range t.blocks {
		for i := range b.n {
			if is(b.mark[i]) {
				list = append(list, b.uid[i])
			}
		}
	}
	return list
}

// within lists the UIDs in a range.
func (t *table) within(u UIDRange) (list []uint32) {
	for k, i, _ := t.blocks.find(u.First); k < len(t.blocks); k, i = k+1, 0 {
		for b := t.blocks[k]; i < b.n; i++ {
			if b.uid[i] > u.Last {
				return list
			}
			list = append(list, b.uid[i])
		}
	}
	return list
}

// renumber gives a message another modseq.
func (t *table) renumber(uid uint32, modseq uint64) {
	if k, i, ok := t.blocks.find(uid); ok {
		b := t.write(k)
		b.modseq.set(i, b.n, modseq)
	}
}

// load takes over a snapshot; marks stand for the places in its table.
func (t *table) load(s *snapshot, marks []uint32) {
	t.age++
	t.len, t.shared, t.text = len(s.uids), false, nil
	t.octets = len(s.names) - t.len
	t.blocks = make(blocks, 0, len(s.uids)/blockLen+1)
	for from := 0; from < len(s.uids); from += blockLen {
		b := &block{owner: t.age, n: min(blockLen, len(s.uids)-from)}
		to := from + b.n
		copy(b.uid[:], s.uids[from:to])
		b.saved.fill(s.saved[from:to])
		b.modseq.fill(s.modseqs[from:to])
		start, end := s.offsets[from], uint32(len(s.names))
		if to < len(s.uids) {
			end = s.offsets[to]
		}
		b.names = s.names[start:end]
		for i := range b.n {
			b.off[i] = uint16(s.offsets[from+i] - start)
			b.mark[i] = marks[s.wheres[from+i]]
		}
		t.blocks = append(t.blocks, b)
	}
}

// starts gives the number of messages before each block.
func (t *table) starts() []int {
	list, n := make([]int, len(t.blocks)), 0
	for k, b := range t.blocks {
		list[k] = n
		n += b.n
	}
	return list
}
