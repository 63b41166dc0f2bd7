package maildir

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// An emailID names the content of a message, wherever copies of it lie (RFC 8474 §5.1). A message that was delivered has that
// of its base name; a copy has that of what it was copied from.
type emailID [10]byte

// emailIDOf gives what a base name says.
func emailIDOf(base string) (id emailID) {
	sum := sha256.Sum256([]byte(base))
	copy(id[:], sum[:])
	return id
}

// String gives the EMAILID as clients get it.
func (id emailID) String() string { return "M" + hex.EncodeToString(id[:]) }

// An ident is the EMAILID of a message that has another than its base name says.
type ident struct {
	uid   uint32
	email emailID
}

// idents have UIDs rising.
type idents []ident

func (l idents) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(l, uid, func(id ident, uid uint32) int { return cmp.Compare(id.uid, uid) })
}

// of gives the EMAILID of a message.
func (l idents) of(uid uint32, base string) emailID {
	if i, ok := l.find(uid); ok {
		return l[i].email
	}
	return emailIDOf(base)
}

// set notes EMAILIDs that a change has given.
func (l *idents) set(more []ident) {
	for _, id := range more {
		i, ok := l.find(id.uid)
		if ok {
			(*l)[i] = id
		} else {
			*l = slices.Insert(*l, i, id)
		}
	}
}
