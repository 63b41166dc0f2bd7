package maildir

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const flagLetters = "DFRST"

// hostName is the host's name as it may stand in a file name: maildir(5) wants "/" and ":" as octal
// numbers, and "," would begin a field of ours.
var hostName = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ' || c == '/' || c == ':' || c == ',' || c == '\\' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
		if b.Len() > 100 {
			break
		}
	}
	return b.String()
})

var (
	nameCounter atomic.Uint64
	nameClock   atomic.Int64 // microseconds since 1970 of the last name: each name is later than the one before
)

// uniqueName makes a base name that no other delivery anywhere makes, and which sorts behind all that this
// process made before: UIDs are given in this order.
func uniqueName() string {
	var now int64
	for {
		last := nameClock.Load()
		now = max(time.Now().UnixMicro(), last+1)
		if nameClock.CompareAndSwap(last, now) {
			break
		}
	}
	return fmt.Sprintf("%d.M%06dP%dQ%dR%08x.%s", now/1e6, now%1e6, os.Getpid(), nameCounter.Add(1), rand.Uint32(), hostName())
}

// sized adds the fields that save every reader from counting: S, octets on disk, and W, octets with each line end as
// CRLF. A message whose last line lacks octets of its end says so before them in E, which is a field of ours.
func sized(base string, s, w, lacks int64) string {
	if lacks > 0 {
		base += ",E=" + strconv.FormatInt(lacks, 10)
	}
	return base + ",S=" + strconv.FormatInt(s, 10) + ",W=" + strconv.FormatInt(w, 10)
}

// lacking is how many octets of its CRLF the last line of s octets lacks when last is the last of them.
func lacking(s int64, last byte) int64 {
	switch {
	case s == 0 || last == '\n':
		return 0
	case last == '\r':
		return 1
	}
	return 2
}

// lackingByName reads the field E.
func lackingByName(base string) int64 {
	switch _, e, _ := strings.Cut(base, ",E="); {
	case strings.HasPrefix(e, "1,"):
		return 1
	case strings.HasPrefix(e, "2,"):
		return 2
	}
	return 0
}

// sizes reads the fields S and W of a base name; -1 for one that is not there.
func sizes(base string) (s, w int64) {
	s, w = -1, -1
	_, fields, _ := strings.Cut(base, ",")
	for field := range strings.SplitSeq(fields, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok || len(value) == 0 || len(value) > 18 || value[0] < '0' || value[0] > '9' {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch key {
		case "S":
			s = n
		case "W":
			w = n
		}
	}
	return s, w
}

// baseOf gives the part of a file name that never changes: all before the first colon.
func baseOf(name []byte) []byte {
	if before, _, ok := bytes.Cut(name, []byte{':'}); ok {
		return before
	}
	return name
}

// parseInfo takes apart what stands behind a base name. An info that is not version 2 has no flags that
// we know; it is replaced when flags are set.
func parseInfo(text string) *info {
	in := &info{text: text}
	rest, ok := strings.CutPrefix(text, ":2,")
	if !ok {
		return in
	}
	if i := strings.IndexByte(rest, ','); i >= 0 {
		rest, in.extra = rest[:i], rest[i:]
	}
	for i := range len(rest) {
		c := rest[i]
		if k := strings.IndexByte(flagLetters, c); k >= 0 {
			in.flags |= 1 << k
		} else if c >= 'a' && c <= 'z' {
			in.letters |= 1 << (c - 'a')
		} else if strings.IndexByte(in.other, c) < 0 {
			in.other += rest[i : i+1]
		}
	}
	return in
}

// infoText puts flags, keyword letters and what else stood there together again, in ASCII order.
func infoText(flags Flags, letters uint32, other, extra string) string {
	if len(other) > 0 {
		return infoTextOther(flags, letters, other, extra)
	}
	b := append(make([]byte, 0, 40), ":2,"...)
	for i := range len(flagLetters) {
		if flags&(1<<i) != 0 {
			b = append(b, flagLetters[i])
		}
	}
	for i := range 26 {
		if letters&(1<<i) != 0 {
			b = append(b, 'a'+byte(i))
		}
	}
	return string(append(b, extra...))
}

func infoTextOther(flags Flags, letters uint32, other, extra string) string {
	var all [256]bool
	for i := range len(flagLetters) {
		all[flagLetters[i]] = flags&(1<<i) != 0
	}
	for i := range 26 {
		all['a'+i] = letters&(1<<i) != 0
	}
	for i := range len(other) {
		all[other[i]] = true
	}
	b := []byte(":2,")
	for c, set := range all {
		if set {
			b = append(b, byte(c))
		}
	}
	return string(append(b, extra...))
}

// byDelivery orders base names as their messages came: by the seconds before the first dot, then the
// microseconds behind the M of the second part, then the name.
func byDelivery(a, b string) int {
	as, am := deliveryTime(a)
	bs, bm := deliveryTime(b)
	return cmp.Or(cmp.Compare(as, bs), cmp.Compare(am, bm), cmp.Compare(a, b))
}

func deliveryTime(base string) (sec, usec uint64) {
	sec, n := number(base)
	if n == 0 || n == len(base) || base[n] != '.' {
		return sec, 0
	}
	second, _, _ := strings.Cut(base[n+1:], ".")
	if _, after, ok := strings.Cut(second, "M"); ok {
		usec, _ = number(after)
	}
	return sec, usec
}

// number reads the decimal digits a text begins with, and tells how many there were.
func number(s string) (v uint64, n int) {
	for n < len(s) && s[n] >= '0' && s[n] <= '9' && n < 19 {
		v = v*10 + uint64(s[n]-'0')
		n++
	}
	return v, n
}
