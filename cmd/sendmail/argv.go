package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A job is what one call asks for.
type job int

const (
	send    job = iota // -bm: a message on standard input
	speak              // -bs: SMTP on standard input and output
	list               // -bp, mailq
	count              // -bpc
	aliases            // -bi, newaliases
	verify             // -bv
	flush              // -q: one run of the queue
	watch              // -q with an interval: run on
	serve              // -bd: the listener
	nothing            // what other mailers do here, we need not
	help
	tell
)

// A call is a command line, understood.
type call struct {
	job       job
	addresses []string

	office   string        // --post-office
	fromHead bool          // -t
	dots     bool          // -i: a line with a dot alone is text like any other
	sender   string        // -f, -r
	senderOK bool          // one of them was there
	name     string        // -F
	eightBit bool          // -B 8BITMIME
	utf8     bool          // -O SMTPUTF8=yes
	notify   string        // -N
	ret      string        // -R
	envid    string        // -V, as xtext
	now      bool          // -odi, -odf, -v: wait for the delivery
	verbose  bool          // -v
	gateway  bool          // -G
	hops     int           // -h
	tag      string        // -L
	interval time.Duration // of watch
	only     []pick        // -qI, -qR, -qS: all of them have to be right
	warnings []string
}

// A pick chooses messages of the queue: what 'I' (identifier), 'R' (one of the
// recipients) or 'S' (sender) has the text in it.
type pick struct {
	what byte
	text string
}

// errUsage is what a command line gets that nobody can understand.
var errUsage = errors.New("usage: sendmail [-tiv] [-f sender] [-F name] [recipient ...], sendmail -q[interval], sendmail -bp; see sendmail(8)")

// How an option takes its value.
type value int

const (
	none     value = iota
	required       // attached, or the next argument
	attached       // attached or not at all
)

// options is the union of what Sendmail, Postfix, Exim, OpenSMTPD, msmtp and
// dma take. Letters without a value may stand together: -ti.
var options = []struct {
	letter byte
	value  value
	set    func(c *call, v string) error
	help   string // "", if nothing is done
}{
	{'A', required, ignore, ""},
	{'B', required, (*call).setBody, "`TYPE` of the body: 7BIT or 8BITMIME"},
	{'C', required, ignore, ""},
	{'D', required, ignore, ""},
	{'E', attached, ignore, ""},
	{'F', required, func(c *call, v string) error { c.name = v; return nil }, "full `NAME` of the author, for a message without From"},
	{'G', none, func(c *call, _ string) error { c.gateway = true; return nil }, "the message only passes: add no header fields"},
	{'I', none, func(c *call, _ string) error { c.job = aliases; return nil }, "check the aliases, as newaliases does"},
	{'J', attached, ignore, ""},
	{'L', required, func(c *call, v string) error { c.tag = v; return nil }, "`TAG` of the lines in the log"},
	{'M', attached, unsupported, ""},
	{'N', required, (*call).setNotify, "when to report to the sender: never, or a list of `failure,delay,success`"},
	{'O', required, (*call).setOption, "set an option, `NAME=VALUE`: DeliveryMode, IgnoreDots, SMTPUTF8"},
	{'Q', attached, ignore, ""},
	{'R', required, (*call).setRet, "what a report sends back: `full` or hdrs"},
	{'T', required, ignore, ""},
	{'U', none, ignore, ""},
	{'V', required, (*call).setEnvid, "`ENVID`, an identifier for reports"},
	{'X', required, ignore, ""},
	{'b', required, (*call).setMode, "`MODE`: m message, s SMTP, p list the queue, i check aliases, v verify addresses, d or D serve"},
	{'c', none, ignore, ""},
	{'d', attached, ignore, ""},
	{'e', attached, ignore, ""},
	{'f', required, (*call).setSender, "envelope sender, `ADDRESS`; '' or '<>' for none"},
	{'h', required, (*call).setHops, "the message has passed `N` hosts, beside those of its header"},
	{'i', none, func(c *call, _ string) error { c.dots = true; return nil }, "a line with a single dot does not end the message"},
	{'m', none, ignore, ""},
	{'n', none, ignore, ""},
	{'o', required, (*call).setO, "old option `X[VALUE]`: -oi, -odi, -odq; others are ignored"},
	{'p', required, ignore, ""},
	{'q', attached, (*call).setQueue, "run the queue once; with `INTERVAL` go on; I, R or S and a text choose messages"},
	{'r', required, (*call).setSender, "the same as -f `ADDRESS`"},
	{'s', none, ignore, ""},
	{'t', none, func(c *call, _ string) error { c.fromHead = true; return nil }, "recipients are those of To, Cc and Bcc too"},
	{'v', none, func(c *call, _ string) error { c.verbose, c.now = true, true; return nil }, "deliver now, and say how it goes"},
	{'x', none, ignore, ""},
}

func ignore(*call, string) error { return nil }

func unsupported(*call, string) error { return errUsage }

// understand reads a command line. Options end at the first address or at "--".
func understand(argv []string) (*call, error) {
	c := &call{}
	switch strings.TrimSuffix(filepath.Base(argv[0]), ".exe") {
	case "mailq":
		c.job = list
	case "newaliases":
		c.job = aliases
	case "runq":
		c.job = flush
	case "hoststat", "purgestat":
		c.job = nothing
	case "smtpd":
		c.job = serve
	}
	args := argv[1:]
	for len(args) > 0 {
		arg := args[0]
		if len(arg) < 2 || arg[0] != '-' {
			break
		}
		args = args[1:]
		if arg == "--" {
			break
		}
		var err error
		if strings.HasPrefix(arg, "--") {
			args, err = c.long(arg, args)
		} else if arg == "-verp" { // Courier's and Postfix's word for a thing we have not
			continue
		} else {
			args, err = c.short(arg[1:], args)
		}
		if err != nil {
			return nil, err
		}
	}
	c.addresses = args
	if c.job == flush && len(args) == 1 { // -q 15m
		if d, ok := interval(args[0]); ok {
			c.job, c.interval, c.addresses = watch, d, nil
		}
	}
	return c, nil
}

func (c *call) long(arg string, args []string) ([]string, error) {
	name, v, has := strings.Cut(arg[2:], "=")
	switch {
	case name == "help" && !has:
		c.job = help
	case name == "version" && !has:
		c.job = tell
	case name == "post-office" && has:
		c.office = v
	case name == "post-office" && len(args) > 0:
		c.office, args = args[0], args[1:]
	default:
		return nil, errUsage
	}
	return args, nil
}

// short reads the letters of one argument.
func (c *call) short(letters string, args []string) ([]string, error) {
	for letters != "" {
		letter := letters[0]
		letters = letters[1:]
		found := false
		for _, o := range options {
			if o.letter != letter {
				continue
			}
			found = true
			v := ""
			if o.value != none {
				v, letters = letters, ""
				if v == "" && o.value == required {
					if len(args) == 0 {
						return nil, errUsage
					}
					v, args = args[0], args[1:]
				}
			}
			if err := o.set(c, v); err != nil {
				return nil, err
			}
		}
		if !found {
			return nil, errUsage
		}
	}
	return args, nil
}

func (c *call) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

func (c *call) setBody(v string) error {
	c.eightBit = strings.EqualFold(v, "8BITMIME")
	return nil
}

// setSender takes "", "<>" and "<a@b>" too.
func (c *call) setSender(v string) error {
	v = strings.TrimSpace(v)
	if strings.HasPrefix(v, "<") && strings.HasSuffix(v, ">") {
		v = v[1 : len(v)-1]
	}
	c.sender, c.senderOK = v, true
	return nil
}

func (c *call) setNotify(v string) error {
	var words []string
	for w := range strings.SplitSeq(strings.ToUpper(v), ",") {
		switch w = strings.TrimSpace(w); w {
		case "SUCCESS", "FAILURE", "DELAY":
			words = append(words, w)
		case "NEVER":
			if !strings.Contains(v, ",") {
				words = append(words, w)
				break
			}
			fallthrough
		default:
			c.warn("-N %s: neither never nor a list of failure, delay, success", v)
			return nil
		}
	}
	c.notify = strings.Join(words, ",")
	return nil
}

func (c *call) setRet(v string) error {
	switch strings.ToUpper(v) {
	case "FULL":
		c.ret = "FULL"
	case "HDRS":
		c.ret = "HDRS"
	default:
		c.warn("-R %s: neither full nor hdrs", v)
	}
	return nil
}

// setEnvid writes the identifier as xtext (RFC 3461 §4.4).
func (c *call) setEnvid(v string) error {
	if len(v) > 100 || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.warn("-V: not 100 printable characters of US-ASCII at most")
		return nil
	}
	c.envid = xtext(v)
	return nil
}

func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (c *call) setHops(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return errUsage
	}
	c.hops = n
	return nil
}

// setOption is -O name=value.
func (c *call) setOption(v string) error {
	name, value, _ := strings.Cut(v, "=")
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "deliverymode":
		c.delivery(value)
	case "ignoredots":
		c.dots = value == "" || strings.ContainsAny(value[:1], "TtYy1")
	case "smtputf8":
		c.utf8 = strings.EqualFold(value, "yes")
	case "requiretls":
		if strings.EqualFold(value, "yes") {
			return errors.New("REQUIRETLS cannot be promised here")
		}
	}
	return nil
}

func (c *call) delivery(mode string) {
	c.now = strings.HasPrefix(mode, "i") || strings.HasPrefix(mode, "f")
}

// setO is -ox[value].
func (c *call) setO(v string) error {
	switch {
	case v == "i", strings.EqualFold(v, "itrue"):
		c.dots = true
	case strings.HasPrefix(v, "d"):
		c.delivery(v[1:])
	}
	return nil
}

func (c *call) setMode(v string) error {
	switch v {
	case "m":
		c.job = send
	case "s":
		c.job = speak
	case "p":
		c.job = list
	case "pc", "P":
		c.job = count
	case "i":
		c.job = aliases
	case "v":
		c.job = verify
	case "d", "D", "l":
		c.job = serve
		if c.interval > 0 {
			c.job = watch
		}
	case "h", "H":
		c.job = nothing
	case "V":
		c.job = tell
	default:
		return errUsage
	}
	return nil
}

// setQueue is -q, -qf, -qIid, -qRrecipient, -qSsender, -qinterval.
func (c *call) setQueue(v string) error {
	switch {
	case v == "" || v == "f":
		c.job = flush
	case len(v) > 1 && strings.ContainsRune("IRS", rune(v[0])):
		c.job = flush
		c.only = append(c.only, pick{v[0], v[1:]})
	default:
		d, ok := interval(v)
		if !ok {
			return errUsage
		}
		c.job, c.interval = watch, d
	}
	return nil
}

// interval reads "90", which is minutes, "30s", "1h30m", "2d", "1w".
func interval(s string) (time.Duration, bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	var total time.Duration
	for s != "" {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		v, err := strconv.ParseUint(s[:n], 10, 32)
		unit := time.Minute
		if err != nil {
			return 0, false
		}
		if s = s[n:]; s != "" {
			u, ok := units[s[0]]
			if !ok || v > uint64(1000*units['w']/u) {
				return 0, false
			}
			unit, s = u, s[1:]
		} else if v > 1<<20 {
			return 0, false
		}
		total += time.Duration(v) * unit
	}
	return total, total > 0
}

// usage prints what --help asks for.
func usage(w io.Writer) {
	fmt.Fprint(w, `NAME:
   sendmail - hand in mail, and look after its queue

USAGE:
   sendmail [options] [recipient ...] <message
   sendmail -q[interval]
   sendmail -bp, mailq
   sendmail -bi, newaliases

OPTIONS:
`)
	for _, o := range options {
		if o.help == "" {
			continue
		}
		name, text := "-"+string(o.letter), o.help
		if before, rest, ok := strings.Cut(o.help, "`"); ok {
			arg, after, _ := strings.Cut(rest, "`")
			text = before + arg + after
			name += " " + arg
			if o.value == attached {
				name = "-" + string(o.letter) + "[" + arg + "]"
			}
		}
		fmt.Fprintf(w, "   %-24s  %s\n", name, text)
	}
	fmt.Fprint(w, `   --post-office DIR         read domains, users, aliases and routes from DIR [$PENNYPOST]
   --help                    show this
   --version                 show the version
`)
	fmt.Fprint(w, "\nOther options of other sendmails are taken and ignored; sendmail(8) has the table.\n")
}
