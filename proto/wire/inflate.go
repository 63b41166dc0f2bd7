package wire

import (
	"errors"
	"io"
	"math/bits"
	"sync"
)

// ErrGarbled reports octets that are no DEFLATE stream. The conversation cannot
// go on.
var ErrGarbled = errors.New("garbled compression")

// An inflater takes a DEFLATE stream apart (RFC 1951) as it comes. It may stop at any bit and go on later, so
// it gives out all that its input determines, however the client has flushed (the readers of libraries wait for the end
// of a block at least), and takes no more than there is room for: what it holds does not depend on what it reads.
type inflater struct {
	bits  uint64 // of the input, the next one lowest
	nbits uint
	step  step
	final bool // this block is the last one
	codes *codes
	left  int // octets of a stored block, or of a copy
	dist  int // how far back the copy is from

	window []byte // the last octets given out: a ring when it has come to its full size
	at     int    // where in the ring the next one goes
}

// maxWindow is how far back a copy may reach (RFC 1951 §2).
const maxWindow = 32 << 10

// A step is what an inflater expects next (RFC 1951 §3.2.3).
type step uint8

const (
	stepBlock   step = iota // the head of a block
	stepSize                // of a stored block
	stepStored              // its octets
	stepCounts              // the head of a block with codes of its own
	stepOrder               // the code of its codes
	stepLengths             // its codes
	stepSymbol
	stepCopy
	stepEnd
)

// codes are those of a block, and what is known of them while they come.
type codes struct {
	symbols, distances huffman
	lengths            [320]uint8
	nSymbols, nAll     int // how many there are of symbols, and of both
	known              int // of lengths, or of the code of the codes
	nOrder             int
}

var codesPool = sync.Pool{New: func() any { return new(codes) }}

// fixedCodes are those of RFC 1951 §3.2.6.
var fixedCodes = sync.OnceValue(func() *codes {
	c := new(codes)
	for i := range 288 {
		c.lengths[i] = [...]uint8{8, 9, 7, 8}[b2i(i >= 144)+b2i(i >= 256)+b2i(i >= 280)]
	}
	c.symbols.build(c.lengths[:288])
	for i := range 32 {
		c.lengths[i] = 5
	}
	c.distances.build(c.lengths[:32])
	return c
})

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// read fills p as far as src goes, and tells how much it has taken of both. io.EOF stands behind the last block.
func (f *inflater) read(p, src []byte) (n, used int, err error) {
	for n < len(p) {
		for f.nbits <= 56 && used < len(src) {
			f.bits |= uint64(src[used]) << f.nbits
			f.nbits += 8
			used++
		}
		var on bool
		switch f.step {
		case stepStored:
			k, u := f.stored(p[n:], src[used:])
			n, used, on = n+k, used+u, k > 0
		case stepSymbol:
			var k int
			k, on, err = f.symbol(p[n:])
			n += k
		case stepCopy:
			n, on = n+f.copy(p[n:]), true
		case stepEnd:
			return n, used, io.EOF
		default:
			on, err = f.head()
		}
		if err != nil || !on {
			return n, used, err
		}
	}
	return n, used, nil
}

// take gives the next k bits; false when they have not come yet.
func (f *inflater) take(k uint) (uint64, bool) {
	if f.nbits < k {
		return 0, false
	}
	v := f.bits & (1<<k - 1)
	f.drop(k)
	return v, true
}

func (f *inflater) drop(k uint) {
	f.bits >>= k
	f.nbits -= k
}

// head goes a step on in what stands before the contents of a block; false when more has to come.
func (f *inflater) head() (on bool, err error) {
	switch f.step {
	case stepBlock:
		return f.block()
	case stepSize: // LEN and NLEN
		v, ok := f.take(32)
		if !ok {
			return false, nil
		}
		if v>>16 != ^v&0xffff {
			return false, ErrGarbled
		}
		if f.step, f.left = stepStored, int(v&0xffff); f.left == 0 {
			f.end()
		}
	case stepCounts: // HLIT, HDIST, HCLEN
		v, ok := f.take(14)
		if !ok {
			return false, nil
		}
		c := f.codes
		c.nSymbols, c.nOrder, c.known = int(v&31)+257, int(v>>10)+4, 0
		c.nAll = c.nSymbols + int(v>>5&31) + 1
		if c.nSymbols > 286 || c.nAll-c.nSymbols > 30 {
			return false, ErrGarbled
		}
		clear(c.lengths[:19])
		f.step = stepOrder
	case stepOrder:
		return f.order()
	case stepLengths:
		return f.lengths()
	}
	return true, nil
}

// block reads BFINAL and BTYPE.
func (f *inflater) block() (bool, error) {
	v, ok := f.take(3)
	if !ok {
		return false, nil
	}
	f.final = v&1 != 0
	switch v >> 1 {
	case 0:
		f.drop(f.nbits % 8)
		f.step = stepSize
	case 1:
		f.step, f.codes = stepSymbol, fixedCodes()
	case 2:
		f.step, f.codes = stepCounts, codesPool.Get().(*codes)
	default:
		return false, ErrGarbled
	}
	return true, nil
}

// end is behind the last octet of a block.
func (f *inflater) end() {
	if f.codes != nil && f.codes != fixedCodes() {
		codesPool.Put(f.codes)
	}
	f.codes = nil
	f.step = stepBlock
	if f.final {
		f.step = stepEnd
	}
}

// lengthOrder is the order in which the code of the codes comes (RFC 1951 §3.2.7).
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (f *inflater) order() (bool, error) {
	c := f.codes
	for c.known < c.nOrder {
		v, ok := f.take(3)
		if !ok {
			return false, nil
		}
		c.lengths[lengthOrder[c.known]] = uint8(v)
		if c.known++; f.nbits < 3 {
			return true, nil
		}
	}
	if !c.symbols.build(c.lengths[:19]) {
		return false, ErrGarbled
	}
	f.step, c.known = stepLengths, 0
	return true, nil
}

// lengths reads the next length of a code, or a run of them.
func (f *inflater) lengths() (bool, error) {
	c := f.codes
	symbol, k, ok := c.symbols.decode(f.bits, f.nbits)
	if !ok {
		return false, missing(k)
	}
	var value uint8
	times, extra := 1, uint(0)
	switch {
	case symbol < 16:
		value = uint8(symbol)
	case symbol == 16 && c.known == 0:
		return false, ErrGarbled
	case symbol == 16:
		value, times, extra = c.lengths[c.known-1], 3, 2
	case symbol == 17:
		times, extra = 3, 3
	default:
		times, extra = 11, 7
	}
	if f.nbits < k+extra {
		return false, nil
	}
	times += int(f.bits >> k & (1<<extra - 1))
	f.drop(k + extra)
	if c.known+times > c.nAll {
		return false, ErrGarbled
	}
	for range times {
		c.lengths[c.known] = value
		c.known++
	}
	if c.known < c.nAll {
		return true, nil
	}
	if c.lengths[256] == 0 || !c.symbols.build(c.lengths[:c.nSymbols]) || !c.distances.build(c.lengths[c.nSymbols:c.nAll]) {
		return false, ErrGarbled
	}
	f.step = stepSymbol
	return true, nil
}

// stored passes on octets as they are.
func (f *inflater) stored(p, src []byte) (n, used int) {
	p = p[:min(len(p), f.left)]
	for n < len(p) && f.nbits >= 8 {
		p[n] = byte(f.bits)
		f.drop(8)
		n++
	}
	if f.nbits == 0 {
		used = copy(p[n:], src)
	}
	n += used
	for _, c := range p[:n] {
		f.keep(c)
	}
	if f.left -= n; f.left == 0 {
		f.end()
	}
	return n, used
}

// The lengths and distances that symbols begin at, and how many bits more tell (RFC 1951 §3.2.5).
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthMore = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [30]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
		4097, 6145, 8193, 12289, 16385, 24577,
	}
	distMore = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbol takes the next symbol, whole or not at all: an octet, a copy to make, or the end of the block.
func (f *inflater) symbol(p []byte) (n int, on bool, err error) {
	symbol, k, ok := f.codes.symbols.decode(f.bits, f.nbits)
	switch {
	case !ok:
		return 0, false, missing(k)
	case symbol < 256:
		f.drop(k)
		p[0] = byte(symbol)
		f.keep(p[0])
		return 1, true, nil
	case symbol == 256:
		f.drop(k)
		f.end()
		return 0, true, nil
	case symbol > 285:
		return 0, false, ErrGarbled
	}
	b := f.bits >> k
	more := uint(lengthMore[symbol-257])
	length := int(lengthBase[symbol-257]) + int(b&(1<<more-1))
	b, k = b>>more, k+more
	if k > f.nbits {
		return 0, false, nil
	}
	symbol, more, ok = f.codes.distances.decode(b, f.nbits-k)
	if !ok {
		return 0, false, missing(more)
	}
	if symbol > 29 {
		return 0, false, ErrGarbled
	}
	b, k = b>>more, k+more
	more = uint(distMore[symbol])
	dist := int(distBase[symbol]) + int(b&(1<<more-1))
	if k += more; k > f.nbits {
		return 0, false, nil
	}
	if dist > len(f.window) {
		return 0, false, ErrGarbled
	}
	f.drop(k)
	f.step, f.left, f.dist = stepCopy, length, dist
	return 0, true, nil
}

// missing is what is wrong with a code of k bits that decode has not found: nothing when more may come.
func missing(k uint) error {
	if k > 15 {
		return ErrGarbled
	}
	return nil
}

// copy repeats octets.
func (f *inflater) copy(p []byte) int {
	p = p[:min(len(p), f.left)]
	from := f.at - f.dist
	if from < 0 {
		from += len(f.window)
	}
	for i := range p {
		p[i] = f.window[from]
		f.keep(p[i])
		if from++; from == maxWindow {
			from = 0
		}
	}
	if f.left -= len(p); f.left == 0 {
		f.step = stepSymbol
	}
	return len(p)
}

// keep puts an octet into the window.
func (f *inflater) keep(c byte) {
	if len(f.window) < maxWindow {
		f.window = append(f.window, c)
	} else {
		f.window[f.at] = c
	}
	if f.at++; f.at == maxWindow {
		f.at = 0
	}
}

// A huffman is a code (RFC 1951 §3.2.2).
type huffman struct {
	quick  [1 << quickBits]uint16 // by the next bits: the symbol, and in the lowest four bits the length of its code; 0: longer
	count  [16]uint16             // codes of each length
	symbol [288]uint16            // in the order of their codes
}

const quickBits = 9

// build makes the code whose symbols have codes of these lengths; false when there is none. One code alone may have one
// bit, and there may be none at all.
func (h *huffman) build(lengths []uint8) bool {
	clear(h.count[:])
	clear(h.quick[:])
	for _, n := range lengths {
		h.count[n]++
	}
	left := 1
	for n := 1; n < 16; n++ {
		if left = left<<1 - int(h.count[n]); left < 0 {
			return false
		}
	}
	if left > 0 && int(h.count[0]+h.count[1]) != len(lengths) {
		return false
	}
	var place, code [16]uint16
	for n := 1; n < 15; n++ {
		place[n+1] = place[n] + h.count[n]
		code[n+1] = (code[n] + h.count[n]) << 1
	}
	for s, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbol[place[n]] = uint16(s)
		place[n]++
		if n <= quickBits {
			for at := int(bits.Reverse16(code[n]) >> (16 - n)); at < len(h.quick); at += 1 << n {
				h.quick[at] = uint16(s)<<4 | uint16(n)
			}
		}
		code[n]++
	}
	return true
}

// decode finds the symbol that the next bits begin with, and the length of its code. When it is not there, k tells
// whether it can be there once more bits have come: 16 says that it cannot.
func (h *huffman) decode(b uint64, n uint) (symbol int, k uint, ok bool) {
	if e := h.quick[b&(1<<quickBits-1)]; e != 0 {
		k = uint(e & 15)
		return int(e >> 4), k, k <= n
	}
	code, first, place := 0, 0, 0
	for k = 1; k <= 15; k++ {
		if k > n {
			return 0, k, false
		}
		code |= int(b & 1)
		b >>= 1
		count := int(h.count[k])
		if code-count < first {
			return int(h.symbol[place+code-first]), k, true
		}
		place += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 16, false
}
