package maildir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func hostname(t testing.TB) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// deadPID gives the number of a process that has just ended.
func deadPID(t testing.TB) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestLockExcludes(t *testing.T) {
	s := newStore(t)
	root, err := s.dir()
	if err != nil {
		t.Fatal(err)
	}
	defer root.close()
	other, err := Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	n := 0
	var wg sync.WaitGroup
	for i := range 8 {
		p := []*place{root, other.root}[i%2]
		wg.Go(func() {
			for range 50 {
				l, err := p.lock()
				if err != nil {
					t.Error(err)
					return
				}
				content := get(t, s, lockName)
				if want := fmt.Sprintf("%d:%s", os.Getpid(), hostname(t)); content != want {
					t.Errorf("%q", content)
				}
				n++
				l.release()
			}
		})
	}
	wg.Wait()
	if n != 400 {
		t.Error(n)
	}
	if len(files(t, s, "tmp")) != 1 {
		t.Error(files(t, s, "tmp"))
	}
	// Who tidies up in tmp does no harm.
	os.Remove(filepath.Join(s.Path(), "tmp", files(t, s, "tmp")[0]))
	if l, err := root.lock(); err != nil {
		t.Error(err)
	} else {
		l.release()
	}
	if _, err := os.Stat(filepath.Join(s.Path(), lockName)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// zombiePID is the number of a process that was killed, and whose parent has not asked for it.
func zombiePID(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	cmd.Process.Kill()
	t.Cleanup(func() { cmd.Wait() })
	return cmd.Process.Pid
}

func TestLockOfTheDead(t *testing.T) {
	host := hostname(t)
	for name, lock := range map[string]struct {
		content string
		age     time.Duration
		waits   bool
	}{
		"dead process":              {fmt.Sprintf("%d:%s", deadPID(t), host), 0, false},
		"dead and not waited for":   {fmt.Sprintf("%d:%s", zombiePID(t), host), 0, false},
		"our own number":            {fmt.Sprintf("%d:%s", os.Getpid(), host), 0, false},
		"number used again":         {fmt.Sprintf("%d:%s", os.Getppid(), host), 110 * time.Second, false},
		"without an owner":          {"", 10 * time.Second, false},
		"other host, long ago":      {"1:elsewhere", 3 * time.Minute, false},
		"alive, but long untouched": {fmt.Sprintf("1:%s", host), 3 * time.Minute, false},
		"alive":                     {fmt.Sprintf("1:%s", host), 0, true},
		"other host":                {"1:elsewhere", 0, true},
		"cut off just now":          {"", 0, false},
		"cut off in the future":     {"123", -time.Hour, false},
		"zeros after a power cut":   {"\x00\x00\x00\x00", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			put(t, s, lockName, lock.content)
			at := time.Now().Add(-lock.age)
			os.Chtimes(filepath.Join(s.Path(), lockName), at, at)
			if name == "number used again" {
				if began, _, ok := processAge(os.Getppid()); !ok || began > 100*time.Second {
					t.Skip("the parent is too old for this test")
				}
			}
			deliver(t, s, "x\n") // takes no lock
			f := open(t, s, "INBOX")
			done := make(chan time.Duration)
			begun := time.Now()
			go func() {
				f.Sync(SyncOptions{})
				done <- time.Since(begun)
			}()
			select {
			case d := <-done:
				if lock.waits || d > time.Second {
					t.Errorf("after %v", d)
				}
			case <-time.After(1500 * time.Millisecond):
				if !lock.waits {
					t.Error("still waiting")
				}
				os.Remove(filepath.Join(s.Path(), lockName))
				<-done
			}
		})
	}
}

// A process's age is told from /proc; ours began not long ago.
func TestProcessAge(t *testing.T) {
	if d, dead, ok := processAge(os.Getpid()); !ok || dead || d < -time.Second || d > time.Hour {
		t.Error(d, dead, ok)
	}
	if d, dead, ok := processAge(1); !ok || dead || d < time.Second {
		t.Error(d, dead, ok)
	}
}

// With the last open place goes what the lock is made from.
func TestLockSourceGoes(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	look(t, f, true)
	s.Close()
	if len(files(t, s, "tmp")) != 1 {
		t.Error(files(t, s, "tmp"))
	}
	f.Close()
	if len(files(t, s, "tmp")) != 0 {
		t.Error(files(t, s, "tmp"))
	}
}

// Nobody ever sees a lock without its owner.
func TestLockIsWhole(t *testing.T) {
	s := newStore(t)
	root, err := s.dir()
	if err != nil {
		t.Fatal(err)
	}
	defer root.close()
	stop := make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			data, err := os.ReadFile(filepath.Join(s.Path(), lockName))
			if err == nil && !strings.HasSuffix(string(data), ":"+hostname(t)) {
				t.Errorf("a lock says %q", data)
			}
		}
	})
	for range 200 {
		l, err := root.lock()
		if err != nil {
			t.Fatal(err)
		}
		l.release()
	}
	close(stop)
	wg.Wait()
}

// A lock that is nobody's and cannot be removed is an error, not a wait without end.
func TestLockStays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a file immutable")
	}
	s := newStore(t)
	deliver(t, s, "x\n")
	look(t, open(t, s, "INBOX"), true)
	put(t, s, lockName, fmt.Sprintf("%d:%s", deadPID(t), hostname(t)))
	if out, err := exec.Command("chattr", "+i", filepath.Join(s.Path(), lockName)).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	defer exec.Command("chattr", "-i", filepath.Join(s.Path(), lockName)).Run()
	f := open(t, s, "INBOX")
	deliver(t, s, "y\n")
	done := make(chan error, 1)
	go func() {
		_, err := f.Append(AppendOptions{}, strings.NewReader("z\n"))
		done <- err
	}()
	select {
	case err := <-done:
		if !readOnly(err) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("still waiting")
	}
	if st := look(t, f, false); st.Len() != 1 {
		t.Error(keys(st))
	}
}

// A lock from the future gives way, too.
func TestSubscriptionsLockOfTheDead(t *testing.T) {
	s := newStore(t)
	put(t, s, subscriptionsLock.name, "")
	synctest.Test(t, func(t *testing.T) { // its clock is decades behind
		if err := s.Subscribe("a"); err != nil {
			t.Error(err)
		}
	})
	if names, err := s.Subscriptions(); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
}
