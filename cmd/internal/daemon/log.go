package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var level slog.LevelVar

func setLevel(name string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", name)
	}
	level.Set(l)
	return nil
}

var opened sync.Once

// onStderr says that descriptor 2 leads to somebody who reads it, and is the
// log.
var onStderr bool

// openLog makes the log of the process slog's default: standard error if that
// is not the client, else syslog. Lines for the journal begin with their
// priority (sd-daemon(3)).
func openLog(program string) {
	opened.Do(func() {
		var to slog.Handler
		switch {
		case same(0, 2) && kindOf(2) != kindTerminal && kindOf(2) != kindDevice:
			forsake(2)
			to = newLines(&syslog{program: program}, true)
		case journal():
			to = newLines(prefixed{os.Stderr}, true)
		case isSocket(2):
			forsake(2)
			to = newLines(&syslog{program: program}, true)
		default:
			to = newLines(plain{os.Stderr}, false)
			onStderr = true
		}
		slog.SetDefault(slog.New(to))
	})
}

// logElsewhere is for one conversation whose descriptor 2 is descriptor 1, as
// in "2>&1 |": what is said there, the client hears.
func logElsewhere(program string) *slog.Logger {
	if k := kindOf(2); k != kindTerminal && k != kindDevice {
		forsake(2)
		onStderr = false
		slog.SetDefault(slog.New(newLines(&syslog{program: program}, true)))
	}
	return slog.Default()
}

func isSocket(fd int) bool {
	k := kindOf(fd)
	return k == kindInet || k == kindSocket || k == kindListening
}

// journal says whether descriptor 2 is connected to the systemd journal.
func journal() bool {
	var st unix.Stat_t
	return unix.Fstat(2, &st) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// A sink takes whole log lines with their level.
type sink interface {
	line(l slog.Level, text []byte)
}

// lines is slog's text form (which quotes whatever is not plainly printable,
// so that nobody's name forges a line), a line at a time into a sink.
type lines struct {
	slog.Handler
	buf *bytes.Buffer
	mu  *sync.Mutex
	to  sink
}

// newLines logs to a sink; one that notes time and level itself is stamped.
func newLines(to sink, stamped bool) slog.Handler {
	o := &slog.HandlerOptions{Level: &level}
	if stamped {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		}
	}
	buf := new(bytes.Buffer)
	return &lines{slog.NewTextHandler(buf, o), buf, new(sync.Mutex), to}
}

func (h *lines) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Reset()
	err := h.Handler.Handle(ctx, r)
	h.to.line(r.Level, h.buf.Bytes())
	return err
}

func (h *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lines{h.Handler.WithAttrs(attrs), h.buf, h.mu, h.to}
}

func (h *lines) WithGroup(name string) slog.Handler {
	return &lines{h.Handler.WithGroup(name), h.buf, h.mu, h.to}
}

// priority is the level as syslog(3) counts.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

type plain struct{ w io.Writer }

func (p plain) line(_ slog.Level, text []byte) { p.w.Write(text) }

type prefixed struct{ w io.Writer }

func (p prefixed) line(l slog.Level, text []byte) {
	p.w.Write(fmt.Appendf(nil, "<%d>%s", priority(l), text))
}

// syslog writes to the system's log as facility mail, in the form that every
// /dev/log reads (RFC 3164 §4). It connects when there is something to say,
// and never waits long: a log that is stuck loses lines, not clients.
type syslog struct {
	program string
	path    string // "": /dev/log
	conn    net.Conn
	stream  bool
	retry   time.Time // not before
}

const facilityMail = 2 << 3

func (s *syslog) line(l slog.Level, text []byte) {
	if time.Now().Before(s.retry) || s.conn == nil && !s.dial() {
		return
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = text[:min(len(text), 8000)]
	msg := fmt.Appendf(nil, "<%d>%s %s[%d]: %s", facilityMail|priority(l), time.Now().Format(time.Stamp), s.program, os.Getpid(), text)
	if s.stream {
		msg = append(msg, 0)
	}
	for range 2 { // once more when the system's log was restarted
		s.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := s.conn.Write(msg)
		if err == nil {
			return
		}
		if os.IsTimeout(err) {
			s.retry = time.Now().Add(time.Second)
			return
		}
		s.conn.Close()
		if s.conn = nil; !s.dial() {
			return
		}
	}
}

func (s *syslog) dial() bool {
	path := s.path
	if path == "" {
		path = "/dev/log"
	}
	for _, network := range []string{"unixgram", "unix"} {
		if c, err := net.DialTimeout(network, path, 100*time.Millisecond); err == nil {
			s.conn, s.stream = c, network == "unix"
			return true
		}
	}
	s.retry = time.Now().Add(time.Second)
	return false
}
