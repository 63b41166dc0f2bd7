package maildir

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const dovecotIMAP = "/usr/lib/dovecot/imap"

// A dovecot is the real server, run as a plain command on one user's Maildir.
type dovecot struct {
	t        *testing.T
	dir      string
	uid, gid int
}

func newDovecot(t *testing.T) *dovecot {
	t.Helper()
	if _, err := os.Stat(dovecotIMAP); err != nil {
		t.Skip("Dovecot is not installed")
	}
	who, err := user.Current()
	if err == nil && os.Geteuid() == 0 { // it refuses to work for root
		who, err = user.Lookup("mail")
	}
	if err != nil {
		t.Skip(err)
	}
	d := &dovecot{t: t}
	d.uid, _ = strconv.Atoi(who.Uid)
	d.gid, _ = strconv.Atoi(who.Gid)
	if d.dir, err = os.MkdirTemp("", "pennypost-dovecot"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d.dir) })
	os.Chmod(d.dir, 0o755)
	conf := fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = imap
mail_location = maildir:%[1]s/mail/Maildir
mail_uid = %[2]d
mail_gid = %[3]d
first_valid_uid = 1
first_valid_gid = 1
ssl = no
`, d.dir, d.uid, d.gid)
	for name, text := range map[string]string{"dovecot.conf": conf, "log": ""} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(d.dir, "mail"), 0o755)
	for _, name := range []string{"log", "mail"} {
		os.Chown(filepath.Join(d.dir, name), d.uid, d.gid)
	}
	return d
}

func (d *dovecot) path() string { return filepath.Join(d.dir, "mail", "Maildir") }

// session begins an IMAP conversation, logged in.
func (d *dovecot) session() *dovecotSession {
	d.t.Helper()
	cmd := exec.Command(dovecotIMAP, "-c", filepath.Join(d.dir, "dovecot.conf"))
	cmd.Env = append(os.Environ(), "USER=bob", "HOME="+filepath.Join(d.dir, "mail"))
	in, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	s := &dovecotSession{d: d, cmd: cmd, in: in, out: bufio.NewReader(out)}
	if line, err := s.out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* PREAUTH") {
		log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
		d.t.Fatalf("%q %v %s", line, err, log)
	}
	return s
}

type dovecotSession struct {
	d   *dovecot
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	tag int
}

// do sends a command, whose literals are {n+}, and gives all lines of its answer.
func (s *dovecotSession) do(format string, args ...any) []string {
	s.d.t.Helper()
	s.tag++
	tag := fmt.Sprint("a", s.tag)
	fmt.Fprintf(s.in, tag+" "+format+"\r\n", args...)
	var lines []string
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			s.d.t.Errorf("%s: %v", format, err)
			return lines
		}
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				s.d.t.Errorf(format+": %s", append(args, rest)...)
			}
			return append(lines, rest)
		}
		lines = append(lines, line)
	}
}

func (s *dovecotSession) append(folder, flags, text string) {
	s.d.t.Helper()
	s.do("APPEND %s (%s) {%d+}\r\n%s", folder, flags, len(text), text)
}

func (s *dovecotSession) end() {
	s.do("LOGOUT")
	s.in.Close()
	s.cmd.Wait()
}

var (
	fetchLine    = regexp.MustCompile(`^\* \d+ FETCH \((.*)\)$`)
	fetchUID     = regexp.MustCompile(`UID (\d+)`)
	fetchFlags   = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	fetchSize    = regexp.MustCompile(`RFC822.SIZE (\d+)`)
	validityLine = regexp.MustCompile(`UIDVALIDITY (\d+)`)
)

// picture gives what a client of Dovecot sees of a folder: a line a message.
func (s *dovecotSession) picture(folder string) []string {
	s.d.t.Helper()
	var list []string
	for _, line := range s.do("SELECT %s", folder) {
		if m := validityLine.FindStringSubmatch(line); m != nil {
			list = append(list, "validity "+m[1])
		}
	}
	for _, line := range s.do("UID FETCH 1:* (UID FLAGS RFC822.SIZE)") {
		m := fetchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var flags []string
		for f := range strings.FieldsSeq(fetchFlags.FindStringSubmatch(m[1])[1]) {
			if f != `\Recent` {
				flags = append(flags, f)
			}
		}
		slices.Sort(flags)
		list = append(list, fmt.Sprintf("%s %v %s", fetchUID.FindStringSubmatch(m[1])[1], flags, fetchSize.FindStringSubmatch(m[1])[1]))
	}
	return list
}

// ours gives the same as we see it.
func ours(t *testing.T, f *Folder) []string {
	t.Helper()
	st := look(t, f, true)
	list := []string{fmt.Sprint("validity ", st.UIDValidity)}
	for _, m := range st.All() {
		flags := slices.Clone(m.Keywords())
		for i, name := range []string{`\Draft`, `\Flagged`, `\Answered`, `\Seen`, `\Deleted`} {
			if m.Flags&(1<<i) != 0 {
				flags = append(flags, name)
			}
		}
		slices.Sort(flags)
		size, err := f.Size(m)
		if err != nil {
			t.Error(err)
		}
		list = append(list, fmt.Sprintf("%d %v %d", m.UID, flags, size))
	}
	return list
}

func same(t *testing.T, what string, theirs, ours []string) {
	t.Helper()
	if !slices.Equal(theirs, ours) {
		t.Errorf("%s\nDovecot: %q\nours:    %q", what, theirs, ours)
	}
}

// quiet looks for complaints in Dovecot's log.
func (d *dovecot) quiet() {
	d.t.Helper()
	log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "Error") || strings.Contains(line, "Warning") || strings.Contains(line, "Panic") {
			d.t.Error(line)
		}
	}
}

// A Maildir passes from Dovecot to us and back, and nothing changes on the way.
func TestDovecotDropIn(t *testing.T) {
	d := newDovecot(t)
	c := d.session()
	c.do("SELECT INBOX")
	for i := range 30 {
		c.append("INBOX", []string{``, `\Seen`, `\Flagged $Work`, `\Answered \Draft Later $Work`}[i%4], text(fmt.Sprint(i)))
	}
	c.do("CREATE Arch.&AMQ-rger.2024")
	c.do("CREATE Arch.Top")
	c.do("SUBSCRIBE Arch.&AMQ-rger.2024")
	c.do("SUBSCRIBE INBOX")
	c.do("COPY 3:9 Arch.&AMQ-rger.2024")
	c.do(`STORE 4,5 +FLAGS.SILENT (\Deleted)`)
	c.do("EXPUNGE")
	inbox, arch := c.picture("INBOX"), c.picture("Arch.&AMQ-rger.2024")
	c.end()

	s, err := Open(d.path())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, to := open(t, s, "INBOX"), open(t, s, "Arch.Ärger.2024")
	same(t, "INBOX taken over", inbox, ours(t, in))
	same(t, "folder taken over", arch, ours(t, to))
	subs, err := s.Subscriptions()
	if err != nil || !slices.Equal(subs, []string{"Arch.Ärger.2024", "INBOX"}) {
		t.Error(subs, err)
	}
	list, err := s.List()
	want := []Info{{Name: "INBOX"}, {Name: "Arch", NoSelect: true}, {Name: "Arch.Top"}, {Name: "Arch.Ärger", NoSelect: true}, {Name: "Arch.Ärger.2024"}}
	if err != nil || !slices.Equal(list, want) {
		t.Error(list, err)
	}

	st := look(t, in, true)
	if _, err := in.Store(st.List()[:4], Change{Add: Flagged, Remove: Seen, AddKeywords: []string{"New", "later"}}); err != nil {
		t.Fatal(err)
	}
	if err := in.Expunge(st.List()[10:13]); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Move(st.List()[5:8], to); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Copy(st.List()[:2], to); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Append(AppendOptions{Flags: Seen, Keywords: []string{"Last"}}, strings.NewReader(text("ours"))); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Append(AppendOptions{}, strings.NewReader(text("more"))); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, text("delivered"))
	if err := s.CreateFolder("Ours.Übung"); err != nil {
		t.Fatal(err)
	}
	if err := s.Subscribe("Ours.Übung"); err != nil {
		t.Fatal(err)
	}
	if err := s.Unsubscribe("Arch.Ärger.2024"); err != nil {
		t.Fatal(err)
	}
	nothing := open(t, s, "Ours.Übung")
	wantIn, wantTo, wantNone := ours(t, in), ours(t, to), ours(t, nothing)
	filepath.WalkDir(d.path(), func(path string, e fs.DirEntry, err error) error {
		if st, serr := os.Lstat(path); serr == nil && os.Geteuid() == 0 && owned(st) != d.uid {
			t.Errorf("%s belongs to root", path)
		}
		return nil
	})

	c = d.session()
	same(t, "INBOX back at Dovecot", c.picture("INBOX"), wantIn)
	same(t, "folder back at Dovecot", c.picture("Arch.&AMQ-rger.2024"), wantTo)
	same(t, "our folder at Dovecot", c.picture("Ours.&ANw-bung"), wantNone)
	lsub := c.do(`LSUB "" *`)
	slices.Sort(lsub)
	if !slices.Equal(lsub[:2], []string{`* LSUB () "." INBOX`, `* LSUB () "." Ours.&ANw-bung`}) {
		t.Error(lsub)
	}
	c.append("INBOX", `\Seen $Work New`, text("theirs"))
	c.do("RENAME Ours.&ANw-bung Ours.Renamed")
	inbox = c.picture("INBOX")
	c.end()
	time.Sleep(10 * time.Millisecond)
	same(t, "INBOX with us again", inbox, ours(t, in))
	same(t, "renamed", wantNone, ours(t, open(t, s, "Ours.Renamed")))
	d.quiet()
}

// owned tells whose a file is.
func owned(st fs.FileInfo) int { return int(st.Sys().(*syscall.Stat_t).Uid) }

// Dovecot and we work on one mailbox at once.
func TestDovecotTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	d := newDovecot(t)
	s, err := Create(d.path(), Options{UID: d.uid, GID: d.gid})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := open(t, s, "INBOX")
	done := make(chan int)
	stop := time.Now().Add(6 * time.Second)
	go func() {
		c := d.session()
		c.do("SELECT INBOX")
		n := 0
		for ; time.Now().Before(stop); n++ {
			c.append("INBOX", []string{``, `\Seen`, `$Theirs`}[n%3], text(fmt.Sprint("theirs", n)))
			c.do(`UID STORE 1:* +FLAGS.SILENT (\Answered)`)
			if n%10 == 9 {
				c.do(`STORE 1 +FLAGS.SILENT (\Deleted)`)
				c.do("EXPUNGE")
			}
			c.do("NOOP")
		}
		c.end()
		done <- n
	}()
	owner := map[uint32]string{}
	n := 0
	for ; time.Now().Before(stop); n++ {
		if n%2 == 0 {
			deliver(t, s, text(fmt.Sprint("delivered", n)))
		} else if _, err := in.Append(AppendOptions{Flags: Seen, Keywords: []string{"$Ours"}}, strings.NewReader(text(fmt.Sprint("ours", n)))); err != nil {
			t.Error(err)
		}
		st := look(t, in, true)
		for _, m := range st.All() {
			if was := owner[m.UID]; was != "" && was != m.Key() {
				t.Errorf("UID %d was %s, is %s", m.UID, was, m.Key())
			}
			owner[m.UID] = m.Key()
		}
		if st.Len() > 20 {
			if _, err := in.Store(st.List()[n%10:n%10+3], Change{Add: Flagged}); err != nil {
				t.Error(err)
			}
			if n%7 == 0 {
				if err := in.Expunge(st.List()[n%10 : n%10+1]); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("%d rounds of theirs, %d of ours, %d UIDs", <-done, n, len(owner))
	time.Sleep(1100 * time.Millisecond)
	c := d.session()
	theirs := c.picture("INBOX")
	c.end()
	same(t, "after all", theirs, ours(t, in))
	d.quiet()
}
