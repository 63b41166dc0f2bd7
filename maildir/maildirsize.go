package maildir

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The file that counts is that of Maildir++, as Dovecot reads and writes it: a line of limits, a line of totals, and a line for
// each change since. It is counted anew when it has become long, or when it says that there is no room and
// may be wrong: other programs remove mail without a word to it.
const (
	sizeName  = "maildirsize"
	sizeLong  = 5120             // octets
	sizeStale = 15 * time.Minute // so old a file is not believed when it says "full"
	sizeWait  = 2 * time.Second  // how long anybody waits for those who count
)

// A sizeFile is the content of a maildirsize.
type sizeFile struct {
	usage Usage
	lines int // totals and changes
}

var errSizeFile = errors.New("not a list of sizes")

// parseSizes reads limits and totals. What is in doubt is an error: to count anew costs little.
func parseSizes(data string) (f sizeFile, err error) {
	first, rest, ok := strings.Cut(data, "\n")
	if !ok {
		return f, errSizeFile
	}
	f.usage.Limits, _ = parseLimits(first)
	if err := f.add(rest); err != nil {
		return f, err
	}
	if f.lines == 0 || f.usage.Octets < 0 || f.usage.Messages < 0 {
		return f, errSizeFile
	}
	return f, nil
}

// add takes in further lines.
func (f *sizeFile) add(lines string) error {
	for len(lines) > 0 {
		var octets, messages int64
		var ok, ok2 bool
		octets, lines, ok = sizeNumber(lines)
		messages, lines, ok2 = sizeNumber(lines)
		lines = strings.TrimLeft(lines, " \t\r")
		if !ok || !ok2 || lines == "" || lines[0] != '\n' { // without its end a line was cut off
			return errSizeFile
		}
		lines = lines[1:]
		f.usage.Octets += octets
		f.usage.Messages += messages
		f.lines++
		if max(f.usage.Octets, -f.usage.Octets, f.usage.Messages, -f.usage.Messages) > maxSize {
			return errSizeFile
		}
	}
	return nil
}

// sizeNumber reads a number with a sign, and blanks before it.
func sizeNumber(s string) (n int64, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	minus := strings.HasPrefix(s, "-")
	if minus || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	v, k := number(s)
	if k == 0 || v > maxSize {
		return 0, s, false
	}
	if n = int64(v); minus {
		n = -n
	}
	return n, s[k:], true
}

// maxSize bounds what a line may say: sums of a file's lines stay far from overflow.
const maxSize = 1 << 60

// parseLimits reads the first line: numbers with S (octets) or C (messages) behind them, and commas between. What it
// does not know is no limit; false when it knows nothing of it.
func parseLimits(line string) (l Limits, ok bool) {
	for field := range strings.SplitSeq(strings.TrimSpace(line), ",") {
		n, k := number(field)
		if k == 0 || k != len(field)-1 || n > maxSize {
			continue
		}
		switch field[k] {
		case 'S':
			l.Octets, ok = int64(n), true
		case 'C':
			l.Messages, ok = int64(n), true
		}
	}
	return l, ok
}

// String writes the file with all its lines summed up.
func (u Usage) String() string {
	limits := make([]string, 0, 2)
	if l := u.Limits; l.Octets > 0 || l.Messages == 0 {
		limits = append(limits, fmt.Sprintf("%dS", l.Octets))
	}
	if l := u.Limits; l.Messages > 0 {
		limits = append(limits, fmt.Sprintf("%dC", l.Messages))
	}
	return fmt.Sprintf("%s\n%d %d\n", strings.Join(limits, ","), u.Octets, u.Messages)
}
