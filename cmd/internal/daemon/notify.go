package daemon

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// notify tells systemd a state (sd_notify(3)), if systemd asked to be told.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write([]byte(state))
}

// A watchdog tells systemd that the accept loops go round (sd_watchdog_enabled(3)).
type watchdog struct {
	every time.Duration // half of what systemd allows; 0: nobody watches
	bells []bell
}

// A bell is rung each time its accept loop goes round.
type bell struct {
	every time.Duration
	rung  atomic.Bool
}

func newWatchdog(loops int) *watchdog {
	d := &watchdog{bells: make([]bell, loops)}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		d.every = time.Duration(usec) * time.Microsecond / 2
	}
	return d
}

func (d *watchdog) bell(i int) *bell {
	d.bells[i].every = d.every
	return &d.bells[i]
}

// ring notes that the loop goes round, and has the next Accept return in time
// for the next round.
func (b *bell) ring(l net.Listener) {
	if b.every == 0 {
		return
	}
	b.rung.Store(true)
	if l, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
		l.SetDeadline(time.Now().Add(b.every / 2))
	}
}

// watch passes the signs of life on, if every loop gave one.
func (d *watchdog) watch(ctx context.Context) {
	if d.every == 0 {
		return
	}
	for {
		select {
		case <-time.After(d.every):
		case <-ctx.Done():
			return
		}
		alive := true
		for i := range d.bells {
			alive = d.bells[i].rung.Swap(false) && alive
		}
		if alive {
			notify("WATCHDOG=1")
		}
	}
}
