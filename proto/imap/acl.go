package imap

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"pennypost/maildir"
	"pennypost/proto/sasl"
)

// An owner looks up and administers his mailboxes, whatever their lists say:
// so nobody shuts himself out.
const ownersAlways = maildir.RightLookup | maildir.RightAdmin

// writeRights are those of which one makes a mailbox READ-WRITE (RFC 4314 §5.2).
const writeRights = maildir.RightInsert | maildir.RightExpunge | flagRights

// flagRights are those to change flags.
const flagRights = maildir.RightSeen | maildir.RightWrite | maildir.RightTrash

// errRights says that the list of the mailbox forbids it.
var errRights = errors.New("the access control list of the mailbox forbids it")

// rights are what the user may do with a mailbox.
func (s *Session) rights(mailbox string) (maildir.Rights, error) {
	list, err := s.user.Store.ACL(mailbox)
	return s.rightsIn(list), err
}

// rightsIn evaluates a list as Dovecot does for the owner: what it says to him
// by name counts, else what it says to the owner, else he may do all; what it
// takes away from one of these is gone. What it says to others is not about him.
func (s *Session) rightsIn(list []maildir.Grant) maildir.Rights {
	r := maildir.AllRights
	owner := []string{ownerID, userID + s.name()}
	for _, who := range owner {
		for _, g := range list {
			if g.Who == who && !g.Negative {
				r = g.Rights
			}
		}
	}
	for _, g := range list {
		if g.Negative && slices.Contains(owner, g.Who) {
			r &^= g.Rights
		}
	}
	return r | ownersAlways
}

// may gives errRights unless the user has all of these rights on a mailbox. It
// is no matter of rights when there is no such mailbox.
func (s *Session) may(mailbox string, need maildir.Rights) error {
	r, err := s.rights(mailbox)
	if err == nil && r&need != need {
		err = errRights
	}
	return err
}

// mayCreate asks for the right to make mailboxes below the nearest one above a
// name (RFC 4314 §4). At the top the owner may.
func (s *Session) mayCreate(mailbox string) error {
	for up := range parents(mailbox) {
		err := s.may(up, maildir.RightCreate)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mayRename asks for the right to take a mailbox away, and to make one below the
// new parent (RFC 4314 §4). A level that is no mailbox has no list.
func (s *Session) mayRename(from, to string) error {
	if err := s.may(from, maildir.RightDelete); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent(from) == parent(to) {
		return nil
	}
	return s.mayCreate(to)
}

func parent(name string) string { return name[:max(strings.LastIndex(name, separator), 0)] }

// mayAnnotate asks for one of the rights to see or change what is in a mailbox
// (RFC 5464 §3.3).
func (s *Session) mayAnnotate(mailbox string) error {
	if mailbox == "" {
		return nil
	}
	r, err := s.rights(mailbox)
	if err == nil && r&(maildir.RightRead|maildir.RightSeen|maildir.RightWrite|maildir.RightInsert|maildir.RightPost) == 0 {
		err = errRights
	}
	return err
}

// openFolder opens a mailbox for what the user may do with it.
func (s *Session) openFolder(mailbox string) (*maildir.Folder, maildir.Rights, error) {
	folder, err := s.user.Store.OpenFolder(mailbox)
	if err != nil {
		return nil, 0, err
	}
	list, err := folder.ACL()
	if err != nil {
		folder.Close()
		return nil, 0, err
	}
	r := s.rightsIn(list)
	folder.Restrict(r)
	return folder, r, nil
}

// openToRead opens a mailbox for somebody who may read it.
func (s *Session) openToRead(mailbox string) (*maildir.Folder, error) {
	folder, r, err := s.openFolder(mailbox)
	if err == nil && r&maildir.RightRead == 0 {
		folder.Close()
		err = errRights
	}
	return folder, err
}

// permittedFlags are the flags that somebody without all rights may change:
// \Seen, \Deleted and all others have a right each (RFC 4314 §4).
func permittedFlags(r maildir.Rights, keywords []string) string {
	var flags []string
	if r&maildir.RightWrite != 0 {
		flags = append(flags, `\Answered \Flagged \Draft`)
	}
	if r&maildir.RightTrash != 0 {
		flags = append(flags, `\Deleted`)
	}
	if r&maildir.RightSeen != 0 {
		flags = append(flags, `\Seen`)
	}
	if r&maildir.RightWrite != 0 {
		flags = append(append(flags, keywords...), `\*`)
	}
	return strings.Join(flags, " ")
}

// The identifiers of Dovecot's file, and how IMAP has them: a user by the bare
// name, a group behind "$", and one that overrides users behind "!$".
const (
	ownerID    = "owner"
	userID     = "user="
	groupID    = "group="
	overrideID = "group-override="
)

// identifier = astring (RFC 4314 §7), prepared and as Dovecot's file has it. A
// dash before it makes its rights negative.
func (s *Session) identifier(p *parser) (given, who string, negative bool) {
	given = p.astring()
	name, err := sasl.Prepare(given) // RFC 4013
	if p.err == nil && (err != nil || len(name) > maxIdentifier) {
		p.fail("no identifier")
	}
	name, negative = strings.CutPrefix(name, "-")
	switch group, isGroup := strings.CutPrefix(name, "$"); {
	case p.err != nil:
	case name == "" || isGroup && group == "":
		p.fail("identifier missing")
	case name == s.name(), name == ownerID:
		who = ownerID
	case name == "anyone", name == "authenticated":
		who = name
	case isGroup:
		who = groupID + group
	case strings.HasPrefix(name, "!$") && len(name) > 2:
		who = overrideID + name[2:]
	default:
		who = userID + name
	}
	return given, who, negative
}

// maxIdentifier bounds the name of somebody in octets.
const maxIdentifier = 256

// identifierOf is how IMAP has somebody whom Dovecot's file names.
func (s *Session) identifierOf(g maildir.Grant) string {
	name := g.Who
	if user, ok := strings.CutPrefix(name, userID); ok {
		name = user
	} else if group, ok := strings.CutPrefix(name, groupID); ok {
		name = "$" + group
	} else if group, ok := strings.CutPrefix(name, overrideID); ok {
		name = "!$" + group
	} else if name == ownerID {
		name = s.name()
	}
	if g.Negative {
		name = "-" + name
	}
	return name
}

// wireRights are the letters of rights with the virtual ones that clients of
// RFC 2086 know: c is k and x, d is t and e (RFC 4314 §2.1.1).
func wireRights(r maildir.Rights) string {
	letters := (r &^ maildir.RightAdmin).String()
	if r&(maildir.RightCreate|maildir.RightDelete) != 0 {
		letters += "c"
	}
	if r&(maildir.RightTrash|maildir.RightExpunge) != 0 {
		letters += "d"
	}
	return letters + (r & maildir.RightAdmin).String()
}

var virtualRights = strings.NewReplacer("c", "kx", "d", "te")

// modRights = ["+" / "-"] *letter, in an astring (RFC 4314 §3.1)
func (p *parser) modRights() (sign byte, r maildir.Rights) {
	letters := p.astring()
	if letters != "" && (letters[0] == '+' || letters[0] == '-') {
		sign, letters = letters[0], letters[1:]
	}
	r, known := maildir.ParseRights(virtualRights.Replace(letters))
	if p.err == nil && !known {
		p.fail("no such right")
	}
	return sign, r
}

// getACL = "GETACL" SP mailbox   (RFC 4314 §3.3)
func (s *Session) getACL(p *parser) reply {
	p.sp()
	mailbox := p.mailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	list, err := s.user.Store.ACL(mailbox)
	if err != nil {
		return s.failed(err)
	}
	line := "ACL " + s.mailboxName(mailbox)
	tell := func(who string, r maildir.Rights) {
		line += " " + astring(who) + " " + astring(wireRights(r))
	}
	if !slices.ContainsFunc(list, s.ownersGrant) {
		tell(s.name(), maildir.AllRights)
	}
	for _, g := range list {
		r := g.Rights
		if s.ownersGrant(g) {
			r |= ownersAlways
		}
		tell(s.identifierOf(g), r)
	}
	s.untagged("%s", line)
	return ok("done")
}

// ownersGrant tells whether a line says what the owner may do.
func (s *Session) ownersGrant(g maildir.Grant) bool {
	return !g.Negative && (g.Who == ownerID || g.Who == userID+s.name())
}

// setACL = "SETACL" SP mailbox SP identifier SP mod-rights   (RFC 4314 §3.1)
func (s *Session) setACL(p *parser) reply {
	p.sp()
	mailbox := p.mailbox()
	p.sp()
	_, who, negative := s.identifier(p)
	p.sp()
	sign, r := p.modRights()
	if err := p.end(); err != nil {
		return bad(err)
	}
	return s.grant(mailbox, who, negative, func(old maildir.Rights, there bool) (maildir.Rights, bool) {
		if who == ownerID && !negative && !there { // what he has without a line
			old = maildir.AllRights
		}
		switch sign {
		case '+':
			r |= old
		case '-':
			r = old &^ r
		}
		return r, true
	})
}

// deleteACL = "DELETEACL" SP mailbox SP identifier   (RFC 4314 §3.2)
func (s *Session) deleteACL(p *parser) reply {
	p.sp()
	mailbox := p.mailbox()
	p.sp()
	_, who, negative := s.identifier(p)
	if err := p.end(); err != nil {
		return bad(err)
	}
	return s.grant(mailbox, who, negative, func(maildir.Rights, bool) (maildir.Rights, bool) { return 0, false })
}

func (s *Session) grant(mailbox, who string, negative bool, change func(maildir.Rights, bool) (maildir.Rights, bool)) reply {
	list, err := s.user.Store.ACL(mailbox)
	if by := userID + s.name(); who == ownerID && slices.ContainsFunc(list, func(g maildir.Grant) bool { return g.Who == by && g.Negative == negative }) {
		who = by // the owner has a line by name, which counts
	}
	if err == nil {
		err = s.user.Store.SetACL(mailbox, who, negative, change)
	}
	switch {
	case errors.Is(err, maildir.ErrGrants):
		return no("LIMIT", "the access control list is full")
	case err != nil:
		return s.failed(err)
	}
	s.tellRights()
	return ok("done")
}

// listRights = "LISTRIGHTS" SP mailbox SP identifier   (RFC 4314 §3.4)
func (s *Session) listRights(p *parser) reply {
	p.sp()
	mailbox := p.mailbox()
	p.sp()
	given, who, negative := s.identifier(p)
	if err := p.end(); err != nil {
		return bad(err)
	}
	if !s.exists(mailbox) {
		return s.failed(fs.ErrNotExist)
	}
	always, rest := `""`, "l r s w i p k x t e a c d"
	if who == ownerID && !negative {
		always, rest = ownersAlways.String(), "r s w i p k x t e c d"
	}
	s.untagged("LISTRIGHTS %s %s %s %s", s.mailboxName(mailbox), astring(given), always, rest)
	return ok("done")
}

// myRights = "MYRIGHTS" SP mailbox   (RFC 4314 §3.5)
func (s *Session) myRights(p *parser) reply {
	p.sp()
	mailbox := p.mailbox()
	if err := p.end(); err != nil {
		return bad(err)
	}
	r, err := s.rights(mailbox)
	if err != nil {
		return s.failed(err)
	}
	s.tellMyRights(mailbox, r)
	return ok("done")
}

func (s *Session) tellMyRights(mailbox string, r maildir.Rights) {
	s.untagged("MYRIGHTS %s %s", s.mailboxName(mailbox), wireRights(r))
}

// tellRights looks what may be done with the selected mailbox now, and says so
// if flags can be changed that could not, or the other way round (RFC 4314
// §5.1.1).
func (s *Session) tellRights() {
	v := s.view
	if v == nil {
		return
	}
	r, err := s.rights(v.name)
	if err != nil || r == v.rights {
		return
	}
	old := v.rights
	v.rights = r
	v.folder.Restrict(r)
	if (old^r)&flagRights != 0 {
		s.tellFlags()
	}
}
