package maildir

import (
	"fmt"
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
		// A keyword without a letter leaves no trace in cur.
		var words []string
		for i := range 27 {
			words = append(words, fmt.Sprint("k", i))
		}
		h := alone(t, s, "INBOX")
		if _, err := h.Store(look(t, h, false).List(), Change{AddKeywords: words[:26]}); err != nil {
			t.Fatal(err)
		}
		for quiet := false; !quiet; { // all that there is to hear of it
			select {
			case <-c:
				look(t, f, true)
			case <-time.After(2 * aftermath):
				quiet = true
			}
		}
		if _, err := h.Store(look(t, h, false).List(), Change{AddKeywords: words}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			t.Error("not woken for a keyword")
		}
		if n := len(look(t, f, true).At(0).Keywords()); n != 27 {
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
