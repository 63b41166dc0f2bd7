package daemon

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

type memory struct{ text strings.Builder }

func (m *memory) line(l slog.Level, text []byte) { m.text.Write(text) }

// No name and no error text makes a line of its own, or moves the cursor of who
// reads the log.
func TestLogsCannotBeForged(t *testing.T) {
	var m memory
	log := slog.New(newLines(&m, false))
	evil := "bob\ntime=2026 level=INFO msg=login user=root\r\x1b[2J\x00\x85\u202e\xff"
	log.With("peer", evil).Warn("login refused", "user", evil, "err", errors.New(evil))
	got := m.text.String()
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("%q", got)
	}
	if i := strings.IndexFunc(strings.TrimSuffix(got, "\n"), func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffd
	}); i >= 0 {
		t.Errorf("%q: %q", got, got[i])
	}
}

func TestLogLevel(t *testing.T) {
	defer level.Set(slog.LevelInfo)
	if err := setLevel("loud"); err == nil {
		t.Error("any level will do")
	}
	if err := setLevel("debug"); err != nil || level.Level() != slog.LevelDebug {
		t.Error(err)
	}
}

func TestLogConcurrently(t *testing.T) {
	var m memory
	log := slog.New(newLines(&m, true))
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			log := log.With("peer", i)
			for range 100 {
				log.Info("login", "user", "bob")
			}
		})
	}
	wg.Wait()
	want := regexp.MustCompile(`^msg=login peer=[0-9] user=bob\n$`)
	n := 0
	for line := range strings.Lines(m.text.String()) {
		if n++; !want.MatchString(line) {
			t.Fatalf("%q", line)
		}
	}
	if n != 1000 {
		t.Error(n, "lines")
	}
}

func TestJournalPrefix(t *testing.T) {
	var b strings.Builder
	log := slog.New(newLines(prefixed{&b}, true))
	log.Info("login")
	log.Error("disk", "err", "full")
	if got, want := b.String(), "<6>msg=login\n<3>msg=disk err=full\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSyslog(t *testing.T) {
	for _, network := range []string{"unixgram", "unix"} {
		path := t.TempDir() + "/log"
		heard := make(chan string, 10)
		if network == "unixgram" {
			l, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				buf := make([]byte, 9000)
				for {
					n, err := l.Read(buf)
					if err != nil {
						return
					}
					heard <- string(buf[:n])
				}
			}()
		} else {
			l, err := net.Listen(network, path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 9000)
				n, _ := c.Read(buf)
				heard <- string(buf[:n])
			}()
		}
		log := slog.New(newLines(&syslog{program: "pop3d", path: path}, true))
		log.Warn("login refused", "user", "bob")
		want := regexp.MustCompile(`^<20>[A-Z][a-z]{2} [ 0-9]{2} \d\d:\d\d:\d\d pop3d\[\d+\]: msg="login refused" user=bob\x00?$`)
		select {
		case got := <-heard:
			if !want.MatchString(got) || strings.HasSuffix(got, "\x00") != (network == "unix") {
				t.Errorf("%s: %q", network, got)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: nothing", network)
		}
	}
}

// Nobody waits for a log that nobody reads.
func TestSyslogAway(t *testing.T) {
	path := t.TempDir() + "/log"
	begun := time.Now()
	away := &syslog{program: "pop3d", path: path}
	for range 100 {
		away.line(slog.LevelInfo, []byte("x\n"))
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path + "2", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stuck := &syslog{program: "pop3d", path: path + "2"}
	for range 20 {
		stuck.line(slog.LevelInfo, []byte(strings.Repeat("x", 20000)))
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	os.Remove(path + "2")
}
