package imap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"pennypost/maildir"
)

// mailboxID is the response code, and the item of STATUS, with the ObjectID of
// a mailbox (RFC 8474 §4).
func mailboxID(id string) string { return "MAILBOXID (" + id + ")" }

// appendObjectID appends an ObjectID as FETCH gives it (RFC 8474 §5.3).
func appendObjectID(b []byte, id string) []byte {
	return append(append(append(b, '('), id...), ')')
}

// threadID names the thread of a message (RFC 8474 §5.2) by what the thread
// begins with: the first message that it refers to, or else its own. So it
// depends on what never changes alone, and is the same in all mailboxes. ids is
// the text that appendThread makes.
func threadID(f *maildir.Folder, m maildir.Message, ids []byte) string {
	own, refs, _ := bytes.Cut(ids, []byte{0})
	first, _, _ := bytes.Cut(refs, []byte{0})
	if len(first) == 0 {
		first = own
	}
	if len(first) == 0 {
		first = []byte(f.EmailID(m))
	}
	sum := sha256.Sum256(first)
	return "T" + hex.EncodeToString(sum[:10])
}

// objectID = 1*255(ALPHA / DIGIT / "_" / "-")   (RFC 8474 §7)
func (p *parser) objectID() string {
	id := p.run("object identifier", func(c byte) bool {
		return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c == '-'
	})
	if len(id) > 255 {
		p.fail("object identifier too long")
	}
	return id
}

// emailIs is the search key EMAILID (RFC 8474 §6).
type emailIs string

func (emailIs) cost() cost { return free }

func (k emailIs) match(c *candidate) (bool, error) {
	return c.v.folder.EmailID(c.m) == string(k), nil
}

// threadIs is the search key THREADID (RFC 8474 §6).
type threadIs string

func (threadIs) cost() cost { return byHeader }

func (k threadIs) match(c *candidate) (bool, error) {
	if err := c.knows(maildir.Header); err != nil {
		return false, err
	}
	return threadID(c.v.folder, c.m, c.known.Texts[maildir.TextThread]) == string(k), nil
}

// saved is SAVEDBEFORE, SAVEDON and SAVEDSINCE: the day the message came into
// the mailbox (RFC 8514 §4.3).
type saved struct {
	how string
	day time.Time
}

func (saved) cost() cost { return byStat }

func (k saved) match(c *candidate) (bool, error) {
	t, err := c.v.folder.SavedDate(c.m)
	if err != nil {
		return false, err
	}
	return onDay(t, k.how, k.day), nil
}
