package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// A Resolver asks the domain name system. *net.Resolver is one.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A host is a place where mail for a destination can be handed in.
type host struct {
	name string // for TLS and the log
	addr netip.AddrPort
}

func (h host) String() string { return fmt.Sprintf("%s[%s]", h.name, h.addr) }

// most bounds how many addresses one try goes through (RFC 5321 §5.1 lets us).
const most = 10

// exchangers finds the hosts that take mail for domain, the best first: its
// MX records by preference, equal ones in any order, the domain itself when
// there are none (RFC 5321 §5.1), an address literal as it is. me is our name:
// a host no better than we are would send the mail back to us. An error is a
// *Refusal.
func exchangers(ctx context.Context, r Resolver, domain, me string, port int) ([]host, error) {
	if strings.HasPrefix(domain, "[") {
		addr, err := literal(domain)
		if err != nil {
			return nil, &Refusal{501, "5.1.3", err.Error()}
		}
		return []host{{domain, netip.AddrPortFrom(addr, uint16(port))}}, nil
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		ascii = domain // a name with an underscore, say: let the DNS decide
	}
	mx, err := r.LookupMX(ctx, ascii+".")
	if len(mx) == 0 && err != nil && !notFound(err) {
		return nil, dnsTrouble(domain, err)
	}
	if len(mx) == 1 && (mx[0].Host == "." || mx[0].Host == "") {
		return nil, &Refusal{556, "5.1.10", domain + " takes no mail (RFC 7505)"}
	}
	names := order(mx, me)
	if len(mx) == 0 {
		names = []string{ascii}
	} else if len(names) == 0 {
		return nil, &Refusal{554, "5.4.6", "mail for " + domain + " would come back to this host"}
	}
	var hosts []host
	var trouble error
	for _, name := range names {
		addrs, err := r.LookupNetIP(ctx, "ip", name+".")
		if err != nil && !notFound(err) {
			trouble = err
		}
		for _, a := range addrs {
			hosts = append(hosts, host{name, netip.AddrPortFrom(a.Unmap(), uint16(port))})
		}
		if len(hosts) >= most {
			return hosts[:most], nil
		}
	}
	switch {
	case len(hosts) > 0:
		return hosts, nil
	case trouble != nil:
		return nil, dnsTrouble(domain, trouble)
	case len(mx) > 0:
		return nil, &Refusal{550, "5.4.4", "no mail host of " + domain + " has an address"}
	}
	return nil, &Refusal{550, "5.1.2", "there is no domain " + domain}
}

// order sorts the names of MX records, shuffled where they are equal, and drops
// our own and those that are worse than it.
func order(mx []*net.MX, me string) []string {
	mx = slices.Clone(mx)
	rand.Shuffle(len(mx), func(i, j int) { mx[i], mx[j] = mx[j], mx[i] })
	slices.SortStableFunc(mx, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	var names []string
	for _, m := range mx {
		name := strings.TrimSuffix(m.Host, ".")
		if strings.EqualFold(name, me) {
			names = slices.DeleteFunc(names, func(n string) bool {
				return slices.ContainsFunc(mx, func(o *net.MX) bool {
					return strings.TrimSuffix(o.Host, ".") == n && o.Pref >= m.Pref
				})
			})
			break
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// literal reads "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 §4.1.3).
func literal(s string) (netip.Addr, error) {
	text, ok := strings.CutSuffix(strings.TrimPrefix(s, "["), "]")
	if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
		text = text[5:]
	}
	a, err := netip.ParseAddr(text)
	if !ok || err != nil || a.Zone() != "" {
		return a, fmt.Errorf("bad address literal %.80q", s)
	}
	return a, nil
}

// fixed finds the addresses of a host that a route names; no MX is asked.
func fixed(ctx context.Context, r Resolver, name string, port int) ([]host, error) {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return []host{{name, netip.AddrPortFrom(a, uint16(port))}}, nil
	}
	query := name + "."
	if !strings.Contains(name, ".") {
		query = name // "localhost", or a name of this net
	}
	addrs, err := r.LookupNetIP(ctx, "ip", query)
	if err != nil || len(addrs) == 0 {
		// Even one that does not exist is trouble of ours, not of the mail.
		return nil, dnsTrouble(net.JoinHostPort(name, strconv.Itoa(port)), cmp.Or(err, errors.New("no address")))
	}
	var hosts []host
	for _, a := range addrs {
		hosts = append(hosts, host{name, netip.AddrPortFrom(a.Unmap(), uint16(port))})
	}
	return hosts[:min(len(hosts), most)], nil
}

func notFound(err error) bool {
	d, ok := errors.AsType[*net.DNSError](err)
	return ok && d.IsNotFound
}

func dnsTrouble(domain string, err error) error {
	return &Refusal{451, "4.4.3", fmt.Sprintf("looking up %s: %v", domain, err)}
}
