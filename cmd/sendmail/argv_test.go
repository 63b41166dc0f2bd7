package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The spellings that callers use, and what they mean here.
func TestArgv(t *testing.T) {
	bob := []string{"bob"}
	for line, want := range map[string]call{
		"sendmail bob":                                     {addresses: bob},
		"sendmail -bm bob":                                 {addresses: bob},
		"sendmail -i bob":                                  {dots: true, addresses: bob},
		"sendmail -oi bob":                                 {dots: true, addresses: bob},
		"sendmail -oitrue bob":                             {dots: true, addresses: bob},
		"sendmail -oiTRUE -- bob":                          {dots: true, addresses: bob},
		"sendmail -o i bob":                                {dots: true, addresses: bob},
		"sendmail -t":                                      {fromHead: true},
		"sendmail -ti bob":                                 {fromHead: true, dots: true, addresses: bob},
		"sendmail -t -i -fme":                              {fromHead: true, dots: true, sender: "me", senderOK: true},
		"sendmail -tif me bob":                             {fromHead: true, dots: true, sender: "me", senderOK: true, addresses: bob},
		"sendmail -f me bob":                               {sender: "me", senderOK: true, addresses: bob},
		"sendmail -r me bob":                               {sender: "me", senderOK: true, addresses: bob},
		"sendmail -f <me@here> bob":                        {sender: "me@here", senderOK: true, addresses: bob},
		"sendmail -f <> bob":                               {senderOK: true, addresses: bob},
		"sendmail -f  bob":                                 {senderOK: true, addresses: bob}, // an empty argument
		"sendmail -F Alice_B bob":                          {name: "Alice_B", addresses: bob},
		"sendmail -FAlice bob":                             {name: "Alice", addresses: bob},
		"sendmail -B 8BITMIME bob":                         {eightBit: true, addresses: bob},
		"sendmail -B8bitmime bob":                          {eightBit: true, addresses: bob},
		"sendmail -B 7BIT bob":                             {addresses: bob},
		"sendmail -B whatever bob":                         {addresses: bob},
		"sendmail -N never bob":                            {notify: "NEVER", addresses: bob},
		"sendmail -N failure,delay bob":                    {notify: "FAILURE,DELAY", addresses: bob},
		"sendmail -Nsuccess bob":                           {notify: "SUCCESS", addresses: bob},
		"sendmail -R hdrs bob":                             {ret: "HDRS", addresses: bob},
		"sendmail -R FULL bob":                             {ret: "FULL", addresses: bob},
		"sendmail -V a+b bob":                              {envid: "a+2Bb", addresses: bob},
		"sendmail -O SMTPUTF8=yes bob":                     {utf8: true, addresses: bob},
		"sendmail -O DeliveryMode=interactive bob":         {now: true, addresses: bob},
		"sendmail -ODeliveryMode=b bob":                    {addresses: bob},
		"sendmail -O IgnoreDots bob":                       {dots: true, addresses: bob},
		"sendmail -O IgnoreDots=false bob":                 {addresses: bob},
		"sendmail -O QueueDirectory=/x bob":                {addresses: bob},
		"sendmail -odi bob":                                {now: true, addresses: bob},
		"sendmail -odf bob":                                {now: true, addresses: bob},
		"sendmail -odb bob":                                {addresses: bob},
		"sendmail -odq -odd -odqs bob":                     {addresses: bob},
		"sendmail -oem -oep -oeq -oew -oee bob":            {addresses: bob},
		"sendmail -em -ep -eq -ew -ee bob":                 {addresses: bob},
		"sendmail -om -oo -o7 -o8 -oA/x bob":               {addresses: bob},
		"sendmail -v bob":                                  {verbose: true, now: true, addresses: bob},
		"sendmail -G bob":                                  {gateway: true, addresses: bob},
		"sendmail -L tag bob":                              {tag: "tag", addresses: bob},
		"sendmail -h 17 bob":                               {hops: 17, addresses: bob},
		"sendmail -Ac -Am -U -m -n -x bob":                 {addresses: bob},
		"sendmail -E -Ex -J -Jx -c -s -d -d0.1 -Q -Qx bob": {addresses: bob},
		"sendmail -C /etc/sendmail.cf -p SMTP:host -X /tmp/x -D /tmp/y -T 5d bob": {addresses: bob},
		"sendmail -C/etc/sendmail.cf -pSMTP -X/tmp/x -XV -D/tmp/y -T5d -verp bob": {addresses: bob},
		"sendmail -- -bob":              {addresses: []string{"-bob"}},
		"sendmail bob -t":               {addresses: []string{"bob", "-t"}},
		"sendmail -i - bob":             {dots: true, addresses: []string{"-", "bob"}},
		"sendmail -bs":                  {job: speak},
		"sendmail -bp":                  {job: list},
		"sendmail -bpc":                 {job: count},
		"sendmail -bP":                  {job: count},
		"sendmail -bi":                  {job: aliases},
		"sendmail -I":                   {job: aliases},
		"sendmail -bv bob":              {job: verify, addresses: bob},
		"sendmail -bd":                  {job: serve},
		"sendmail -bD":                  {job: serve},
		"sendmail -bl":                  {job: serve},
		"sendmail -bd -q15m":            {job: watch, interval: 15 * time.Minute},
		"sendmail -q15m -bD":            {job: watch, interval: 15 * time.Minute},
		"sendmail -bh":                  {job: nothing},
		"sendmail -bH":                  {job: nothing},
		"sendmail -bV":                  {job: tell},
		"sendmail --version":            {job: tell},
		"sendmail --help":               {job: help},
		"sendmail -q":                   {job: flush},
		"sendmail -qf":                  {job: flush},
		"sendmail -q -v":                {job: flush, verbose: true, now: true},
		"sendmail -q1s":                 {job: watch, interval: time.Second},
		"sendmail -q 30m":               {job: watch, interval: 30 * time.Minute},
		"sendmail -q15":                 {job: watch, interval: 15 * time.Minute},
		"sendmail -q1h30m":              {job: watch, interval: 90 * time.Minute},
		"sendmail -qIabc":               {job: flush, only: []pick{{'I', "abc"}}},
		"sendmail -qRx.org -qSalice":    {job: flush, only: []pick{{'R', "x.org"}, {'S', "alice"}}},
		"sendmail --post-office /x bob": {office: "/x", addresses: bob},
		"sendmail --post-office=/x bob": {office: "/x", addresses: bob},
		"/usr/bin/mailq":                {job: list},
		"/usr/bin/newaliases":           {job: aliases},
		"runq":                          {job: flush},
		"hoststat":                      {job: nothing},
		"purgestat":                     {job: nothing},
		"/usr/sbin/smtpd":               {job: serve},
		// As recorded from the callers themselves.
		"sendmail -FCronDaemon -i -B8BITMIME -oem bob":            {name: "CronDaemon", dots: true, eightBit: true, addresses: bob},
		"sendmail -FCronDaemon -i -odi -oem -oi -t -f me":         {name: "CronDaemon", dots: true, now: true, fromHead: true, sender: "me", senderOK: true},
		"sendmail -FAnacron -odi bob":                             {name: "Anacron", now: true, addresses: bob},
		"sendmail -oem -oi -f me -N failure,delay -R hdrs -- bob": {dots: true, sender: "me", senderOK: true, notify: "FAILURE,DELAY", ret: "HDRS", addresses: bob},
		"sendmail -oi -f me -oep -odi -t":                         {dots: true, sender: "me", senderOK: true, now: true, fromHead: true},
		"sendmail -i -m -v -f me -- bob":                          {dots: true, verbose: true, now: true, sender: "me", senderOK: true, addresses: bob},
	} {
		argv := strings.Split(line, " ")
		for i := range argv {
			argv[i] = strings.ReplaceAll(argv[i], "_", " ")
		}
		want.name = strings.ReplaceAll(want.name, "_", " ")
		got, err := understand(argv)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if len(got.addresses) == 0 {
			got.addresses = nil
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n%+v, not\n%+v", line, *got, want)
		}
	}
}

func TestArgvThatNobodyUnderstands(t *testing.T) {
	for _, line := range []string{
		"-Z", "-f", "-t -F", "-bz", "-b", "-bt", "-ba", "-be", "-MC", "-M", "-qx", "-q0", "-q1y", "-q99999999999999999999s",
		"-h x", "--nonsense", "--help=x", "--post-office", "-tZ", "-O", "-\xff",
	} {
		if c, err := understand(append([]string{"sendmail"}, strings.Fields(line)...)); err == nil {
			t.Errorf("%s: %+v", line, c)
		}
		// Not a word of the message is read, nothing is printed on stdout.
		var out, errs bytes.Buffer
		if code := run(append([]string{"sendmail"}, strings.Fields(line)...), unread{t}, &out, &errs); code != 64 || out.Len() > 0 || errs.Len() == 0 {
			t.Errorf("%s: exit %d, %q, %q", line, code, out.String(), errs.String())
		}
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("stdin was read")
	return 0, io.EOF
}

// A bad value of a DSN option is told and passed over.
func TestWarnings(t *testing.T) {
	for _, args := range [][]string{{"-N", "sometimes"}, {"-N", "never,failure"}, {"-R", "half"}, {"-V", strings.Repeat("x", 101)}, {"-V", "a\nb"}} {
		c, err := understand(append([]string{"sendmail"}, args...))
		if err != nil || len(c.warnings) != 1 || c.notify+c.ret+c.envid != "" {
			t.Errorf("%q: %+v, %v", args, c, err)
		}
	}
}

func TestUntilDot(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"a\n.\nb\n":       "a\n",
		"a\r\n.\r\nb\r\n": "a\r\n",
		".\n":             "",
		".":               "",
		"a\n.":            "a\n",
		"a\n..\n. \nb.\n": "a\n..\n. \nb.\n",
		strings.Repeat("x", 40000) + ".\nb\n.\nc": strings.Repeat("x", 40000) + ".\nb\n",
	} {
		got, err := io.ReadAll(&untilDot{r: newSmallReader(in)})
		if string(got) != want || err != nil {
			t.Errorf("%.20q: %.20q, %v", in, got, err)
		}
	}
}

func FuzzArgv(f *testing.F) {
	f.Add("-tif me\x00bob")
	f.Add("-q1s\x00--\x00-x")
	f.Fuzz(func(t *testing.T, args string) {
		c, err := understand(append([]string{"sendmail"}, strings.Split(args, "\x00")...))
		if err == nil && c.interval < 0 {
			t.Fatalf("%q: %+v", args, c)
		}
	})
}

func TestIntervals(t *testing.T) {
	for s, want := range map[string]time.Duration{"1s": time.Second, "90": 90 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1w": 168 * time.Hour, "1h5": 65 * time.Minute} {
		if d, ok := interval(s); !ok || d != want {
			t.Errorf("%s: %v, %v", s, d, ok)
		}
	}
	for _, s := range []string{"", "s", "0", "0s", "-1s", "1.5h", "4294967296s", "99999999w", "1 s"} {
		if d, ok := interval(s); ok {
			t.Errorf("%q: %v", s, d)
		}
	}
}

// --help names every option that does something.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"sendmail", "--help"}, nil, &out, io.Discard); code != 0 {
		t.Fatal(code)
	}
	for _, o := range options {
		if o.help != "" && !strings.Contains(out.String(), fmt.Sprintf("\n   -%c", o.letter)) {
			t.Errorf("no -%c in\n%s", o.letter, out.String())
		}
	}
}

func newSmallReader(s string) *bufio.Reader { return bufio.NewReaderSize(strings.NewReader(s), 16) }

// The manual names every option, and no other.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../man/sendmail.8")
	if err != nil {
		t.Fatal(err)
	}
	told := map[byte]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\.It Fl (\w)(?: |$)`).FindAllStringSubmatch(string(text), -1) {
		told[m[1][0]] = true
	}
	_, ignored, _ := strings.Cut(string(text), "know other mailers,\n.Fl ")
	ignored, _, _ = strings.Cut(ignored, "\n")
	for letter := range strings.SplitSeq(ignored, " , ") {
		told[letter[0]] = true
	}
	known := map[byte]bool{}
	for _, o := range options {
		if o.letter != 'M' {
			known[o.letter] = true
		}
	}
	if !maps.Equal(known, told) {
		t.Errorf("options %q\nmanual  %q", slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(told)))
	}
}
