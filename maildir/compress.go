package maildir

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Dovecot's zlib plugin stores messages compressed, and knows them again by their first octets alone: it looks neither
// at the file name nor at a flag Z, which is a note of administrators to themselves. The field S of the name stays
// that of the plain text. So it is here, but that a file which is as long as its name says is what it seems to be: no
// client can append a text that others get to see as another one.

// Bounds of what a compressed message may become, in octets. What is larger than plainFree has to be worth it: mail is
// hardly ever compressed to a hundredth.
const (
	plainFree  = 64 << 20
	plainMost  = 1 << 30
	plainRatio = 100
	plainInRAM = 4 << 20 // the rest is kept in an unlinked file in tmp

	zstdWindow = 32 << 20 // octets of memory for looking back; level 20 and below
)

var errBomb = errors.New("the message grows too much when it is unpacked")

// A packing is a way of compressing messages.
type packing struct {
	name  string
	magic string
	open  func(io.Reader) (io.Reader, error)
}

var packings = []packing{
	{"gzip", "\x1f\x8b\x08", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"lz4", lz4Magic, openLZ4},
	{"xz", "\xfd7zXZ\x00", func(io.Reader) (io.Reader, error) { return nil, errors.ErrUnsupported }},
}

// magicSize is how many octets tell a packing.
const magicSize = len(lz4Magic)

// packingOf tells how a message that begins like this is compressed, nil for plain text.
func packingOf(head []byte) *packing {
	for i := range packings {
		if p := &packings[i]; bytes.HasPrefix(head, []byte(p.magic)) {
			if p.name == "bzip2" && (len(head) < 5 || head[3] < '1' || head[3] > '9' || head[4] != 0x31 && head[4] != 0x17) {
				continue
			}
			return p
		}
	}
	return nil
}

// packed tells how an open message file is compressed, nil for one that is as it seems.
func packed(file *os.File, base string) (how *packing, octets int64, err error) {
	st, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if s, _ := sizes(base); s == st.Size() {
		return nil, s, nil
	}
	var head [magicSize]byte
	n, err := file.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	return packingOf(head[:n]), st.Size(), nil
}

// plain gives an open message file as it is, or when it is compressed, another one with its plain text, which has no
// name. The file given is closed then, and on error.
func (p *place) plain(file *os.File, base string) (*os.File, error) {
	how, octets, err := packed(file, base)
	if err == nil && how == nil {
		return file, nil
	}
	defer file.Close()
	if err != nil {
		return nil, err
	}
	return how.unpack(file, octets, p)
}

// measure counts the octets of a message whose file is not as long as its name says. It closes the file.
func (p *place) measure(file *os.File, m Message) (c counted, err error) {
	if c, ok := packedSizes(file, m.base); ok {
		file.Close()
		return c, nil
	}
	if file, err = p.plain(file, m.base); err == nil {
		defer file.Close()
		if c, err = countCRLF(file); err == nil {
			return c, nil
		}
	}
	return counted{}, fmt.Errorf("size of message %d: %w", m.UID, err)
}

// packedSizes gives the sizes of a compressed message by its name when they are right: gzip tells at its end how long
// the text is.
func packedSizes(file *os.File, base string) (counted, bool) {
	how, octets, err := packed(file, base)
	s, w := sizes(base)
	if err != nil || how == nil || how.name != "gzip" || plausible(s, w, s) < 0 {
		return counted{}, false
	}
	var end [4]byte
	if _, err := file.ReadAt(end[:], octets-4); err != nil || binary.LittleEndian.Uint32(end[:]) != uint32(s) {
		return counted{}, false
	}
	return counted{s, w, lackingByName(base)}, true
}

// unpack gives a file with the plain text of a compressed message. packed stays the caller's.
func (p *packing) unpack(packed *os.File, octets int64, dir *place) (*os.File, error) {
	r, err := p.open(packed)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", p.name, err)
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	plain := os.NewFile(uintptr(fd), packed.Name())
	limit := min(max(plainFree, octets*plainRatio), plainMost)
	n, err := io.CopyN(plain, r, plainInRAM)
	if err == nil {
		if plain, err = spill(plain, dir); err == nil {
			var more int64
			more, err = io.CopyN(plain, r, limit-n+1)
			n += more
		}
	}
	if err == nil || n > limit {
		err = errBomb
	}
	if err == io.EOF {
		_, err = plain.Seek(0, io.SeekStart)
	}
	if err != nil {
		plain.Close()
		return nil, fmt.Errorf("unpack %s: %w", p.name, err)
	}
	return plain, nil
}

// spill moves what is in memory into a file without a name, which goes when it is closed.
func spill(ram *os.File, dir *place) (*os.File, error) {
	fd, err := openat(dir.fd, "tmp", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == unix.EOPNOTSUPP || err == unix.EISDIR || err == unix.EINVAL || err == unix.ENOENT {
		name := "tmp/" + uniqueName()
		fd, err = openat(dir.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = dir.unlink(name)
		}
	}
	if err != nil {
		return ram, err
	}
	file := os.NewFile(uintptr(fd), ram.Name())
	if _, err := ram.Seek(0, io.SeekStart); err != nil {
		file.Close()
		return ram, err
	}
	if _, err := io.Copy(file, ram); err != nil {
		file.Close()
		return ram, err
	}
	ram.Close()
	return file, nil
}

type zstdReader struct{ *zstd.Decoder }

// Close gives the decoder's memory back; a Decoder's own Close has no error.
func (r zstdReader) Close() error {
	r.Decoder.Close()
	return nil
}

func openZstd(r io.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		return nil, err
	}
	return zstdReader{d}, nil
}
