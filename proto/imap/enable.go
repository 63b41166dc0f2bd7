package imap

import (
	"errors"
	"slices"
	"strings"
)

// A feature is an extension that changes what the server says, and so waits
// until the client wants it (RFC 5161).
type feature uint16

const (
	condstore  feature = 1 << iota // MODSEQ in every FETCH of flags (RFC 7162 §3.1)
	qresync                        // VANISHED for EXPUNGE (RFC 7162 §3.2)
	utf8Accept                     // strings in UTF-8 (RFC 6855)
	rev2                           // IMAP4rev2 (RFC 9051)
	uidOnly                        // no message numbers (RFC 9586)
	metadata                       // which annotations others change (RFC 5464 §4.4)
)

// features are what ENABLE knows.
var features = []struct {
	name string
	feature
}{
	{"CONDSTORE", condstore},
	{"QRESYNC", qresync | condstore}, // RFC 7162 §3.2.3
	{"UTF8=ACCEPT", utf8Accept},
	{"IMAP4rev2", rev2},
	{"UIDONLY", uidOnly},
	{"METADATA", metadata},
}

// has tells whether one of the features in f is enabled.
func (s *Session) has(f feature) bool { return s.enabled&f != 0 }

// enable = "ENABLE" 1*(SP capability)   (RFC 9051 §6.3.1). What is not known is
// passed over.
func (s *Session) enable(p *parser) reply {
	var wanted feature
	var names []string
	for {
		p.sp()
		name := p.atom()
		for _, f := range features {
			if strings.EqualFold(name, f.name) && !slices.Contains(names, f.name) {
				wanted |= f.feature
				names = append(names, f.name)
			}
		}
		if p.err != nil || p.rest == "" {
			break
		}
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if wanted&metadata != 0 {
		s.heed()
	}
	s.untagged("%s", strings.Join(append([]string{"ENABLED"}, names...), " "))
	if wanted&condstore != 0 {
		s.wantModSeq()
	}
	s.enabled |= wanted
	return ok("done")
}

// errUIDRequired refuses message numbers when there are none (RFC 9586 §3.1).
var errUIDRequired = errors.New("only UIDs, as you wanted")
