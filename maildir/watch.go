package maildir

import (
	"sync"
	"time"
)

// pollInterval is how often a folder is looked at where the kernel cannot tell us about changes.
const pollInterval = time.Second

// Watch gives a channel that gets a value when the folder may have changed, and a function that ends the watch.
// Who gets one calls Sync to learn what it was; it may be nothing.
func (f *Folder) Watch() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	done := make(chan struct{})
	go f.poll(c, done)
	return c, sync.OnceFunc(func() { close(done) })
}

// poll looks at the four things that change.
func (f *Folder) poll(c chan<- struct{}, done <-chan struct{}) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := f.glance()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if now := f.glance(); now != last {
			last = now
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func (f *Folder) glance() (g [4]stamp) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return g
	}
	for i, name := range []string{"new", "cur", listName, keywordsName} {
		g[i], _ = f.dir.stamp(name)
	}
	return g
}
