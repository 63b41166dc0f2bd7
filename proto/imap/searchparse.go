package imap

import (
	"strings"
	"time"

	"pennypost/maildir"
)

// needle is an astring to search for.
func (g *program) needle(p *parser) needle {
	s := p.astring()
	if g.charset != nil {
		if t, err := g.charset.NewDecoder().String(s); err == nil {
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

// searchKey is the rule search-key.
func (g *program) searchKey(p *parser) key {
	if g.keys++; g.keys > maxKeys {
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
		return g.group(p)
	case p.rest[0] == '*' || p.rest[0] == '$' || isDigit(p.rest[0]):
		set := p.numSet()
		if len(set) == 1 && set[0] == dollar {
			return uids(set) // the same messages, whatever their numbers are by now
		}
		if p.holds = true; p.uidOnly {
			p.fail("%w", errUIDRequired)
		}
		return seqs(set)
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
	case "SAVEDATESUPPORTED": // RFC 8514 §4.3
		return and{}
	}
	p.sp()
	switch name {
	case "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE":
		return saved{strings.TrimPrefix(name, "SAVED"), p.date()}
	case "EMAILID":
		return emailIs(p.objectID())
	case "THREADID":
		return threadIs(p.objectID())
	case "KEYWORD", "UNKEYWORD":
		return keyword{p.run("keyword", isAString), name == "KEYWORD"}
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		return header{strings.ToLower(name), g.needle(p)}
	case "HEADER":
		field := strings.ToLower(p.astring())
		p.sp()
		return header{field, g.needle(p)}
	case "BODY", "TEXT":
		if g.texts++; g.texts > maxTexts {
			p.fail("too many BODY and TEXT keys")
		}
		return text{g.needle(p), name == "TEXT"}
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
	case "UIDAFTER": // RFC 9738 §3.2
		if n := p.nzNumber(); n < star-1 {
			return uids{{n + 1, star - 1}}
		}
		return uids(nil) // there are none, and behind them come 0 and "*"
	case "UIDBEFORE":
		if n := p.nzNumber(); n > 1 {
			return uids{{1, n - 1}}
		}
		return uids(nil)
	case "FUZZY": // RFC 6203
		return g.fuzzyKey(p)
	case "FILTER": // RFC 5466
		return g.filterKey(p)
	case "MODSEQ": // RFC 7162 §3.1.5
		g.modSeq = true
		return p.searchModSeq()
	case "UID":
		return uids(p.numSet())
	case "NOT":
		if k := g.searchKey(p); p.err == nil {
			return not{k}
		}
		return nil
	case "OR":
		a := g.searchKey(p)
		p.sp()
		b := g.searchKey(p)
		if p.err != nil {
			return nil
		}
		return or2{a, b}.sorted()
	}
	p.fail("no such search key")
	return nil
}

// group = "(" search-key *(SP search-key) ")"
func (g *program) group(p *parser) key {
	var keys and
	p.list(func() { keys = append(keys, g.searchKey(p)) })
	if p.err == nil && len(keys) == 0 {
		p.fail("search key missing")
	}
	if p.err != nil {
		return nil
	}
	return keys.sorted()
}
