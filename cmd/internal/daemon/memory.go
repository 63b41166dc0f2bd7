package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	tidyEvery = 3 * time.Second
	quietRate = 1 << 20 // octets allocated in that time by those who are not quiet
	worthIt   = 8 << 20 // octets that nobody needs, for somebody to take the trouble
)

// tidy gives back to the system what a rush of clients has left, once it is
// quiet: thousands who wait for mail should not cost what it took to let them in.
// Go itself keeps as much again as is in use, and large stacks until it collects
// garbage anyway.
func tidy(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	last, again := inUse(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := inUse()
		if now.allocated-last.allocated < quietRate && (again || now.spare > max(worthIt, now.live/8)) {
			debug.FreeOSMemory()
			again = inUse().stacks < now.stacks // they shrink by half each time
		}
		last = now
	}
}

// used is how a process uses its memory, octets.
type used struct {
	allocated uint64 // in all its life
	live      uint64 // what was needed when garbage was collected the last time
	spare     uint64 // what is not needed, and was not given back
	stacks    uint64
}

func inUse() used {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(s)
	n := func(i int) uint64 { return s[i].Value.Uint64() }
	return used{allocated: n(0), live: n(1), spare: n(3) + n(2) - min(n(1), n(2)), stacks: n(4)}
}
