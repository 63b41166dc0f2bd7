package maildir

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestSoakDovecot lets the real Dovecot work on the Maildir beside us, without programs that know no locks: it may
// give a message of theirs a second UID.
func TestSoakDovecot(t *testing.T) { soak(t, "dovecot") }

// dovecot is a session of Dovecot's, on messages that it finds by our library.
func (w *worker) dovecot() {
	for w.next() {
		at := w.folder()
		f, err := w.s.OpenFolder(soakFolders[at])
		if err != nil {
			w.fail("open: %v", err)
		}
		d := w.dovecotSession()
		d.do("SELECT " + soakFolders[at])
		for n := 5 + w.r.IntN(60); n > 0 && w.next(); n-- {
			w.dovecotStep(d, f, at)
		}
		if w.r.IntN(10) == 0 {
			w.say("Dovecot killed")
			d.cmd.Process.Kill()
		} else {
			d.do("LOGOUT")
		}
		d.in.Close()
		d.cmd.Wait()
		f.Close()
	}
}

type theirSession struct {
	w   *worker
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	tag int
}

func (w *worker) dovecotSession() *theirSession {
	top := filepath.Dir(filepath.Dir(w.s.Path()))
	d := &theirSession{w: w, cmd: exec.Command(dovecotIMAP, "-c", filepath.Join(top, "dovecot.conf"))}
	d.cmd.Env = append(os.Environ(), "USER=bob", "HOME="+filepath.Join(top, "mail"))
	out, err := d.cmd.StdoutPipe()
	if err == nil {
		if d.in, err = d.cmd.StdinPipe(); err == nil {
			err = d.cmd.Start()
		}
	}
	if err != nil {
		w.fail("Dovecot: %v", err)
	}
	d.out = bufio.NewReader(out)
	if line, err := d.out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* PREAUTH") {
		w.fail("Dovecot: %q %v", line, err)
	}
	return d
}

// do sends a command, and gives what came before the tagged answer, and that.
func (d *theirSession) do(command string) (untagged, answer string) {
	d.tag++
	tag := fmt.Sprintf("a%d ", d.tag)
	io.WriteString(d.in, tag+command+"\r\n")
	verb, _, _ := strings.Cut(command, "\r")
	for {
		line, err := d.out.ReadString('\n')
		if err != nil {
			d.w.fail("Dovecot: %s: %v, after %q", verb, err, untagged)
		}
		if answer, ok := strings.CutPrefix(line, tag); ok {
			d.w.say("Dovecot: %s: %s", verb, strings.TrimSpace(answer))
			if !strings.HasPrefix(answer, "OK") && !strings.HasPrefix(answer, "NO") {
				d.w.fail("Dovecot: %s: %s", verb, answer)
			}
			return untagged, answer
		}
		untagged += line
	}
}

var givenUID = regexp.MustCompile(`(?:APPENDUID \d+|COPYUID \d+ \d+) (\d+)\]`)

// given gives the UID that Dovecot says a message has got.
func given(answer string) (uint32, bool) {
	m := givenUID.FindStringSubmatch(answer)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[1], 10, 32)
	return uint32(n), err == nil
}

func (w *worker) dovecotStep(d *theirSession, f *Folder, at int) {
	st := w.look(f, at, false)
	op := w.r.IntN(10)
	if st.Len() == 0 {
		op = 9
	}
	var m Message
	if op < 9 {
		m = st.At(w.r.IntN(st.Len()))
	}
	to := (at + 1 + w.r.IntN(2)) % len(soakFolders)
	switch {
	case op < 5 && at == ownFolder:
		w.dovecotOwn(d, m)
	case op < 5:
		flags := []string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, `\Deleted`, "k1", "k2"}[w.r.IntN(7)]
		_, answer := d.do(fmt.Sprintf("UID STORE %d %s (%s)", m.UID, []string{"FLAGS", "+FLAGS", "-FLAGS"}[w.r.IntN(3)], flags))
		w.did(nil, "Dovecot: %s", strings.TrimSpace(answer))
	case op < 7 && st.Len() > w.room/2:
		w.take(at, m.Key())
		d.do(fmt.Sprintf(`UID STORE %d +FLAGS.SILENT (\Deleted)`, m.UID))
		_, answer := d.do(fmt.Sprintf("UID EXPUNGE %d", m.UID))
		w.did(nil, "Dovecot: %s", strings.TrimSpace(answer))
	case op < 9:
		verb := []string{"COPY", "MOVE"}[w.r.IntN(2)]
		if verb == "MOVE" {
			w.take(at, m.Key())
		} else if w.crowded(to) {
			return
		}
		untagged, answer := d.do(fmt.Sprintf("UID %s %d %s", verb, m.UID, soakFolders[to]))
		if uid, ok := given(untagged + answer); ok {
			w.did(nil, "Dovecot: UID %d", uid)
			w.dovecotGave(to, uid)
		}
	case !w.crowded(at):
		text := strings.ReplaceAll(note(w.id()), "\n", "\r\n")
		flags := []string{"", `\Seen`, "k1"}[w.r.IntN(3)]
		untagged, answer := d.do(fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", soakFolders[at], flags, len(text), text))
		uid, ok := given(untagged + answer)
		if !ok {
			w.fail("Dovecot: APPEND: %s", answer)
		}
		w.did(nil, "Dovecot: UID %d", uid)
		w.dovecotGave(at, uid)
	}
}

// dovecotGave checks that a message Dovecot has given a UID has it for us too.
func (w *worker) dovecotGave(at int, uid uint32) {
	f, err := w.s.OpenFolder(soakFolders[at])
	if err != nil {
		w.fail("open: %v", err)
	}
	defer f.Close()
	w.arrived(f, at, []Pair{{0, uid}})
}

// dovecotOwn changes the keyword that is ours by Dovecot.
func (w *worker) dovecotOwn(d *theirSession, m Message) {
	bit, e := w.bits[0], w.l.base(soakFolders[ownFolder], m.Key())
	on := w.r.IntN(2) == 0
	e.begin(bit)
	untagged, _ := d.do(fmt.Sprintf("UID STORE %d %sFLAGS (%s)", m.UID, map[bool]string{true: "+", false: "-"}[on], bitName(bit)))
	for line := range strings.Lines(untagged) {
		if strings.Contains(line, fmt.Sprintf("UID %d ", m.UID)) && strings.Contains(line, "FLAGS (") {
			if strings.Contains(line, bitName(bit)) != on {
				w.fail("Dovecot: %s %v: %s", bitName(bit), on, line)
			}
			w.did(nil, "Dovecot: own %d:%s %s %v", m.UID, m.Key(), bitName(bit), on)
			e.done(bit, on)
			return
		}
	}
	e.failed(bit) // it does not know the message
}

// besideDovecot lets the run use a Maildir that Dovecot is configured for. Nobody is root then.
func (s *soaking) besideDovecot() {
	d := newDovecot(s.t)
	s.top, s.path = d.dir, d.path()
	s.uid, s.gid = d.uid, d.gid
	program, err := os.ReadFile(os.Args[0])
	if err == nil { // go test's own directory is closed to others
		s.program = filepath.Join(d.dir, "worker")
		err = os.WriteFile(s.program, program, 0o755)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// complaints looks what Dovecot has found fault with.
func (s *soaking) complaints() {
	data, err := os.ReadFile(filepath.Join(s.top, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "Error:") || strings.Contains(line, "Panic:") || strings.Contains(line, "Warning:") {
			s.t.Errorf("Dovecot says: %s", line)
		}
	}
}
