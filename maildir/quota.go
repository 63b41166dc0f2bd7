package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrQuota says that the Maildir may not hold so much. ErrTooBig stands beside it when a message is larger than all that
// the Maildir may ever hold.
var ErrQuota = errors.New("the mailbox is full")

// Limits bound what a Maildir may hold, all folders together; 0 is no limit.
type Limits struct {
	Octets   int64 // of the files
	Messages int64
}

// A Usage is what a Maildir holds, as far as it is counted.
type Usage struct {
	Octets   int64
	Messages int64
	Limits   Limits
}

// room gives ErrQuota when further messages would be too much.
func (u Usage) room(octets, messages int64) error {
	l := u.Limits
	if (l.Octets == 0 || octets <= l.Octets-u.Octets) && (l.Messages == 0 || messages <= l.Messages-u.Messages) {
		return nil
	}
	err := fmt.Errorf("%w: it holds %d octets in %d messages", ErrQuota, u.Octets, u.Messages)
	if messages == 1 && l.Octets > 0 && octets > l.Octets {
		err = fmt.Errorf("%w: %w", err, ErrTooBig)
	}
	return err
}

// Over tells whether the Maildir holds more than it may.
func (u Usage) Over() bool { return u.room(0, 0) != nil }

// A quota is what all Stores of one Maildir within this process know about its limits.
type quota struct {
	key    [2]uint64 // device and inode
	path   string
	places int // open ones

	mu     sync.Mutex
	limits Limits
	set    bool // limits were set; otherwise those in maildirsize are all there is
	fresh  bool // and maildirsize does not have them yet
	absent bool // there was no maildirsize when we last looked
}

var quotas = struct {
	sync.Mutex
	of map[[2]uint64]*quota
}{of: map[[2]uint64]*quota{}}

// joinQuota finds the quota of a Maildir for as long as the place is open.
func (p *place) joinQuota(path string) {
	quotas.Lock()
	defer quotas.Unlock()
	key := [2]uint64{p.dev, p.ino}
	q := quotas.of[key]
	if q == nil {
		q = &quota{key: key, path: path}
		quotas.of[key] = q
	}
	q.places++
	p.quota = q
	q.mu.Lock()
	q.absent = false // somebody may have made one
	q.mu.Unlock()
}

func (p *place) leaveQuota() {
	if p.quota == nil {
		return
	}
	quotas.Lock()
	defer quotas.Unlock()
	if p.quota.places--; p.quota.places == 0 {
		delete(quotas.of, p.quota.key)
	}
}

// known gives the limits that were set. none: there are neither such nor a file.
func (q *quota) known() (l Limits, set, none bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limits, q.set, q.absent && !q.set
}

// SetQuota sets the limits of the Maildir: whoever counts next writes them into maildirsize. What somebody else writes
// there later, who has been told other limits, is in force for us too. Without a call it is what is found there, and
// where there is no such file, nobody counts.
func (s *Store) SetQuota(l Limits) {
	root, err := s.dir()
	if err != nil {
		return
	}
	defer root.close()
	q := root.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits, q.set, q.fresh = l, true, true
}

// wants tells whether a file has other limits than it should; it is asked before they are believed.
func (q *quota) wants(now Limits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fresh && q.limits == now {
		q.fresh = false
	}
	return q.fresh
}

// choose gives the limits for a file that is written anew: those of its first line, unless there are newer ones, or none.
func (q *quota) choose(first string) Limits {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := parseLimits(first)
	if q.fresh || q.set && !ok {
		return q.limits
	}
	return l
}

// Quota gives what the Maildir holds and may hold: nothing and no limits where nobody counts.
func (s *Store) Quota() (Usage, error) {
	root, err := s.dir()
	if err != nil {
		return Usage{}, err
	}
	defer root.close()
	t, err := root.tally()
	if err != nil {
		return Usage{}, fmt.Errorf("quota of %s: %w", s.path, err)
	}
	defer t.close()
	if t == nil {
		return Usage{}, nil
	}
	return t.usage, nil
}

// Room tells whether a message of so many octets would find room now; 0 when its size is not known yet. ErrQuota if
// not. Nothing is promised: others deliver, too.
func (s *Store) Room(octets int64) error {
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	return root.hasRoom(max(octets, 1), 1)
}

func (p *place) hasRoom(octets, messages int64) error {
	t, err := p.tally()
	if t == nil || err != nil {
		return err
	}
	if err = t.usage.room(octets, messages); err != nil && t.worn() {
		t.close()
		if err := p.recount(); err != nil {
			return err
		}
		if t, err = p.tally(); t == nil || err != nil {
			return err
		}
		err = t.usage.room(octets, messages)
	}
	t.close()
	return err
}

// A tally is an open maildirsize: whoever adds or removes messages holds it from before he does so until he has noted it, and
// whoever counts anew waits for that. A nil tally stands for a Maildir where nobody counts.
type tally struct {
	place *place
	fd    int
	sizeFile
	end     int64 // octets that were read
	changed time.Time
}

// tally opens the file of a Maildir, and makes or mends it if need be.
func (p *place) tally() (*tally, error) {
	if p.quota == nil {
		return nil, nil
	}
	stale := false
	for range 10 {
		_, set, none := p.quota.known()
		if none {
			return nil, nil
		}
		t, err := p.openSizes()
		if errors.Is(err, fs.ErrNotExist) && !set {
			p.quota.mu.Lock()
			p.quota.absent = true
			p.quota.mu.Unlock()
			return nil, nil
		}
		if err == nil && t == nil { // replaced meanwhile
			continue
		}
		switch {
		case err == nil && p.quota.wants(t.usage.Limits):
		case err == nil && t.usage.room(0, 0) != nil && t.worn() && !stale:
			stale = true // once is enough, whatever the clock of the file system says
		case err == nil:
			return t, nil
		case errors.Is(err, errSizeFile):
			slog.Warn("maildirsize is damaged and counted anew", "folder", p.quota.path)
		case !errors.Is(err, fs.ErrNotExist) && err != unix.EFBIG:
			return nil, err
		}
		t.close()
		if err := p.recount(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w", sizeName, ErrLocked)
}

// openSizes opens and reads the file. nil: another one has taken its place. unix.EFBIG: it is to be counted anew.
func (p *place) openSizes() (*tally, error) {
	fd, err := openat(p.fd, sizeName, unix.O_RDWR|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP || err == unix.EISDIR || err == unix.ENXIO { // a link, directory or socket
		return nil, errSizeFile
	}
	if err != nil {
		return nil, err
	}
	t := &tally{place: p, fd: fd}
	var st unix.Stat_t
	err = fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1) { // root would write into what somebody has linked here
		err = errSizeFile
	}
	if err == nil {
		flock(fd, unix.LOCK_SH)
		if !p.sizesAre(&st) {
			t.close()
			return nil, nil
		}
		err = t.read()
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// sizesAre tells whether the file of the name is still this one.
func (p *place) sizesAre(st *unix.Stat_t) bool {
	var now unix.Stat_t
	return statat(p.fd, sizeName, &now) == nil && now.Ino == st.Ino && now.Dev == st.Dev
}

// read takes in the whole file.
func (t *tally) read() error {
	var st unix.Stat_t
	if err := fstat(t.fd, &st); err != nil {
		return err
	}
	switch {
	case st.Size == 0: // somebody is about to count
		return fs.ErrNotExist
	case st.Size >= sizeLong:
		return unix.EFBIG
	}
	data, err := t.part(0, st.Size)
	if err != nil {
		return err
	}
	t.sizeFile, err = parseSizes(data)
	t.end, t.changed = st.Size, time.Unix(st.Mtim.Unix())
	return err
}

// readOn takes in what has come since, as far as end.
func (t *tally) readOn(end int64) error {
	data, err := t.part(t.end, end)
	if err == nil {
		err = t.add(data)
	}
	t.end = end
	return err
}

// part reads the octets from one offset to another.
func (t *tally) part(from, to int64) (string, error) {
	buf := make([]byte, max(to-from, 0))
	n, err := preadAll(t.fd, buf, from)
	if err != nil {
		return "", err
	}
	if n < len(buf) { // cut meanwhile
		return "", errSizeFile
	}
	return string(buf), nil
}

// worn tells whether a file that says "full" deserves no belief.
func (t *tally) worn() bool { return t.lines > 1 || time.Since(t.changed) > sizeStale }

func (t *tally) close() {
	if t != nil {
		unix.Close(t.fd) // which unlocks it
	}
}

// flock waits for a lock of a file, but neither for ever nor where there is none: without it a sum may be wrong
// until the next counting.
func flock(fd, how int) {
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		err := again(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
		if err != unix.EWOULDBLOCK || time.Since(begun) > sizeWait {
			return
		}
	}
}

// claim counts messages that are about to come, so that of two who want the last room one gets it. ErrQuota when there is
// none. The caller notes what does not come after all, and closes the tally.
func (p *place) claim(octets, messages int64) (*tally, error) {
	return p.claimFor(octets, messages, Usage{})
}

// claimFor is claim for messages that come in the place of others, which will be removed: their room is free.
func (p *place) claimFor(octets, messages int64, old Usage) (*tally, error) {
	for recounted := false; ; recounted = true {
		t, err := p.tally()
		if t == nil || err != nil {
			return nil, err
		}
		if err = t.usage.room(octets-old.Octets, messages-old.Messages); err == nil {
			var end int64
			if end, err = t.write(octets, messages); err == nil {
				// What others have noted before us counts; what comes behind is theirs to find too much.
				if err = t.readOn(end); err == nil {
					if err = t.usage.room(-old.Octets, -old.Messages); err == nil {
						return t, nil
					}
				}
				t.note(-octets, -messages)
			}
		}
		worn := t.worn()
		t.close()
		if recounted || !worn || !errors.Is(err, ErrQuota) {
			return nil, err
		}
		if err := p.recount(); err != nil {
			return nil, err
		}
	}
}

// write appends a line and tells where it ends.
func (t *tally) write(octets, messages int64) (end int64, err error) {
	if err := writeAll(t.fd, fmt.Appendf(nil, "%d %d\n", octets, messages)); err != nil {
		return 0, err
	}
	return unix.Seek(t.fd, 0, 1)
}

// note appends a change that has happened. That it cannot is no reason to fail: the next counting finds it.
func (t *tally) note(octets, messages int64) {
	if t == nil || octets == 0 && messages == 0 {
		return
	}
	if _, err := t.write(octets, messages); err != nil {
		slog.Warn("cannot write maildirsize", "folder", t.place.quota.path, "err", err)
	}
}

// leaving opens the tally for the removal of messages, which goes on when it cannot be opened.
func (p *place) leaving() *tally {
	t, err := p.tally()
	if err != nil {
		slog.Warn("cannot open maildirsize", "folder", p.quota.path, "err", err)
		return nil
	}
	return t
}

// uncount notes that messages which were counted are not there after all.
func (p *place) uncount(octets, messages int64) {
	t := p.leaving()
	t.note(-octets, -messages)
	t.close()
}

// noteGone appends that a folder has gone, while its messages can still be counted under its last name.
func (t *tally) noteGone(dir string) {
	if t == nil {
		return
	}
	var u Usage
	if err := t.place.countFolder(dir, &u); err == nil {
		t.note(-u.Octets, -u.Messages)
	}
}

// counts tells whether anybody counts in a Maildir, as far as is known.
func (p *place) counts() bool {
	_, _, none := p.quota.known()
	return !none
}

// recount counts all messages of the Maildir and writes the file anew. Somebody else's counting will do as well.
func (p *place) recount() error {
	fd, err := openat(p.fd, sizeName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// An empty one keeps others waiting.
		if fd, err = p.create(sizeName); errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err == nil { // else it is no file, and gives way
		defer unix.Close(fd)
		var st unix.Stat_t
		flock(fd, unix.LOCK_EX)
		if err := fstat(fd, &st); err != nil {
			return err
		}
		if !p.sizesAre(&st) {
			return nil
		}
	}
	first := ""
	if data, _, err := p.readFile(sizeName, 0, 1<<20); err == nil {
		first, _, _ = strings.Cut(string(data), "\n")
	}
	u := Usage{Limits: p.quota.choose(first)}
	if err := p.countAll(&u); err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	return p.replace(sizeName, "tmp/"+uniqueName(), []byte(u.String()), nil)
}

// countAll counts the messages of all folders.
func (p *place) countAll(u *Usage) error {
	dirs, err := folderDirs(p)
	if err != nil {
		return err
	}
	if err := p.countFolder(".", u); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := p.countFolder(dir, u); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// countFolder adds the messages of one folder, by the names of their files where these tell the size.
func (p *place) countFolder(dir string, u *Usage) error {
	inNew := map[string]bool{} // one that is moved to cur meanwhile counts once
	for _, sub := range []string{"new", "cur"} {
		_, err := p.readNames(dir+"/"+sub, func(name []byte) {
			base := string(baseOf(name))
			if sub == "new" {
				inNew[base] = true
			} else if inNew[base] {
				return
			}
			n, ok := p.octets(dir+"/"+sub+"/"+string(name), base)
			if ok {
				u.Octets, u.Messages = min(u.Octets+n, maxSize), u.Messages+1
			}
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// octets gives what a message counts: the S of its name, else the size of its file; false when it is gone.
func (p *place) octets(path, base string) (int64, bool) {
	if s, _ := sizes(base); s >= 0 {
		return s, true
	}
	var st unix.Stat_t
	if statat(p.fd, path, &st) != nil {
		return 0, false
	}
	return st.Size, true
}
