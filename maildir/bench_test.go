package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// filled makes a Maildir of n small messages in cur, an hour old.
func filled(b *testing.B, n int) *Store {
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

// The first look ever: no UID list.
func BenchmarkSyncFirst(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		for b.Loop() {
			os.Remove(filepath.Join(s.Path(), listName))
			f := open(b, s, "INBOX")
			if st := look(b, f, false); st.Len() != n {
				b.Fatal(st.Len())
			}
			f.Close()
		}
	})
}

// A session opens a folder that nobody has changed.
func BenchmarkSyncOpen(b *testing.B) {
	sizesOf(b, func(b *testing.B, n int) {
		s := filled(b, n)
		look(b, open(b, s, "INBOX"), false)
		for b.Loop() {
			f := open(b, s, "INBOX")
			if st := look(b, f, false); st.Len() != n {
				b.Fatal(st.Len())
			}
			f.Close()
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

func BenchmarkAppend(b *testing.B) {
	f := open(b, newStore(b), "INBOX")
	for b.Loop() {
		if _, err := f.Append(AppendOptions{Flags: Seen}, newText(4000)); err != nil {
			b.Fatal(err)
		}
	}
}
