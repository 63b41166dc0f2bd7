package imap

import (
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// select = "SELECT" SP mailbox [SP select-params]   (RFC 9051 §6.3.2, RFC 4466
// §2.1)
func (s *Session) selectBox(p *parser) reply { return s.open(p, false) }

// examine = "EXAMINE" SP mailbox   (RFC 9051 §6.3.3)
func (s *Session) examine(p *parser) reply { return s.open(p, true) }

// open selects a mailbox. The one before is closed, even when this fails.
func (s *Session) open(p *parser, readOnly bool) reply {
	p.sp()
	name := p.mailbox()
	var wanted feature
	var known *resync
	if p.take(" ") {
		p.modifiers(func(name string) {
			switch {
			case name == "CONDSTORE":
			case name == "QRESYNC" && s.has(qresync) && known == nil:
				known = p.qresyncParam()
			default:
				p.fail("no such parameter")
			}
			wanted = condstore
		})
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	s.shut()
	s.enabled |= wanted
	folder, rights, err := s.openFolder(name)
	if err == nil && rights&maildir.RightRead == 0 {
		folder.Close()
		err = errRights
	}
	if err != nil {
		return s.failed(err)
	}
	readOnly = readOnly || !folder.Writable() || rights&writeRights == 0 // RFC 9051 §6.3.2: so it is said, then
	v := &view{name: name, folder: folder, readOnly: readOnly, rights: rights}
	now, err := v.look()
	if err != nil {
		folder.Close()
		if errors.Is(err, maildir.ErrGone) {
			err = fs.ErrNotExist
		}
		return s.failed(err)
	}
	v.state, v.keywords = now, len(now.Keywords)
	v.arrived()
	s.view, s.state = v, selected
	v.fill(s.ctx)

	s.tellFlags()
	s.tellCount()
	for n, m := range v.all() {
		if s.has(rev2 | uidOnly) {
			break // RFC 9051 appendix E, 11; and it is a message number
		}
		if m.Flags&maildir.Seen == 0 {
			s.untagged("OK [UNSEEN %d] first unseen", n)
			break
		}
	}
	s.untagged("OK [UIDVALIDITY %d] UIDs valid", now.UIDValidity)
	s.untagged("OK [UIDNEXT %d] predicted next UID", now.UIDNext)
	s.untagged("OK [HIGHESTMODSEQ %d] every change so far", v.modSeq()) // RFC 7162 §3.1.2.1
	id, err := folder.ID()
	if err != nil {
		s.shut()
		return s.failed(err)
	}
	s.untagged("OK [%s] identity", mailboxID(id))
	if known != nil {
		s.catchUp(known)
	}
	if readOnly {
		return reply{"OK", "READ-ONLY", "selected"}
	}
	return reply{"OK", "READ-WRITE", "selected"}
}

// shut goes back to the authenticated state, and says so (RFC 9051 §7.1,
// CLOSED).
func (s *Session) shut() {
	if s.view == nil {
		return
	}
	s.leaves(s.view)
	s.view.close()
	s.view, s.state = nil, authenticated
	s.untagged("OK [CLOSED] previous mailbox closed")
}

// shutIf shuts the selected mailbox if it is name, or below name.
func (s *Session) shutIf(name string) {
	if s.view != nil && s.view.name != inbox && (s.view.name == name || strings.HasPrefix(s.view.name, name+separator)) {
		s.shut()
	}
}

// create = "CREATE" SP mailbox [SP "(" create-param *(SP create-param) ")"]   (RFC 9051 §6.3.4, RFC 6154 §3). A separator at the end
// only says that there will be names below.
func (s *Session) create(p *parser) reply {
	p.sp()
	name := p.mailbox()
	var uses []string
	if p.take(" ") {
		p.list(func() { uses = p.createParam(uses) })
	}
	if err := p.end(); err != nil {
		return bad(err)
	}
	name = strings.TrimSuffix(name, separator)
	if strings.EqualFold(name, inbox) {
		return no("ALREADYEXISTS", "there is always an INBOX")
	}
	if why := canBeFor(name, uses); why != "" {
		return no("USEATTR", why) // RFC 6154 §3
	}
	if len(uses) > 0 {
		if taken, err := s.taken(uses); err != nil {
			return s.failed(err)
		} else if taken {
			return no("USEATTR", "there is a mailbox of this use")
		}
	}
	if err := s.mayCreate(name); err != nil {
		return s.failed(err)
	}
	if err := s.user.Store.CreateFolder(name, uses...); err != nil {
		return s.failed(err)
	}
	folder, err := s.user.Store.OpenFolder(name)
	if err != nil {
		return s.failed(err)
	}
	defer folder.Close()
	id, err := folder.ID()
	if err != nil {
		return s.failed(err)
	}
	return reply{"OK", mailboxID(id), "created"} // RFC 8474 §4.1
}

// createParam = "USE" SP "(" [use-attr *(SP use-attr)] ")"   (RFC 6154 §6)
func (p *parser) createParam(uses []string) []string {
	if !p.word("USE") {
		p.want("USE")
		return nil
	}
	p.sp()
	p.list(func() {
		if !p.take(`\`) {
			p.want("a use")
		}
		if len(uses) == 10 {
			p.fail("too many uses")
		}
		uses = append(uses, `\`+p.atom())
	})
	return uses
}

// canBeFor tells why a mailbox cannot have these uses, "" if it can, and
// spells them as everybody does: it has one of those that we know, and stands
// where clients look for it.
func canBeFor(mailbox string, uses []string) (why string) {
	for i, use := range uses {
		at := slices.IndexFunc(specialUses, func(u specialUse) bool { return strings.EqualFold(u.use, use) })
		if at < 0 {
			return "no mailbox here can be for that"
		}
		uses[i] = specialUses[at].use
	}
	switch {
	case len(uses) == 0:
		return ""
	case len(uses) > 1:
		return "a mailbox has one use"
	case mailbox == inbox:
		return "INBOX is for what comes in"
	case !isTop(mailbox):
		return "such a mailbox stands at the top"
	}
	return ""
}

// isTop tells whether a name has no other above it, but perhaps INBOX.
func isTop(name string) bool {
	return !strings.Contains(strings.TrimPrefix(name, inbox+separator), separator)
}

// taken tells whether a mailbox was made for one of these uses.
func (s *Session) taken(uses []string) (bool, error) {
	infos, err := s.user.Store.List()
	return slices.ContainsFunc(infos, func(i maildir.Info) bool {
		return slices.ContainsFunc(strings.Fields(i.Use), func(use string) bool { return slices.Contains(uses, use) })
	}), err
}

// delete = "DELETE" SP mailbox   (RFC 9051 §6.3.5). Names below stay.
func (s *Session) delete(p *parser) reply {
	p.sp()
	name := p.mailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	if name == inbox {
		return no("CANNOT", "INBOX stays")
	}
	if err := s.may(name, maildir.RightDelete); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.failed(err)
	}
	s.shutIfSelf(name)
	err := s.user.Store.DeleteFolder(name)
	if errors.Is(err, fs.ErrNotExist) && s.hasChildren(name) {
		return no("HASCHILDREN", "it is no mailbox, only a level of names")
	}
	if err != nil {
		return s.failed(err)
	}
	return ok("deleted")
}

func (s *Session) shutIfSelf(name string) {
	if s.view != nil && s.view.name == name {
		s.shut()
	}
}

func (s *Session) hasChildren(name string) bool {
	infos, err := s.user.Store.List()
	if err != nil {
		return false
	}
	for _, i := range infos {
		if strings.HasPrefix(i.Name, name+separator) {
			return true
		}
	}
	return false
}

// rename = "RENAME" SP mailbox SP mailbox   (RFC 9051 §6.3.6). From INBOX the
// messages go, and it stays.
func (s *Session) rename(p *parser) reply {
	p.sp()
	from := p.mailbox()
	p.sp()
	to := p.mailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	to = strings.TrimSuffix(to, separator)
	switch {
	case strings.EqualFold(to, inbox):
		return no("ALREADYEXISTS", "there is always an INBOX")
	case to == from:
		return no("ALREADYEXISTS", "that is its name")
	case from != inbox && strings.HasPrefix(to, from+separator):
		return no("CANNOT", "a mailbox cannot go below itself")
	}
	if buries, err := s.buries(from, to); err != nil {
		return s.failed(err)
	} else if buries {
		return no("CANNOT", "a mailbox with a special use stays at the top")
	}
	if err := s.mayRename(from, to); err != nil {
		return s.failed(err)
	}
	s.shutIf(from)
	if err := s.user.Store.RenameFolder(from, to); err != nil {
		return s.failed(err)
	}
	s.notice.renamed(from, to)
	return ok("renamed")
}

// buries tells whether a RENAME would take a mailbox that was made for a use
// away from the top, where clients look for it.
func (s *Session) buries(from, to string) (bool, error) {
	if isTop(to) {
		return false, nil
	}
	infos, err := s.user.Store.List()
	return slices.ContainsFunc(infos, func(i maildir.Info) bool { return i.Name == from && i.Use != "" }), err
}

// subscribe = "SUBSCRIBE" SP mailbox   (RFC 9051 §6.3.7). The mailbox need not
// exist.
func (s *Session) subscribe(p *parser) reply {
	return s.subscription(p, (*maildir.Store).Subscribe)
}

// unsubscribe = "UNSUBSCRIBE" SP mailbox   (RFC 9051 §6.3.8)
func (s *Session) unsubscribe(p *parser) reply {
	return s.subscription(p, (*maildir.Store).Unsubscribe)
}

func (s *Session) subscription(p *parser, do func(*maildir.Store, string) error) reply {
	p.sp()
	p.kind()
	name := p.mailbox()
	switch err := p.end(); {
	case errors.Is(err, errBoards):
		return no("NONEXISTENT", errBoards.Error())
	case err != nil:
		return bad(err)
	}
	if err := do(s.user.Store, strings.TrimSuffix(name, separator)); err != nil {
		return s.failed(err)
	}
	return ok("done")
}

// statusItems are the items of STATUS (RFC 9051 §6.3.11, RFC 3501 §6.3.10,
// RFC 8438, RFC 7889 §4, RFC 8474 §4.3, RFC 9208 §4.1.4).
var statusItems = map[string]bool{
	"MESSAGES": true, "RECENT": true, "UIDNEXT": true, "UIDVALIDITY": true,
	"UNSEEN": true, "DELETED": true, "DELETED-STORAGE": true, "SIZE": true, "APPENDLIMIT": true, "HIGHESTMODSEQ": true, "MAILBOXID": true,
}

func (p *parser) statusAtt() string {
	item := p.keyword()
	if p.err == nil && !statusItems[item] {
		p.fail("no such status item")
	}
	return item
}

// statusAtts = "(" status-att *(SP status-att) ")"
func (p *parser) statusAtts() []string {
	return listOf(p, len(statusItems)+1, "too many status items", "status items missing", p.statusAtt)
}

// status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"   (RFC 9051 §6.3.11)
func (s *Session) status(p *parser) reply {
	p.sp()
	name := p.mailbox()
	p.sp()
	items := p.statusAtts()
	if err := p.end(); err != nil {
		return bad(err)
	}
	line, err := s.counts(name, items)
	if err != nil {
		return s.failed(err)
	}
	s.Conn.WriteString(line)
	return ok("done")
}

// counts is the STATUS response for one mailbox. The selected one is counted
// as the client knows it, to agree with EXISTS.
func (s *Session) counts(name string, items []string) (string, error) {
	var folder *maildir.Folder
	var state *maildir.State
	var msgs iter.Seq2[int, maildir.Message]
	var total, recent int
	var with func(maildir.Flags) int // counts messages with a flag
	var octets func() (int64, error) // of all of them
	if v := s.view; s.isSelected(name) {
		folder, state, msgs = v.folder, v.state, v.all()
		total, recent, with = v.len(), v.recent(), v.with
		octets = func() (int64, error) { return total64(msgs, folder.Size) }
	} else {
		var err error
		if folder, err = s.openToRead(name); err != nil {
			return "", err
		}
		defer folder.Close()
		if state, err = folder.Sync(maildir.SyncOptions{}); err != nil {
			return "", err
		}
		msgs = state.All()
		total, recent, with = state.Len(), folder.RecentCount(state), state.With
		octets = func() (int64, error) { return folder.TotalSize(state) }
	}
	if slices.Contains(items, "HIGHESTMODSEQ") {
		s.wantModSeq()
	}
	b := []byte("* STATUS " + s.mailboxName(name) + " (")
	for i, item := range items {
		if i > 0 {
			b = append(b, ' ')
		}
		if item == "MAILBOXID" {
			id, err := folder.ID()
			if err != nil {
				return "", err
			}
			b = append(b, mailboxID(id)...)
			continue
		}
		b = append(append(b, item...), ' ')
		var n int64
		var err error
		switch item {
		case "MESSAGES":
			n = int64(total)
		case "RECENT":
			n = int64(recent)
		case "UNSEEN":
			n = int64(total - with(maildir.Seen))
		case "DELETED":
			n = int64(with(maildir.Trashed))
		case "UIDNEXT":
			n = int64(state.UIDNext)
		case "UIDVALIDITY":
			n = int64(state.UIDValidity)
		case "HIGHESTMODSEQ": // RFC 7162 §3.1.7
			n = int64(max(state.HighestModSeq, 1))
			if s.isSelected(name) {
				n = int64(s.view.modSeq())
			}
		case "APPENDLIMIT":
			n = s.MaxSize
		case "SIZE":
			n, err = octets()
		case "DELETED-STORAGE":
			n, err = total64(msgs, func(m maildir.Message) (int64, error) {
				if m.Flags&maildir.Trashed == 0 {
					return 0, nil
				}
				return folder.Counted(m)
			})
		}
		if err != nil {
			return "", err
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(append(b, ")\r\n"...)), nil
}

// total64 adds up sizes. Who is gone meanwhile has none.
func total64(msgs iter.Seq2[int, maildir.Message], size func(maildir.Message) (int64, error)) (n int64, err error) {
	for _, m := range msgs {
		octets, err := size(m)
		if err != nil && !errors.Is(err, maildir.ErrGone) {
			return 0, err
		}
		n += octets
	}
	return n, nil
}
