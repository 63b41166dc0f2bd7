package imap

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"pennypost/maildir"
)

// A view is the selected mailbox as the client knows it: the messages in the
// order of their numbers, with the flags that were last told. The disk may be
// ahead of it (RFC 9051 §5.2).
type view struct {
	name     string
	folder   *maildir.Folder
	readOnly bool
	state    *maildir.State // of the disk, as msgs knows it
	msgs     []*maildir.Message
	gone     map[uint32]bool // UIDs in msgs that are no longer there, still to be told
	top      uint32          // largest UID that was ever told
	keywords int             // of state.Keywords, told in FLAGS
}

func (v *view) close() { v.folder.Close() }

// look returns what the disk has now.
func (v *view) look() (*maildir.State, error) {
	return v.folder.Sync(maildir.SyncOptions{Claim: !v.readOnly})
}

// recent counts the messages that are \Recent here (RFC 3501 §2.3.2).
func (v *view) recent() (n int) {
	for _, m := range v.msgs {
		if m.Recent {
			n++
		}
	}
	return n
}

// at finds the message with a UID: its index in msgs.
func (v *view) at(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(v.msgs, uid, func(m *maildir.Message, uid uint32) int {
		switch {
		case m.UID < uid:
			return -1
		case m.UID > uid:
			return 1
		}
		return 0
	})
}

var errNumber = errors.New("no such message number")

// choose returns the indexes in msgs of the messages in set, rising. UIDs that
// are not there are passed over (RFC 9051 §6.4.9); message numbers that are
// not there are a mistake (RFC 9051 §9, seq-number).
func (v *view) choose(set numSet, byUID bool) ([]int, error) {
	if !byUID {
		set = set.in(uint32(len(v.msgs)))
		if len(set) == 0 || set[0].lo == 0 || uint64(set[len(set)-1].hi) > uint64(len(v.msgs)) {
			return nil, errNumber
		}
	} else {
		set = set.in(v.lastUID())
	}
	var at []int
	for _, r := range set {
		i, end := int(r.lo)-1, int(r.hi)
		if byUID {
			i, _ = v.at(r.lo)
			var found bool
			if end, found = v.at(r.hi); found {
				end++
			}
		}
		at = slices.Grow(at, end-i)
		for ; i < end; i++ {
			at = append(at, i)
		}
	}
	return at, nil
}

// lastUID is what "*" stands for among UIDs.
func (v *view) lastUID() uint32 {
	if n := len(v.msgs); n > 0 {
		return v.msgs[n-1].UID
	}
	return v.state.UIDNext
}

// messages are those at the given indexes that are still there, as far as is
// known.
func (v *view) messages(at []int) []*maildir.Message {
	out := make([]*maildir.Message, 0, len(at))
	for _, i := range at {
		if !v.gone[v.msgs[i].UID] {
			out = append(out, v.msgs[i])
		}
	}
	return out
}

// news tells what has changed on disk (RFC 9051 §5.2, §7.5): removed messages
// if expunge says that message numbers may change now, new messages, flags.
func (s *Session) news(expunge bool) { s.tell(expunge, nil) }

// tell is news; quiet, unless nil, holds by UID the flags (see flagKey)
// that the client gave with a command of its own (RFC 9051 §6.4.6).
func (s *Session) tell(expunge bool, quiet map[uint32]string) {
	v := s.view
	now, err := v.look()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, maildir.ErrGone):
		s.bye("", "the mailbox is gone")
		return
	case err != nil:
		s.Log.Error("look into mailbox", "user", s.name(), "folder", v.name, "err", err)
		return // the client keeps its picture; there is another time
	case now.UIDValidity != v.state.UIDValidity:
		s.bye("", "the mailbox has become another one")
		return
	}
	if now == v.state && (len(v.gone) == 0 || !expunge) {
		return
	}
	changed := v.merge(now)
	s.tellKeywords()
	if expunge && len(v.gone) > 0 {
		s.tellExpunged()
		changed = slices.DeleteFunc(changed, func(uid uint32) bool { _, there := v.at(uid); return !there })
	}
	if n := v.arrived(now); n > 0 {
		s.untagged("%d EXISTS", len(v.msgs))
		s.untagged("%d RECENT", v.recent())
	}
	for _, uid := range changed {
		i, _ := v.at(uid)
		m := v.msgs[i]
		if known, ok := quiet[uid]; ok && known == flagKey(m.Flags, m.Keywords()) {
			continue
		}
		s.untagged("%d FETCH (UID %d FLAGS (%s))", i+1, uid, v.flags(m))
	}
}

// merge brings the messages the client knows up to now: v.gone are those that
// are no longer there, changed the UIDs of those with other flags.
func (v *view) merge(now *maildir.State) (changed []uint32) {
	j := 0
	for i, m := range v.msgs {
		for j < len(now.Messages) && now.Messages[j].UID < m.UID {
			j++ // came back after its removal was told: it has no number
		}
		if j == len(now.Messages) || now.Messages[j].UID != m.UID {
			if v.gone == nil {
				v.gone = map[uint32]bool{}
			}
			v.gone[m.UID] = true
			continue
		}
		n := now.Messages[j]
		delete(v.gone, m.UID)
		if n != m {
			if n.Flags != m.Flags || !slices.Equal(n.Keywords(), m.Keywords()) || n.Recent != m.Recent {
				changed = append(changed, m.UID)
			}
			v.msgs[i] = n
		}
	}
	v.state = now
	return changed
}

// arrived takes over the messages that came after all the client knows, and
// counts them.
func (v *view) arrived(now *maildir.State) int {
	i, _ := slices.BinarySearchFunc(now.Messages, v.top+1, func(m *maildir.Message, uid uint32) int {
		switch {
		case m.UID < uid:
			return -1
		case m.UID > uid:
			return 1
		}
		return 0
	})
	fresh := now.Messages[i:]
	if len(fresh) > 0 {
		v.msgs = append(v.msgs, fresh...)
		v.top = fresh[len(fresh)-1].UID
	}
	return len(fresh)
}

// tellExpunged says which messages are gone, from the first to the last, each
// number as it is after those before it (RFC 9051 §7.5.1).
func (s *Session) tellExpunged() {
	v := s.view
	kept := v.msgs[:0]
	for _, m := range v.msgs {
		if v.gone[m.UID] {
			s.untagged("%d EXPUNGE", len(kept)+1)
			continue
		}
		kept = append(kept, m)
	}
	clear(v.msgs[len(kept):])
	v.msgs, v.gone = kept, nil
}

// tellKeywords says which flags are in use, when there are new ones (RFC 9051
// §7.3.5).
func (s *Session) tellKeywords() {
	v := s.view
	if len(v.state.Keywords) == v.keywords {
		return
	}
	v.keywords = len(v.state.Keywords)
	s.tellFlags()
}

func (s *Session) tellFlags() {
	v := s.view
	all := append([]string{`\Answered \Flagged \Deleted \Seen \Draft`}, v.state.Keywords...)
	s.untagged("FLAGS (%s)", strings.Join(all, " "))
	// A ] would end the code for many a client. Such a keyword stays all the same.
	all = slices.DeleteFunc(all, func(k string) bool { return strings.Contains(k, "]") })
	permanent := strings.Join(all, " ")
	switch {
	case v.readOnly:
		s.untagged("OK [PERMANENTFLAGS ()] read-only")
	case len(v.state.Keywords) < maxKeywords:
		s.untagged(`OK [PERMANENTFLAGS (%s \*)] flags stay`, permanent)
	default:
		s.untagged("OK [PERMANENTFLAGS (%s)] flags stay", permanent)
	}
}

// flagNames pairs the letters of a file name with IMAP's names (RFC 9051
// §2.3.2), in the order of RFC 3501 §9.
var flagNames = []struct {
	flag maildir.Flags
	name string
}{
	{maildir.Replied, `\Answered`},
	{maildir.Flagged, `\Flagged`},
	{maildir.Trashed, `\Deleted`},
	{maildir.Seen, `\Seen`},
	{maildir.Draft, `\Draft`},
}

// flags are those of m, as FETCH gives them.
func (v *view) flags(m *maildir.Message) string { return flagString(m.Flags, m.Keywords(), m.Recent) }

func flagString(flags maildir.Flags, keywords []string, recent bool) string {
	var b []byte
	for _, f := range flagNames {
		if flags&f.flag != 0 {
			b = append(append(b, f.name...), ' ')
		}
	}
	if recent {
		b = append(b, `\Recent `...)
	}
	for _, k := range keywords {
		b = append(append(b, k...), ' ')
	}
	return strings.TrimSuffix(string(b), " ")
}

// letters sorts the flags of a command into those of the file name and
// keywords.
func letters(names []string) (flags maildir.Flags, keywords []string) {
next:
	for _, n := range names {
		for _, f := range flagNames {
			if strings.EqualFold(n, f.name) {
				flags |= f.flag
				continue next
			}
		}
		if !slices.ContainsFunc(keywords, func(k string) bool { return strings.EqualFold(k, n) }) {
			keywords = append(keywords, n)
		}
	}
	return flags, keywords
}
