package account

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"pennypost/cmd/internal/status"
	"pennypost/maildir"
)

// ErrExists is the answer to adding a user who is there already.
var ErrExists = errors.New("is there already")

// lockWait is how long an edit waits for another one of the same file.
const lockWait = 30 * time.Second

// A NewUser is a line of a users file that is to be made.
type NewUser struct {
	Address            string // name@domain, or a name in Office.Domain
	Password           string // as Hash made it; "": nobody can log in yet
	UID, GID           int    // -1: none
	Gecos, Home, Shell string
	Quota              *maildir.Limits // nil: nothing is said
}

// Create makes a post office directory, with mode 0755, and opens it; one that is
// there is opened.
func Create(dir string) (*Office, error) {
	if dir == "" {
		return nil, status.Errorf(status.Usage, "no post office: set PENNYPOST or give --post-office")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(abs, -1, -1); err != nil {
		return nil, status.Made(err)
	}
	return Open(abs)
}

// CheckUser tells what is wrong with a new user, before anything is made for it.
func CheckUser(n NewUser) error {
	local, domain, err := split(n.Address)
	if err == nil && domain != "" {
		_, err = domainKey(domain)
	}
	if err != nil {
		return status.Errorf(status.DataErr, "%q is %w", n.Address, ErrSyntax)
	}
	if _, err := userName(local, ""); err != nil || strings.HasPrefix(local, "#") {
		return status.Errorf(status.DataErr, "%q cannot be the name of a user", local)
	}
	if n.Home != "" && !filepath.IsAbs(n.Home) {
		return status.Errorf(status.DataErr, "home %q is not an absolute path", n.Home)
	}
	for _, field := range []string{n.Gecos, n.Home, n.Shell} {
		if strings.ContainsFunc(field, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f || r == utf8.RuneError }) {
			return status.Errorf(status.DataErr, "%q cannot be a field of the users file", field)
		}
	}
	return nil
}

// Owner returns the owner of the post office directory; -1 and -1 without one, or when
// it is the superuser's.
func (o *Office) Owner() (uid, gid int) {
	if fi, err := os.Stat(o.dir); err == nil && o.dir != "" {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return int(st.Uid), int(st.Gid)
		}
	}
	return -1, -1
}

// AddUser adds a line to the users file of the domain, which is made if need be. The
// file is replaced as a whole, synced, while other edits wait; every other line stays
// as it is. prepare, if not nil, is called with the user first, and the line is not
// added when it fails. ErrExists: there is such a user.
func (o *Office) AddUser(n NewUser, prepare func(*User) error) (*User, error) {
	key, d, err := o.editable(n.Address, true)
	if err != nil {
		return nil, err
	}
	if err := CheckUser(n); err != nil {
		return nil, err
	}
	number := func(id int) string {
		if id < 0 {
			return ""
		}
		return fmt.Sprint(id)
	}
	text := strings.Join([]string{key, n.Password, number(n.UID), number(n.GID), n.Gecos, n.Home, n.Shell}, ":")
	if n.Quota != nil {
		text += ":" + rule(*n.Quota)
	} else if n.UID < 0 && n.GID < 0 && n.Gecos == "" && n.Home == "" && n.Shell == "" {
		text = key + ":" + n.Password
	}
	l, err := parseUser(text, d.name)
	if err != nil {
		return nil, status.With(status.DataErr, err)
	}
	u, err := o.user(d, l)
	if err != nil {
		return nil, err
	}
	err = o.edit(d, func(lines []string) ([]string, error) {
		if find(lines, key, d.name) >= 0 {
			return nil, status.Errorf(status.CantCreate, "%s %w", u.Address(), ErrExists)
		}
		if prepare != nil {
			if err := prepare(u); err != nil {
				return nil, err
			}
		}
		if last := len(lines) - 1; last >= 0 && !strings.HasSuffix(lines[last], "\n") {
			lines[last] += "\n"
		}
		return append(lines, text+"\n"), nil
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// SetPassword puts a password, as Hash made it, in the place of the user's old one.
// ErrUnknown: there is no such user.
func (o *Office) SetPassword(addr, stored string) error {
	return o.setField(addr, 1, func(string) string { return stored })
}

// setField changes field n (from 0) of a user's line, and nothing else of it. What is behind
// the last field of passwd-file belongs to that one.
func (o *Office) setField(addr string, n int, change func(string) string) error {
	const most = 8
	key, d, err := o.editable(addr, false)
	if err != nil {
		return err
	}
	return o.edit(d, func(lines []string) ([]string, error) {
		i := find(lines, key, d.name)
		if i < 0 {
			return nil, o.notThere(d, key)
		}
		text := strings.TrimRight(lines[i], "\r\n")
		end := lines[i][len(text):]
		fields := strings.SplitN(text, ":", most)
		for len(fields) <= n {
			fields = append(fields, "")
		}
		fields[n] = change(fields[n])
		lines[i] = strings.Join(fields, ":") + end
		return lines, nil
	})
}

// RemoveUser takes the user's line out of the users file and returns who it was. The
// mail stays. ErrUnknown: there is no such user.
func (o *Office) RemoveUser(addr string) (*User, error) {
	key, d, err := o.editable(addr, false)
	if err != nil {
		return nil, err
	}
	var u *User
	err = o.edit(d, func(lines []string) ([]string, error) {
		i := find(lines, key, d.name)
		if i < 0 {
			return nil, o.notThere(d, key)
		}
		l, err := parseUser(strings.TrimRight(lines[i], "\r\n"), d.name)
		if err != nil {
			return nil, err
		}
		if u, err = o.user(d, l); err != nil {
			return nil, err
		}
		return slices.Delete(lines, i, i+1), nil
	})
	return u, err
}

// Users returns the users that the domain's file names, in its order. Those that
// "@system" adds are not among them.
func (o *Office) Users(name string) ([]*User, error) {
	d, err := o.find(name)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, status.Errorf(status.NoUser, "%s is not a domain of ours", name)
	}
	t, err := d.users.get()
	if err != nil {
		return nil, err
	}
	var users []*User
	for _, key := range t.names {
		l, err := parseUser(t.line[key], d.name)
		if err != nil {
			return nil, err
		}
		u, err := o.user(d, l)
		if err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, nil
}

// editable finds the domain of an address whose users file is to be changed.
func (o *Office) editable(addr string, create bool) (key string, d *domain, err error) {
	local, name, err := split(addr)
	if err != nil {
		return "", nil, status.Errorf(status.DataErr, "%q is %w", addr, ErrSyntax)
	}
	if key, err = localKey(local); err != nil {
		return "", nil, status.Errorf(status.DataErr, "%q cannot be the name of a user", local)
	}
	if o.dir == "" {
		return "", nil, status.Errorf(status.Config, "no post office: set PENNYPOST or give --post-office")
	}
	if name == "" {
		name = o.Domain()
	}
	at, err := domainKey(name)
	if err != nil {
		return "", nil, status.Errorf(status.DataErr, "%q is not the name of a domain", name)
	}
	if _, err := o.domains.all(); err != nil {
		return "", nil, err
	}
	if d = o.domains.named(at); d != nil && d.dir != "" {
		return key, d, nil
	}
	if !create {
		return "", nil, o.notThere(&domain{name: at}, key)
	}
	dir := filepath.Join(o.domains.path, at)
	uid, gid := o.Owner()
	if err := makeDir(dir, uid, gid); err != nil {
		return "", nil, status.Made(err)
	}
	if _, err := o.domains.all(); err != nil {
		return "", nil, err
	}
	if d = o.domains.named(at); d == nil {
		d = o.newDomain(at, dir)
	}
	return key, d, nil
}

// notThere says why a user cannot be changed.
func (o *Office) notThere(d *domain, key string) error {
	if u, err := o.Lookup(key + "@" + d.name); err == nil && u.System {
		return status.Errorf(status.NoUser, "%s is a user of the system, see passwd(1): %w", key, ErrUnknown)
	}
	return status.Errorf(status.NoUser, "%s@%s: %w", key, d.name, ErrUnknown)
}

// find returns the index of the line of a user, -1 if there is none.
func find(lines []string, key, domain string) int {
	return slices.IndexFunc(lines, func(text string) bool {
		if s := strings.TrimSpace(text); s == "" || s[0] == '#' || s[0] == '@' {
			return false
		}
		field, _, _ := strings.Cut(strings.TrimRight(text, "\r\n"), ":")
		name, err := userName(field, domain)
		return err == nil && name == key
	})
}

// edit changes the lines of a users file: it holds the lock of the folder, so that
// edits come one after the other, and replaces the file as a whole, so that a reader
// sees all of an edit or nothing of it, after a power cut too.
func (o *Office) edit(d *domain, change func(lines []string) ([]string, error)) error {
	unlock, err := lock(d.dir)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(d.dir, "users")
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := parseUsers(path, d.name, data); err != nil {
		return err
	}
	text, err := change(slices.Collect(strings.Lines(string(data))))
	if err != nil {
		return err
	}
	fresh := []byte(strings.Join(text, ""))
	if _, err := parseUsers(path, d.name, fresh); err != nil {
		return err
	}
	return status.Made(replace(path, fresh))
}

// lock keeps other edits of the folder away until unlock is called. The lock is the
// kernel's: it goes with the process, however that ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
		case time.Now().After(deadline):
			f.Close()
			return nil, status.Errorf(status.TempFail, "%s: somebody else has been editing for %v", dir, lockWait)
		}
	}
}

// replace writes a file anew, durably: a file of mode 0600 beside it, or of the mode
// and owner that the old one has, is synced and renamed over it.
func replace(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	fresh := filepath.Join(dir, "."+filepath.Base(path)+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // left by an edit that was cut short: we have the lock
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(fresh)
		}
	}()
	mode, like := fs.FileMode(0o600), dir
	if fi, err := os.Stat(path); err == nil {
		mode, like = fi.Mode().Perm(), path
	}
	if err := ownLike(f, like); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// ownLike gives a file that the superuser makes the owner of another one, so that the
// daemons' user can go on reading what it could read.
func ownLike(f *os.File, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

// makeDir makes a directory and those above it, durably. What the superuser makes is
// given to uid and gid, unless they are -1.
func makeDir(dir string, uid, gid int) error {
	if fi, err := os.Stat(dir); err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent, uid, gid); err != nil {
			return err
		}
	}
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	if os.Geteuid() == 0 && uid >= 0 {
		if err := os.Lchown(dir, uid, gid); err != nil {
			return err
		}
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
