package mimetree

import (
	"strconv"
	"strings"
	"time"
)

var months = map[string]time.Month{
	"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}

// zones are the names of RFC 5322 §4.3 and RFC 822 §5.1, in seconds east; single letters say nothing.
var zones = map[string]int{
	"ut": 0, "utc": 0, "gmt": 0, "z": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
}

// ParseDate reads a Date field (RFC 5322 §3.3, §4.3) in the forms that mail has: with or without the
// day of the week, seconds and zone, years of two and three digits, comments, dashes in the date,
// the order of asctime(3), and RFC 3339. It reports false where day, month, year or time of day
// cannot be told.
func ParseDate(s string) (time.Time, bool) {
	if len(s) > 256 {
		s = s[:256]
	}
	if t := strings.Trim(s, " \t"); len(t) > 4 && t[4] == '-' {
		if t, err := time.Parse(time.RFC3339, t); err == nil {
			return t, true
		}
	}
	var day, year, zone int
	var month time.Month
	hour, minute, second := -1, 0, 0
	haveDay, haveYear, haveZone := false, false, false
	for _, w := range dateWords(s) {
		l := strings.ToLower(w)
		switch {
		case strings.Contains(w, ":"):
			if hour >= 0 {
				continue
			}
			h, m, sec, ok := clock(w)
			if !ok {
				return time.Time{}, false
			}
			hour, minute, second = h, m, sec
		case (w[0] == '+' || w[0] == '-') && hour >= 0:
			if z, ok := offset(w); ok && !haveZone {
				zone, haveZone = z, true
			}
		case w[0] >= '0' && w[0] <= '9':
			n, err := strconv.Atoi(w)
			switch {
			case err != nil:
				return time.Time{}, false
			case !haveDay && n >= 1 && n <= 31 && len(w) <= 2:
				day, haveDay = n, true
			case !haveYear:
				year, haveYear = fullYear(n, len(w)), true
			}
		case len(l) >= 3 && month == 0 && months[l[:3]] != 0:
			month = months[l[:3]]
		case hour >= 0 && !haveZone:
			if z, ok := zones[l]; ok {
				zone, haveZone = z*3600, true
			} else if len(l) > 3 && (strings.HasPrefix(l, "gmt") || strings.HasPrefix(l, "utc")) {
				zone, haveZone = offset(w[3:])
			} else if strings.ContainsAny(w, "0123456789") {
				return time.Time{}, false // a zone that cannot be told
			}
		case hour >= 0 && (l == "pm" || l == "am"):
			if hour %= 12; l == "pm" {
				hour += 12
			}
		}
	}
	if !haveDay || !haveYear || year > 9999 || month == 0 || hour < 0 {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, hour, minute, second, 0, time.FixedZone("", zone))
	if t.Day() != day {
		return time.Time{}, false // the 31st of a short month
	}
	return t, true
}

// dateWords cuts at blanks, commas and comments, and at the dashes inside "1-Jan-2024".
func dateWords(s string) []string {
	words := make([]string, 0, 8)
	start := -1
	end := func(i int) {
		if start >= 0 {
			words = append(words, s[start:i])
			start = -1
		}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '(':
			end(i)
			i = skipComment(s, i) - 1
		case isSpace(c) || c == ',' || c == ';' || c == '"':
			end(i)
		case c == '-' && start >= 0 && !strings.Contains(s[start:i], ":"):
			end(i)
		case (c == '+' || c == '-') && start >= 0 && strings.Contains(s[start:i], ":"):
			end(i)
			start = i
		case start < 0:
			start = i
		}
	}
	end(len(s))
	return words
}

// clock reads hh:mm[:ss].
func clock(w string) (h, m, s int, ok bool) {
	p := strings.Split(w, ":")
	if len(p) > 3 {
		return 0, 0, 0, false
	}
	var n [3]int
	for i, f := range p {
		f, _, _ = strings.Cut(f, ".")
		v, err := strconv.Atoi(f)
		if err != nil || v < 0 || v > 60 {
			return 0, 0, 0, false
		}
		n[i] = v
	}
	return n[0], n[1], n[2], n[0] < 24 && n[1] < 60
}

// offset reads +hhmm or +hh:mm as seconds.
func offset(w string) (int, bool) {
	if len(w) < 2 || w[0] != '+' && w[0] != '-' {
		return 0, false
	}
	n, err := strconv.Atoi(strings.ReplaceAll(w[1:], ":", ""))
	if err != nil || n < 0 || n > 9999 {
		return 0, false
	}
	if len(w) <= 3 {
		n *= 100
	}
	z := n/100*3600 + n%100*60
	if w[0] == '-' {
		z = -z
	}
	return z, true
}

// fullYear reads a year of two or three digits as RFC 5322 §4.3 says.
func fullYear(n, digits int) int {
	switch {
	case digits == 2 && n < 50:
		return n + 2000
	case digits <= 3:
		return n + 1900
	}
	return n
}
