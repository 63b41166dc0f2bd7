package check

import (
	"slices"
	"strconv"
	"strings"
)

// longestBase leaves room behind a base name for ":2,", five flags and 26 keywords within the 255 octets of a file name.
const longestBase = 255 - len(":2,") - len("DFRST") - 26 - 1

// split takes a file name apart at the first colon: the base name never changes.
func split(name string) (base, info string) {
	if i := strings.IndexByte(name, ':'); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// baseFault tells why a base name can be no message's, or "".
func baseFault(base string) string {
	switch {
	case base == "":
		return "its name has nothing before the flags that tells it from others"
	case base[0] == ',' || base[0] == ';' || base[0] == '!':
		return "its name has no part that tells it from others"
	case len(base) > longestBase:
		return "its name leaves no room for flags"
	}
	for i := range len(base) {
		if base[i] < ' ' || base[i] == 0x7f {
			return "its name has control characters"
		}
	}
	return ""
}

// An info is what stands behind a base name.
type info struct {
	fault   string // what is wrong with it, or ""
	right   string // how it should be
	letters uint32 // keyword letters: bit 0 is "a"
}

// parseInfo reads ":2,FLAGS[,extra]". Flags stand in ASCII order, each once (maildir(5)).
func parseInfo(text string) info {
	rest, ok := strings.CutPrefix(text, ":2,")
	if !ok {
		if text == "" || strings.HasPrefix(text, ":1,") { // never touched; experimental, as maildir(5) allows
			return info{right: text}
		}
		return info{fault: "has no \":2,\" before its flags", right: ":2,"}
	}
	flags, extra := rest, ""
	if i := strings.IndexByte(rest, ','); i >= 0 {
		flags, extra = rest[:i], rest[i:]
	}
	in := info{right: text}
	sorted := []byte(flags)
	slices.Sort(sorted)
	unique := slices.Compact(slices.Clone(sorted))
	switch {
	case len(unique) != len(sorted):
		in.fault = "has a flag twice"
	case string(sorted) != flags:
		in.fault = "has its flags out of order"
	}
	kept := unique[:0]
	for _, c := range unique {
		switch {
		case c >= 'a' && c <= 'z':
			in.letters |= 1 << (c - 'a')
		case c < ' ' || c == 0x7f || c == ':':
			in.fault = "has flags that are no letters"
			continue
		}
		kept = append(kept, c)
	}
	if strings.ContainsFunc(extra, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		in.fault, extra = "has control characters behind its flags", ""
	}
	if in.fault != "" {
		in.right = ":2," + string(kept) + extra
	}
	return in
}

// A sizing is what a base name says about the size of its file.
type sizing struct {
	s, w, e []string // the values of the fields ,S= ,W= and ,E=
}

func sizingOf(base string) (z sizing) {
	_, fields, _ := strings.Cut(base, ",")
	for field := range strings.SplitSeq(fields, ",") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "S":
			z.s = append(z.s, value)
		case "W":
			z.w = append(z.w, value)
		case "E":
			z.e = append(z.e, value)
		}
	}
	return z
}

// differs tells what a name says that is not so, and what is; "" when all is well.
func (z sizing) differs(o octets, content bool) string {
	var says, right []string
	see := func(key string, values []string, real int64) {
		for _, v := range values {
			if v != strconv.FormatInt(real, 10) {
				says = append(says, key+"="+short(v))
				right = append(right, key+"="+strconv.FormatInt(real, 10))
				return
			}
		}
	}
	see("S", z.s, o.size)
	if content {
		see("W", z.w, o.crlf)
		if len(says) == 0 {
			see("E", z.e, o.lacks)
		}
	}
	if len(says) == 0 {
		return ""
	}
	return strings.Join(says, ",") + ", right is " + strings.Join(right, ",")
}

// resized gives a base name the right sizes, with all its other fields.
func resized(base string, o octets) string {
	unique, fields, _ := strings.Cut(base, ",")
	var b strings.Builder
	b.WriteString(unique)
	for field := range strings.SplitSeq(fields, ",") {
		switch key, _, _ := strings.Cut(field, "="); key {
		case "S", "W", "E", "":
		default:
			b.WriteString("," + field)
		}
	}
	if o.lacks > 0 {
		b.WriteString(",E=" + strconv.FormatInt(o.lacks, 10))
	}
	b.WriteString(",S=" + strconv.FormatInt(o.size, 10) + ",W=" + strconv.FormatInt(o.crlf, 10))
	return b.String()
}
