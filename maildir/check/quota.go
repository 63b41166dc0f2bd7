package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const quotaName = "maildirsize"

// A usage is what a Maildir holds.
type usage struct{ octets, messages int64 }

// parseQuota reads maildirsize: a line of limits, then lines "octets messages" to be added up. why tells what is wrong.
func parseQuota(text string) (u usage, why string) {
	limits, rest, ok := strings.Cut(text, "\n")
	if !ok {
		return u, "its first line has no end"
	}
	for field := range strings.SplitSeq(limits, ",") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		if _, err := strconv.ParseUint(field[:len(field)-1], 10, 63); err != nil {
			return u, fmt.Sprintf("its first line has no limits: %q", short(limits))
		}
	}
	n := 1
	for line := range strings.Lines(rest) {
		n++
		words := strings.Fields(line)
		if len(words) != 2 || !strings.HasSuffix(line, "\n") {
			return u, fmt.Sprintf("line %d is not \"octets messages\": %q", n, short(line))
		}
		octets, err := strconv.ParseInt(words[0], 10, 60)
		messages, err2 := strconv.ParseInt(words[1], 10, 60)
		if err != nil || err2 != nil {
			return u, fmt.Sprintf("line %d is not \"octets messages\": %q", n, short(line))
		}
		u.octets += octets
		u.messages += messages
	}
	switch {
	case n == 1:
		return u, "it has no sums"
	case u.octets < 0 || u.messages < 0:
		return u, fmt.Sprintf("its sums are less than nothing: %d octets in %s", u.octets, plural(int(u.messages), "message", "messages"))
	}
	return u, ""
}

// quota compares maildirsize with what is there, and again when others have been at it meanwhile.
func (c *checker) quota(dirs []folderDir) {
	var before usage
	var why string
	for try := 0; ; try++ {
		data, st, err := c.root.read(quotaName)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			if errors.Is(err, errIrregular) || errors.Is(err, unix.ELOOP) {
				c.mendRoot(Finding{Severity: Warning, Kind: kindQuota, File: quotaName, Text: "it is no file", Mend: "set it aside"},
					func(m *mending) error { return m.aside(quotaName) })
				return
			}
			c.fail(c.path+"/"+quotaName, err)
			return
		}
		says, fault := parseQuota(string(data))
		if fault == "" {
			is, err := c.usage(dirs)
			if err != nil {
				c.fail(c.path, err)
				return
			}
			if says == is {
				return
			}
			fault = fmt.Sprintf("it says %d octets in %s, there are %d in %d",
				says.octets, plural(int(says.messages), "message", "messages"), is.octets, is.messages)
		}
		after, err := c.root.stat(quotaName)
		if err == nil && after.Ino == st.Ino && after.Size == st.Size && fault == why && says == before {
			break
		}
		if try == 10 {
			return // it changes all the time
		}
		before, why = says, fault
		pause(200 * time.Millisecond)
	}
	c.mendRoot(Finding{Severity: Warning, Kind: kindQuota, File: quotaName, Text: why, Mend: "count anew"},
		func(m *mending) error { return m.m.Recount() })
}

// usage counts by the sizes in the names, as Maildir++ wants it, and looks at files that have none.
func (c *checker) usage(dirs []folderDir) (u usage, err error) {
	for _, d := range append([]folderDir{{dir: "."}}, dirs...) {
		in := map[string]bool{} // one that moves from new to cur meanwhile counts once
		for _, sub := range []string{"new", "cur"} {
			entries, err := c.root.entries(d.dir + "/" + sub)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return u, err
			}
			for _, e := range entries {
				base, _ := split(e.name)
				if e.kind != unix.DT_REG || e.name[0] == '.' || in[base] && sub == "cur" {
					continue
				}
				in[base] = in[base] || sub == "new"
				size := int64(-1)
				if z := sizingOf(base); len(z.s) > 0 {
					if n, err := strconv.ParseInt(z.s[len(z.s)-1], 10, 60); err == nil {
						size = n
					}
				}
				if size < 0 {
					st, err := c.root.stat(d.dir + "/" + sub + "/" + e.name)
					if err != nil {
						continue // gone, or moved
					}
					size = st.Size
				}
				u.octets += size
				u.messages++
			}
		}
	}
	return u, nil
}
