package maildir

import (
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	for _, poll := range []bool{false, true} {
		PollOnly(poll)
		s := newStore(t)
		f, g := open(t, s, "INBOX"), open(t, s, "INBOX")
		look(t, f, true)
		c, stop := f.Watch()
		other, stopOther := g.Watch()
		select {
		case <-c:
			t.Error("woken by nothing")
		case <-time.After(20 * time.Millisecond):
		}
		deliver(t, s, "x\n")
		for _, c := range []<-chan struct{}{c, other} {
			select {
			case <-c:
			case <-time.After(5 * time.Second):
				t.Fatal("not woken")
			}
		}
		if n := look(t, f, true).Len(); n != 1 {
			t.Error(n)
		}
		stopOther()
		stop()
		stop()
	}
	PollOnly(false)
	watches.mu.Lock()
	defer watches.mu.Unlock()
	if watches.file != nil {
		t.Error("inotify instance left open")
	}
}
