package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Rights are what somebody may do with a folder (RFC 4314 §2.1).
type Rights uint16

// The rights, in the order of their letters lrswipkxtea.
const (
	RightLookup Rights = 1 << iota
	RightRead
	RightSeen
	RightWrite
	RightInsert
	RightPost
	RightCreate
	RightDelete
	RightTrash
	RightExpunge
	RightAdmin
	AllRights Rights = 1<<iota - 1
)

const rightLetters = "lrswipkxtea"

// String gives the letters of rights.
func (r Rights) String() string {
	b := make([]byte, 0, len(rightLetters))
	for i := range rightLetters {
		if r&(1<<i) != 0 {
			b = append(b, rightLetters[i])
		}
	}
	return string(b)
}

// ParseRights reads letters; false when one of them is none.
func ParseRights(letters string) (r Rights, ok bool) {
	for _, c := range []byte(letters) {
		i := strings.IndexByte(rightLetters, c)
		if i < 0 {
			return 0, false
		}
		r |= 1 << i
	}
	return r, true
}

// A Grant is a line of the access control list of a folder, as Dovecot has it: who is "owner", "anyone", "authenticated",
// "user=" and a name, "group=" or "group-override=" and a name. A negative one takes rights away.
type Grant struct {
	Who      string
	Negative bool
	Rights   Rights
}

// ErrRights says that the user of a Folder has no right to do that.
var ErrRights = errors.New("no right to do that in this folder")

// Restrict says what the user of the Folder may do: all, unless it is called. What he may not do is ErrRights, but for flags: those
// that he may not change are left as they are, and messages come without those that he may not set (RFC 4314 §4).
func (f *Folder) Restrict(r Rights) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = AllRights &^ r
}

// may gives ErrRights unless the user has all of these rights, and those to change flags that he has not.
func (f *Folder) may(need Rights) (noFlags Rights, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.denied&need != 0 {
		err = ErrRights
	}
	return f.denied & flagRights, err
}

// flagRights are those to change flags.
const flagRights = RightSeen | RightWrite | RightTrash

// flagsOf are the flags that one has to have some rights to change.
func (r Rights) flagsOf() (flags Flags) {
	if r&RightSeen != 0 {
		flags |= Seen
	}
	if r&RightTrash != 0 {
		flags |= Trashed
	}
	if r&RightWrite != 0 {
		flags |= Draft | Flagged | Replied
	}
	return flags
}

// without drops from the flags of a new message what somebody without these rights may not set.
func (r Rights) without(flags Flags, keywords []string) (Flags, []string) {
	if r&RightWrite != 0 {
		keywords = nil
	}
	return flags &^ r.flagsOf(), keywords
}

// limit makes of a change what somebody without these rights may make; ErrRights when that is nothing.
func (c *Change) limit(noFlags Rights) error {
	if noFlags == 0 {
		return nil
	}
	none := c.Add|c.Remove == 0 && len(c.AddKeywords)+len(c.RemoveKeywords) == 0
	c.Add, c.AddKeywords = noFlags.without(c.Add, c.AddKeywords)
	c.Remove, c.RemoveKeywords = noFlags.without(c.Remove, c.RemoveKeywords)
	c.keep = noFlags
	switch {
	case c.Replace && noFlags != flagRights, none && !c.Replace:
		return nil
	case c.Replace, c.Add|c.Remove == 0 && len(c.AddKeywords)+len(c.RemoveKeywords) == 0:
		return ErrRights
	}
	return nil
}

// aclName is Dovecot's file in a folder, which goes where the folder goes.
const (
	aclName  = "dovecot-acl"
	aclMost  = 1 << 20 // octets
	aclLines = 1000
)

// ErrGrants says that an access control list would be too long.
var ErrGrants = errors.New("no room in the access control list")

// An aclLine is a line of the file. What is no grant stays as it is.
type aclLine struct {
	Grant
	text string // unless it is a grant
}

// parseACL reads Dovecot's file: on each line who, quoted if need be, a blank, and letters, perhaps with a colon and names of
// rights behind them.
func parseACL(text string) (lines []aclLine) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		g, ok := parseGrant(line)
		if ok {
			line = ""
		}
		if len(lines) <= aclLines { // one more says that there are too many
			lines = append(lines, aclLine{g, line})
		}
	}
	return lines
}

func parseGrant(line string) (g Grant, ok bool) {
	if line == "" || line[0] == '#' {
		return g, false
	}
	var rest string
	if line[0] == '"' {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return g, false
		}
		if g.Who, err = strconv.Unquote(quoted); err != nil {
			return g, false
		}
		rest = line[len(quoted):]
	} else if i := strings.LastIndexByte(line, ' '); i >= 0 {
		g.Who, rest = strings.TrimRight(line[:i], " "), line[i:]
	}
	g.Who, g.Negative = strings.CutPrefix(g.Who, "-")
	letters, more, named := strings.Cut(strings.TrimSpace(rest), ":")
	if g.Who == "" || named && more != "" || !isWho(g.Who) {
		return Grant{}, false
	}
	if g.Rights, ok = ParseRights(letters); !ok {
		return Grant{}, false
	}
	return g, true
}

// isWho tells whether a file can name somebody so.
func isWho(who string) bool {
	if slices.Contains([]string{"owner", "anyone", "authenticated"}, who) {
		return true
	}
	kind, name, ok := strings.Cut(who, "=")
	return ok && name != "" && utf8.ValidString(name) && slices.Contains([]string{"user", "group", "group-override"}, kind) &&
		strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

func printACL(lines []aclLine) []byte {
	var b []byte
	for _, l := range lines {
		if l.Who == "" {
			b = append(append(b, l.text...), '\n')
			continue
		}
		who := l.Who
		if l.Negative {
			who = "-" + who
		}
		if strings.Contains(who, " ") {
			who = `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(who) + `"`
		}
		b = append(append(append(b, who...), ' '), l.Rights.String()...)
		b = append(b, '\n')
	}
	return b
}

// ACL gives the access control list of a folder: nothing when it has none, and everything is its owner's.
func (s *Store) ACL(folder string) ([]Grant, error) {
	p, err := s.openFolderPlace(folder)
	if err != nil {
		return nil, fmt.Errorf("rights on %q: %w", folder, err)
	}
	defer p.close()
	list, err := p.grants()
	if err != nil {
		return nil, fmt.Errorf("rights on %q: %w", folder, err)
	}
	return list, nil
}

// ACL is Store.ACL of a folder that is open.
func (f *Folder) ACL() ([]Grant, error) {
	b, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer b.leave()
	list, err := b.dir.grants()
	if err != nil {
		return nil, fmt.Errorf("rights on %q: %w", f.name, err)
	}
	return list, nil
}

func (p *place) grants() (list []Grant, err error) {
	lines, err := p.readACL()
	for _, l := range lines {
		if l.Who != "" {
			list = append(list, l.Grant)
		}
	}
	return list, err
}

func (p *place) readACL() ([]aclLine, error) {
	data, _, err := p.readFile(aclName, 0, aclMost)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return parseACL(string(data)), err
}

// SetACL changes what somebody may do with a folder, durably: change gets the rights that stand in the list now, if there are any, and
// gives those that will.
func (s *Store) SetACL(folder, who string, negative bool, change func(old Rights, there bool) (now Rights, stays bool)) error {
	err := s.setACL(folder, who, negative, change)
	if err != nil {
		return fmt.Errorf("set rights on %q: %w", folder, err)
	}
	return nil
}

func (s *Store) setACL(folder, who string, negative bool, change func(Rights, bool) (Rights, bool)) error {
	if !isWho(who) {
		return ErrName
	}
	_, done, err := s.lockNotes()
	if err != nil {
		return err
	}
	defer done()
	p, err := s.openFolderPlace(folder)
	if err != nil {
		return err
	}
	defer p.close()
	lines, err := p.readACL()
	if err != nil {
		return err
	}
	if len(lines) > aclLines {
		return ErrGrants // those that were not read would be lost
	}
	is := func(l aclLine) bool { return l.Who == who && l.Negative == negative }
	var old Rights
	at := slices.IndexFunc(lines, is)
	if at >= 0 {
		old = lines[at].Rights
	}
	now, stays := change(old, at >= 0)
	switch {
	case stays && at >= 0:
		lines[at].Rights = now
	case stays && len(lines) == aclLines:
		return ErrGrants
	case stays:
		lines = append(lines, aclLine{Grant{who, negative, now}, ""})
	case at < 0:
		return nil
	default:
		lines = slices.DeleteFunc(lines, is)
	}
	return p.writeACL(lines)
}

// writeACL replaces the file; none says what an empty one would not: that all is as it is without.
func (p *place) writeACL(lines []aclLine) error {
	if len(lines) == 0 {
		if err := p.unlink(aclName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fsync(p.fd)
	}
	return p.replace(aclName, "tmp/"+uniqueName(), printACL(lines), nil)
}

// inheritACL gives a folder that is being made the list of the one above it (RFC 4314 §4).
func (p *place) inheritACL(root *place, above string) error {
	data, _, err := root.readFile(above+"/"+aclName, 0, aclMost)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.replace(aclName, "tmp/"+uniqueName(), data, nil)
}

// nearest gives the directory of the nearest folder above a name, "" when there is none.
func nearest(root *place, name string) (dir string, err error) {
	for {
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			return "", nil
		}
		if name = name[:i]; name == inbox {
			return ".", nil
		}
		if dir, err = folderDir(root, name); err != nil {
			return "", err
		}
		var st unix.Stat_t
		if err := statat(root.fd, dir+"/cur", &st); err == nil {
			return dir, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
}
