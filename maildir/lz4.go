package maildir

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Dovecot's files of LZ4 are its own: a magic text, the longest chunk of plain text (4 octets, big-endian), and chunks,
// each with its compressed length (4 octets, big-endian) before one block of LZ4.
const (
	lz4Magic = "Dovecot-LZ4\r*\x9b\xc5"
	lz4Chunk = 1 << 20 // octets of plain text in a chunk at most; Dovecot writes 64 KiB
)

var errLZ4 = errors.New("no chunk of LZ4")

type lz4Reader struct {
	r     *bufio.Reader
	plain []byte // the chunk; what has not been read of it begins at next
	next  int
	block []byte
}

func openLZ4(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	var head [len(lz4Magic) + 4]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		return nil, errLZ4
	}
	most := binary.BigEndian.Uint32(head[len(lz4Magic):])
	if string(head[:len(lz4Magic)]) != lz4Magic || most == 0 || most > lz4Chunk {
		return nil, errLZ4
	}
	return &lz4Reader{r: b, plain: make([]byte, 0, most)}, nil
}

func (l *lz4Reader) Read(p []byte) (int, error) {
	for l.next == len(l.plain) {
		var head [4]byte
		if _, err := io.ReadFull(l.r, head[:]); err != nil {
			return 0, err // io.EOF between chunks is the end
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n == 0 || n > cap(l.plain)+cap(l.plain)/255+16 {
			return 0, errLZ4
		}
		if cap(l.block) < n {
			l.block = make([]byte, n)
		}
		if _, err := io.ReadFull(l.r, l.block[:n]); err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		var ok bool
		if l.plain, ok = lz4Block(l.plain[:0], l.block[:n]); !ok {
			l.plain = l.plain[:0]
			return 0, errLZ4
		}
		l.next = 0
	}
	n := copy(p, l.plain[l.next:])
	l.next += n
	return n, nil
}

// lz4Block unpacks one block behind dst, within its capacity. A block is a row of sequences: a token, literals, and but
// for the last one, how far back to copy from and how much.
func lz4Block(dst, src []byte) ([]byte, bool) {
	// length reads the octets that continue the four bits of a token.
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for len(src) > 0 && n < cap(dst)+16 {
			c := src[0]
			src = src[1:]
			if n += int(c); c < 255 {
				return n, true
			}
		}
		return 0, false
	}
	for {
		if len(src) == 0 {
			return dst, false
		}
		token := src[0]
		src = src[1:]
		n, ok := length(int(token >> 4))
		if !ok || n > len(src) || n > cap(dst)-len(dst) {
			return dst, false
		}
		dst = append(dst, src[:n]...)
		if src = src[n:]; len(src) == 0 {
			return dst, true
		}
		if len(src) < 2 {
			return dst, false
		}
		back := int(binary.LittleEndian.Uint16(src))
		src = src[2:]
		n, ok = length(int(token & 15))
		if n += 4; !ok || back == 0 || back > len(dst) || n > cap(dst)-len(dst) {
			return dst, false
		}
		for range n { // it may overlap what it writes
			dst = append(dst, dst[len(dst)-back])
		}
	}
}
