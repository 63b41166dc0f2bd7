package maildir

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// leftover is how long a file in tmp may lie untouched: whoever writes there gives up after a day (maildir(5)).
const leftover = 36 * time.Hour

// cleaned remembers of tmp directories how they looked when they were looked through, so that the STATUS of a thousand
// folders does not read a thousand of them each time.
var cleaned = struct {
	sync.Mutex
	of map[[2]uint64]cleanLook
}{of: map[[2]uint64]cleanLook{}}

type cleanLook struct {
	tmp stamp
	at  time.Time
}

// What a look is worth, and how many are remembered.
const (
	cleanAgain = time.Hour // what was young then may be a leftover by now
	cleanMost  = 10_000
)

// clean removes what somebody who was killed has left in tmp. Errors are nobody's concern: the next one tries again.
func (p *place) clean() {
	now := time.Now()
	key := [2]uint64{p.dev, p.ino}
	tmp, err := p.stamp("tmp")
	cleaned.Lock()
	last := cleaned.of[key]
	cleaned.Unlock()
	if err != nil || last.tmp == tmp && now.Sub(last.at) < cleanAgain {
		return
	}
	var old []string
	p.readNames("tmp", func(name []byte) {
		path := "tmp/" + string(name)
		var st unix.Stat_t
		if statat(p.fd, path, &st) != nil {
			return
		}
		last := max(st.Atim.Nano(), st.Mtim.Nano())
		if now.Sub(time.Unix(0, last)) > leftover {
			old = append(old, path)
		}
	})
	for _, path := range old {
		p.unlink(path)
	}
	if tmp.age(now) < coarseGrain {
		return // more may have come without a change to be seen
	}
	cleaned.Lock()
	defer cleaned.Unlock()
	if len(cleaned.of) >= cleanMost {
		clear(cleaned.of)
	}
	cleaned.of[key] = cleanLook{tmp, now}
}

// cleanStage removes a folder that somebody was killed making or removing; its hidden name tells when he began.
func (p *place) cleanStage(name string) {
	begun, limit := name[len(stagingName):], leftover
	if rest, ok := strings.CutPrefix(name, trashName); ok {
		begun, limit = rest, time.Minute // nobody takes it back any more
	}
	if sec, n := number(begun); n > 0 && time.Since(time.Unix(int64(sec), 0)) > limit {
		if p.removeAll(name) == unix.ENOTDIR {
			p.unlink(name)
		}
	}
}

// removeAll removes a directory below p that has been taken out of sight. It follows no link and leaves p nowhere.
func (p *place) removeAll(name string) error { return removeTree(p.fd, name, 0) }

func removeTree(at int, name string, depth int) error {
	const deepest = 20
	fd, err := openDir(at, name)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		entries, err := dir.Readdirnames(1000)
		for _, e := range entries {
			err := unlinkat(fd, e)
			if (err == unix.EISDIR || err == unix.EPERM) && depth < deepest {
				err = removeTree(fd, e, depth+1)
			}
			if err != nil && err != unix.ENOENT {
				return err
			}
		}
		if err != nil || len(entries) == 0 {
			break
		}
	}
	err = rmdirat(at, name)
	if err == unix.ENOENT {
		return nil
	}
	return err
}
