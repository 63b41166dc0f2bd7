package imap

import (
	"pennypost/maildir"
)

// copyUID is the response code COPYUID: which UIDs became which (RFC 9051
// §7.1). Both sets are in the same order.
func copyUID(validity uint32, pairs []maildir.Pair) string {
	var from, to numSet
	for _, p := range pairs {
		from, to = from.add(p.From), to.add(p.To)
	}
	return codef("COPYUID %d %s %s", validity, from, to)
}
