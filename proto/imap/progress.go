package imap

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// progressEvery is after how long a client hears that a command still goes on,
// each time (RFC 9585 §4).
var progressEvery = 10 * time.Second

// A progress tells a client how far its command has come. Of those who work on
// it one may tell.
type progress struct {
	s    *Session
	tag  string
	goal int // messages; 0: nobody knows
	done atomic.Int64
	last time.Time
}

// tell says how far it is, when that is due. It fails when the client is gone.
//
// inprogress = "INPROGRESS" [SP "(" (quoted / nil) SP inprogress-state ")"]   (RFC 9585 §5)
func (w *progress) tell() error {
	if w == nil || time.Since(w.last) < progressEvery {
		return nil
	}
	w.last = time.Now()
	tag := "NIL" // one with a bracket would end the code for many a client
	if !strings.Contains(w.tag, "]") {
		tag = string(appendString(nil, w.tag))
	}
	done, goal := int(w.done.Load()), "NIL"
	if w.goal > 0 { // which is never reached before the command is done
		done, goal = min(done, w.goal-1), strconv.Itoa(w.goal)
	}
	w.s.untagged("OK [INPROGRESS (%s %d %s)] still searching", tag, done, goal)
	return w.s.Conn.Flush()
}
