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
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"
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
// ErrRefused for a wrong password and for an unknown user, after the same time; any
// other error means that it could not be found out.
func (o *Office) Login(name, password string) (*User, error) {
	u, stored, err := o.credentials(name)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return nil, err
	}
	known := err == nil
	sane := password != "" && len(password) <= maxPassword && !strings.ContainsRune(password, 0)
	if !sane {
		password = "?"
	}
	ok, err := o.match(stored, password)
	switch {
	case err != nil:
		return nil, err
	case !ok || !known || !sane:
		return nil, ErrRefused
	}
	return u, nil
}

// credentials finds the user who logs in as name, and the password that was stored.
// With ErrUnknown comes a password of somebody else, which takes as long to check as
// the user's own would.
func (o *Office) credentials(name string) (*User, string, error) {
	d, local, err := o.loginDomain(name)
	if err != nil {
		return nil, "", err
	}
	if d == nil {
		if d = o.home(); d == nil {
			if all, err := o.domains.all(); err == nil && len(all) > 0 {
				d = all[0]
			}
		}
		return nil, o.standIn(d), ErrUnknown
	}
	key, err := localKey(local)
	if err != nil {
		return nil, o.standIn(d), ErrUnknown
	}
	u, line, err := o.findUser(d, key)
	switch {
	case errors.Is(err, ErrUnknown):
		return nil, o.standIn(d), ErrUnknown
	case err != nil:
		return nil, "", err
	}
	stored := line.password
	if u.System {
		if stored, err = o.sys.password(u.Name, u.UID); err != nil {
			return nil, "", err
		}
	}
	if line.nologin || !usable(stored) {
		return nil, o.standIn(d), ErrUnknown
	}
	return u, stored, nil
}

// loginDomain finds the domain of a login name; nil when there is none, or more than
// one.
func (o *Office) loginDomain(name string) (*domain, string, error) {
	local, at, err := split(name)
	if err != nil {
		return nil, "", nil
	}
	if at != "" {
		d, err := o.find(at)
		return d, local, err
	}
	key, err := localKey(local)
	if err != nil {
		return nil, "", nil
	}
	home := o.home()
	if home != nil {
		if _, _, err := o.findUser(home, key); !errors.Is(err, ErrUnknown) {
			return home, local, err
		}
	}
	all, err := o.domains.all()
	if err != nil {
		return nil, "", err
	}
	var only *domain
	for _, d := range all {
		if d == home {
			continue
		}
		switch _, _, err := o.findUser(d, key); {
		case err == nil && only != nil:
			return nil, "", nil
		case err == nil:
			only = d
		case !errors.Is(err, ErrUnknown):
			return nil, "", err
		}
	}
	return only, local, nil
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

// match compares, as one of a few at once. A password in another form than NFC is
// tried in that too: RFC 8265 §4.2 would have every program send and store NFC, but
// not every program does.
func (o *Office) match(stored, password string) (bool, error) {
	if stored == "" {
		stored = dummy
	}
	check, err := verifier(stored)
	if err != nil {
		return false, fmt.Errorf("stored password: %w", err)
	}
	if o.good.has(stored, password) {
		return true, nil
	}
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case o.hash <- struct{}{}:
		defer func() { <-o.hash }()
	case <-wait.C:
		return false, errors.New("too many logins at once")
	}
	defer o.tidy()
	ok, err := check(password)
	if other := norm.NFC.String(password); err == nil && !ok && other != password {
		ok, err = check(other)
	}
	if err != nil {
		return false, fmt.Errorf("stored password: %w", err)
	}
	if ok {
		o.good.add(stored, password)
	}
	return ok, nil
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

// password returns the hash of a system user as {CRYPT}; "" when the user cannot log in,
// as the superuser never can.
func (s system) password(name string, uid int) (string, error) {
	if uid == 0 {
		return "", nil
	}
	t, err := s.state.shadow.get()
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("passwords of system users: %w", err)
	}
	if err != nil {
		return "", err
	}
	l := t.users[name]
	if locked(l.hash) || l.expires > 0 && time.Now().Unix()/86400 >= int64(l.expires) {
		return "", nil
	}
	return "{CRYPT}" + l.hash, nil
}
