package imap

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"pennypost/maildir"
)

// A view is the selected mailbox as the client knows it: a picture of the disk
// that all sessions share, and what differs from it. The disk may be ahead of
// it (RFC 9051 §5.2).
type view struct {
	name     string
	folder   *maildir.Folder
	readOnly bool
	state    *maildir.State // of the disk, as the client was told
	top      uint32         // largest UID that was ever told; what lies above in state has no number yet
	known    int            // messages in state up to top
	late     []uint32       // UIDs of those among them that came too late for a number, rising
	gone     []missing      // messages with a number that are no longer in state, rising
	keywords int            // of state.Keywords, told in FLAGS

	filling chan struct{} // closed when the cache is filled; nil: nobody does that
	stop    context.CancelFunc
}

// A missing message was removed, and the client has not been told yet.
type missing struct {
	maildir.Message
	number int
}

// look returns what the disk has now.
func (v *view) look() (*maildir.State, error) {
	return v.folder.Sync(maildir.SyncOptions{Claim: !v.readOnly})
}

// len is the number of messages, as EXISTS tells it.
func (v *view) len() int { return v.known - len(v.late) + len(v.gone) }

// recent counts the messages that are \Recent here (RFC 3501 §2.3.2).
func (v *view) recent() int {
	n := v.folder.RecentCount(v.state)
	for _, m := range v.state.From(v.known) {
		if v.folder.Recent(m.UID) {
			n--
		}
	}
	for _, m := range v.gone {
		if v.folder.Recent(m.UID) {
			n++
		}
	}
	return n
}

// at gives the message with a number from 1 to len, and whether it is gone.
func (v *view) at(number int) (m maildir.Message, gone bool) {
	k, gone := slices.BinarySearchFunc(v.gone, number, func(m missing, number int) int { return m.number - number })
	if gone {
		return v.gone[k].Message, true
	}
	i := number - 1 - k
	for _, uid := range v.late {
		if j, _ := v.state.Find(uid); j <= i {
			i++
		}
	}
	return v.state.At(i), false
}

// number finds the message with a UID, or the number that it would have.
func (v *view) number(uid uint32) (int, bool) {
	k, found := slices.BinarySearchFunc(v.gone, uid, func(m missing, uid uint32) int { return cmp.Compare(m.UID, uid) })
	if found {
		return v.gone[k].number, true
	}
	i, found := v.state.Find(uid)
	if uid > v.top {
		return v.len() + 1, false
	}
	l, late := slices.BinarySearch(v.late, uid)
	return i - l + k + 1, found && !late
}

// all gives each message with its number.
func (v *view) all() iter.Seq2[int, maildir.Message] {
	return func(yield func(int, maildir.Message) bool) {
		for n := 1; n <= v.len(); n++ {
			if m, _ := v.at(n); !yield(n, m) {
				return
			}
		}
	}
}

var errNumber = errors.New("no such message number")

// choose returns the numbers of the messages in set. UIDs that are not there
// are passed over (RFC 9051 §6.4.9); message numbers that are not there are a
// mistake (RFC 9051 §9, seq-number).
func (v *view) choose(set numSet, byUID bool) (numSet, error) {
	n := uint32(v.len())
	if !byUID {
		set = set.in(n)
		if len(set) == 0 || set[0].lo == 0 || set[len(set)-1].hi > n {
			return nil, errNumber
		}
		return set, nil
	}
	set = set.in(v.lastUID())
	chosen := set[:0]
	for _, r := range set {
		lo, _ := v.number(r.lo)
		hi, found := v.number(r.hi)
		if !found {
			hi--
		}
		if lo <= hi {
			chosen = append(chosen, span{uint32(lo), uint32(hi)})
		}
	}
	return chosen, nil
}

// lastUID is what "*" stands for among UIDs.
func (v *view) lastUID() uint32 {
	if n := v.len(); n > 0 {
		m, _ := v.at(n)
		return m.UID
	}
	return v.state.UIDNext
}

// messages are those with the given numbers that are still there, as far as is
// known.
func (v *view) messages(set numSet) []maildir.Message {
	out := make([]maildir.Message, 0, set.count())
	for n := range set.all() {
		if m, gone := v.at(n); !gone {
			out = append(out, m)
		}
	}
	return out
}

// news tells what has changed on disk (RFC 9051 §5.2, §7.5): removed messages
// if expunge says that message numbers may change now, new messages, flags.
func (s *Session) news(expunge bool) { s.tell(expunge, nil) }

// tell is news; quiet, unless nil, knows the flags that the client gave with a
// command of its own (RFC 9051 §6.4.6).
func (s *Session) tell(expunge bool, quiet *own) {
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
	if expunge {
		s.tellExpunged()
	}
	if n := v.arrived(); n > 0 {
		s.untagged("%d EXISTS", v.len())
		s.untagged("%d RECENT", v.recent())
		v.fill(s.ctx)
		s.tellOverQuota()
	}
	for _, uid := range changed {
		n, known := v.number(uid)
		if !known {
			continue
		}
		if m, _ := v.at(n); !quiet.made(m) {
			s.untagged("%d FETCH (UID %d FLAGS (%s))", n, uid, v.flags(m))
		}
	}
}

// merge brings the messages the client knows up to now: v.gone are those that
// are no longer there, changed the UIDs of those with other flags.
func (v *view) merge(now *maildir.State) (changed []uint32) {
	d := now.Since(v.state)
	var gone []missing
	for _, uid := range d.Gone {
		if n, ok := v.number(uid); ok { // the number it has is the number it keeps, until its removal is told
			m, _ := v.at(n)
			gone = append(gone, missing{m, n})
		}
	}
	for _, uid := range d.Gone {
		if i, ok := slices.BinarySearch(v.late, uid); ok {
			v.late = slices.Delete(v.late, i, i+1)
		}
	}
	for _, uid := range d.Late {
		if uid > v.top {
			continue
		}
		byUID := func(m missing, uid uint32) int { return cmp.Compare(m.UID, uid) }
		if i, ok := slices.BinarySearchFunc(v.gone, uid, byUID); ok { // it has come back in time
			v.gone = slices.Delete(v.gone, i, i+1)
		} else if i, ok := slices.BinarySearch(v.late, uid); !ok {
			v.late = slices.Insert(v.late, i, uid)
		}
	}
	if len(gone) > 0 {
		v.gone = append(v.gone, gone...)
		slices.SortFunc(v.gone, func(a, b missing) int { return cmp.Compare(a.UID, b.UID) })
	}
	v.state = now
	v.known, _ = now.Find(v.top + 1)
	return d.Changed
}

// arrived takes over the messages that came after all the client knows, and
// counts them.
func (v *view) arrived() int {
	n := v.state.Len() - v.known
	if n > 0 {
		v.known += n
		v.top = v.state.At(v.known - 1).UID
	}
	return n
}

// tellExpunged says which messages are gone, from the first to the last, each
// number as it is after those before it (RFC 9051 §7.5.1).
func (s *Session) tellExpunged() {
	for k, m := range s.view.gone {
		s.untagged("%d EXPUNGE", m.number-k)
	}
	s.view.gone = nil
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
	case len(v.state.Keywords) < maildir.MaxKeywords:
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
func (v *view) flags(m maildir.Message) string {
	return flagString(m.Flags, m.Keywords(), v.folder.Recent(m.UID))
}

func flagString(flags maildir.Flags, keywords []string, recent bool) string {
	return string(appendFlagNames(nil, flags, keywords, recent))
}

func appendFlagNames(b []byte, flags maildir.Flags, keywords []string, recent bool) []byte {
	at := len(b)
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
	if len(b) > at {
		b = b[:len(b)-1] // the blank
	}
	return b
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
