package daemon

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stdio makes a connection of duplicates of descriptors 0 and 1: a write to a
// vanished client through descriptor 1 itself would kill the process.
func stdio(k kind) (net.Conn, error) {
	if (k == kindInet || k == kindSocket) && same(0, 1) {
		return net.FileConn(os.Stdin)
	}
	p := &pipe{terminal: k == kindTerminal}
	if err := p.in.open(0); err != nil {
		return nil, err
	}
	if err := p.out.open(1); err != nil {
		p.in.close()
		return nil, err
	}
	return p, nil
}

// same says whether two descriptors are one file.
func same(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// A pipe is a connection over two descriptors of any kind: pipes, regular
// files, terminals. Others may hold the same open files, so O_NONBLOCK, which
// they would share, is never set; poll(2) tells when an octet can pass.
type pipe struct {
	in, out  side
	terminal bool // lines end in LF there
	cr       bool // the last octet read was CR
}

// A side is one descriptor with a deadline.
type side struct {
	fd    int
	alarm [2]int     // a pipe of our own: an octet in it means that until or closed has changed
	busy  sync.Mutex // held while somebody uses fd

	mu     sync.Mutex
	until  time.Time
	closed bool
}

func (s *side) open(fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	if err := unix.Pipe2(s.alarm[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		unix.Close(dup)
		return os.NewSyscallError("pipe", err)
	}
	s.fd = dup
	return nil
}

// wake interrupts a wait.
func (s *side) wake(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		change()
		unix.Write(s.alarm[1], []byte{0})
	}
}

func (s *side) deadline(t time.Time) error {
	s.wake(func() { s.until = t })
	return nil
}

func (s *side) close() error {
	s.wake(func() { s.closed = true })
	s.busy.Lock()
	defer s.busy.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	err := unix.Close(s.fd)
	unix.Close(s.alarm[0])
	unix.Close(s.alarm[1])
	s.fd = -1
	return err
}

// wait returns nil when events (or an error) are there, else why not. The
// caller holds busy.
func (s *side) wait(events int16) error {
	for {
		s.mu.Lock()
		until, closed := s.until, s.closed
		s.mu.Unlock()
		if closed {
			return net.ErrClosed
		}
		timeout := -1
		if !until.IsZero() {
			left := time.Until(until)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			timeout = int(min(left, 24*time.Hour)/time.Millisecond) + 1
		}
		polled := []unix.PollFd{{Fd: int32(s.fd), Events: events}, {Fd: int32(s.alarm[0]), Events: unix.POLLIN}}
		_, err := unix.Poll(polled, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case polled[1].Revents != 0:
			var drop [16]byte
			unix.Read(s.alarm[0], drop[:])
		case polled[0].Revents != 0:
			return nil
		}
	}
}

// Read returns what is there; at the end of the input io.EOF.
func (p *pipe) Read(b []byte) (int, error) {
	p.in.busy.Lock()
	defer p.in.busy.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	room := b
	if p.terminal && len(b) > 1 {
		room = b[:len(b)/2] // each LF becomes two octets
	}
	for {
		if err := p.in.wait(unix.POLLIN); err != nil {
			return 0, err
		}
		n, err := unix.Read(p.in.fd, room)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.EIO) && p.terminal, err == nil && n == 0:
			return 0, io.EOF
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case p.terminal && len(b) > 1:
			return p.crlf(b, n), nil
		}
		return n, nil
	}
}

// crlf gives the first n octets of b the line ends of the protocols: a
// terminal sends a lone LF when somebody presses Return.
func (p *pipe) crlf(b []byte, n int) int {
	typed := append([]byte(nil), b[:n]...)
	out := b[:0]
	for _, c := range typed {
		if c == '\n' && !p.cr {
			out = append(out, '\r')
		}
		out, p.cr = append(out, c), c == '\r'
	}
	return len(out)
}

// Write sends all of b. Of a pipe that poll calls writable, PIPE_BUF octets are
// sure not to block.
func (p *pipe) Write(b []byte) (int, error) {
	p.out.busy.Lock()
	defer p.out.busy.Unlock()
	done := 0
	for done < len(b) {
		if err := p.out.wait(unix.POLLOUT); err != nil {
			return done, err
		}
		n, err := unix.Write(p.out.fd, b[done:min(done+4096, len(b))])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return done, os.NewSyscallError("write", err)
		default:
			done += n
		}
	}
	return done, nil
}

func (p *pipe) Close() error                       { return errors.Join(p.in.close(), p.out.close()) }
func (p *pipe) LocalAddr() net.Addr                { return pipeAddr{} }
func (p *pipe) RemoteAddr() net.Addr               { return pipeAddr{} }
func (p *pipe) SetReadDeadline(t time.Time) error  { return p.in.deadline(t) }
func (p *pipe) SetWriteDeadline(t time.Time) error { return p.out.deadline(t) }
func (p *pipe) SetDeadline(t time.Time) error {
	return errors.Join(p.in.deadline(t), p.out.deadline(t))
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "stdin" }

// isTerminal says whether somebody types at fd.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

func dup2(from, to int) error { return unix.Dup3(from, to, 0) }
