package check

import (
	"bytes"
	"sync"
)

// octets is what the octets of a message say.
type octets struct {
	size       int64 // as they are stored
	crlf       int64 // with every line end as CRLF
	lacks      int64 // of the CRLF at the end: 2, 1 behind a bare CR, 0
	nuls       int64 // NUL octets at the end
	headerEnd  bool  // there is an empty line
	compressed bool  // by Dovecot's zlib plugin: the sizes in its name are those of the message in it
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// magics begin a file that Dovecot has compressed: gzip, bzip2, xz, lz4, zstd.
var magics = [][]byte{
	{0x1f, 0x8b, 0x08},
	[]byte("BZh"),
	{0xfd, '7', 'z', 'X', 'Z', 0},
	[]byte("Dovecot-LZ4\x0d\x2a\x9b\xc5"),
	{0x28, 0xb5, 0x2f, 0xfd},
}

// count reads a message to its end.
func count(fd int) (octets, error) {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	var s scan
	for {
		n, err := readFull(fd, *bp)
		if err != nil {
			return octets{}, err
		}
		if n == 0 {
			return s.end(), nil
		}
		s.take((*bp)[:n])
	}
}

// A scan counts octets that come in pieces.
type scan struct {
	octets
	last  byte // octet before the next piece
	blank bool // only CRs have come since the last LF, or since the beginning
}

func (s *scan) take(p []byte) {
	if s.size == 0 {
		s.blank = true
		for _, m := range magics {
			s.compressed = s.compressed || bytes.HasPrefix(p, m)
		}
	}
	s.size += int64(len(p))
	s.crlf += int64(len(p) + bytes.Count(p, lf) - bytes.Count(p, crlf))
	if s.last == '\r' && p[0] == '\n' {
		s.crlf--
	}
	s.last = p[len(p)-1]
	for rest := p; !s.headerEnd; {
		before, after, ok := bytes.Cut(rest, []byte{'\n'})
		if !ok {
			s.blank = s.blank && len(bytes.Trim(rest, "\r")) == 0
			break
		}
		s.headerEnd = s.blank && len(bytes.Trim(before, "\r")) == 0
		s.blank, rest = true, after
	}
	if tail := len(p) - len(bytes.TrimRight(p, "\x00")); tail == len(p) {
		s.nuls += int64(tail)
	} else {
		s.nuls = int64(tail)
	}
}

func (s *scan) end() octets {
	switch {
	case s.size == 0 || s.last == '\n':
	case s.last == '\r':
		s.lacks = 1
	default:
		s.lacks = 2
	}
	return s.octets
}

var lf, crlf = []byte("\n"), []byte("\r\n")
