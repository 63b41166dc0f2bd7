package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"pennypost/maildir/queue"
)

// A Runner brings what waits in the queue to its next host. Several may work
// on one queue, in one process or in many.
type Runner struct {
	Post     *Post
	Resolver Resolver                                                          // nil: net.DefaultResolver
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer
	Workers  int                                                               // messages at a time; 0: 20
	First    time.Duration                                                     // pause after the first try; 0: 5 minutes
	Most     time.Duration                                                     // longest pause; 0: 4 hours
	GiveUp   time.Duration                                                     // age at which a message goes back; 0: 5 days (RFC 5321 §4.5.4.1)
	Grace    time.Duration                                                     // how long a transaction may go on when the runner is told to stop; 0: 30 seconds

	mu     sync.Mutex
	active map[string]bool // messages that a worker of ours has
	ports  map[string]*port
}

// giveUp is the age at which a message goes back to its sender.
const giveUp = 5 * 24 * time.Hour

func (r *Runner) log() *slog.Logger { return r.Post.log() }

func or[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Pass tries every message that waits, due or not, once, and returns when that
// is done. What it has returned to a sender, it tries as well, so that one pass
// is enough for a report to a mailbox here. When ctx ends it finishes the
// transactions in progress.
func (r *Runner) Pass(ctx context.Context, want func(queue.Entry) bool) error {
	q, err := r.Post.Queue()
	if err != nil {
		return err
	}
	r.clean(q)
	defer r.hangUp()
	tried := map[string]bool{}
	for range 2 { // nothing is returned on what was returned
		if err := r.round(ctx, q, tried, want); err != nil || want != nil || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// round tries every message that waits and has not been tried.
func (r *Runner) round(ctx context.Context, q *queue.Queue, tried map[string]bool, want func(queue.Entry) bool) error {
	list, err := q.List()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	seats := make(chan struct{}, or(r.Workers, 20))
	for _, e := range list {
		if tried[e.ID] || e.Held || want != nil && !want(e) {
			continue
		}
		tried[e.ID] = true
		select {
		case seats <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		wg.Go(func() {
			defer func() { <-seats }()
			r.try(ctx, q, e)
		})
	}
	return nil
}

// Try tries the message of one identifier now. It is no error if somebody else
// has it, or it is gone.
func (r *Runner) Try(ctx context.Context, id string) error {
	return r.Pass(ctx, func(e queue.Entry) bool { return e.ID == id })
}

// Run works on the queue until ctx ends: each message when it is due, a new one
// at once. The directory is looked at each interval, and each second at least.
func (r *Runner) Run(ctx context.Context, interval time.Duration) error {
	if _, err := r.Post.Queue(); err != nil {
		return err
	}
	interval = min(interval, time.Second)
	r.active = map[string]bool{}
	defer r.hangUp()
	var wg sync.WaitGroup
	defer wg.Wait()
	seats := make(chan struct{}, or(r.Workers, 20))
	done := make(chan struct{}, 1) // somebody has finished: there is room again
	var l lister
	var cleaned time.Time
	for {
		now := time.Now()
		q, err := r.Post.Queue()
		if err == nil && now.Sub(cleaned) >= time.Hour {
			r.clean(q)
			cleaned = now
		}
		if err == nil {
			err = l.look(q, now, r.longest())
		}
		if err != nil {
			r.log().Error("cannot read the queue", "err", err)
			l = lister{}
		}
		full := false
		for !full && len(l.list) > 0 && !l.list[0].Due.After(now) {
			e := l.list[0]
			if e.Held || !r.claim(e.ID) {
				l.list = l.list[1:]
				continue
			}
			select {
			case seats <- struct{}{}:
				l.list = l.list[1:]
				wg.Go(func() {
					r.try(ctx, q, e)
					r.unclaim(e.ID)
					<-seats
					select {
					case done <- struct{}{}:
					default:
					}
				})
			default:
				r.unclaim(e.ID)
				full = true
			}
		}
		var room <-chan struct{}
		if full {
			room = done
		}
		select {
		case <-ctx.Done():
			return nil
		case <-room:
		case <-time.After(interval):
		}
	}
}

// A lister keeps a picture of the queue. A new one is made when the directory
// has changed, but not so often that making it is all we do; and each minute, as
// there are things that change no directory: another runner is killed with a
// message in hand, a file could not be opened for a moment.
type lister struct {
	q      *queue.Queue  // of which it is
	list   []queue.Entry // what has not been tried of the picture
	seen   time.Time     // the directory's mark in it
	at     time.Time     // when it was made
	cost   time.Duration // of making it
	closed bool          // the mark will tell of every later change
}

func (l *lister) look(q *queue.Queue, now time.Time, longest time.Duration) error {
	age := now.Sub(l.at)
	if l.q == q && age < 10*l.cost {
		return nil
	}
	changed, err := q.Changed()
	if err != nil {
		return err
	}
	if l.q == q && l.closed && changed.Equal(l.seen) && age < time.Minute {
		return nil
	}
	list, err := q.List()
	if err != nil {
		return err
	}
	// We put nothing off for so long: the clock was wrong then.
	if n := slices.IndexFunc(list, func(e queue.Entry) bool { return e.Due.Sub(now) > longest }); n >= 0 {
		for i := range list[n:] {
			list[n+i].Due = time.Time{}
		}
		list = slices.Concat(list[n:], list[:n])
	}
	l.q = q
	// The time stamp of a directory moves in jiffies: a change right after one
	// is only seen by looking again.
	l.list, l.seen, l.at, l.cost = list, changed, now, time.Since(now)
	l.closed = now.Sub(changed) > 2*time.Second
	return nil
}

// longest is more than any pause of ours.
func (r *Runner) longest() time.Duration { return max(24*time.Hour, 2*or(r.Most, 4*time.Hour)) }

func (r *Runner) claim(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[id] {
		return false
	}
	r.active[id] = true
	return true
}

func (r *Runner) unclaim(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, id)
}

func (r *Runner) clean(q *queue.Queue) {
	if err := q.Clean(time.Now()); err != nil {
		r.log().Warn("cannot clean the queue", "err", err)
	}
}

// try takes one message and does what can be done for it now.
func (r *Runner) try(ctx context.Context, q *queue.Queue, e queue.Entry) {
	i, err := q.Take(e)
	switch {
	case errors.Is(err, queue.ErrBusy), errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, queue.ErrDamaged):
		r.log().Error("no whole message; it is put on hold", "id", e.ID, "err", err)
		if err := q.Hold(e); err != nil {
			r.log().Error("cannot put it on hold", "id", e.ID, "err", err)
		}
		return
	case err != nil:
		r.log().Error("cannot open", "id", e.ID, "err", err)
		return
	}
	defer i.Close()
	if err := r.work(ctx, i); err != nil {
		// A full or broken disk: what we did not note has not happened.
		r.log().Error("cannot work on", "id", i.ID, "err", err)
		if err := i.Later(time.Now().Add(r.pause(1))); err != nil {
			r.log().Error("cannot put off", "id", i.ID, "err", err)
		}
	}
}

// work is one try of one message.
func (r *Runner) work(ctx context.Context, i *queue.Item) error {
	if err := i.Settle(); err != nil {
		return err
	}
	if err := r.Post.settle(i); err != nil {
		return err
	}
	// Should we be killed with the message in hand, others come first: the next
	// host may have it without our knowing (RFC 5321 §6.1), and what kills us
	// may be this message.
	if err := i.Later(time.Now()); err != nil {
		return err
	}
	if err := r.deliver(ctx, i); err != nil {
		return err
	}
	if err := r.expire(i); err != nil {
		return err
	}
	if err := r.report(i); err != nil {
		return err
	}
	if i.Done() {
		return i.Remove()
	}
	if ctx.Err() != nil {
		return nil // perhaps nobody was asked: it stays due
	}
	tries := 1
	for _, n := range i.Waits() {
		tries = max(tries, i.Status[n].Tries)
	}
	next := time.Now().Add(r.pause(tries))
	if end := i.Created.Add(or(r.GiveUp, giveUp)); next.After(end) && end.After(time.Now()) {
		next = end // the last try, not hours later
	}
	return i.Later(next)
}

// pause is how long to wait after so many tries: twice as long each time, and
// not to the second, so that what failed together does not come back together.
func (r *Runner) pause(tries int) time.Duration {
	d, most := or(r.First, 5*time.Minute), or(r.Most, 4*time.Hour)
	for ; tries > 1 && d < most; tries-- {
		d *= 2
	}
	d = min(d, most)
	return d - d/8 + rand.N(d/4+1)
}

// expire gives up on those who have waited too long.
func (r *Runner) expire(i *queue.Item) error {
	now := time.Now()
	age := or(r.GiveUp, giveUp)
	if now.Sub(i.Created) < age {
		return nil
	}
	var notes []queue.Note
	for _, n := range i.Waits() {
		if s := i.Status[n]; s.Tries > 0 {
			notes = append(notes, queue.Note{To: n, Word: queue.Failed, Text: fmt.Sprintf("%s (given up after %s)", s.Why, span(age))})
		}
	}
	return i.Note(now, notes...)
}

// span writes a duration for people.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return d.String()
}
