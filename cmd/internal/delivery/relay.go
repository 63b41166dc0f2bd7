package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/maildir/queue"
	"pennypost/proto/sasl"
	"pennypost/proto/smtp/client"
)

const (
	dialTime = 30 * time.Second
	group    = 100             // recipients of one transaction (RFC 5321 §4.5.3.1.8)
	linger   = 2 * time.Second // how long a connection waits for another message
	lines    = 5               // connections to one destination at a time
)

// A port is a destination with its open connections.
type port struct {
	seats chan struct{} // one for each connection that may be in use
	mu    sync.Mutex
	idle  []idle
}

type idle struct {
	*client.Conn
	host  host
	since time.Time
}

// A destination is where some recipients of a message go together.
type destination struct {
	key    string // the same for all mail that can share a connection
	domain string
	route  account.Route
	routed bool
	to     []int // indices of Envelope.To
}

// destinations sorts the recipients that still wait by where they go.
func (r *Runner) destinations(i *queue.Item) (local []int, remote []*destination) {
	found := map[string]*destination{}
	for _, n := range i.Waits() {
		_, domain, _ := cutLast(i.To[n].Address, "@")
		domain = strings.ToLower(domain)
		if domain == "" || r.Post.Office.Local(domain) {
			local = append(local, n)
			continue
		}
		d := &destination{key: domain, domain: domain}
		if d.route, d.routed = r.Post.Office.Route(domain); d.routed {
			d.key = fmt.Sprintf("%s:%d %s %v %s", d.route.Host, d.route.Port, d.route.TLS, d.route.LMTP, d.route.User)
		}
		if found[d.key] == nil {
			found[d.key] = d
			remote = append(remote, d)
		}
		found[d.key].to = append(found[d.key].to, n)
	}
	return local, remote
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// deliver tries everybody who waits, the destinations one after the other.
func (r *Runner) deliver(ctx context.Context, i *queue.Item) error {
	local, remote := r.destinations(i)
	for _, n := range local {
		if ctx.Err() != nil {
			return nil
		}
		if err := r.Post.home(i, n); err != nil {
			return err
		}
	}
	for _, d := range remote {
		for to := range slices.Chunk(d.to, group) {
			if ctx.Err() != nil {
				return nil
			}
			if err := i.Reserve(len(to)); err != nil {
				return err
			}
			notes := r.relay(ctx, i, d, to)
			for _, n := range notes {
				r.log().Info(string(n.Word), "id", i.ID, "to", i.To[n.To].Address, "reply", n.Text)
			}
			if err := i.Note(time.Now(), notes...); err != nil {
				return err
			}
		}
	}
	return nil
}

// relay hands the message over for some recipients of one destination and says
// what to note. What is not noted was not tried.
func (r *Runner) relay(ctx context.Context, i *queue.Item, d *destination, to []int) (notes []queue.Note) {
	p := r.port(d.key)
	select {
	case p.seats <- struct{}{}:
		defer func() { <-p.seats }()
	case <-ctx.Done():
		return nil
	}
	hosts, err := r.hosts(ctx, d)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return all(to, err)
	}
	// Told to stop, we finish what is going on.
	work, release := r.linger(ctx)
	defer release()
	last := make(map[int]string, len(to))
	for c := p.reuse(hosts); len(to) > 0; c = nil {
		var h host
		if c != nil {
			h = c.host
		} else if len(hosts) > 0 && ctx.Err() == nil {
			h, hosts = hosts[0], hosts[1:]
		} else {
			break
		}
		conn := (*client.Conn)(nil)
		if c != nil {
			conn = c.Conn
		} else if conn, err = r.connect(ctx, work, d, h); err != nil {
			r.log().Warn("cannot connect", "id", i.ID, "host", h.String(), "err", err)
			for _, n := range to {
				last[n] = h.String() + ": " + err.Error()
			}
			continue
		}
		outcomes := conn.Send(work, envelope(i, to), i.Message())
		var again []int
		for k, o := range outcomes {
			text := h.String() + ": " + o.String()
			switch {
			case o.Delivered():
				notes = append(notes, queue.Note{To: to[k], Word: queue.Delivered, Text: text})
			case o.Err != nil:
				again = append(again, to[k])
				last[to[k]] = text
			case o.Temporary():
				notes = append(notes, queue.Note{To: to[k], Word: queue.Tried, Text: text})
			default:
				notes = append(notes, queue.Note{To: to[k], Word: queue.Failed, Text: text})
			}
		}
		if conn.Usable() {
			p.keep(idle{conn, h, time.Now()})
		} else {
			conn.Close()
		}
		if c != nil && len(again) > 0 {
			// An old connection has broken: that says nothing about the host.
			hosts = slices.Insert(slices.DeleteFunc(hosts, func(o host) bool { return o == h }), 0, h)
		}
		to = again
	}
	for _, n := range to {
		if text := last[n]; text != "" {
			notes = append(notes, queue.Note{To: n, Word: queue.Tried, Text: text})
		}
	}
	return notes
}

// all notes one trouble for all.
func all(to []int, err error) (notes []queue.Note) {
	word := queue.Tried
	if refusal, ok := errors.AsType[*Refusal](err); ok && !refusal.Temporary() {
		word = queue.Failed
	}
	for _, n := range to {
		notes = append(notes, queue.Note{To: n, Word: word, Text: err.Error()})
	}
	return notes
}

// linger makes a context that outlives ctx by the time of grace.
func (r *Runner) linger(ctx context.Context) (context.Context, func()) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(or(r.Grace, 30*time.Second), func() { cancel(errors.New("this host shuts down")) })
	})
	return work, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel(nil)
	}
}

// hosts finds where a destination's mail can be handed in.
func (r *Runner) hosts(ctx context.Context, d *destination) ([]host, error) {
	res := r.Resolver
	if res == nil {
		res = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !d.routed {
		return exchangers(ctx, res, d.domain, r.Post.Office.Me(), 25)
	}
	if d.route.Err != nil {
		return nil, &Refusal{451, "4.3.5", d.route.Err.Error()}
	}
	if strings.HasPrefix(d.route.Host, "/") {
		return []host{{name: d.route.Host}}, nil
	}
	return fixed(ctx, res, d.route.Host, d.route.Port)
}

// connect opens a conversation with h. Where TLS is a mere possibility and does
// not come about, the clear has to do (RFC 7435 §3).
func (r *Runner) connect(ctx, work context.Context, d *destination, h host) (*client.Conn, error) {
	o := client.Options{Hello: r.Post.Office.Me(), TLS: &tls.Config{ServerName: h.name}}
	if d.routed {
		o.LMTP = d.route.LMTP
		o.Encryption = map[string]client.Encryption{
			account.TLSNone: client.Never, account.TLSMay: client.May, account.TLSMust: client.Must, account.TLSVerify: client.Verify,
		}[d.route.TLS]
		if d.route.User != "" {
			o.Login = func(offered []string) (sasl.Client, error) {
				switch {
				case slices.Contains(offered, "PLAIN"):
					return sasl.PlainClient("", d.route.User, d.route.Password), nil
				case slices.Contains(offered, "LOGIN"):
					return sasl.LoginClient(d.route.User, d.route.Password), nil
				}
				return nil, fmt.Errorf("%s offers no way to log in that we know", d.route.Host)
			}
		}
	}
	c, err := r.begin(ctx, work, h, o)
	if _, ok := errors.AsType[*client.TLSError](err); ok && o.Encryption == client.May && o.Login == nil && ctx.Err() == nil {
		r.log().Warn("no TLS, in the clear then", "host", h.String(), "err", err)
		o.Encryption = client.Never
		return r.begin(ctx, work, h, o)
	}
	return c, err
}

func (r *Runner) begin(ctx, work context.Context, h host, o client.Options) (*client.Conn, error) {
	network, addr := "tcp", h.addr.String()
	if strings.HasPrefix(h.name, "/") {
		network, addr = "unix", h.name
	}
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	dctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	nc, err := dial(dctx, network, addr)
	if err != nil {
		return nil, err
	}
	return client.Start(ctx, nc, o)
}

// envelope is what of i goes to some of its recipients.
func envelope(i *queue.Item, to []int) client.Envelope {
	size, eightBit := measure(i)
	e := client.Envelope{
		From: i.From, Size: size, EightBit: i.EightBit || eightBit, SMTPUTF8: i.SMTPUTF8 || !isASCII(i.From), Envid: i.Envid, Ret: i.Ret,
	}
	for _, n := range to {
		r := i.To[n]
		e.To = append(e.To, client.Recipient{Address: r.Address, Notify: r.Notify, Orcpt: r.Orcpt})
		e.SMTPUTF8 = e.SMTPUTF8 || !isASCII(r.Address)
	}
	return e
}

// measure finds the message's size with CRLF (RFC 1870 §6.1), and whether it
// has octets beyond US-ASCII (RFC 6152 §3), which sendmail's callers seldom say.
// A long message is not read for it: its size is a guess on the high side.
func measure(i *queue.Item) (size int64, eightBit bool) {
	const cheap = 1 << 20
	if i.Size > cheap {
		return i.Size + i.Size/40, true
	}
	size = i.Size
	buf := make([]byte, 32<<10)
	for m := i.Message(); ; {
		n, err := m.Read(buf)
		for _, c := range buf[:n] {
			if c == '\n' {
				size++
			}
			eightBit = eightBit || c >= 0x80
		}
		if err != nil { // the end; any other error comes again when it is sent
			return size, eightBit
		}
	}
}

// port returns the destination of that key.
func (r *Runner) port(key string) *port {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports == nil {
		r.ports = map[string]*port{}
	}
	p := r.ports[key]
	if p == nil {
		for old, p := range r.ports { // forget those that nobody uses
			if len(r.ports) >= 1000 && p.quiet() {
				delete(r.ports, old)
			}
		}
		p = &port{seats: make(chan struct{}, lines)}
		r.ports[key] = p
	}
	return p
}

func (p *port) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle) == 0 && len(p.seats) == 0
}

// reuse takes a connection to one of the hosts that is not too old.
func (p *port) reuse(hosts []host) *idle {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.idle) - 1; n >= 0; n-- {
		c := p.idle[n]
		p.idle = p.idle[:n]
		if time.Since(c.since) < linger && slices.Contains(hosts, c.host) {
			return &c
		}
		go c.Quit()
	}
	return nil
}

// keep lets a connection wait for the next message.
func (p *port) keep(c idle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
	time.AfterFunc(linger, p.expire)
}

// expire closes what has waited long enough.
func (p *port) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(c idle) bool {
		old := time.Since(c.since) >= linger
		if old {
			go c.Quit()
		}
		return old
	})
}

// hangUp closes all connections that wait.
func (r *Runner) hangUp() {
	r.mu.Lock()
	ports := r.ports
	r.ports = nil
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range ports {
		p.mu.Lock()
		for _, c := range p.idle {
			wg.Go(c.Quit)
		}
		p.idle = nil
		p.mu.Unlock()
	}
	wg.Wait()
}
