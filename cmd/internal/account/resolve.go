package account

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Targets is where one recipient's mail goes.
type Targets struct {
	Users    []*User   // mailboxes here, each once
	Remote   []string  // addresses elsewhere, each once
	Commands []Command // programs that get the message on descriptor 0
	Files    []File    // files and Maildirs that aliases name
	Unknown  []string  // local addresses that an alias names, but nobody has
	Discard  bool      // an alias names /dev/null: with nothing else, the mail is thrown away
}

// A Command is what stands behind the bar of an alias. It came from a file that
// Owner may write, and it must run with no more rights than that.
type Command struct {
	Line  string // for a shell, or to be taken apart at blanks
	Owner Owner
}

// A File is a path that an alias names.
type File struct {
	Path    string // absolute, without a final slash
	Maildir bool   // it was written with one
	Owner   Owner
}

// An Owner is who may write the file that said something.
type Owner struct {
	UID, GID int
	File     string // the aliases or :include: file
}

// Empty tells whether nobody and nothing gets the mail.
func (t *Targets) Empty() bool {
	return len(t.Users) == 0 && len(t.Remote) == 0 && len(t.Commands) == 0 && len(t.Files) == 0 && !t.Discard
}

// Resolve follows one recipient through the aliases, to mailboxes here and addresses
// elsewhere. An alias that names itself means the user of that name. Every local
// domain has a postmaster and an abuse address (RFC 5321 §4.5.1, RFC 2142): without
// an alias or user they go to root, or to the first user there is. ErrUnknown:
// nobody here has the address; ErrLoop: the aliases lead in a circle, deeper than
// 20, or to more than 10 000 members; ErrSyntax: it is no address.
func (o *Office) Resolve(addr string) (Targets, error) {
	local, name, err := split(addr)
	if err != nil {
		return Targets{}, err
	}
	r := resolver{office: o, seen: map[string]bool{}}
	d, err := o.find(name)
	switch {
	case err != nil:
		return Targets{}, err
	case d == nil && name == "":
		// A bare postmaster is wanted even where no domain is the one of bare names.
		all, err := o.domains.all()
		if key, _ := localKey(local); err != nil || len(all) == 0 || key != "postmaster" {
			return Targets{}, cmp.Or(err, ErrUnknown)
		}
		d = all[0]
	case d == nil:
		if !remoteOK(local, name) {
			return Targets{}, ErrSyntax
		}
		return Targets{Remote: []string{addr}}, nil
	}
	if err := r.local(d, local, 0, nil); err != nil {
		return Targets{}, err
	}
	if r.Empty() {
		if err := r.lastResort(d, local); err != nil {
			return Targets{}, err
		}
		r.Unknown = nil // they were tried only
	}
	if r.Empty() {
		return Targets{}, ErrUnknown
	}
	if len(r.Unknown) > 0 {
		o.log().Warn("an alias names somebody who is not here", "addr", addr, "unknown", strings.Join(r.Unknown, " "))
	}
	return r.Targets, nil
}

// remoteOK tells whether an address elsewhere can stand in an envelope: one line of
// printable text, and a domain that can be one.
func remoteOK(local, domain string) bool {
	for _, r := range local {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	if strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]") {
		return !strings.ContainsFunc(domain, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	}
	_, err := domainKey(domain)
	return err == nil
}

type resolver struct {
	Targets
	office  *Office
	seen    map[string]bool // what has been followed or reached, each once
	members int
}

// local follows a name in one of our domains. path holds the names that led here,
// the nearest last.
func (r *resolver) local(d *domain, local string, depth int, path []string) error {
	key, err := localKey(local)
	if err != nil {
		return r.unknown(d, local)
	}
	table, err := d.aliases.get()
	if err != nil {
		return err
	}
	targets, found := table[key]
	if b, detailed := base(key); !found && detailed {
		// A user whose whole name this is goes before the alias of a part of it.
		if _, _, err := r.office.findUser(d, key); errors.Is(err, ErrUnknown) {
			if targets, found = table[b]; found {
				key = b
			}
		} else if err != nil {
			return err
		}
	}
	step := key + "@" + d.name
	if found && nearest(path) == step {
		found = false // "bob: bob, carol" means the user bob
	} else if found && slices.Contains(path, step) {
		return fmt.Errorf("%w: %s", ErrLoop, step)
	}
	if found {
		return r.follow(d, step, targets, d.aliases.path, depth, path)
	}
	return r.user(d, local, depth, path)
}

// nearest returns the alias that led here last; the :include: files between do not count.
func nearest(path []string) string {
	for _, step := range slices.Backward(path) {
		if !strings.HasPrefix(step, ":include:") {
			return step
		}
	}
	return ""
}

// user adds the mailbox of a name, or what the catch-all has for it.
func (r *resolver) user(d *domain, local string, depth int, path []string) error {
	u, _, err := r.office.lookup(d, local)
	if err == nil {
		return r.add("user "+u.Address(), func() { r.Users = append(r.Users, u) })
	}
	if !errors.Is(err, ErrUnknown) {
		return err
	}
	table, err := d.aliases.get()
	if err != nil {
		return err
	}
	targets, found := table["*"]
	step := "*@" + d.name
	if !found || slices.Contains(path, step) {
		return r.unknown(d, local)
	}
	return r.follow(d, step, targets, d.aliases.path, depth, path)
}

func (r *resolver) unknown(d *domain, local string) error {
	return r.add("unknown "+local+"@"+d.name, func() { r.Unknown = append(r.Unknown, local+"@"+d.name) })
}

// add counts a member, once.
func (r *resolver) add(id string, do func()) error {
	if r.seen[id] {
		return nil
	}
	r.seen[id] = true
	if r.members++; r.members > maxMembers {
		return fmt.Errorf("%w: more than %d members", ErrLoop, maxMembers)
	}
	do()
	return nil
}

// follow goes through the targets of one alias or :include: file.
func (r *resolver) follow(d *domain, step string, targets []target, file string, depth int, path []string) error {
	if depth++; depth > maxDepth {
		return fmt.Errorf("%w: deeper than %d", ErrLoop, maxDepth)
	}
	if r.seen[step] {
		return nil // somebody else in this list led here before
	}
	path = append(slices.Clip(path), step)
	for _, t := range targets {
		if err := r.one(d, t, file, depth, path); err != nil {
			return err
		}
	}
	r.seen[step] = true
	return nil
}

func (r *resolver) one(d *domain, t target, file string, depth int, path []string) error {
	switch t.kind {
	case toNobody:
		r.Discard = true
		return nil
	case toCommand:
		owner, err := ownerOf(file)
		if err != nil {
			return err
		}
		return r.add("command "+t.text, func() { r.Commands = append(r.Commands, Command{Line: t.text, Owner: owner}) })
	case toFile:
		owner, err := ownerOf(file)
		if err != nil {
			return err
		}
		path, maildir := strings.CutSuffix(t.text, "/")
		return r.add("file "+t.text, func() { r.Files = append(r.Files, File{Path: path, Maildir: maildir, Owner: owner}) })
	case toIncluded:
		list, err := r.office.include(t.text)
		if err != nil {
			return err
		}
		step := ":include:" + t.text
		if slices.Contains(path, step) {
			return fmt.Errorf("%w: %s", ErrLoop, step)
		}
		return r.follow(d, step, list, t.text, depth, path)
	}
	local, name, err := split(t.text)
	if err != nil {
		return err
	}
	in := d
	if name != "" {
		if in, err = r.office.find(name); err != nil {
			return err
		}
	}
	switch {
	case in == nil:
		return r.remote(local, name, t.text)
	case t.final:
		return r.final(in, local)
	}
	return r.local(in, local, depth, path)
}

// final adds the mailbox of \name, whatever the aliases say about it.
func (r *resolver) final(d *domain, local string) error {
	u, _, err := r.office.lookup(d, local)
	switch {
	case errors.Is(err, ErrUnknown):
		return r.unknown(d, local)
	case err != nil:
		return err
	}
	return r.add("user "+u.Address(), func() { r.Users = append(r.Users, u) })
}

func (r *resolver) remote(local, name, addr string) error {
	if key, err := domainKey(name); err == nil {
		name = key
	}
	return r.add("remote "+local+"@"+name, func() { r.Remote = append(r.Remote, addr) })
}

// lastResort finds somebody for the addresses that must work in every domain.
func (r *resolver) lastResort(d *domain, local string) error {
	key, err := localKey(local)
	if err != nil {
		return nil
	}
	if b, detailed := base(key); detailed {
		key = b
	}
	if key != "postmaster" && key != "abuse" {
		return nil
	}
	all, err := r.office.domains.all()
	if err != nil {
		return err
	}
	order := []*domain{d}
	if home := r.office.home(); home != nil && home != d {
		order = append(order, home)
	}
	for _, other := range all {
		if !slices.Contains(order, other) {
			order = append(order, other)
		}
	}
	r.Targets, r.seen, r.members = Targets{}, map[string]bool{}, 0
	for _, in := range order {
		for _, name := range []string{"postmaster", "root"} {
			if err := r.local(in, name, 0, nil); err != nil && !errors.Is(err, ErrLoop) {
				return err
			}
			if !r.Empty() {
				return nil
			}
		}
		t, err := in.users.get()
		if err != nil {
			return err
		}
		if len(t.names) > 0 {
			return r.final(in, t.names[0])
		}
	}
	p, err := r.office.sys.lookup("root")
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	u := p.user(d)
	return r.add("user "+u.Address(), func() { r.Users = append(r.Users, u) })
}

// include returns the members that a file names. That the file is missing is
// trouble of ours: nobody's mail is refused for it.
func (o *Office) include(path string) (includeList, error) {
	o.mu.Lock()
	f := o.lists[path]
	if f == nil {
		f = newFile(o, path, func(path string, data []byte) (includeList, error) {
			if data == nil {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return parseIncluded(path, data)
		})
		o.lists[path] = f
	}
	o.mu.Unlock()
	return f.get()
}

func ownerOf(path string) (Owner, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Owner{}, err
	}
	owner := Owner{UID: os.Getuid(), GID: os.Getgid(), File: path}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		owner.UID, owner.GID = int(st.Uid), int(st.Gid)
	}
	return owner, nil
}

// Owns tells whether mail from addr may be sent by the user: it is the user's own
// address, with or without detail, or an alias that reaches the user.
func (o *Office) Owns(u *User, addr string) bool {
	is := func(v *User) bool { return v != nil && v.Name == u.Name && v.Domain == u.Domain }
	if v, err := o.Lookup(addr); err == nil && is(v) {
		return true
	}
	t, err := o.Resolve(addr)
	return err == nil && slices.ContainsFunc(t.Users, is)
}
