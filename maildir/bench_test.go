package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// filled makes a Maildir of n small messages in cur, an hour old.
func filled(b testing.TB, n int) *Store {
	b.Helper()
	s := newStore(b)
	cur := filepath.Join(s.Path(), "cur")
	for i := range n {
		name := fmt.Sprintf("%d.M%06dP1Q%dRabcdef01.host,S=28,W=31:2,S", 1700000000+i/10, i%10, i)
		if err := os.WriteFile(filepath.Join(cur, name), []byte("Subject: a bench\n\none line\n\n"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(cur, old, old); err != nil {
		b.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(s.Path(), "new"), old, old); err != nil {
		b.Fatal(err)
	}
	return s
}

func sizesOf(b *testing.B, run func(b *testing.B, n int)) {
	for _, n := range []int{1000, 10000, 100000} {
		if n > 10000 && testing.Short() {
			continue
		}
		b.Run(strconv.Itoa(n), func(b *testing.B) { run(b, n) })
	}
}

// The first look ever: no UID list, no journal.
func BenchmarkSyncFirst(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		for b.Loop() {
			os.Remove(filepath.Join(s.Path(), listName))
			os.Remove(filepath.Join(s.Path(), journalName))
			openLook(b, s, n)
		}
	})
}

// The first look at what Dovecot has left: a UID list, no journal.
func BenchmarkSyncListed(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		openLook(b, s, n)
		for b.Loop() {
			os.Remove(filepath.Join(s.Path(), journalName))
			openLook(b, s, n)
		}
	})
}

// A session opens a folder that nobody has changed, the only one of its process.
func BenchmarkSyncOpen(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		openLook(b, s, n)
		for b.Loop() {
			openLook(b, s, n)
		}
	})
}

// The same where another session of the process has it open.
func BenchmarkSyncOpenShared(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		look(b, open(b, s, "INBOX"), false)
		for b.Loop() {
			openLook(b, s, n)
		}
	})
}

func openLook(b *testing.B, s *Store, n int) {
	f, err := s.OpenFolder("INBOX")
	if err != nil {
		b.Fatal(err)
	}
	if st := look(b, f, false); st.Len() != n {
		b.Fatal(st.Len())
	}
	f.Close()
}

// One message is delivered by another program, and found.
func BenchmarkSyncDelivered(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		f := open(b, s, "INBOX")
		look(b, f, true)
		for i := 0; b.Loop(); i++ {
			name := fmt.Sprintf("%d.M%06dP2Q%d.host,S=2,W=3", time.Now().Unix(), i%1e6, i)
			if err := os.WriteFile(filepath.Join(s.Path(), "new", name), []byte("x\n"), 0o600); err != nil {
				b.Fatal(err)
			}
			if st := look(b, f, true); st.Len() != n+i+1 {
				b.Fatal(st.Len())
			}
		}
	})
}

// One session sets flags, that of another process sees them.
func BenchmarkSyncOthers(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		f, g := open(b, s, "INBOX"), alone(b, s, "INBOX")
		st := look(b, f, false)
		look(b, g, false)
		for i := 0; b.Loop(); i++ {
			if _, err := f.Store([]Message{st.At(i % n)}, Change{Add: Flagged, Remove: Seen}); err != nil {
				b.Fatal(err)
			}
			if m := look(b, g, false).At(i % n); m.Flags != Flagged {
				b.Fatal(m.Flags)
			}
		}
	})
}

// NOOP in a folder that nobody has changed.
func BenchmarkSyncIdle(b *testing.B) {
	s := filled(b, 10000)
	f := open(b, s, "INBOX")
	look(b, f, false)
	for b.Loop() {
		look(b, f, false)
	}
}

// One flag is set, then the message is read.
func BenchmarkFlagThenRead(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		f := open(b, filled(b, n), "INBOX")
		st := look(b, f, false)
		for i := 0; b.Loop(); i++ {
			m := st.At(i % n)
			if _, err := f.Store([]Message{m}, Change{Add: Flags(1 + i%7)}); err != nil {
				b.Fatal(err)
			}
			st = look(b, f, false)
			r, err := f.Reader(m)
			if err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
}

// A flag is set on all messages at once.
func BenchmarkFlagAll(b *testing.B) {
	const n = 10000
	f := open(b, filled(b, n), "INBOX")
	st := look(b, f, false)
	for i := 0; b.Loop(); i++ {
		c := Change{Add: Flagged}
		if i%2 == 1 {
			c = Change{Remove: Flagged}
		}
		if _, err := f.Store(st.List(), c); err != nil {
			b.Fatal(err)
		}
		st = look(b, f, false)
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "msg/s")
}

func BenchmarkDeliver(b *testing.B) {
	s := newStore(b)
	body := make([]byte, 4000)
	for i := range body {
		body[i] = 'x'
		if i%70 == 69 {
			body[i] = '\n'
		}
	}
	for b.Loop() {
		d, err := s.Deliver(DeliverOptions{})
		if err != nil {
			b.Fatal(err)
		}
		d.Write(body)
		if _, err := d.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// The floor under BenchmarkDeliver: the same system calls in a plain loop.
func BenchmarkDeliverFloor(b *testing.B) {
	s := newStore(b)
	body := make([]byte, 4000)
	for i := 0; b.Loop(); i++ {
		tmp := filepath.Join(s.Path(), "tmp", strconv.Itoa(i))
		f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		f.Write(body)
		f.Sync()
		f.Close()
		os.Rename(tmp, filepath.Join(s.Path(), "new", strconv.Itoa(i)))
		d, err := os.Open(filepath.Join(s.Path(), "new"))
		if err != nil {
			b.Fatal(err)
		}
		d.Sync()
		d.Close()
	}
}

// A client asks for the STATUS of a hundred folders, again and again.
func BenchmarkStatus(b *testing.B) {
	keep(b, time.Minute)
	s := newStore(b)
	for i := range 100 {
		name := fmt.Sprint("f", i)
		if err := s.CreateFolder(name); err != nil {
			b.Fatal(err)
		}
		f := open(b, s, name)
		add(b, f, "x\n")
		f.Close()
	}
	time.Sleep(coarseGrain)
	begun := processorTime(b)
	for b.Loop() {
		list, err := s.List()
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range list {
			f, err := s.OpenFolder(n.Name)
			if err != nil {
				b.Fatal(err)
			}
			look(b, f, false)
			f.Close()
		}
	}
	// This means something on a busy machine, too.
	b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N)/1000, "cpu-µs/op")
}

// processorTime is what the process has taken of it, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime)
}

func BenchmarkAppend(b *testing.B) {
	f := open(b, newStore(b), "INBOX")
	for b.Loop() {
		if _, err := f.Append(AppendOptions{Flags: Seen}, newText(4000)); err != nil {
			b.Fatal(err)
		}
	}
}
