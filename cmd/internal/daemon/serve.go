package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/cmd/internal/guard"
)

const (
	handshakeTime = 30 * time.Second // for the TLS handshake before the first octet
	lingerTime    = time.Second      // to take the last words
	busyTime      = time.Second      // to take the refusal
	drainTime     = 3 * time.Second  // for the replies in progress and the farewells after SIGTERM
	killTime      = 1 * time.Second  // until sessions notice that their connection is closed
)

// A server holds the conversations of one process.
type server struct {
	Program
	log          *slog.Logger
	idle         time.Duration
	cleartext    bool
	most, mostOf int // limits, in all and per address; 0: none
	listeners    []listener
	tls          atomic.Pointer[tls.Config]

	sessions sync.WaitGroup
	mu       sync.Mutex
	live     map[net.Conn]netip.Addr // conversations under way, by their bare connection
	of       map[netip.Addr]int      // how many with each address
}

// loadTLS asks for the certificates.
func (s *server) loadTLS() error {
	if s.TLS == nil {
		return nil
	}
	c, err := s.TLS()
	if err == nil && (c != nil || s.tls.Load() == nil) {
		s.tls.Store(c)
	}
	return err
}

// serve runs the accept loops until ctx ends, then the farewells.
func (s *server) serve(ctx context.Context, readyFD int) error {
	s.live, s.of = map[net.Conn]netip.Addr{}, map[netip.Addr]int{}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	dog := newWatchdog(len(s.listeners))
	var loops sync.WaitGroup
	for i, l := range s.listeners {
		s.log.Info("listening", "addr", l.Addr(), "role", l.role)
		if s.Preauth && !s.cleartext && s.tls.Load() == nil { // such programs are of no use without login
			s.log.Warn("nobody can log in", "addr", l.Addr(), "err", "the post office has no tls/cert.pem and tls/key.pem, and --cleartext-login is not given")
		}
		loops.Go(func() { s.accept(ctx, l, dog.bell(i)) })
	}
	notify("READY=1\nSTATUS=ready")
	if readyFD > 2 {
		unix.Write(readyFD, []byte("\n"))
		unix.Close(readyFD)
	}
	go dog.watch(ctx)
	go tidy(ctx)
	status := time.NewTicker(10 * time.Second)
	defer status.Stop()
	for last := -1; ; {
		select {
		case <-hup:
			s.reload()
		case <-status.C:
			s.mu.Lock()
			n := len(s.live)
			s.mu.Unlock()
			if n != last {
				notify(fmt.Sprintf("STATUS=%d conversations", n))
				last = n
			}
		case <-ctx.Done():
			notify("STOPPING=1\nSTATUS=saying farewell")
			for _, l := range s.listeners {
				l.Close()
			}
			loops.Wait()
			s.drain()
			s.log.Info("farewell")
			return nil
		}
	}
}

// reload reads again what may have changed, at SIGHUP.
func (s *server) reload() {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
	err := s.loadTLS()
	if s.Reload != nil {
		err = errors.Join(err, s.Reload())
	}
	if err != nil {
		s.log.Error("reload: the old state stays", "err", err)
	} else {
		s.log.Info("reloaded")
	}
	notify("READY=1")
}

// accept takes clients in. No error ends it but the end of the listener: when
// descriptors run out, they come back when somebody leaves.
func (s *server) accept(ctx context.Context, l listener, bell *bell) {
	pause := 5 * time.Millisecond
	for ctx.Err() == nil {
		bell.ring(l.Listener)
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.take(ctx, nc, l)
			continue
		case errors.Is(err, os.ErrDeadlineExceeded): // the watchdog wants to see us
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED):
			continue
		}
		s.log.Error("accept", "addr", l.Addr(), "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, time.Second)
	}
}

// take begins the conversation with nc, or refuses it when there are too many.
func (s *server) take(ctx context.Context, nc net.Conn, l listener) {
	peer, _ := addrOf(nc.RemoteAddr())
	if why := s.enter(nc, peer); why != "" {
		s.log.Warn("refused", "peer", text(peer), "err", why)
		if !l.tls && s.Busy != "" {
			nc.SetDeadline(time.Now().Add(busyTime))
			nc.Write([]byte(s.Busy)) // fits the empty buffer of a new socket
		}
		nc.Close()
		return
	}
	s.sessions.Go(func() {
		defer s.leave(nc)
		s.converse(ctx, nc, l.role, l.tls, text(peer), nil)
	})
}

// text is the address for logs, "" when there is none.
func text(a netip.Addr) string {
	if a.IsValid() {
		return a.String()
	}
	return ""
}

// enter counts a client, or says why not.
func (s *server) enter(nc net.Conn, peer netip.Addr) (refused string) {
	peer = guard.Network(peer)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.most > 0 && len(s.live) >= s.most:
		return "too many connections"
	case s.mostOf > 0 && peer.IsValid() && s.of[peer] >= s.mostOf:
		return "too many connections from this address"
	}
	s.live[nc] = peer
	if peer.IsValid() {
		s.of[peer]++
	}
	return ""
}

// leave closes a connection and counts its client no more.
func (s *server) leave(nc net.Conn) {
	linger(nc)
	nc.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	peer := s.live[nc]
	delete(s.live, nc)
	if s.of[peer]--; s.of[peer] <= 0 {
		delete(s.of, peer)
	}
}

// linger lets the client take the last words: to close a socket while octets
// of the client are unread destroys what is on its way to it.
func linger(nc net.Conn) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	nc.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, nc, 1<<20)
}

// converse holds one conversation. A mistake of ours in it ends it, and no
// other.
func (s *server) converse(ctx context.Context, nc net.Conn, role string, encrypted bool, peer string, pre *Preauth) {
	c := &Client{
		Conn: nc, Peer: peer, Role: role, Preauth: pre,
		TLS: s.tls.Load(), Idle: s.idle, Cleartext: s.cleartext, Alone: len(s.listeners) == 0, Log: s.log,
	}
	if peer != "" {
		c.Log = s.log.With("peer", peer)
	}
	defer func() {
		if mistake := recover(); mistake != nil {
			c.Log.Error("session ended by a mistake of ours", "err", mistake, "stack", string(debug.Stack()))
		}
	}()
	if pre != nil {
		c.TLS = nil // RFC 9051 §7.1.4: whoever is in cannot start TLS
	}
	if encrypted {
		t := tls.Server(nc, c.TLS)
		nc.SetDeadline(time.Now().Add(handshakeTime))
		if err := t.HandshakeContext(ctx); err != nil {
			c.Log.Info("TLS handshake", "err", err)
			return
		}
		nc.SetDeadline(time.Time{})
		c.Conn, c.Secure, c.TLS = t, true, nil
		defer t.CloseWrite()
	}
	s.Serve(ctx, c)
}

// single holds the only conversation of this process.
func (s *server) single(ctx context.Context, nc net.Conn, role, peer string, pre *Preauth) {
	if same(1, 2) {
		s.log = logElsewhere(s.Name)
	}
	forsake(0, 1)
	defer alone()()
	addr, _ := netip.ParseAddr(peer)
	s.live, s.of = map[net.Conn]netip.Addr{nc: guard.Network(addr)}, map[netip.Addr]int{}
	over := make(chan struct{})
	s.sessions.Go(func() {
		defer close(over)
		defer s.leave(nc)
		s.converse(ctx, nc, role, s.Roles[role].TLS && pre == nil, peer, pre)
	})
	select {
	case <-over:
	case <-ctx.Done():
		s.drain()
	}
}

// briefly is how long a conversation that has the process to itself goes without a
// second processor.
const briefly = 50 * time.Millisecond

// alone has the process use one processor, until it turns out that the conversation
// is a long one: most log in, look and leave, and spend more time on waking threads
// than these would save them.
func alone() (over func()) {
	n := runtime.GOMAXPROCS(1)
	t := time.AfterFunc(briefly, func() { runtime.GOMAXPROCS(n) })
	return func() { t.Stop() }
}

// drain gives the conversations drainTime to end by themselves. Reads fail from
// now on, again and again, since a session may just be setting a deadline of
// its own; later writes do, too.
func (s *server) drain() {
	over := make(chan struct{})
	go func() { s.sessions.Wait(); close(over) }()
	past := time.Unix(1, 0)
	each := func(do func(net.Conn)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for nc := range s.live {
			do(nc)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(drainTime)
	for {
		each(func(nc net.Conn) { nc.SetReadDeadline(past) })
		select {
		case <-over:
			return
		case <-tick.C:
			continue
		case <-late:
		}
		break
	}
	s.log.Warn("conversations cut off")
	each(func(nc net.Conn) { nc.SetDeadline(past); nc.Close() })
	select {
	case <-over:
	case <-time.After(killTime):
	}
}
