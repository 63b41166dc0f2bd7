package imap

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"pennypost/maildir"
)

// A view is the selected mailbox as the client knows it: a picture of the disk
// that all sessions share, and what differs from it. The disk may be ahead of
// it (RFC 9051 §5.2).
type view struct {
	name     string
	folder   *maildir.Folder
	readOnly bool
	rights   maildir.Rights
	state    *maildir.State // of the disk, as the client was told
	top      uint32         // largest UID that was ever told; what lies above in state has no number yet
	known    int            // messages in state up to top
	late     []uint32       // UIDs of those among them that came too late for a number, rising
	floor    uint64         // while late or gone are not empty: the MODSEQ from before that
	gone     []missing      // messages with a number that are no longer in state, rising
	keywords int            // of state.Keywords, told in FLAGS
	saved    numSet         // UIDs that "$" stands for (RFC 5182 §2.1)

	unheard []uint32 // UIDs of messages with other flags, of which the client did not want to hear
	removed []uint32 // UIDs that the client itself has removed
	mine    numSet   // UIDs of messages that the client itself has put here

	remembers *memory // nil: nothing was asked for yet

	following following // searches whose results are updated

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

// with counts the messages that have a flag.
func (v *view) with(flag maildir.Flags) (n int) {
	for _, m := range v.all() {
		if m.Flags&flag != 0 {
			n++
		}
	}
	return n
}

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
	if set = v.resolve(set, byUID); len(set) == 0 {
		return nil, nil // "$" stands for nothing
	}
	if !byUID {
		set = set.in(n)
		if len(set) == 0 || set[0].lo == 0 || set[len(set)-1].hi > n {
			return nil, errNumber
		}
		return set, nil
	}
	return v.numbers(set.in(v.lastUID())), nil
}

// numbers are those of the messages with the given UIDs; set is one that in
// returned, and is overwritten.
func (v *view) numbers(set numSet) numSet {
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
	return chosen
}

// resolve puts the messages that the last search has saved in the place of "$"
// (RFC 5182 §2.1): their UIDs, or their numbers.
func (v *view) resolve(set numSet, byUID bool) numSet {
	if !slices.Contains(set, dollar) {
		return set
	}
	set = slices.DeleteFunc(slices.Clone(set), func(r span) bool { return r == dollar })
	saved := slices.Clone(v.saved)
	if !byUID {
		saved = v.numbers(saved)
	}
	return append(set, saved...)
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

// merge brings the messages the client knows up to now: v.gone are those that
// are no longer there, changed the UIDs of those with other flags.
func (v *view) merge(now *maildir.State) (changed []uint32) {
	d := now.Since(v.state)
	if !v.lags() {
		v.floor = v.state.HighestModSeq
	}
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
			v.following.touch(uid)
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
	v.following.touch(d.Changed...)
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

// removes notes messages that the client itself has removed.
func (v *view) removes(msgs []maildir.Message) {
	for _, m := range msgs {
		v.removed = append(v.removed, m.UID)
	}
}
