package maildir

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var soakTime = flag.Duration("soak", 2*time.Second, "how long each of the soak tests runs")

// TestSoak lets many processes work on one Maildir: our library's, and such as know nothing of it. Some are killed
// at any moment, some are stopped for a while. Each of them checks all it sees, at every step.
//
// What each process does comes from the seed, its number, and how often it was begun anew: the same seed gives the
// same programs. When which of them runs is the system's affair.
func TestSoak(t *testing.T) { soak(t, "fast") }

// The same where a directory comes in small pieces, and slowly, so that each rename may hide a file from a reading.
func TestSoakSlowDirectory(t *testing.T) { soak(t, "slow") }

// And where a new name always stands before those that were read already, so that it always hides one.
func TestSoakWorstDirectory(t *testing.T) { soak(t, "worst") }

// And where the workers are killed as fast as that can be done: what they have not acknowledged is whole, or not there.
func TestSoakKill(t *testing.T) { soak(t, "kill") }

// A soaking is one run.
type soaking struct {
	t       *testing.T
	seed    uint64
	mode    string
	top     string // the Maildir, the logs
	path    string
	l       *ledger
	file    *os.File // the ledger's
	workers []*soakProcess
	program string
	uid     int // who the workers are
	gid     int
}

type soakProcess struct {
	cmd        *exec.Cmd
	out        *bytes.Buffer
	generation int
	ended      chan error
}

func soak(t *testing.T, mode string) {
	s := &soaking{t: t, seed: *chaosSeed, mode: mode, program: os.Args[0], uid: os.Geteuid(), gid: os.Getegid()}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano())
	}
	if mode == theirs {
		s.besideDovecot()
	} else {
		var err error
		if s.top, err = os.MkdirTemp("", "pennypost-soak"); err != nil {
			t.Fatal(err)
		}
		s.path = filepath.Join(s.top, "Maildir")
	}
	t.Logf("%s directories, seed %d; replay: make soak SEED=%[2]d (the workers do the same, the system decides when)", mode, s.seed)
	s.prepare()
	begun := time.Now()
	s.l.head[ledgerEnd].Store(uint64(begun.Add(*soakTime).UnixNano()))
	s.run()
	if !t.Failed() {
		time.Sleep(1200 * time.Millisecond)
		s.settled()
	}
	var ops, looks uint64
	for i := range roles {
		ops += s.l.head[ledgerOps+i].Load()
		looks += s.l.head[ledgerLooks+i].Load()
	}
	t.Logf("seed %d: %d operations, %d looks in %.1f s, %d names; the longest look took %v", s.seed, ops, looks, time.Since(begun).Seconds(),
		s.l.head[ledgerCount].Load(), time.Duration(s.l.head[ledgerSlow].Load()).Round(time.Millisecond))
	if t.Failed() {
		if kept := s.top + ".failed"; mode == theirs && os.Rename(s.top, kept) == nil {
			s.top = kept
		}
		t.Logf("Maildir and logs are kept in %s", s.top)
	} else {
		os.RemoveAll(s.top)
	}
}

func (s *soaking) prepare() {
	s.l, s.file = newLedger(s.t, int(soakTime.Seconds()*5000))
	store, err := Create(s.path, Options{UID: s.uid, GID: s.gid})
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	for _, dir := range []string{filepath.Join(s.top, "logs"), filepath.Join(s.path, "away")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.Chown(dir, s.uid, s.gid); err != nil {
			s.t.Fatal(err)
		}
	}
	for i, name := range soakFolders {
		if i > 0 {
			if err := store.CreateFolder(name); err != nil {
				s.t.Fatal(err)
			}
		}
		if i == ownFolder && s.mode != theirs { // few letters are left: most keywords stand in the journal alone
			var names []byte
			for n := range 22 {
				names = fmt.Appendf(names, "%d filled%d\n", n, n)
			}
			if err := os.WriteFile(filepath.Join(s.dir(i), keywordsName), names, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
		for n := range 100 {
			base, id := fmt.Sprintf("%d.%d_%d.first", time.Now().Unix(), i, n), fmt.Sprintf("first.%d.%d", i, n)
			file := filepath.Join(s.dir(i), "new", base)
			err := os.WriteFile(file, []byte(note(id)), 0o600)
			if err == nil {
				err = os.Chown(file, s.uid, s.gid)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			s.l.base(name, base).acked.Store(1)
			s.l.text(base, id)
		}
	}
}

func (s *soaking) dir(folder int) string {
	if folder == 0 {
		return s.path
	}
	return filepath.Join(s.path, "."+soakFolders[folder])
}

// works tells whether there is a worker of this number in this run.
func (s *soaking) works(i int) bool {
	return s.mode != theirs && roles[i].name != theirs || s.mode == theirs && roles[i].beside
}

func (s *soaking) start(i int) {
	p := s.workers[i]
	p.cmd = exec.Command(s.program)
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2",
		fmt.Sprint(soakEnv, "=", i, " ", p.generation, " ", s.seed, " ", s.mode, " ", filepath.Join(s.top, "logs"), " ", s.path))
	p.cmd.ExtraFiles = []*os.File{s.file}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.uid != os.Geteuid() {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}
	}
	p.generation++
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p.ended = make(chan error, 1)
	go func(p soakProcess) { p.ended <- p.cmd.Wait() }(*p)
}

// run lets all work until the time is over, and kills and stops some.
func (s *soaking) run() {
	for i := range roles {
		s.workers = append(s.workers, &soakProcess{out: new(bytes.Buffer)})
		if s.works(i) {
			s.start(i)
		}
	}
	r := rand.New(rand.NewPCG(s.seed, 1<<63))
	kills, held, stops := 0, 0, 0
	for !s.l.stopped() && s.mode == "kill" {
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
		if i := r.IntN(len(roles)); s.works(i) && roles[i].kill && s.kill(i) {
			kills++
		}
	}
	for !s.l.stopped() {
		time.Sleep(time.Duration(600+r.IntN(800)) * time.Millisecond / 2)
		i := r.IntN(len(roles))
		switch op := r.IntN(8); {
		case op < 1:
		case op < 6: // at any moment
			if s.works(i) && roles[i].kill && s.kill(i) {
				kills++
			}
		case op == 6: // while it holds a lock, which lies around then
			if i, ok := s.holder(s.dir(r.IntN(3))); ok && roles[i].kill && s.kill(i) {
				held++
			}
		default: // while it holds a lock, for a second
			dir := s.dir(r.IntN(3))
			if i, ok := s.holder(dir); ok && s.pause(i, dir) {
				stops++
			}
		}
	}
	s.l.head[ledgerStop].Store(1)
	for i, p := range s.workers {
		if !s.works(i) {
			continue
		}
		select {
		case err := <-p.ended:
			if err != nil || p.out.Len() > 0 {
				s.t.Errorf("%02d-%s: %v\n%s", i, roles[i].name, err, p.out)
			}
		case <-time.After(time.Minute):
			p.cmd.Process.Signal(syscall.SIGQUIT)
			<-p.ended
			s.t.Errorf("%02d-%s hangs\n%s", i, roles[i].name, p.out)
		}
	}
	s.t.Logf("%d killed, %d more with a lock in hand; %d stopped for a second with a lock in hand", kills, held, stops)
}

// kill kills a worker and begins it anew. It does not when the worker has ended by itself: something is wrong then.
func (s *soaking) kill(i int) bool {
	p := s.workers[i]
	p.cmd.Process.Kill()
	err := <-p.ended
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || p.out.Len() > 0 {
		p.ended <- err
		return false
	}
	s.start(i)
	return true
}

// holder waits a moment for one of our workers to hold the lock of a folder.
func (s *soaking) holder(dir string) (int, bool) {
	for range 200 {
		if pid, ok := lockPID(dir); ok {
			for i, p := range s.workers {
				if s.works(i) && p.cmd.Process.Pid == pid {
					return i, true
				}
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
	return 0, false
}

func lockPID(dir string) (int, bool) {
	data, err := os.ReadFile(filepath.Join(dir, lockName))
	text, _, _ := strings.Cut(string(data), ":")
	pid, nerr := strconv.Atoi(text)
	return pid, err == nil && nerr == nil
}

// pause stops a worker for a second, if it still holds the lock of that folder.
func (s *soaking) pause(i int, dir string) bool {
	p := s.workers[i].cmd.Process
	p.Signal(syscall.SIGSTOP)
	defer p.Signal(syscall.SIGCONT)
	time.Sleep(time.Millisecond)
	if pid, ok := lockPID(dir); !ok || pid != p.Pid {
		return false
	}
	time.Sleep(time.Second)
	return true
}

// CheckMaildir has maildircheck look at a Maildir, and gives what it takes for an error. The package is above this one.
var CheckMaildir func(path string) ([]string, error)

// settled checks, now that all is quiet, that the library's picture, the files, and the UID list are the same, and that
// nothing is missing that was acknowledged and not taken.
func (s *soaking) settled() {
	t := s.t
	store, err := Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	known := map[uint64]bool{}
	for at, name := range soakFolders {
		f, g := open(t, store, name), open(t, store, name)
		st := look(t, f, false)
		for again := look(t, f, false); again != st || hides(f); again = look(t, f, false) {
			st = again
			time.Sleep(10 * time.Millisecond)
		}
		files := s.files(at)
		if v := s.l.head[ledgerValidity+at].Load(); v != 0 && v != uint64(st.UIDValidity) { // 0: nobody has come to look
			t.Errorf("%s: UIDVALIDITY %d was %d", name, st.UIDValidity, v)
		}
		listed := s.listed(at)
		for _, m := range st.All() {
			known[s.l.base(name, m.Key()).key.Load()] = true
			paths := files[m.Key()]
			delete(files, m.Key())
			if !slices.Contains(paths, m.path()) {
				t.Errorf("%s: UID %d is said to be %s, and there is %v", name, m.UID, m.path(), paths)
				continue
			}
			if listed[m.UID] != m.Key() {
				t.Errorf("%s: UID %d is %s, and %q in %s", name, m.UID, m.Key(), listed[m.UID], listName)
			}
			if len(paths) > 1 && !s.oneFile(at, paths) {
				t.Errorf("%s: UID %d stands for %v", name, m.UID, paths)
			}
			if h := s.l.uid(at, m.UID).base.Load(); h != 0 && h != hash(m.Key()) {
				t.Errorf("%s: UID %d is %s, and was another", name, m.UID, m.Key())
			}
			e := s.l.base(name, m.Key())
			word := flagWord(e.word.Load())
			for bit := range 16 {
				if word.known(bit) && !word.pending(bit) && word.is(bit) != hasBit(m, bit) {
					t.Errorf("%s: UID %d (%s): %s was acknowledged as %v", name, m.UID, m.path(), bitName(bit), word.is(bit))
				}
			}
			file, err := f.Reader(m)
			if err != nil {
				t.Errorf("%s: UID %d (%s): %v", name, m.UID, m.path(), err)
				continue
			}
			data, err := io.ReadAll(file)
			file.Close()
			if id, ok := noteID(string(data)); !ok || err != nil || !s.l.text(m.Key(), id) {
				t.Errorf("%s: UID %d (%s) is not what it was: %q %v", name, m.UID, m.path(), data, err)
			}
		}
		for base, paths := range files {
			t.Errorf("%s: %s is not shown: %v", name, base, paths)
		}
		if again := look(t, g, false); fmt.Sprint(uids(again)) != fmt.Sprint(uids(st)) {
			t.Errorf("%s: two sessions see different UIDs", name)
		}
		t.Logf("%s: %d messages, UIDNEXT %d", name, st.Len(), st.UIDNext)
	}
	s.kept(known)
	found, err := CheckMaildir(s.path)
	if err != nil {
		t.Error(err)
	}
	for _, f := range found {
		t.Errorf("maildircheck: %s", f)
	}
	if s.mode == theirs {
		s.complaints()
	}
}

// hides tells whether somebody else's change may still hide behind one of our own, until the directory is read for it.
func hides(f *Folder) bool {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	return !f.box.cur.own.IsZero() || !f.box.new.own.IsZero()
}

// files gives the paths of all files of a folder by their base names.
func (s *soaking) files(at int) map[string][]string {
	all := map[string][]string{}
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(s.dir(at), sub))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			base, _, _ := strings.Cut(e.Name(), ":")
			all[base] = append(all[base], sub+"/"+e.Name())
		}
	}
	return all
}

// oneFile tells whether all these are names of one file: somebody was killed between link and unlink.
func (s *soaking) oneFile(at int, paths []string) bool {
	var first fs.FileInfo
	for _, p := range paths {
		st, err := os.Stat(filepath.Join(s.dir(at), p))
		if err != nil || first != nil && !os.SameFile(first, st) {
			return false
		}
		first = st
	}
	return true
}

// listed gives the UID list as it stands on disk.
func (s *soaking) listed(at int) map[uint32]string {
	data, err := os.ReadFile(filepath.Join(s.dir(at), listName))
	if err != nil {
		s.t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(data), "\n")
	if _, ok := parseListHead(head); !ok {
		s.t.Errorf("%s: head %q", soakFolders[at], head)
	}
	all := map[uint32]string{}
	used, bad := parseListLines(rest, 3, 0, func(uid uint32, _, base string) { all[uid] = base })
	if used != len(rest) || bad > 0 {
		s.t.Errorf("%s: %d bad lines, %d octets at the end", soakFolders[at], bad, len(rest)-used)
	}
	return all
}

// kept checks that all is there that was acknowledged and that nobody took.
func (s *soaking) kept(known map[uint64]bool) {
	lost := map[uint64]bool{}
	for i := range s.l.bases {
		e := &s.l.bases[i]
		if k := e.key.Load(); e.acked.Load() != 0 && e.taken.Load() == 0 && !known[k] {
			lost[k] = true
		}
	}
	if len(lost) == 0 {
		return
	}
	logs, err := filepath.Glob(filepath.Join(s.top, "logs", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			s.t.Fatal(err)
		}
		for word := range strings.FieldsSeq(string(data)) {
			base, _, _ := strings.Cut(filepath.Base(word), ":")
			for _, folder := range soakFolders {
				if k := hash(folder, base); lost[k] {
					s.t.Errorf("%s: %s was acknowledged, nobody took it, and it is not there", folder, base)
					delete(lost, k)
				}
			}
		}
	}
	if len(lost) > 0 {
		s.t.Errorf("%d messages were acknowledged, nobody took them, and they are not there", len(lost))
	}
}
