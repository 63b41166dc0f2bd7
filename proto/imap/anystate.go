package imap

import (
	"fmt"
	"strconv"
	"strings"
)

// capabilities is what can be asked of us in this state. Whatever stands here
// is whole.
func (s *Session) capabilities() string {
	caps := []string{"IMAP4rev1", "IMAP4rev2"} // RFC 9051 appendix A
	literal := "LITERAL+"                      // RFC 7888
	if s.state == notAuthenticated {
		literal = "LITERAL-" // so short ones only: RFC 7888 §5
		if s.canStartTLS() {
			caps = append(caps, "STARTTLS")
		}
		if s.mayLogin() {
			caps = append(caps, s.mechanisms()...)
		} else {
			caps = append(caps, "LOGINDISABLED")
		}
		caps = append(caps, "SASL-IR") // RFC 4959
	} else if s.mayReturn() {
		caps = append(caps, "UNAUTHENTICATE") // RFC 8437
	}
	caps = append(caps,
		literal,
		"ID",        // RFC 2971
		"ENABLE",    // RFC 5161
		"CONDSTORE", // RFC 7162
		"QRESYNC",
		"UIDONLY",       // RFC 9586
		"IDLE",          // RFC 2177
		"NAMESPACE",     // RFC 2342
		"UIDPLUS",       // RFC 4315
		"UNSELECT",      // RFC 3691
		"MOVE",          // RFC 6851
		"CHILDREN",      // RFC 3348
		"LIST-EXTENDED", // RFC 5258
		"LIST-STATUS",   // RFC 5819
		"SPECIAL-USE",   // RFC 6154
		"CREATE-SPECIAL-USE",
		"QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE", // RFC 9208
		"ACL", "RIGHTS=kxte", "LIST-MYRIGHTS", // RFC 4314, RFC 8440
		"METADATA", "LIST-METADATA", // RFC 5464, RFC 9590
		"STATUS=SIZE",                    // RFC 8438
		"ESEARCH",                        // RFC 4731
		"SEARCHRES",                      // RFC 5182
		"MULTISEARCH",                    // RFC 7377
		"WITHIN",                         // RFC 5032
		"SEARCH=FUZZY",                   // RFC 6203
		"FILTERS",                        // RFC 5466
		"INPROGRESS",                     // RFC 9585
		"OBJECTID",                       // RFC 8474
		"SAVEDATE",                       // RFC 8514
		"PREVIEW",                        // RFC 8970
		"SORT",                           // RFC 5256
		"ESORT",                          // RFC 5267 §3
		"LANGUAGE",                       // RFC 5255 §3
		"CONTEXT=SEARCH", "CONTEXT=SORT", // RFC 5267 §4
		"I18NLEVEL=1", // RFC 5255 §4.3
		"SORT=DISPLAY", "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES",
		"PARTIAL",     // RFC 9394
		"UTF8=ACCEPT", // RFC 6855
		"BINARY",      // RFC 3516
		"MULTIAPPEND", // RFC 3502
		"CATENATE",    // RFC 4469
		"REPLACE",     // RFC 8508
		"APPENDLIMIT="+strconv.FormatInt(s.MaxSize, 10), // RFC 7889
	)
	if s.state != notAuthenticated {
		caps = append(caps, "COMPRESS=DEFLATE", // RFC 4978
			"NOTIFY") // RFC 5465
	}
	if s.MessageLimit > 0 {
		caps = append(caps, "MESSAGELIMIT="+strconv.Itoa(s.MessageLimit)) // RFC 9738
	}
	return strings.Join(caps, " ")
}

// capability (RFC 9051 §6.1.1)
func (s *Session) capability(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.untagged("CAPABILITY %s", s.capabilities())
	return ok("done")
}

// noop says what is new, as every command does (RFC 9051 §6.1.2). CHECK is
// the same: nothing waits to be written (RFC 3501 §6.4.1).
func (s *Session) noop(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	return ok("done")
}

// logout (RFC 9051 §6.1.3)
func (s *Session) logout(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.bye("", "logging out")
	return ok("done")
}

// id = "ID" SP ("(" [string SP nstring *(SP string SP nstring)] ")" / nil)   (RFC 2971 §4)
func (s *Session) id(p *parser) reply {
	p.sp()
	var fields []string
	if !p.word("NIL") {
		p.list(func() {
			name := p.astring()
			p.sp()
			value := "NIL"
			if !p.word("NIL") {
				value = p.str()
			}
			if len(fields) >= 2*30 { // RFC 2971 §3.3
				p.fail("too many fields")
				return
			}
			fields = append(fields, name, value)
		})
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	if len(fields) > 0 {
		s.Log.Debug("client", "user", s.name(), "id", fmt.Sprintf("%q", fields))
	}
	if s.state == notAuthenticated || s.Version == "" {
		s.untagged(`ID ("name" "Pennypost")`)
	} else {
		s.untagged(`ID ("name" "Pennypost" "version" %s)`, appendString(nil, s.Version))
	}
	return ok("done")
}

// namespace says that there is one: the user's own, with no prefix (RFC 9051
// §6.3.10).
func (s *Session) namespace(p *parser) reply {
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.untagged(`NAMESPACE (("" "%s")) NIL NIL`, separator)
	return ok("done")
}
