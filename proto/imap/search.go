package imap

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding"

	"pennypost/maildir"
	"pennypost/proto/mimetree"
)

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

// search = "SEARCH" [search-return-opts] [SP "CHARSET" SP astring] 1*(SP search-key)
// (RFC 9051 §6.4.4, RFC 4731 §3.1)
func (s *Session) search(p *parser) reply {
	var options []string
	extended := false
	p.sp()
	if p.word("RETURN") {
		extended = true
		p.sp()
		p.list(func() {
			o := p.keyword()
			if !slices.Contains([]string{"MIN", "MAX", "ALL", "COUNT"}, o) && p.err == nil {
				p.fail("no such return option")
			}
			options = append(options[:min(len(options), 10)], o)
		})
		p.sp()
		if len(options) == 0 {
			options = []string{"ALL"}
		}
	}
	charset := ""
	if p.word("CHARSET") {
		p.sp()
		charset = strings.ToUpper(p.astring())
		p.sp()
	}
	q := &query{s: s, v: s.view}
	known := true
	if charset != "" && charset != "UTF-8" && charset != "US-ASCII" {
		q.charset, known = mimetree.Charset(charset)
	}
	keys := and{q.key(p)}
	for p.err == nil && p.take(" ") {
		keys = append(keys, q.key(p))
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if !known {
		return no("BADCHARSET (US-ASCII UTF-8)", "only these charsets")
	}
	if q.err != nil {
		return bad(q.err)
	}
	found, err := s.find(keys.sorted())
	if err != nil {
		return s.failed(err)
	}
	s.tellFound(p, found, extended, options)
	return ok("done")
}

// find returns the numbers of the messages that match.
func (s *Session) find(k key) (found []int, err error) {
	v := s.view
	var room [together]candidate
	batch := make([]*candidate, 0, together)
	for n := range v.every().all() {
		m, gone := v.at(n)
		c := &room[len(batch)]
		*c = candidate{s: s, m: m, seq: n, gone: gone}
		batch = append(batch, c)
		if len(batch) < together && n < v.len() {
			continue
		}
		if err := s.decide(k, batch); err != nil {
			return nil, err
		}
		for _, c := range batch {
			if c.yes {
				found = append(found, c.seq)
			}
		}
		batch = batch[:0]
		if s.ctx.Err() != nil {
			return nil, s.ctx.Err()
		}
	}
	return found, nil
}

// decide asks a key of messages: first with what is known anyway, then of those
// for which that is not enough with what the cache knows.
func (s *Session) decide(k key, batch []*candidate) error {
	for len(batch) > 0 {
		level := maildir.Level(0)
		var open []*candidate
		var msgs []maildir.Message
		for _, c := range batch {
			if c.known.Entry == nil && c.wants == 0 {
				if err := c.decide(k); err != nil {
					return err
				}
			}
			if c.wants > 0 {
				open, msgs, level = append(open, c), append(msgs, c.m), max(level, c.wants)
			}
		}
		if len(open) == 0 {
			return nil
		}
		e := s.view.folder.Entries(level, entries)
		for i, known := range e.All(msgs) {
			c := open[i]
			c.known, c.wants = known, 0
			err := known.Err
			if err == nil {
				err = c.decide(k)
			}
			if c.known = (maildir.Known{}); err != nil && !isGone(err) {
				e.Close()
				return err
			}
		}
		e.Close()
		batch = slices.DeleteFunc(open, func(c *candidate) bool { return c.wants == 0 })
	}
	return nil
}

// tellFound is SEARCH (RFC 3501 §7.2.5), or ESEARCH (RFC 9051 §7.3.4).
func (s *Session) tellFound(p *parser, found []int, extended bool, options []string) {
	number := func(n int) uint32 {
		if p.byUID {
			m, _ := s.view.at(n)
			return m.UID
		}
		return uint32(n)
	}
	if !extended {
		b := []byte("* SEARCH")
		for _, i := range found {
			b = append(b, ' ')
			b = strconv.AppendUint(b, uint64(number(i)), 10)
		}
		s.Conn.Write(append(b, "\r\n"...))
		return
	}
	b := append([]byte("* ESEARCH (TAG "), appendString(nil, p.tagged)...)
	b = append(b, ')')
	if p.byUID {
		b = append(b, " UID"...)
	}
	for _, o := range []string{"MIN", "MAX", "COUNT", "ALL"} {
		if !slices.Contains(options, o) || len(found) == 0 && o != "COUNT" {
			continue
		}
		b = append(append(append(b, ' '), o...), ' ')
		switch o {
		case "MIN":
			b = strconv.AppendUint(b, uint64(number(found[0])), 10)
		case "MAX":
			b = strconv.AppendUint(b, uint64(number(found[len(found)-1])), 10)
		case "COUNT":
			b = strconv.AppendInt(b, int64(len(found)), 10)
		case "ALL":
			var set numSet
			for _, i := range found {
				set = set.add(number(i))
			}
			b = append(b, set.String()...)
		}
	}
	s.Conn.Write(append(b, "\r\n"...))
}

// A query reads search keys.
type query struct {
	s     *Session
	v     *view
	texts int
	err   error // a mistake that the grammar does not know of
	keys  int

	charset encoding.Encoding // of the strings; nil: UTF-8
}

// needle is an astring to search for.
func (q *query) needle(p *parser) needle {
	s := p.astring()
	if q.charset != nil {
		if t, err := q.charset.NewDecoder().String(s); err == nil {
			s = t
		}
	}
	return newNeedle(s)
}

// maxKeys bounds the search keys of one command, maxTexts those among them for
// each of which the whole message is read.
const maxKeys, maxTexts = 2000, 100

var flagKeys = map[string]maildir.Flags{
	"ANSWERED": maildir.Replied, "FLAGGED": maildir.Flagged, "DELETED": maildir.Trashed,
	"SEEN": maildir.Seen, "DRAFT": maildir.Draft,
}

// key is the rule search-key.
func (q *query) key(p *parser) key {
	if q.keys++; q.keys > maxKeys {
		p.fail("too many search keys")
	}
	if !p.down() {
		return nil
	}
	defer p.up()
	switch {
	case p.rest == "":
		p.want("search key")
		return nil
	case p.rest[0] == '(':
		return q.group(p)
	case p.rest[0] == '*' || isDigit(p.rest[0]):
		return q.numbers(p, p.numSet(), false)
	}
	name := p.keyword()
	if p.err != nil {
		return nil
	}
	if f, ok := flagKeys[name]; ok {
		return flagIs{f, true}
	}
	if f, ok := flagKeys[strings.TrimPrefix(name, "UN")]; ok {
		return flagIs{f, false}
	}
	switch name {
	case "ALL":
		return and{}
	case "NEW": // RECENT UNSEEN
		return and{recent(true), flagIs{maildir.Seen, false}}
	case "OLD":
		return recent(false)
	case "RECENT":
		return recent(true)
	}
	p.sp()
	switch name {
	case "KEYWORD", "UNKEYWORD":
		return keyword{p.run("keyword", isAString), name == "KEYWORD"}
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		return header{strings.ToLower(name), q.needle(p)}
	case "HEADER":
		field := strings.ToLower(p.astring())
		p.sp()
		return header{field, q.needle(p)}
	case "BODY", "TEXT":
		if q.texts++; q.texts > maxTexts {
			p.fail("too many BODY and TEXT keys")
		}
		return text{q.needle(p), name == "TEXT"}
	case "BEFORE", "ON", "SINCE":
		return received{name, p.date()}
	case "SENTBEFORE", "SENTON", "SENTSINCE":
		return sent{strings.TrimPrefix(name, "SENT"), p.date()}
	case "YOUNGER", "OLDER": // RFC 5032
		return age{name == "YOUNGER", time.Now().Add(-time.Duration(p.nzNumber()) * time.Second)}
	case "LARGER":
		return size{p.number64(), true}
	case "SMALLER":
		return size{p.number64(), false}
	case "UID":
		return q.numbers(p, p.numSet(), true)
	case "NOT":
		if k := q.key(p); p.err == nil {
			return not{k}
		}
		return nil
	case "OR":
		a := q.key(p)
		p.sp()
		b := q.key(p)
		if p.err != nil {
			return nil
		}
		return or2{a, b}.sorted()
	}
	p.fail("no such search key")
	return nil
}

// group = "(" search-key *(SP search-key) ")"
func (q *query) group(p *parser) key {
	var keys and
	p.list(func() { keys = append(keys, q.key(p)) })
	if p.err == nil && len(keys) == 0 {
		p.fail("search key missing")
	}
	if p.err != nil {
		return nil
	}
	return keys.sorted()
}

func (q *query) numbers(p *parser, set numSet, byUID bool) key {
	if p.err != nil {
		return nil
	}
	if byUID {
		return uids(set.in(q.v.lastUID()))
	}
	// RFC 9051 §6.4.4: message numbers that are not there are a mistake.
	n := uint32(q.v.len())
	set = set.in(n)
	if set[0].lo == 0 || set[len(set)-1].hi > n {
		q.err = errNumber
	}
	return seqs(set)
}

// A candidate is the message that is being asked for.
type candidate struct {
	s     *Session
	m     maildir.Message
	seq   int
	gone  bool
	known maildir.Known
	wants maildir.Level // what has to be known to decide
	yes   bool          // it matches
	src   *source
}

var errUnknown = errors.New("more of the message has to be known")

// knows makes sure that the entry of the message is there, at a level.
func (c *candidate) knows(l maildir.Level) error {
	switch {
	case c.known.Entry != nil && c.known.Level >= l:
		return nil
	case c.gone:
		return maildir.ErrGone
	}
	c.wants = l
	return errUnknown
}

// decide asks the key; a message that has vanished matches nothing.
func (c *candidate) decide(k key) (err error) {
	c.yes, err = k.match(c)
	if c.src != nil {
		c.src.Close()
		c.src = nil
	}
	if err == nil {
		return nil
	}
	c.yes = false
	if err == errUnknown || isGone(err) {
		return nil
	}
	return err
}

// header reads the header, once.
func (c *candidate) header() (mimetree.Header, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	b := c.src.text
	if b == nil {
		var err error
		if b, err = c.src.slice(0, min(c.src.stored, maxHeader)); err != nil {
			return nil, err
		}
	}
	end, _ := headerEnd(b)
	return mimetree.Header(b[:end]), nil
}

func (c *candidate) open() error {
	if c.src != nil {
		return nil
	}
	if c.gone {
		return maildir.ErrGone
	}
	src, err := c.s.source(c.s.view.folder, c.m, false, false)
	c.src = src
	return err
}
