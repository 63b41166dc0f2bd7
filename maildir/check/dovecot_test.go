package check

import (
	"fmt"
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

// dovecot runs commands in the real server, as a plain program on a Maildir of its own, and gives its answers.
type dovecot struct {
	t    *testing.T
	path string
}

func newDovecot(t *testing.T, more string) *dovecot {
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
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	dir, err := os.MkdirTemp("", "pennypost-dovecot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	conf := fmt.Sprintf("base_dir = %[1]s/run\nstate_dir = %[1]s/state\nlog_path = %[1]s/log\nprotocols = imap\nmail_location = maildir:%[1]s/mail/Maildir\n"+
		"mail_uid = %[2]d\nmail_gid = %[3]d\nfirst_valid_uid = 1\nfirst_valid_gid = 1\nssl = no\n%[4]s", dir, uid, gid, more)
	for name, text := range map[string]string{"dovecot.conf": conf, "log": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "mail"), 0o755)
	for _, name := range []string{"log", "mail"} {
		os.Chown(filepath.Join(dir, name), uid, gid)
	}
	return &dovecot{t, filepath.Join(dir, "mail", "Maildir")}
}

func (d *dovecot) run(commands ...string) string {
	d.t.Helper()
	cmd := exec.Command(dovecotIMAP, "-c", filepath.Join(d.path, "../../dovecot.conf"))
	cmd.Env = append(os.Environ(), "USER=bob", "HOME="+filepath.Dir(d.path))
	var in strings.Builder
	for i, c := range commands {
		fmt.Fprintf(&in, "a%d %s\r\n", i, c)
	}
	cmd.Stdin = strings.NewReader(in.String() + "z LOGOUT\r\n")
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatal(err)
	}
	if strings.Contains(string(out), " NO ") || strings.Contains(string(out), " BAD ") {
		d.t.Errorf("%s", out)
	}
	log, _ := os.ReadFile(filepath.Join(d.path, "../../log"))
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "Error") || strings.Contains(line, "Warning") || strings.Contains(line, "Panic") {
			d.t.Error(line)
		}
	}
	return string(out)
}

func literal(text string) string { return fmt.Sprintf("{%d+}\r\n%s", len(text), text) }

// What the real Dovecot has written has nothing wrong with it, compressed or not.
func TestDovecotClean(t *testing.T) {
	for name, conf := range map[string]string{
		"plain": "",
		"quota": "mail_plugins = quota\nplugin {\n quota = maildir:User quota\n quota_rule = *:storage=100M\n}\n",
		"zlib":  "mail_plugins = zlib\nplugin {\n zlib_save = gz\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDovecot(t, conf)
			commands := []string{"CREATE Arch.&AMQ-rger.2024", "CREATE Sent", "SUBSCRIBE Sent", "SUBSCRIBE Arch.&AMQ-rger.2024", "SELECT INBOX"}
			for i := range 60 {
				body := strings.Repeat("line\r\n", i*7)
				commands = append(commands, fmt.Sprintf("APPEND INBOX (%s) %s", []string{"", `\Seen`, `\Flagged Work`, `\Answered \Draft $Later k3`}[i%4],
					literal("Subject: "+fmt.Sprint(i)+"\r\n\r\n"+body+[]string{"", "end", "\r\n"}[i%3])))
			}
			commands = append(commands, "COPY 3:9 Sent", "MOVE 10:12 Arch.&AMQ-rger.2024", `STORE 1:4 +FLAGS.SILENT (\Deleted)`, "EXPUNGE", "RENAME Sent Gone", "UNSUBSCRIBE Sent",
				`STORE 5:20 FLAGS (k5 \Seen)`, "DELETE Gone", "SELECT Arch.&AMQ-rger.2024", "FETCH 1:* (FLAGS RFC822.SIZE BODY[])")
			d.run(commands...)
			if err := os.WriteFile(filepath.Join(d.path, "new/1234.M5P6.host"), []byte(message), 0o600); err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(d.path); err == nil {
				chown(t, filepath.Join(d.path, "new/1234.M5P6.host"), st)
			}
			if name == "quota" {
				os.Remove(filepath.Join(d.path, "new/1234.M5P6.host")) // Dovecot does not count it before it is asked
			}
			d.run("SELECT INBOX", "NOOP", "STATUS Arch.&AMQ-rger.2024 (MESSAGES)")
			tally := Tally{}
			for _, line := range look(t, d.path, Options{Tally: &tally}) {
				if !strings.HasPrefix(line, "note "+kindListGone) {
					t.Error(line)
				}
			}
			if tally.Folders < 2 || tally.Messages < 50 {
				t.Errorf("%+v", tally)
			}
		})
	}
}

var fetched = regexp.MustCompile(`(?m)^\* \d+ FETCH .*$`)

// Dovecot serves what was mended as before: the same UIDs, flags and texts, and not a word in its log. What it cannot
// serve at all is served after.
func TestDovecotMended(t *testing.T) {
	d := newDovecot(t, "")
	commands := []string{"SELECT INBOX"}
	for i := range 20 {
		commands = append(commands, fmt.Sprintf("APPEND INBOX (%s) %s", []string{"", `\Seen Work`}[i%2], literal(fmt.Sprintf("Subject: %d\r\n\r\n%s", i, strings.Repeat("x\r\n", i)))))
	}
	d.run(commands...)
	const ask = "UID FETCH 1:* (UID FLAGS BODY.PEEK[])"
	picture := func() []string {
		return fetched.FindAllString(strings.ReplaceAll(d.run("SELECT INBOX", ask), ` \Recent`, ""), -1)
	}
	before := picture()
	// Somebody edits messages in place: names and list tell wrong sizes now. And lines of the list are lost or change places.
	list, err := os.ReadFile(filepath.Join(d.path, listName))
	if err != nil {
		t.Fatal(err)
	}
	text := string(list)
	names, _ := filepath.Glob(filepath.Join(d.path, "cur", "*"))
	for i, path := range names {
		if i%3 > 0 {
			continue
		}
		wrong := regexp.MustCompile(`S=\d+`).ReplaceAllString(path, "S=7")
		if err := os.Rename(path, wrong); err != nil {
			t.Fatal(err)
		}
		a, _ := split(filepath.Base(path))
		b, _ := split(filepath.Base(wrong))
		text = strings.Replace(text, a, b, 1)
	}
	lines := strings.SplitAfter(text, "\n")
	lines[3], lines[4] = lines[4], lines[3]
	text = strings.Join(lines, "")
	if err := os.WriteFile(filepath.Join(d.path, listName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := wrong(look(t, d.path, Options{})); len(got) < 7 {
		t.Errorf("found only %q", got)
	}
	look(t, d.path, Options{Repair: true})
	if got := wrong(look(t, d.path, Options{})); len(got) > 0 {
		t.Errorf("left %q", got)
	}
	time.Sleep(1100 * time.Millisecond)
	if after := picture(); !slices.Equal(before, after) {
		t.Errorf("it was\n%q\nis\n%q", before, after)
	}
	d.run("SELECT INBOX", ask, "UID STORE 1:5 +FLAGS (Work New)", "UID COPY 3:4 INBOX")
	if got := wrong(look(t, d.path, Options{})); len(got) > 0 {
		t.Errorf("afterwards %q", got)
	}
}

func chown(t *testing.T, path string, like fs.FileInfo) {
	t.Helper()
	uid, gid := owned(like)
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// owned tells whose a file is.
func owned(st fs.FileInfo) (uid, gid int) {
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid)
}
