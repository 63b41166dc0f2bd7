package account

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"pennypost/maildir"
)

// quotaKey begins the words among a user's extra fields that limit his mail, as Dovecot
// spells them: userdb_quota_rule=*:storage=1G:messages=10000. A digit behind it makes it
// a further rule.
const quotaKey = "userdb_quota_rule"

// units are what may stand behind a number, in octets.
var units = map[byte]int64{'B': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// parseRule reads a rule of Dovecot's quota. nil: it is for one folder only, of which
// nobody keeps count here.
func parseRule(rule string) (*maildir.Limits, error) {
	folder, text, ok := strings.Cut(rule, ":")
	if !ok || folder == "" {
		return nil, fmt.Errorf("%q is not of the form *:storage=1G:messages=10000", rule)
	}
	if folder != "*" {
		return nil, nil
	}
	return parseLimits(text)
}

// parseLimits reads storage=SIZE, bytes=SIZE and messages=NUMBER with colons between, or
// "ignore". Without a unit, storage counts 1024 octets.
func parseLimits(text string) (*maildir.Limits, error) {
	var l maildir.Limits
	for word := range strings.SplitSeq(text, ":") {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "ignore":
			return new(maildir.Limits), nil
		case "storage":
			l.Octets, err = quantity(value, 1<<10)
		case "bytes":
			l.Octets, err = quantity(value, 1)
		case "messages":
			l.Messages, err = quantity(value, 1)
		default:
			err = fmt.Errorf("%q is not storage, bytes, messages or ignore", word)
		}
		if err != nil {
			return nil, err
		}
	}
	return &l, nil
}

// quantity reads a number with a unit behind it.
func quantity(text string, unit int64) (int64, error) {
	digits := text
	if n := len(text); n > 1 {
		if u, ok := units[text[n-1]&^0x20]; ok {
			digits, unit = text[:n-1], u
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/16/unit {
		return 0, fmt.Errorf("%q is not a number with k, M, G or T behind it", text)
	}
	return int64(n) * unit, nil
}

// ParseLimits reads limits as an administrator types them: a size as "1G", or the words
// of the rule, as "storage=1G:messages=10000".
func ParseLimits(text string) (maildir.Limits, error) {
	if !strings.ContainsAny(text, "=") {
		if n := len(text); n == 0 || text[n-1] >= '0' && text[n-1] <= '9' {
			return maildir.Limits{}, fmt.Errorf("%q wants a unit: k, M, G or T", text)
		}
		text = "storage=" + text
	}
	l, err := parseLimits(text)
	if err != nil {
		return maildir.Limits{}, err
	}
	return *l, nil
}

// rule writes limits as a word of the extra fields.
func rule(l maildir.Limits) string {
	var words []string
	if l.Octets > 0 {
		word := fmt.Sprintf("bytes=%d", l.Octets)
		for _, unit := range []string{"T", "G", "M", "k"} {
			if n := units[unit[0]&^0x20]; l.Octets%n == 0 {
				word = fmt.Sprintf("storage=%d%s", l.Octets/n, unit)
				break
			}
		}
		words = append(words, word)
	}
	if l.Messages > 0 {
		words = append(words, fmt.Sprintf("messages=%d", l.Messages))
	}
	if len(words) == 0 {
		words = append(words, "ignore")
	}
	return quotaKey + "=*:" + strings.Join(words, ":")
}

// isRule tells whether a word of the extra fields is a rule for quota.
func isRule(key string) bool {
	rest, ok := strings.CutPrefix(key, quotaKey)
	return ok && strings.Trim(rest, "0123456789") == ""
}

// SetQuota writes new limits into a user's line, in the place of the old ones; those for
// single folders stay. nil takes them away. ErrUnknown: there is no such user.
func (o *Office) SetQuota(addr string, limits *maildir.Limits) error {
	return o.setField(addr, 7, func(extra string) string {
		var words []string
		for word := range strings.FieldsSeq(extra) {
			k, value, _ := strings.Cut(word, "=")
			if l, err := parseRule(value); !isRule(k) || err == nil && l == nil {
				words = append(words, word)
			}
		}
		if limits != nil {
			words = append(words, rule(*limits))
		}
		return strings.Join(words, " ")
	})
}
