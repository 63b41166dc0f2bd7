// Package account reads the post office: the directory of small text files that
// says which mail domains are ours, who may log in, where each Maildir is, where
// an address leads and by which host other mail leaves (pennypost(5)). Nothing in
// it is needed: without one the users are the system's.
package account

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/status"
	"pennypost/proto/sasl"
)

// What a caller may ask errors.Is about. Every other error is trouble of our own:
// the caller says "try again later".
var (
	ErrRefused = sasl.ErrRefused
	ErrUnknown = errors.New("no such user here")
	ErrLoop    = errors.New("aliases lead in a circle")
	ErrSyntax  = errors.New("not a mail address")
)

// Flag is the flag that names the post office directory, the same in every program.
func Flag() cli.Flag {
	return &cli.StringFlag{
		Name:    "post-office",
		Usage:   "read domains, users, aliases and routes from `DIR`",
		EnvVars: []string{"PENNYPOST"},
	}
}

// An Office is an open post office. Its files are read again when they change; one
// that has become wrong is logged, and what it said before stays in force. An
// Office is safe for concurrent use.
type Office struct {
	Log *slog.Logger // what changed for the worse; nil: slog.Default()

	dir string // "": none, the system's own users
	sys system

	me      *file[string]
	mail    *file[mailFile]
	ways    *file[loginFile]
	routes  *file[routeTable]
	domains domains
	good    good
	hash    chan struct{} // one token for each password check that may run at once
	tidying atomic.Bool   // memory of password checks is about to be given back

	mu      sync.Mutex
	authors map[string]*file[credentials] // the files that auth= names
	lists   map[string]*file[includeList] // :include:

	noted   noted
	scram   scram
	offers  offers
	tlsOnce sync.Once
	keys    *keyring
	clients clients
}

// Search returns the post office that a program uses when none is named: $PENNYPOST,
// else /etc/pennypost, else ~/.config/pennypost, whichever is first there; "" when
// there is none. A directory named by $PENNYPOST is returned even if it is missing.
func Search() string {
	if dir := os.Getenv("PENNYPOST"); dir != "" {
		return dir
	}
	for _, dir := range places() {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
	}
	return ""
}

func places() []string {
	dirs := []string{"/etc/pennypost"}
	if config, err := os.UserConfigDir(); err == nil && filepath.IsAbs(config) {
		dirs = append(dirs, filepath.Join(config, "pennypost"))
	}
	return dirs
}

// Open opens the post office in dir, or the one that [Search] finds. Where there is
// none, the one domain is this host's, its users are the system's with ~/Maildir,
// and the aliases are /etc/aliases. A line that is wrong is an error with the status
// 78 that begins with file and line. A file that this user may not read is no
// error before it is needed.
func Open(dir string) (*Office, error) {
	if dir == "" {
		dir = Search()
	}
	return open(dir, hostSystem())
}

func open(dir string, sys system) (*Office, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		dir = abs
		switch fi, err := os.Stat(dir); {
		case err != nil:
			return nil, mistake(fmt.Errorf("post office: %w", err))
		case !fi.IsDir():
			return nil, status.Errorf(status.Config, "post office: %s is not a directory", dir)
		}
	}
	o := &Office{dir: dir, sys: sys, hash: newHashTokens(), authors: map[string]*file[credentials]{}, lists: map[string]*file[includeList]{}}
	o.me = newFile(o, o.path("me"), parseMe)
	o.mail = newFile(o, o.path("mail"), func(path string, data []byte) (mailFile, error) { return parseMail(path, dir, data) })
	o.ways = newFile(o, o.path("login"), func(path string, data []byte) (loginFile, error) { return parseLogin(path, dir, data) })
	o.routes = newFile(o, o.path("routes"), func(path string, data []byte) (routeTable, error) { return parseRoutes(path, dir, data) })
	o.domains.init(o)
	if err := o.check(); err != nil {
		return nil, err
	}
	return o, nil
}

// path returns the path of one of the office's own files; "" when there is no office.
func (o *Office) path(name string) string {
	if o.dir == "" {
		return ""
	}
	return filepath.Join(o.dir, name)
}

// check reads every file once, so that mistakes show at the start.
func (o *Office) check() error {
	var errs []error
	add := func(err error) {
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, mistake(err))
		}
	}
	_, err := o.me.get()
	add(err)
	_, err = o.mail.get()
	add(err)
	l, err := o.ways.get()
	add(err)
	if err == nil && l.roots != "" {
		_, err = o.roots(l)
		add(err)
	}
	_, err = o.routes.get()
	add(err)
	all, err := o.domains.all()
	add(err)
	for _, d := range all {
		_, err = d.users.get()
		add(err)
		_, err = d.aliases.get()
		add(err)
	}
	return errors.Join(errs...)
}

// mistake gives an error in reading the post office its status: what is wrong in the
// files stays so until somebody mends it, but that the system has no descriptor or
// memory left, or cannot read a disk just now, may pass, and the mail with it.
func mistake(err error) error {
	if status.Code(err) == status.TempFail || errors.Is(err, syscall.EIO) {
		return status.With(status.TempFail, err)
	}
	return status.With(status.Config, err)
}

func (o *Office) log() *slog.Logger {
	if o.Log != nil {
		return o.Log
	}
	return slog.Default()
}

// Dir returns the directory, absolute, or "" when there is no post office.
func (o *Office) Dir() string { return o.dir }

// Me returns the name of this host, as greetings and Received: show it.
func (o *Office) Me() string {
	if me, err := o.me.get(); err == nil && me != "" {
		return me
	}
	return o.sys.host()
}

// Domain returns the domain of an address that names none: the only one there is, or
// the one that is called as this host is, or that this host's name is in; otherwise
// this host's name. Without a post
// office it is the name in /etc/mailname, if there is one.
func (o *Office) Domain() string {
	if d := o.home(); d != nil {
		return d.name
	}
	return o.Me()
}

// home finds the domain that bare names belong to, nil when there is none.
func (o *Office) home() *domain {
	all, err := o.domains.all()
	if err != nil || len(all) == 0 {
		return nil
	}
	if len(all) == 1 {
		return all[0]
	}
	for me, more := o.Me(), true; more; _, me, more = strings.Cut(me, ".") {
		if d := o.domains.named(me); d != nil {
			return d
		}
	}
	return nil
}

// Domains returns the mail domains that are ours, sorted.
func (o *Office) Domains() []string {
	all, err := o.domains.all()
	if err != nil {
		return nil
	}
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.name
	}
	return names
}

// Local tells whether mail for the domain stays here.
func (o *Office) Local(name string) bool {
	d, err := o.find(name)
	return err == nil && d != nil
}

// find returns the local domain of this name; nil when it is somebody else's. The
// host's own name and "localhost" stand for the domain of bare names, unless they
// are domains themselves: no other host could deliver mail for them.
func (o *Office) find(name string) (*domain, error) {
	if name == "" {
		return o.home(), nil
	}
	key, err := domainKey(name)
	if err != nil {
		return nil, nil
	}
	if _, err := o.domains.all(); err != nil {
		return nil, err
	}
	if d := o.domains.named(key); d != nil {
		return d, nil
	}
	if key == "localhost" {
		return o.home(), nil
	}
	if me, err := domainKey(o.Me()); err == nil && me == key {
		return o.home(), nil
	}
	return nil, nil
}

// Spool returns the directory of the queue, absolute.
func (o *Office) Spool() string {
	if m, err := o.mail.get(); err == nil && m.spool != "" {
		return m.spool
	}
	return "/var/spool/pennypost"
}

// parseMe reads the file that holds nothing but the host's name.
func parseMe(path string, data []byte) (string, error) {
	var me string
	for n, text := range lines(data) {
		if me != "" {
			return "", bad(path, n, "there is a name already")
		}
		key, err := domainKey(text)
		if err != nil {
			return "", bad(path, n, "%q is not a host name", text)
		}
		me = key
	}
	return me, nil
}

// mailFile is what the file "mail" says.
type mailFile struct {
	mailbox string // pattern of a Maildir's path, absolute
	spool   string // absolute
}

// parseMail reads the lines "mailbox PATTERN" and "spool DIR". Relative paths begin
// at the post office.
func parseMail(path, dir string, data []byte) (mailFile, error) {
	var m mailFile
	for n, text := range lines(data) {
		word, value, _ := strings.Cut(text, " ")
		value = strings.TrimSpace(value)
		var to *string
		switch word {
		case "mailbox":
			to = &m.mailbox
		case "spool":
			to = &m.spool
		default:
			return m, bad(path, n, "unknown word %q", word)
		}
		switch {
		case value == "":
			return m, bad(path, n, "%s of what?", word)
		case *to != "":
			return m, bad(path, n, "%s is said twice", word)
		case strings.ContainsRune(value, 0):
			return m, bad(path, n, "NUL in a path")
		}
		if !filepath.IsAbs(value) {
			value = filepath.Join(dir, value)
		}
		if strings.HasPrefix(filepath.Clean(value)+"/", path+"/") {
			return m, bad(path, n, "%s is inside this file", value)
		}
		if word == "mailbox" {
			if err := checkPattern(value); err != nil {
				return m, bad(path, n, "%v", err)
			}
		}
		*to = filepath.Clean(value)
	}
	return m, nil
}

// checkPattern makes sure that a pattern gives different users different Maildirs.
func checkPattern(pattern string) error {
	var seen []byte
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			continue
		}
		i++
		if i == len(pattern) || !strings.ContainsRune("dnu%", rune(pattern[i])) {
			return fmt.Errorf("mailbox knows %%d, %%n, %%u and %%%%")
		}
		seen = append(seen, pattern[i])
	}
	if !slices.Contains(seen, 'u') && !slices.Contains(seen, 'n') {
		return fmt.Errorf("mailbox without %%n or %%u: all users would share one Maildir")
	}
	return nil
}

// expand puts the names of a user into a pattern. Both names are safe in a path:
// see [localKey] and [domainKey].
func expand(pattern, name, domain string) string {
	return strings.NewReplacer("%d", domain, "%n", name, "%u", name+"@"+domain, "%%", "%").Replace(pattern)
}
