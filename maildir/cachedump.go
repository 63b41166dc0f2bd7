package maildir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CacheName is the name of the cache in a folder.
const CacheName = cacheName

// A survey reads a cache file from its beginning to its end, without its index, and changes nothing.
type survey struct {
	id   identity
	last int64 // place of the last index, 0: none
	fd   int
	size int64
	rest int64 // octets that are no whole records
}

// surveyCache opens the cache at path. The caller closes fd.
func surveyCache(at int, path string) (*survey, error) {
	fd, err := openat(at, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	c := &survey{fd: fd}
	if err := c.head(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func (c *survey) head() error {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(c.fd, &st) }); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%w: it is no file", errNoCache)
	}
	var head [cacheHead]byte
	n, err := preadAll(c.fd, head[:], 0)
	if err != nil {
		return err
	}
	if n < cacheHead {
		return fmt.Errorf("%w: it is cut off in its head", errNoCache)
	}
	id, last, ok := parseCacheHead(head[:])
	if !ok {
		return fmt.Errorf("%w: its head is damaged, or of another version", errNoCache)
	}
	c.id, c.last, c.size = id, last, st.Size
	return nil
}

// run calls each for every record that is whole, as far as its head tells; one is all of it, or nil for one that is longer than
// an entry may be. The slice is valid during the call.
func (c *survey) run(each func(at int64, r cacheRec, one []byte)) error {
	buf := make([]byte, 2*maxEntry)
	for at := int64(cacheHead); at < c.size; {
		n, err := preadAll(c.fd, buf[:min(int64(len(buf)), c.size-at)], at)
		if err != nil {
			return err
		}
		if n == 0 { // cut meanwhile
			break
		}
		used := 0
		for used < n {
			b, here := buf[used:n], at+int64(used)
			if len(b) < maxEntry && used > 0 && at+int64(n) < c.size {
				break // read on
			}
			r, ok := c.id.parseRec(b)
			switch {
			case ok && r.len() <= int64(len(b)):
				each(here, r, b[:r.len()])
			case ok && r.kind != entryRec && r.len() <= c.size-here:
				each(here, r, nil)
			default:
				skip := len(b)
				if i := resync(b); i > 0 {
					skip = i
				}
				c.rest += int64(skip)
				used += skip
				continue
			}
			used += int(r.len())
		}
		at += int64(used)
	}
	return nil
}

// SurveyCache reads the cache of the folder whose directory is open as fd, for those who compare it with the folder
// (maildircheck(8)). It calls each for the entries of messages that have this UID and base name, the last one of a message
// last, and tells how many octets are no whole records. fs.ErrNotExist: there is no cache. Every other error says that it
// is none of this folder.
func SurveyCache(fd int, validity uint32, bases map[uint32]string, each func(uid uint32, e *Entry)) (rest int64, err error) {
	c, err := surveyCache(fd, cacheName)
	if err != nil {
		return 0, err
	}
	defer unix.Close(c.fd)
	if c.id.validity != validity {
		return 0, fmt.Errorf("%w: it is of UIDVALIDITY %d", errNoCache, c.id.validity)
	}
	var e Entry
	err = c.run(func(_ int64, r cacheRec, one []byte) {
		if one == nil {
			return
		}
		if c.id.sum(one[recHead:]) != r.sum {
			rest += r.len()
			return
		}
		if base, ok := bases[r.uid]; ok && r.kind == entryRec {
			if hash := hashBase(base); hash == r.hash && c.id.parseEntry(one, r.uid, hash, &e) {
				each(r.uid, &e)
			}
		}
	})
	return rest + c.rest, err
}

// textNames are what DumpCache calls the texts of an entry.
var textNames = [textCount]string{
	TextEnvelope: "envelope", TextFields: "fields", TextSubject: "subject", TextFrom: "from", TextTo: "to", TextCc: "cc",
	TextThread: "thread", TextStructure: "structure", TextParts: "parts", TextPreview: "preview",
}

var errCacheDamaged = errors.New("the cache is damaged")

// DumpCache writes the cache at path, or that of the folder whose directory path is, as text for people: a line for each
// record, and one for each text of an entry. The error tells of damage. It needs no lock.
func DumpCache(w io.Writer, path string) error {
	err := dumpCache(w, path)
	if err == unix.EISDIR || err == unix.ENXIO || errors.Is(err, errNoCache) && isDir(path) {
		path = filepath.Join(path, cacheName)
		err = dumpCache(w, path)
	}
	if err != nil {
		return &fs.PathError{Op: "dump cache", Path: path, Err: err}
	}
	return nil
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func dumpCache(w io.Writer, path string) error {
	c, err := surveyCache(unix.AT_FDCWD, path)
	if err != nil {
		return err
	}
	defer unix.Close(c.fd)
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "cache version %d uidvalidity %d maker %d octets %d last index %d\n", cacheVersion, c.id.validity, c.id.maker, c.size, c.last)
	bad := 0
	err = c.run(func(at int64, r cacheRec, one []byte) {
		fmt.Fprintf(out, "at %d octets %d ", at, r.len())
		switch {
		case one != nil && c.id.sum(one[recHead:]) != r.sum:
			bad++
			fmt.Fprintf(out, "damaged: a record of kind %d has a wrong checksum\n", r.kind)
		case r.kind == entryRec:
			dumpEntry(out, r, one)
		case r.kind == indexRec:
			fmt.Fprintln(out, "index")
		case r.kind == wishRec:
			fmt.Fprintf(out, "wish level %d\n", r.level)
		case r.kind == forgetRec:
			fmt.Fprintf(out, "forget uid %d\n", r.uid)
		default:
			fmt.Fprintf(out, "a record of the unknown kind %d\n", r.kind)
		}
	})
	if werr := out.Flush(); werr != nil {
		return werr
	}
	if err == nil && (bad > 0 || c.rest > 0) {
		err = fmt.Errorf("%w: %d records, and %d octets that are no records", errCacheDamaged, bad, c.rest)
	}
	return err
}

func dumpEntry(out io.Writer, r cacheRec, one []byte) {
	var e Entry
	if !e.parse(one[recHead:], r.level) {
		fmt.Fprintf(out, "damaged: an entry of uid %d that makes no sense\n", r.uid)
		return
	}
	fmt.Fprintf(out, "entry uid %d name %016x level %d size %d crlf %d lacks %d date %s", r.uid, r.hash, e.Level, e.Octets, e.Size, e.Lacks,
		e.Date().UTC().Format(time.RFC3339Nano))
	if e.HasSent {
		fmt.Fprintf(out, " sent %s", time.Unix(e.Sent, 0).In(time.FixedZone("", int(e.Zone)*60)).Format(time.RFC3339))
	}
	fmt.Fprintln(out)
	for i, text := range e.Texts {
		if text != nil {
			fmt.Fprintf(out, "  %s %s\n", textNames[i], visible(string(text)))
		}
	}
}
