// Package guard slows down who guesses passwords from session to session, and who logs
// in without end: it counts failed logins by the client's address, and good ones by
// user and address, and makes the next one wait.
package guard

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/proto/sasl"
)

const (
	free   = 10               // failures of an address that cost it nothing
	window = time.Minute      // in which so many are forgiven
	step   = time.Second      // that a login waits more for each further one
	most   = 30 * time.Second // a login waits no longer

	maxPeers = 10_000 // addresses remembered
)

// A Guard counts for one process. Its zero value is ready; it is safe for
// concurrent use.
type Guard struct {
	// MaxLogins is how many times a user may log in from an address in a minute
	// without a wait; 0 for any number.
	MaxLogins int

	// Dir, if not empty, is a directory in which failed logins are counted for all
	// processes, by files: for processes that serve one client each.
	Dir string

	mu    sync.Mutex
	peers map[netip.Addr]record
	users map[login]record
}

// A login is counted for a user and an address.
type login struct {
	user string
	peer netip.Addr
}

// A record is a number of logins, as of then; they wear off.
type record struct {
	count float64
	then  time.Time
}

// now is what is left of the logins when some wear off in a window.
func (r record) now(some float64) float64 {
	return max(0, r.count-float64(time.Since(r.then))*some/float64(window))
}

// Network is what counts as one address: all of IPv4, the half of IPv6 that one
// customer has to himself.
func Network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// network is that of a client; those without an address are one, too.
func network(peer string) netip.Addr {
	a, _ := netip.ParseAddr(peer)
	return Network(a)
}

// A Door is where the clients of one address and service log in.
type Door struct {
	*Guard
	Office  *account.Office
	Service string // "imap"
	Peer    string // the client's address, "" when it is not known
}

// Options are the ways in, beside passwords.
func (d Door) Options(ctx context.Context) sasl.Options {
	offers := d.Office.Offers()
	o := sasl.Options{Tokens: offers.Tokens, Names: d.Office.Names, Shown: d.Office.Shown}
	if offers.Scram {
		o.Verifier = func(name string) (*sasl.Verifier, error) {
			if err := d.Wait(ctx, d.Peer); err != nil {
				return nil, err
			}
			return d.Office.Verifier(name)
		}
	}
	return o
}

// Login judges the claim of a client, after the wait that failed logins from its
// address call for, and counts one more when it is refused. The errors are those of
// [account.Office.Login], sasl.ErrAuthzid, and that of ctx when it ends first.
func (d Door) Login(ctx context.Context, c sasl.Claim) (*account.User, error) {
	if !c.Scram() { // which has waited for the verifier
		if err := d.Wait(ctx, d.Peer); err != nil {
			return nil, err
		}
	}
	u, err := d.judge(ctx, c)
	switch {
	case errors.Is(err, account.ErrRefused):
		d.Failed(d.Peer)
	case err == nil && c.Authzid != "" && !d.Office.Is(u, c.Authzid):
		err = sasl.ErrAuthzid
	}
	if err == nil {
		err = d.pace(ctx, login{u.Address(), network(d.Peer)})
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

func (d Door) judge(ctx context.Context, c sasl.Claim) (*account.User, error) {
	switch {
	case c.Proved:
		return d.Office.Admit(c.Name)
	case c.Scram():
		return nil, account.ErrRefused
	case c.Token():
		return d.Office.Token(ctx, d.Service, d.Peer, c)
	}
	return d.Office.Login(c.Name, c.Secret)
}

// Wait lets a login from peer wait as long as the failed ones before it call
// for; an address that has not failed lately does not wait. It returns the error
// of ctx when that ends first.
func (g *Guard) Wait(ctx context.Context, peer string) error {
	n := network(peer)
	g.mu.Lock()
	count := g.peers[n].now(free)
	g.mu.Unlock()
	if g.Dir != "" && n.IsValid() {
		count = max(count, g.shared(n).now(free))
	}
	if count < free {
		return ctx.Err()
	}
	return sleep(ctx, time.Duration((count-free+1)*float64(step)))
}

// sleep waits, but not for ever.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(min(most, d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Failed counts a failed login from peer.
func (g *Guard) Failed(peer string) {
	n := network(peer)
	if g.Dir != "" && n.IsValid() {
		g.share(n)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers = room(g.peers, free)
	g.peers[n] = record{g.peers[n].now(free) + 1, time.Now()}
}

// pace counts a login, and has it wait while there were too many.
func (g *Guard) pace(ctx context.Context, l login) error {
	if g.MaxLogins <= 0 {
		return nil
	}
	some := float64(g.MaxLogins)
	g.mu.Lock()
	g.users = room(g.users, some)
	r := record{g.users[l].now(some) + 1, time.Now()}
	g.users[l] = r
	g.mu.Unlock()
	if r.count <= some {
		return nil
	}
	return sleep(ctx, time.Duration((r.count-some)*float64(window)/some))
}

// room returns a map with room for one more record. It drops those of which nothing is
// left, or else all: the memory of many attackers is no use to keep for ever.
func room[K comparable](m map[K]record, some float64) map[K]record {
	if m == nil {
		return map[K]record{}
	}
	if len(m) < maxPeers {
		return m
	}
	for k, r := range m {
		if r.now(some) < 1 {
			delete(m, k)
		}
	}
	if len(m) >= maxPeers {
		clear(m)
	}
	return m
}
