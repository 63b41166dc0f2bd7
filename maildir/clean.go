package maildir

import (
	"time"

	"golang.org/x/sys/unix"
)

// leftover is how long a file in tmp may lie untouched: whoever writes there gives up after a day (maildir(5)).
const leftover = 36 * time.Hour

// clean removes what somebody who was killed has left in tmp. Errors are nobody's concern: the next one tries again.
func (p *place) clean() {
	now := time.Now()
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
}
