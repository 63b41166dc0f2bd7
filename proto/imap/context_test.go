package imap_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pennypost/maildir"
)

// A follower is a client that keeps the results of its searches as it is told.
type follower struct {
	t       *testing.T
	conn    net.Conn
	lines   *bufio.Scanner
	results map[string][]int // by tag
	numbers map[string]bool  // … of message numbers
	last    string           // the ESEARCH of the last command
}

func newFollower(t *testing.T, dir string) *follower {
	conn := session(t, dir)
	f := &follower{t: t, conn: conn, lines: bufio.NewScanner(conn), results: map[string][]int{}, numbers: map[string]bool{}}
	f.lines.Buffer(nil, 1<<20)
	f.lines.Scan()
	f.say("S SELECT INBOX")
	return f
}

var addOrRemove = regexp.MustCompile(`(ADDTO|REMOVEFROM) \(([^)]*)\)`)

// say sends a command and takes in what is told until it is answered.
func (f *follower) say(command string) {
	go f.conn.Write([]byte(command + "\r\n"))
	tag, _, _ := strings.Cut(command, " ")
	for f.lines.Scan() {
		line := f.lines.Text()
		switch {
		case strings.HasPrefix(line, tag+" "):
			if !strings.HasPrefix(line, tag+" OK") {
				f.t.Fatalf("%s: %s", command, line)
			}
			return
		case strings.HasPrefix(line, "* ESEARCH (TAG "):
			f.esearch(line)
		case strings.HasSuffix(line, " EXPUNGE"):
			n, _ := strconv.Atoi(strings.Fields(line)[1])
			for tag := range f.numbers {
				for i, k := range f.results[tag] {
					switch {
					case k == n:
						f.t.Fatalf("%d was expunged before it was removed from %s", n, tag)
					case k > n:
						f.results[tag][i]--
					}
				}
			}
		}
	}
	f.t.Fatalf("%s: the server has gone", command)
}

func (f *follower) esearch(line string) {
	tag := strings.Split(line, `"`)[1]
	list, following := f.results[tag]
	changes := addOrRemove.FindAllStringSubmatch(line, -1)
	if changes == nil {
		f.last = line
		if following {
			f.results[tag] = f.found()
		}
		return
	}
	for _, change := range changes {
		pairs := strings.Fields(change[2])
		for ; len(pairs) > 0; pairs = pairs[2:] {
			at, _ := strconv.Atoi(pairs[0])
			set := expand(pairs[1])
			switch {
			case at > len(list)+1:
				f.t.Fatalf("%s: there are %d", line, len(list))
			case change[1] == "ADDTO" && at > 0:
				list = slices.Insert(list, at-1, set...)
			case change[1] == "ADDTO":
				list = append(list, set...)
				slices.Sort(list)
			case at > 0:
				if got := list[at-1:][:len(set)]; !slices.Equal(got, set) {
					f.t.Fatalf("%s: at %d is %v", line, at, got)
				}
				list = slices.Delete(list, at-1, at-1+len(set))
			default:
				before := len(list)
				list = slices.DeleteFunc(list, func(n int) bool { return slices.Contains(set, n) })
				if len(list) != before-len(set) {
					f.t.Fatalf("%s: not all of them were there", line)
				}
			}
		}
	}
	f.results[tag] = list
}

func expand(set string) (all []int) {
	for r := range strings.SplitSeq(set, ",") {
		lo, hi, ok := strings.Cut(r, ":")
		a, _ := strconv.Atoi(lo)
		b := a
		if ok {
			b, _ = strconv.Atoi(hi)
		}
		for ; a <= b; a++ {
			all = append(all, a)
		}
	}
	return all
}

// asked is what a search finds now.
func (f *follower) asked(tag, command string) []int {
	f.last = ""
	f.say(tag + " " + command)
	return f.found()
}

func (f *follower) found() []int {
	_, all, ok := strings.Cut(f.last, " ALL ")
	if !ok {
		return []int{}
	}
	return expand(all)
}

// Whatever others do, a client has the results that a new search would give it,
// from what it is told alone.
func TestUpdates(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { followUpdates(t, rand.New(rand.NewPCG(seed, 5267))) })
	}
}

func followUpdates(t *testing.T, r *rand.Rand) {
	dir := t.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
	f, other := newFollower(t, dir), newFollower(t, dir)
	mail := func() string {
		text := fmt.Sprintf("Date: %d Mar 2000 10:00:00 +0000\r\nSubject: %c\r\n\r\n%s", 1+r.IntN(28), 'a'+r.IntN(6), strings.Repeat("x", r.IntN(20)))
		return fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s", len(text), text)
	}
	for range 8 {
		other.say(mail())
	}
	searches := map[string]string{
		"u1": "UID SEARCH RETURN (%s) UNSEEN",
		"u2": "UID SORT RETURN (%s) (SUBJECT REVERSE DATE) UTF-8 NOT DELETED",
		"u3": "SORT RETURN (%s) (SIZE) UTF-8 ALL",
		"u4": "SEARCH RETURN (%s) OR FLAGGED SUBJECT c",
		"u5": "UID SORT RETURN (%s) (REVERSE ARRIVAL) UTF-8 TEXT x UNFLAGGED",
	}
	for tag, search := range searches {
		f.results[tag] = nil
		if !strings.HasPrefix(search, "UID") {
			f.numbers[tag] = true
		}
		f.say(tag + " " + fmt.Sprintf(search, "UPDATE ALL"))
	}
	for round := range 40 {
		for range r.IntN(4) {
			set := fmt.Sprintf("%d:*", 1+r.IntN(6))
			who, how := other, "+-"
			if r.IntN(4) == 0 {
				who = f
			}
			flag := []string{`\Seen`, `\Flagged`, `\Deleted`}[r.IntN(3)]
			switch r.IntN(5) {
			case 0:
				who.say(mail())
			case 1:
				other.say("x EXPUNGE")
				if r.IntN(2) == 0 {
					other.say(mail())
				}
			default:
				i := r.IntN(2)
				who.say(fmt.Sprintf("s UID STORE %s %sFLAGS.SILENT (%s)", set, how[i:i+1], flag))
			}
		}
		f.say("n SEARCH ALL") // numbers stay as they are here
		f.say("n NOOP")
		for tag, search := range searches {
			got := slices.Clone(f.results[tag])
			if want := f.asked("q", fmt.Sprintf(search, "ALL")); !slices.Equal(got, want) {
				t.Fatalf("round %d: %s is %v, want %v", round, search, got, want)
			}
		}
	}
}
