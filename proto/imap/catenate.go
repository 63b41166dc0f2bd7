package imap

import (
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// catenation = "CATENATE" SP "(" cat-part *(SP cat-part) ")"
// cat-part = "TEXT" SP literal / "URL" SP astring / "UTF8" SP "(" literal8 ")"
// (RFC 4469 §5, RFC 6855 §4)
func (a *appending) catenation() writing {
	p := a.p
	p.sp()
	if !p.take("(") {
		p.want("(")
	}
	return func(w io.Writer) error {
		for n := 0; p.err == nil && (n == 0 || !p.take(")")); n++ {
			if n > 0 {
				p.sp()
			}
			if err := a.part(w); err != nil {
				return err
			}
		}
		return p.err
	}
}

// part is the rule cat-part.
func (a *appending) part(w io.Writer) error {
	p := a.p
	behind := ""
	switch {
	case p.word("URL"):
		p.sp()
		u := p.astring()
		if p.err != nil {
			return p.err
		}
		return a.copyURL(w, u)
	case p.word("TEXT"):
		p.sp()
	case p.word("UTF8"):
		p.sp()
		if !p.take("(~") {
			p.want("literal8 in parentheses")
		}
		behind = ")"
	default:
		p.want("TEXT or URL")
	}
	l, announced := announcement(p.rest)
	switch {
	case p.err != nil:
		return p.err
	case !announced:
		p.want("literal")
		return p.err
	case l.size > a.s.MaxSize:
		return maildir.ErrTooBig
	}
	return a.take(w, l, behind)
}

// A badURL is the first URL that cannot be followed (RFC 4469 §4.1).
type badURL struct{ url, why string }

func (e badURL) Error() string { return e.why }

// code is the response code (RFC 4469 §5, url-resp-text): what may not stand
// there is percent-encoded.
func (e badURL) code() string {
	var b strings.Builder
	b.WriteString("BADURL ")
	for i := range len(e.url) {
		if c := e.url[i]; c > ' ' && c < 0x7f && c != ']' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteString(strings.ToUpper(strconv.FormatInt(int64(c)+0x100, 16)[1:]))
		}
	}
	return b.String()
}

// copyURL writes to w what a URL stands for, as FETCH BODY.PEEK[…] would send it.
func (a *appending) copyURL(w io.Writer, text string) error {
	u, ok := parseURL(text)
	if !ok {
		return badURL{text, "this is no URL of a message here"}
	}
	s := a.s
	var folder *maildir.Folder
	var err error
	switch {
	case u.mailbox == "" && s.view == nil:
		return badURL{text, "no mailbox is selected"}
	case u.mailbox == "":
		folder = s.view.folder
	default:
		if folder, err = s.readable(u.mailbox); err != nil {
			return badURL{text, "no such mailbox"}
		}
		defer s.release(folder)
	}
	now, err := folder.Sync(maildir.SyncOptions{})
	if err != nil {
		return err
	}
	i, there := now.Find(u.uid)
	switch {
	case u.validity != 0 && u.validity != now.UIDValidity:
		return badURL{text, "the mailbox has become another one"}
	case !there:
		return badURL{text, "no such message"}
	}
	found, err := s.copySection(w, folder, now.At(i), u.section)
	switch {
	case isGone(err), err == nil && !found:
		return badURL{text, "no such message, or no such part of it"}
	case errors.Is(err, errLost): // which is how a stretch calls every error of its writer
		return errors.Unwrap(err)
	}
	return err
}

// readable opens a mailbox that the user may read. The selected one is open.
func (s *Session) readable(name string) (*maildir.Folder, error) {
	if s.isSelected(name) {
		return s.view.folder, nil
	}
	folder, r, err := s.openFolder(name)
	if err == nil && r&maildir.RightRead == 0 {
		folder.Close()
		err = errRights
	}
	return folder, err
}

// copySection writes a section of a message to w; false if there is none.
func (s *Session) copySection(w io.Writer, folder *maildir.Folder, m maildir.Message, it fetchItem) (bool, error) {
	tree := it.number != "" || it.text != ""
	src, err := s.source(folder, m, tree, true)
	if err != nil {
		return false, err
	}
	defer src.Close()
	if it.fields != nil {
		text, ok, err := src.headerFields(it)
		if ok && err == nil {
			_, err = w.Write(it.cut(text))
		}
		return ok, err
	}
	st, ok, err := src.stretch(it)
	if !ok || err != nil {
		return false, err
	}
	st.raw = true // RFC 4469 §3: octets, unchanged
	return true, st.writeTo(w)
}

// A messageURL is an IMAP URL of a message or of a section of it (RFC 5092
// §11, imessagepart, imsg-or-part).
type messageURL struct {
	mailbox  string // "": the selected one
	validity uint32 // 0: any
	uid      uint32
	section  fetchItem
}

// parseURL reads a URL relative to this session (RFC 4469 §3):
// ["/"] [enc-mailbox [";UIDVALIDITY=" nz-number] "/"] ";UID=" nz-number
// ["/;SECTION=" enc-section] ["/;PARTIAL=" number ["." nz-number]]
func parseURL(s string) (u messageURL, ok bool) {
	s, absolute := strings.CutPrefix(s, "/")
	box, rest, named := cutFold(s, "/;UID=")
	if !named {
		if rest, ok = cutPrefixFold(s, ";UID="); !ok || absolute {
			return u, false
		}
	}
	if named {
		var validity string
		var given bool
		if box, validity, given = cutFold(box, ";UIDVALIDITY="); given {
			if u.validity, ok = nzNumber(validity); !ok {
				return u, false
			}
		}
		name, err := url.PathUnescape(box)
		if err != nil || name == "" || strings.ContainsAny(box, ";?") {
			return u, false
		}
		p := &parser{utf8: true}
		if u.mailbox = p.name8(name); p.err != nil {
			return u, false
		}
	}
	rest, partial, isPartial := cutFold(rest, "/;PARTIAL=")
	rest, section, isSection := cutFold(rest, "/;SECTION=")
	if u.uid, ok = nzNumber(rest); !ok {
		return u, false
	}
	if isSection {
		text, err := url.PathUnescape(section)
		if err != nil || text == "" {
			return u, false
		}
		p := &parser{rest: "[" + text + "]"}
		if u.section = p.bodySection(true); p.end() != nil || u.section.partial {
			return u, false
		}
	}
	return u, !isPartial || u.section.setRange(partial)
}

// setRange = number ["." nz-number]   (RFC 5092 §11, partial-range)
func (it *fetchItem) setRange(s string) bool {
	from, most, given := strings.Cut(s, ".")
	offset, err := strconv.ParseUint(from, 10, 63)
	it.partial, it.offset, it.most = true, int64(offset), 1<<62
	if given && err == nil {
		var n uint64
		n, err = strconv.ParseUint(most, 10, 63)
		it.most = int64(n)
	}
	return err == nil && it.most > 0
}

func nzNumber(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n > 0
}

// cutFold is strings.Cut without regard to case.
func cutFold(s, sep string) (before, after string, found bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sep)], sep) {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

// cutPrefixFold is strings.CutPrefix without regard to case.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
