package imap

import (
	"errors"
	"io/fs"
	"syscall"

	"pennypost/maildir"
)

// reply is the tagged response that ends a command (RFC 9051 §7.1).
type reply struct {
	status string // OK, NO or BAD
	code   string // without brackets, or ""
	text   string
}

func ok(text string) reply       { return reply{"OK", "", text} }
func no(code, text string) reply { return reply{"NO", code, text} }

func bad(err error) reply {
	r := reply{"BAD", "", printable(err.Error())}
	if errors.Is(err, errUIDRequired) {
		r.code = "UIDREQUIRED"
	}
	return r
}

func (s *Session) untagged(format string, args ...any) { s.Conn.Printf("* "+format, args...) }

// bye ends the session after what is being answered (RFC 9051 §7.1.5).
func (s *Session) bye(code, text string) {
	if s.state == logout {
		return
	}
	s.state = logout
	if code != "" {
		text = "[" + code + "] " + text
	}
	s.untagged("BYE %s", text)
}

// failed maps an error of the disk to a reply (RFC 5530 §3).
func (s *Session) failed(err error) reply {
	switch {
	case errors.Is(err, maildir.ErrName):
		return no("CANNOT", "no such name is possible here")
	case errors.Is(err, fs.ErrNotExist):
		return no("NONEXISTENT", "no such mailbox")
	case errors.Is(err, fs.ErrExist):
		return no("ALREADYEXISTS", "there is such a mailbox")
	case errors.Is(err, maildir.ErrQuota):
		return no("OVERQUOTA", "the mailbox is full") // RFC 9208 §4.3.1
	case errors.Is(err, maildir.ErrTooBig):
		return no("TOOBIG", "the message is too large")
	case errors.Is(err, errCTE):
		return no("UNKNOWN-CTE", "a transfer encoding that is not known here") // RFC 3516 §4.3
	case errors.Is(err, maildir.ErrGone):
		return no("EXPUNGEISSUED", "some of the messages are gone")
	case errors.Is(err, maildir.ErrLocked):
		s.Log.Warn("locked", "user", s.name(), "err", err)
		return no("INUSE", "another program is at it, try again")
	case errors.Is(err, maildir.ErrKeywords):
		return no("LIMIT", "no more keywords in this mailbox")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		s.Log.Error("disk full", "user", s.name(), "err", err)
		return no("OVERQUOTA", "no space left")
	case errors.Is(err, errRights), errors.Is(err, maildir.ErrRights):
		return no("NOPERM", errRights.Error())
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		s.Log.Warn("not permitted", "user", s.name(), "err", err)
		return no("NOPERM", "not permitted")
	}
	s.Log.Error("command failed", "user", s.name(), "err", err)
	return no("UNAVAILABLE", "try again later")
}
