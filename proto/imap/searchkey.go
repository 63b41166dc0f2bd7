package imap

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

func isGone(err error) bool {
	return errors.Is(err, maildir.ErrGone) || errors.Is(err, fs.ErrNotExist)
}

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
	return c.s.view.folder.Recent(c.m.UID) == bool(r), nil
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

type seqs numSet

func (seqs) cost() cost                         { return free }
func (q seqs) match(c *candidate) (bool, error) { return numSet(q).has(uint32(c.seq)), nil }

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

// header is HEADER and the keys for single fields. An empty needle asks only
// for the field.
type header struct {
	field  string
	needle needle
}

func (header) cost() cost { return byHeader }

func (k header) match(c *candidate) (bool, error) {
	h, err := k.fields(c)
	if err != nil {
		return false, err
	}
	for f := range h.All() {
		if f.Is(k.field) && k.needle.in(mimetree.DecodeWords(f.Text())) {
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

// text is BODY, which matches no header field, and with headers TEXT. It sees
// what a reader sees: texts in their charset without their transfer encoding;
// headers decoded.
type text struct {
	needle  needle
	headers bool
}

func (text) cost() cost { return byBody }

var errFound = errors.New("found")

func (k text) match(c *candidate) (bool, error) {
	if err := c.open(); err != nil {
		return false, err
	}
	if len(k.needle) == 0 {
		return true, nil
	}
	o := &mimetree.Options{
		Begin: func(_ string, p *mimetree.Part, h mimetree.Header) io.Writer {
			hay := &haystack{needle: k.needle}
			if k.headers {
				for f := range h.All() {
					hay.line(string(f.Name) + ": " + mimetree.DecodeWords(f.Text()))
				}
			}
			if hay.found || p.Type == "text" || p.Type == "message" && !p.IsMessage() {
				return hay.decoding(p)
			}
			return nil
		},
		End: func(p *mimetree.Part, w io.Writer) error {
			hay, ok := w.(*decoded)
			if !ok {
				return nil
			}
			return hay.Close()
		},
	}
	_, err := mimetree.Parse(io.NewSectionReader(c.src, 0, c.src.stored), o)
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// A haystack is text in UTF-8 that is searched as it is written.
type haystack struct {
	needle needle
	tail   []byte // the end of what was there, folded
	found  bool
}

func (h *haystack) line(s string) { h.found = h.found || h.needle.in(s) }

// Write searches p and what came before it. It fails with errFound.
func (h *haystack) Write(p []byte) (int, error) {
	if h.found {
		return 0, errFound
	}
	h.tail = fold(h.tail, p)
	if h.needle.inFolded(h.tail) {
		h.found = true
		return 0, errFound
	}
	if keep := len(h.needle) - 1; len(h.tail) > keep {
		h.tail = h.tail[:copy(h.tail, h.tail[len(h.tail)-keep:])]
	}
	return len(p), nil
}

// decoded is the body of a part on its way to a haystack.
type decoded struct {
	h *haystack
	w io.WriteCloser // through the transfer encoding and the charset
	c io.WriteCloser // through the charset
}

func (h *haystack) decoding(p *mimetree.Part) *decoded {
	d := &decoded{h: h}
	d.c, _ = mimetree.NewTextWriter(h, p.Charset())
	d.w, _ = mimetree.NewDecoder(d.c, p.Encoding)
	return d
}

func (d *decoded) Write(p []byte) (int, error) {
	if d.h.found {
		return 0, errFound
	}
	n, err := d.w.Write(p)
	if d.h.found {
		return n, errFound
	}
	if err != nil {
		return len(p), nil // what cannot be decoded is not searched
	}
	return n, nil
}

func (d *decoded) Close() error {
	d.w.Close()
	d.c.Close()
	if d.h.found {
		return errFound
	}
	return nil
}

// A needle is the text that is searched for, folded.
type needle []byte

func newNeedle(s string) needle { return fold(nil, []byte(strings.ToValidUTF8(s, "\ufffd"))) }

func (n needle) in(s string) bool { return len(n) == 0 || n.inFolded(fold(nil, []byte(s))) }
