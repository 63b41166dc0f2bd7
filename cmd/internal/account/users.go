package account

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// A User is somebody who has a mailbox here.
type User struct {
	Name, Domain string // as they are spelled in paths and logs: folded, A-labels
	UID, GID     int    // owner of the mail, -1: whoever delivers or serves it
	Home, Shell  string // "" if nothing was said
	Gecos        string // full name
	Maildir      string // absolute path; it need not be there yet
	System       bool   // one of the system's users

	Quota *maildir.Limits // nil if nothing was said: what maildirsize says is in force
}

// Address returns name@domain, with the name quoted if it is no Dot-string
// (RFC 5321 §4.1.2, RFC 6531 §3.3).
func (u *User) Address() string {
	name := u.Name
	if strings.ContainsAny(name, specials) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		name = `"` + strings.ReplaceAll(name, `"`, `\"`) + `"`
	}
	return name + "@" + u.Domain
}

// A userTable is a users file. Only what is asked for is taken apart: a line stays
// text until then.
type userTable struct {
	line   map[string]string // by localKey
	names  []string          // in the order of the file; the first gets postmaster's mail
	sample string            // a password field that is not empty, of the kind that most users have
	scram  bool              // all passwords can do SCRAM, and there are some
	system bool              // "@system": the system's users belong to the domain
}

// A userLine is one line of a users file: name:password:uid:gid:gecos:home:shell:extra,
// as Dovecot's passwd-file has it.
type userLine struct {
	name     string // as localKey spells it
	password string // {SCHEME}hash; "": nobody can log in
	uid, gid int    // -1: none
	gecos    string
	home     string
	shell    string
	mail     string // from userdb_mail=maildir:PATH among the extra fields; "" if not said
	quota    *maildir.Limits
	nologin  bool
}

// parseUsers checks every line of a users file.
func parseUsers(path, domain string, data []byte) (*userTable, error) {
	count := bytes.Count(data, []byte("\n")) + 1
	t := &userTable{line: make(map[string]string, count), names: make([]string, 0, count)}
	n := 0
	t.scram = true
	kinds, most := map[string]int{}, 0
	for text := range strings.Lines(string(data)) {
		n++
		text = strings.TrimRight(text, "\r\n")
		if s := strings.TrimSpace(text); s == "" || s[0] == '#' {
			continue
		} else if s == "@system" {
			t.system = true
			continue
		}
		u, err := parseUser(text, domain)
		if err != nil {
			return nil, bad(path, n, "%v", err)
		}
		if _, twice := t.line[u.name]; twice {
			return nil, bad(path, n, "%q is there already", u.name)
		}
		t.names = append(t.names, u.name)
		if !u.nologin && usable(u.password) {
			k := effort(u.password)
			if kinds[k]++; kinds[k] > most {
				t.sample, most = u.password, kinds[k]
			}
			t.scram = t.scram && canScram(u.password)
		}
		t.line[u.name] = text
	}
	t.scram = t.scram && t.sample != "" && !t.system
	return t, nil
}

// parseNoUsers is the users file of a domain that has only the system's.
func parseNoUsers(string, []byte) (*userTable, error) { return systemOnly, nil }

var systemOnly = &userTable{system: true}

func parseUser(text, domain string) (userLine, error) {
	u := userLine{uid: -1, gid: -1}
	var fields [8]string // the last one has all the rest
	rest, more := text, true
	for i := 0; more && i < len(fields)-1; i++ {
		fields[i], rest, more = strings.Cut(rest, ":")
	}
	fields[len(fields)-1] = rest
	name, err := userName(fields[0], domain)
	if err != nil {
		return u, err
	}
	u.name = name
	for i := range len(text) {
		if text[i] < ' ' && text[i] != '\t' || text[i] == 0x7f {
			return u, fmt.Errorf("a control character in the line of %q", name)
		}
	}
	u.password = fields[1]
	if u.password != "" {
		if err := checkPassword(u.password); err != nil {
			return u, fmt.Errorf("password of %q: %w", name, err)
		}
	}
	if u.uid, err = id(fields[2]); err != nil {
		return u, fmt.Errorf("uid of %q: %w", name, err)
	}
	if u.gid, err = id(fields[3]); err != nil {
		return u, fmt.Errorf("gid of %q: %w", name, err)
	}
	u.gecos, u.home, u.shell = fields[4], fields[5], fields[6]
	if u.home != "" && !filepath.IsAbs(u.home) {
		return u, fmt.Errorf("home of %q is not an absolute path", name)
	}
	for word := range strings.FieldsSeq(fields[7]) {
		key, value, _ := strings.Cut(word, "=")
		if isRule(key) {
			l, err := parseRule(value)
			if err != nil {
				return u, fmt.Errorf("%s of %q: %w", key, name, err)
			}
			if l != nil {
				u.quota = l
			}
			continue
		}
		switch key {
		case "nologin":
			u.nologin = true
		case "userdb_mail":
			if u.mail, err = mailLocation(value, u.home); err != nil {
				return u, fmt.Errorf("userdb_mail of %q: %w", name, err)
			}
		case "allow_nets":
			return u, fmt.Errorf("allow_nets of %q would not be enforced", name)
		}
	}
	return u, nil
}

// specials would have to be quoted in an address. No user is called so: a line that
// begins so is a slip.
const specials = " \t\"(),;<>[]"

// userName reads the first field: the name, or the whole address.
func userName(field, domain string) (string, error) {
	name := field
	if local, at, ok := strings.Cut(field, "@"); ok {
		if key, err := domainKey(at); err != nil || key != domain {
			return "", fmt.Errorf("%q is not in this domain", field)
		}
		name = local
	}
	key, err := localKey(name)
	if err != nil || strings.ContainsAny(name, specials) {
		return "", fmt.Errorf("%q cannot be a user's name", field)
	}
	return key, nil
}

func id(field string) (int, error) {
	if field == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(field, 10, 32)
	if err != nil || n == 1<<32-1 {
		return -1, fmt.Errorf("%q is not a number from 0 to 4294967294", field)
	}
	return int(n), nil
}

// mailLocation reads Dovecot's form of a mail location, of which we know
// "maildir:PATH" alone; "~/" is the user's home.
func mailLocation(value, home string) (string, error) {
	path, ok := strings.CutPrefix(value, "maildir:")
	if !ok || strings.Contains(path, ":") || strings.ContainsAny(path, "%") {
		return "", fmt.Errorf("%q is not of the form maildir:PATH", value)
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok && home != "" {
		path = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	return filepath.Clean(path), nil
}

// user makes the User of a line.
func (o *Office) user(d *domain, l userLine) (*User, error) {
	u := &User{Name: l.name, Domain: d.name, UID: l.uid, GID: l.gid, Home: l.home, Shell: l.shell, Gecos: l.gecos, Maildir: l.mail, Quota: l.quota}
	if u.Maildir == "" {
		m, err := o.mail.get()
		if err != nil {
			return nil, err
		}
		pattern := m.mailbox
		if pattern == "" {
			pattern = "/var/mail/%d/%n"
		}
		u.Maildir = expand(pattern, u.Name, u.Domain)
	}
	return u, nil
}

// findUser looks for a user by the key of the name, in the file and then, where the
// domain has them, among the system's. It returns ErrUnknown if there is none.
func (o *Office) findUser(d *domain, key string) (*User, userLine, error) {
	t, err := d.users.get()
	if err != nil {
		return nil, userLine{}, err
	}
	if text, ok := t.line[key]; ok {
		l, err := parseUser(text, d.name)
		if err != nil {
			return nil, l, err
		}
		u, err := o.user(d, l)
		return u, l, err
	}
	if !t.system {
		return nil, userLine{}, ErrUnknown
	}
	p, err := o.sys.lookup(key)
	if err != nil {
		return nil, userLine{}, err
	}
	return p.user(d), userLine{}, nil
}

// user makes the User of one of the system's.
func (p passwdLine) user(d *domain) *User {
	return &User{
		Name: p.name, Domain: d.name, UID: p.uid, GID: p.gid, Home: p.home, Shell: p.shell, Gecos: p.gecos,
		Maildir: filepath.Join(p.home, "Maildir"), System: true,
	}
}

// lookup finds the user a local part belongs to: by the whole of it, else without
// its detail.
func (o *Office) lookup(d *domain, local string) (*User, userLine, error) {
	key, err := localKey(local)
	if err != nil {
		return nil, userLine{}, ErrUnknown
	}
	u, l, err := o.findUser(d, key)
	if b, detailed := base(key); err == ErrUnknown && detailed {
		return o.findUser(d, b)
	}
	return u, l, err
}

// Lookup finds the user an address belongs to, without asking the aliases:
// "bob@hamburger.edu", "bob+lists@hamburger.edu", or "bob" in [Office.Domain]. It
// returns ErrUnknown if there is none.
func (o *Office) Lookup(addr string) (*User, error) {
	local, name, err := split(addr)
	if err != nil {
		return nil, ErrUnknown
	}
	d, err := o.find(name)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, ErrUnknown
	}
	u, _, err := o.lookup(d, local)
	return u, err
}
