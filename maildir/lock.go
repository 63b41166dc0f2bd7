package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dovecot's lock: a file of this name beside the UID list, holding "pid:hostname". It covers the UID list, the
// names of the keywords, and every scan or change of new and cur that someone else's scan must not miss.
const (
	lockName      = "dovecot-uidlist.lock"
	lockOverride  = 120 * time.Second      // a lock that nobody touched for so long is void, whoever made it
	lockWait      = 122 * time.Second      // nobody waits longer
	lockTouch     = 10 * time.Second       // how often a holder says that it is alive
	lockTornAfter = 800 * time.Millisecond // a lock without an owner in it was left by someone killed while writing it
)

// A lockKind is one of the locks of a Maildir: a file of a certain name, held by who has made it.
type lockKind struct {
	name     string
	override time.Duration // how long after its last touch it is void, whoever made it
	torn     time.Duration // the same for one without an owner in it
}

var (
	folderLock        = lockKind{lockName, lockOverride, lockTornAfter}
	subscriptionsLock = lockKind{"subscriptions.lock", 30 * time.Second, 30 * time.Second} // Dovecot writes no owner into it
	metadataLock      = lockKind{"pennypost-metadata.lock", lockOverride, lockTornAfter}
)

// A lock is a held lock of one folder. It is not for concurrent use.
type lock struct {
	lockKind
	place   *place
	ino     uint64
	touched time.Time
}

// A turn is what all places of one directory share within the process. Callers queue at it: that is cheaper and fairer
// than the file, and how we know that a lock file with our own pid in it belongs to somebody before us.
type turn struct {
	key    [2]uint64
	busy   chan struct{}
	places int    // open ones
	source string // file in tmp that is linked to be the lock; who is busy may use it
}

var turns = struct {
	sync.Mutex
	of map[[2]uint64]*turn
}{of: map[[2]uint64]*turn{}}

// join finds the turn of a place, for as long as the place is open.
func (p *place) join() {
	turns.Lock()
	defer turns.Unlock()
	key := [2]uint64{p.dev, p.ino}
	t := turns.of[key]
	if t == nil {
		t = &turn{key: key, busy: make(chan struct{}, 1)}
		turns.of[key] = t
	}
	t.places++
	p.turn = t
}

// leave ends what join began. With the last place the source of the lock goes.
func (p *place) leave() {
	t := p.turn
	if t == nil {
		return
	}
	turns.Lock()
	t.places--
	last := t.places == 0
	if last {
		delete(turns.of, t.key)
	}
	turns.Unlock()
	if last && t.source != "" {
		p.unlink(t.source)
	}
}

// lock takes the folder's lock. It waits for a living holder, ErrLocked at the end; the lock of a process of this
// host that has died is broken at once.
func (p *place) lock() (*lock, error) { return p.lockBy(folderLock) }

func (p *place) lockBy(kind lockKind) (*lock, error) {
	deadline := time.Now().Add(lockWait)
	select {
	case p.turn.busy <- struct{}{}:
	default:
		timer := time.NewTimer(lockWait)
		defer timer.Stop()
		select {
		case p.turn.busy <- struct{}{}:
		case <-timer.C:
			return nil, ErrLocked
		}
	}
	l := &lock{lockKind: kind, place: p}
	if err := l.acquire(deadline); err != nil {
		<-p.turn.busy
		return nil, err
	}
	return l, nil
}

// lockNow takes the lock when it is free, and gives nil otherwise.
func (p *place) lockNow() *lock {
	select {
	case p.turn.busy <- struct{}{}:
	default:
		return nil
	}
	l := &lock{lockKind: folderLock, place: p}
	if l.make() != nil {
		<-p.turn.busy
		return nil
	}
	return l
}

func (l *lock) acquire(deadline time.Time) error {
	var seen stamp // of the lock file that stands in our way
	var since time.Time
	for wait := 500 * time.Microsecond; ; wait = min(wait*2, 20*time.Millisecond) {
		err := l.make()
		if err == nil {
			return nil
		}
		if err != unix.EEXIST {
			return fmt.Errorf("lock folder: %w", err)
		}
		now := time.Now()
		st, owned, void := l.void(l.place, now.Add(-l.skew()))
		if st != seen {
			seen, since = st, now
		}
		// One that comes from the future, by its time, is as old as we have been watching it.
		patience := l.torn
		if owned {
			patience = l.override
		}
		if void || !since.IsZero() && now.Sub(since) > patience {
			if err := l.place.breakNamed(l.name, seen); err != nil {
				return fmt.Errorf("break lock of folder: %w", err)
			}
			continue
		}
		if now.After(deadline) {
			return ErrLocked
		}
		time.Sleep(wait/2 + rand.N(wait))
	}
}

// make makes the lock in one step, as a link to a file that has its content already: somebody killed leaves no lock without
// an owner. The file stays in tmp for the next time, since to link is many times cheaper than to make a file.
func (l *lock) make() error {
	p, t := l.place, l.place.turn
	for try := 0; ; try++ {
		if t.source == "" {
			name := "tmp/" + uniqueName()
			fd, err := p.create(name)
			if err == unix.ENOENT && p.mend() { // somebody has removed tmp
				fd, err = p.create(name)
			}
			if err != nil {
				return err
			}
			err = writeAll(fd, []byte(lockContent()))
			if err == nil {
				err = fdatasync(fd) // after a power cut too, a lock tells whose it was
			}
			if cerr := unix.Close(fd); err == nil {
				err = cerr
			}
			if err != nil {
				p.unlink(name)
				return err
			}
			t.source = name
		} else if err := utimesAt(p.fd, t.source, nil); err == unix.ENOENT && try == 0 {
			t.source = "" // somebody has tidied up
			continue
		}
		err := linkat(p.fd, t.source, p.fd, l.name)
		switch err {
		case unix.ENOENT:
			if t.source = ""; try == 0 {
				continue
			}
		case unix.EPERM, unix.ENOTSUP, unix.ENOSYS, unix.EMLINK: // no links here
			err = l.exclusive()
		case unix.EEXIST:
			if sameFile(p.fd, t.source, p.fd, l.name) {
				err = nil // NFS has done it, and said so too late
			}
		}
		if err != nil {
			return err
		}
		return l.taken()
	}
}

func lockContent() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return fmt.Sprintf("%d:%s", os.Getpid(), host)
}

// taken notes which lock is ours.
func (l *lock) taken() error {
	var st unix.Stat_t
	if err := statat(l.place.fd, l.name, &st); err != nil {
		l.place.unlink(l.name)
		return err
	}
	l.ino, l.touched = st.Ino, time.Now()
	return nil
}

// skew is how far the file system's clock is behind ours, by the time it has just given to our file.
func (l *lock) skew() time.Duration {
	st, err := l.place.stamp(l.place.turn.source)
	if err != nil || (st == stamp{}) {
		return 0
	}
	return max(st.age(time.Now()), 0)
}

// exclusive makes the lock the plain way.
func (l *lock) exclusive() error {
	fd, err := openat(l.place.fd, l.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = writeAll(fd, []byte(lockContent())); err != nil {
		l.place.unlink(l.name)
	}
	return err
}

// void tells whether the lock file there is nobody's any more, and whether somebody stands in it. now is by the file
// system's clock. We have our turn, so no part of this process holds it.
func (k lockKind) void(p *place, now time.Time) (seen stamp, owned, void bool) {
	data, st, err := p.readFile(k.name, 0, 4096)
	if err != nil { // gone, or not ours to read: then its age has to do
		s, _ := p.stamp(k.name)
		return s, true, s != stamp{} && s.age(now) > k.override
	}
	s := stampOf(&st)
	age := s.age(now)
	if age > k.override {
		return s, true, true
	}
	pidText, host, ok := strings.Cut(string(data), ":")
	pid, err := strconv.Atoi(pidText)
	if !ok || err != nil || pid <= 0 {
		return s, false, age > min(k.torn, sinceBoot())
	}
	if own, err := os.Hostname(); err != nil || own != strings.TrimSpace(host) {
		return s, true, false
	}
	if pid == os.Getpid() || age > sinceBoot() {
		return s, true, true
	}
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		return s, true, true
	}
	// The number may belong to someone else by now: whoever began after the lock was made did not make it. Nor does
	// anybody hold it whose parent has only not yet asked how he died.
	if began, dead, ok := processAge(pid); dead || ok && age > began+lockTornAfter {
		return s, true, true
	}
	return s, true, false
}

// sinceBoot is for how long this host has been running: nobody here holds a lock that is older. A variable for tests.
var sinceBoot = func() time.Duration {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return lockOverride
	}
	return time.Duration(up.Nano())
}

// processAge tells for how long a process has been running, and whether it is dead.
func processAge(pid int) (age time.Duration, dead, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false, false
	}
	// The name in parentheses may hold anything; the state follows it, the start in ticks since boot is the 20th word behind it.
	_, rest, ok := strings.Cut(string(data[max(strings.LastIndexByte(string(data), ')'), 0):]), " ")
	words := strings.Fields(rest)
	if !ok || len(words) < 20 {
		return 0, false, false
	}
	dead = words[0] == "Z" || words[0] == "X"
	ticks, err := strconv.ParseInt(words[19], 10, 64)
	if err != nil {
		return 0, dead, false
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	return sinceBoot() - time.Duration(ticks)*(time.Second/ticksPerSecond), dead, true
}

// breakNamed removes a void lock file, unless another one has taken its place. Those who would break the same
// lock queue at the file itself, so that none of them removes the lock of the one before.
func (p *place) breakNamed(name string, void stamp) error {
	fd, err := openat(p.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == nil {
		defer unix.Close(fd)
		err = again(func() error { return unix.Flock(fd, unix.LOCK_EX) })
	}
	if err == unix.EACCES || err == unix.ELOOP { // not ours, or a link: nobody queues at it
		err = nil
	}
	if err == nil {
		var now stamp
		if now, err = p.stamp(name); err == nil && now == void && (now != stamp{}) {
			err = p.unlink(name)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// touch says that the holder lives; whoever works for long under a lock calls it often.
func (l *lock) touch() {
	if l == nil || time.Since(l.touched) < lockTouch {
		return
	}
	l.touched = time.Now()
	utimesAt(l.place.fd, l.name, nil)
}

// release gives the lock back. A nil lock (there was no room for one) is nobody's.
func (l *lock) release() {
	if l == nil {
		return
	}
	var st unix.Stat_t
	if statat(l.place.fd, l.name, &st) == nil && st.Ino == l.ino {
		l.place.unlink(l.name)
	}
	<-l.place.turn.busy
}

// noRoom tells whether an error is of the kind that goes away by removing mail.
func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// readOnly tells whether an error says that nothing may be written here.
func readOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)
}
