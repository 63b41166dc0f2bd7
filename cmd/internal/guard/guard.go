// Package guard slows down who guesses passwords from session to session: it
// counts failed logins by the client's address, and makes the next one wait.
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
	mu    sync.Mutex
	peers map[netip.Addr]record
}

type record struct {
	failures float64 // as of then; they wear off, free of them in a window
	then     time.Time
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

func (r record) now() float64 {
	return max(0, r.failures-float64(time.Since(r.then))*free/float64(window))
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
	g.mu.Lock()
	over := g.peers[network(peer)].now() - free
	g.mu.Unlock()
	if over < 0 {
		return ctx.Err()
	}
	t := time.NewTimer(min(most, time.Duration((over+1)*float64(step))))
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
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.peers) >= maxPeers {
		g.forget()
	}
	if g.peers == nil {
		g.peers = map[netip.Addr]record{}
	}
	g.peers[n] = record{g.peers[n].now() + 1, time.Now()}
}

// forget drops who has nothing left to answer for, or else everybody: the
// memory of many attackers is no use to keep for ever.
func (g *Guard) forget() {
	for n, r := range g.peers {
		if r.now() < 1 {
			delete(g.peers, n)
		}
	}
	if len(g.peers) >= maxPeers {
		clear(g.peers)
	}
}
