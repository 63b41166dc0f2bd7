package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"

	"pennypost/proto/sasl"
)

const (
	// hashWait is how long a login waits for its turn to be checked.
	hashWait = 30 * time.Second
	// goodFor is how long a password that was right need not be hashed again: user agents
	// log in several times at once and every few minutes.
	goodFor = 5 * time.Minute
	maxGood = 4096
	// tidyAfter is how long memory for hashes is kept for the next one.
	tidyAfter = time.Second
)

// newHashTokens bounds the password checks that run at once: each costs a processor
// and up to some 20 MiB.
func newHashTokens() chan struct{} { return make(chan struct{}, max(runtime.GOMAXPROCS(0), 2)) }

// dummy is the hash that a password is compared with where there is no user of that
// name and no other user whose hash could stand in.
const dummy = "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$cGVubnlwb3N0cGVubnlwbw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// Login checks a password. The name is "bob@hamburger.edu", or "bob" where it is clear
// which one: in [Office.Domain], or when only one domain has a bob. It returns
// ErrRefused for a wrong password and for an unknown user, after the same time;
// sasl.ErrExpired and sasl.ErrBlocked for the right password of somebody who may not
// come in; any other error means that it could not be found out.
func (o *Office) Login(name, password string) (*User, error) {
	c, err := o.credentials(name)
	if err != nil {
		return nil, err
	}
	sane := password != "" && len(password) <= maxPassword && !strings.ContainsRune(password, 0)
	if !sane {
		password = "?"
	}
	ok, err := o.match(c.stored, password, c.user != nil)
	switch {
	case err != nil:
		return nil, err
	case !ok || c.user == nil || !sane:
		return nil, ErrRefused
	}
	return c.user, c.closed
}

// Admit returns the user of whom a mechanism has shown, without a password of ours,
// that it is the client. The errors are those of Login.
func (o *Office) Admit(name string) (*User, error) {
	c, err := o.candidate(name)
	switch {
	case errors.Is(err, ErrUnknown) || err == nil && c.user.System && c.user.UID == 0:
		return nil, ErrRefused
	case err != nil:
		return nil, err
	}
	if c.user.System { // whose passwords we need not be able to read here
		if _, expired, err := o.sys.password(c.user.Name, c.user.UID); err == nil && expired {
			return nil, sasl.ErrExpired
		}
	}
	return c.user, c.closed
}

// Is tells whether a login name, in any spelling, is that of the user.
func (o *Office) Is(u *User, name string) bool {
	c, err := o.candidate(name)
	return err == nil && c.user.Name == u.Name && c.user.Domain == u.Domain
}

// A candidate is who may be meant by a login name.
type candidate struct {
	user    *User   // nil: nobody
	domain  *domain // where the user is, or would be; nil: nowhere
	address string  // as the user would be spelled
	stored  string  // the password field
	closed  error   // why the user may not come in, whatever the password
}

// candidate finds the only user that a login name means, without the password; ErrUnknown
// where there is none.
func (o *Office) candidate(name string) (candidate, error) {
	c := candidate{address: strings.ToLower(name)}
	name, err := sasl.Prepare(name)
	if err != nil {
		return c, ErrUnknown
	}
	d, local, found, err := o.loginDomain(name)
	if err != nil {
		return c, err
	}
	if c.domain = d; d == nil {
		if c.domain = o.home(); c.domain == nil {
			if all, err := o.domains.all(); err == nil && len(all) > 0 {
				c.domain = all[0]
			}
		}
	}
	if local == "" {
		local, _, _ = split(name)
	}
	key, err := localKey(local)
	if err != nil {
		return c, ErrUnknown
	}
	if c.domain != nil && (d != nil || !strings.Contains(name, "@")) {
		c.address = key + "@" + c.domain.name
	}
	if d == nil {
		return c, ErrUnknown
	}
	if found == nil {
		if found, err = o.entry(d, key); err != nil {
			return c, err
		}
	}
	c.user, c.stored = found.user, found.line.password
	if found.line.nologin {
		c.closed = sasl.ErrBlocked
	}
	return c, nil
}

// credentials finds the user who logs in as name, with the password that was stored.
// Where there is none, or one who has no password, it is a password of somebody else,
// which takes as long to check as the user's own would.
func (o *Office) credentials(name string) (candidate, error) {
	c, err := o.candidate(name)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return c, err
	}
	if c.user != nil && c.user.System {
		var expired bool
		if c.stored, expired, err = o.sys.password(c.user.Name, c.user.UID); err != nil {
			return c, err
		}
		if expired {
			c.closed = sasl.ErrExpired
		}
	}
	if c.user == nil || !usable(c.stored) {
		c.user, c.stored = nil, o.standIn(c.domain)
	}
	return c, nil
}

// loginDomain finds the domain of a login name; nil when there is none, or more than
// one. Where the domain is found by who is in it, found is that user.
func (o *Office) loginDomain(name string) (d *domain, local string, found *entry, err error) {
	local, at, err := split(name)
	if err != nil {
		return nil, "", nil, nil
	}
	if at != "" {
		d, err := o.find(at)
		return d, local, nil, err
	}
	key, err := localKey(local)
	if err != nil {
		return nil, "", nil, nil
	}
	home := o.home()
	if home != nil {
		if e, err := o.entry(home, key); !errors.Is(err, ErrUnknown) {
			return home, local, e, err
		}
	}
	all, err := o.domains.all()
	if err != nil {
		return nil, "", nil, err
	}
	for _, other := range all {
		if other == home {
			continue
		}
		switch e, err := o.entry(other, key); {
		case err == nil && found != nil:
			return nil, "", nil, nil
		case err == nil:
			d, found = other, e
		case !errors.Is(err, ErrUnknown):
			return nil, "", nil, err
		}
	}
	return d, local, found, nil
}

// An entry is a user with what the users file says.
type entry struct {
	user *User
	line userLine
}

func (o *Office) entry(d *domain, key string) (*entry, error) {
	u, line, err := o.findUser(d, key)
	if err != nil {
		return nil, err
	}
	return &entry{u, line}, nil
}

// standIn returns a stored password of the domain, so that the check of an unknown
// name takes the time that the check of a known one takes.
func (o *Office) standIn(d *domain) string {
	if d == nil {
		return dummy
	}
	t, err := d.users.get()
	if err != nil {
		return dummy
	}
	if t.sample != "" {
		return t.sample
	}
	if t.system {
		if s, err := o.sys.state.shadow.get(); err == nil && s.sample != "" {
			return s.sample
		}
	}
	return dummy
}

// match compares, as one of a few at once. That a password was right is remembered of
// users only: whoever's password stands in for that of unknown ones would tell them by
// it from the others.
func (o *Office) match(stored, password string, known bool) (bool, error) {
	if stored == "" {
		stored = dummy
	}
	check, err := verifier(stored)
	if err != nil {
		return false, fmt.Errorf("stored password: %w", err)
	}
	if known && o.good.has(stored, password) {
		return true, nil
	}
	done, err := o.turn()
	if err != nil {
		return false, err
	}
	defer done()
	defer o.tidy()
	ok, err := check(password)
	for _, other := range spellings(password) {
		if err == nil && !ok {
			ok, err = check(other)
		}
	}
	if err != nil {
		return false, fmt.Errorf("stored password: %w", err)
	}
	if ok && known {
		o.good.add(stored, password)
	}
	return ok, nil
}

// turn waits until a password may be hashed; done lets the next one.
func (o *Office) turn() (done func(), err error) {
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case o.hash <- struct{}{}:
		return func() { <-o.hash }, nil
	case <-wait.C:
		return nil, errors.New("too many logins at once")
	}
}

// spellings are the other forms in which a program may have stored the password, or
// another one may send it: NFC (RFC 8265 §4.2) and SASLprep (RFC 4013).
func spellings(password string) (others []string) {
	if nfc := norm.NFC.String(password); nfc != password {
		others = append(others, nfc)
	}
	if prepared, err := sasl.Prepare(password); err == nil && prepared != "" && prepared != password && !slices.Contains(others, prepared) {
		others = append(others, prepared)
	}
	return others
}

// tidy gives back what the hashes have used, soon: a process that serves one client
// would hold 20 MiB until that client leaves.
func (o *Office) tidy() {
	if !o.tidying.Swap(true) {
		time.AfterFunc(tidyAfter, func() {
			o.tidying.Store(false)
			debug.FreeOSMemory()
		})
	}
}

// good remembers passwords that were right, by a keyed hash of them together with
// what was stored: when that changes, or this process ends, nothing is left.
type good struct {
	mu    sync.Mutex
	key   []byte
	until map[[sha256.Size]byte]time.Time
}

// sum identifies a stored password and the one that was typed; mu is held.
func (g *good) sum(stored, password string) (sum [sha256.Size]byte) {
	if g.key == nil {
		g.key = make([]byte, 32)
		rand.Read(g.key)
		g.until = map[[sha256.Size]byte]time.Time{}
	}
	h := hmac.New(sha256.New, g.key)
	fmt.Fprintf(h, "%d:%s%s", len(stored), stored, password)
	h.Sum(sum[:0])
	return sum
}

func (g *good) has(stored, password string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.until[g.sum(stored, password)])
}

func (g *good) add(stored, password string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.until) >= maxGood {
		clear(g.until)
	}
	g.until[g.sum(stored, password)] = time.Now().Add(goodFor)
}

// password returns the hash of a system user as {CRYPT}, and whether the account has
// expired; "" when the user cannot log in, as the superuser never can.
func (s system) password(name string, uid int) (stored string, expired bool, err error) {
	if uid == 0 {
		return "", false, nil
	}
	t, err := s.state.shadow.get()
	if errors.Is(err, fs.ErrPermission) {
		return "", false, fmt.Errorf("passwords of system users: %w", err)
	}
	if err != nil {
		return "", false, err
	}
	l := t.users[name]
	if locked(l.hash) {
		return "", false, nil
	}
	return "{CRYPT}" + l.hash, l.expires > 0 && time.Now().Unix()/86400 >= int64(l.expires), nil
}
