package maildir

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

const folderEnv = "MAILDIR_TEST_FOLDER"

// dieAt kills this process at the call of a number: before it, halfway through what it writes, or after it.
func dieAt(at int, how string) (calls *int) {
	calls = new(int)
	disk.Hook = func(call *disk.Call, do func() error) error {
		if *calls++; *calls != at {
			return do()
		}
		switch how {
		case "half":
			if call.Op == disk.Write {
				call.Data = call.Data[:len(call.Data)/2]
			}
			do()
		case "after":
			do()
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return calls
}

// TestFolderVictim is no test: it is what TestFolderKilled starts and kills.
func TestFolderVictim(t *testing.T) {
	words := strings.Fields(os.Getenv(folderEnv))
	if len(words) == 0 {
		t.Skip("nobody wants to kill it")
	}
	s := must(Open(words[0]))(t)
	in, box := open(t, s, "INBOX"), open(t, s, "Box")
	calls := new(int)
	if at, _ := strconv.Atoi(words[1]); at > 0 {
		calls = dieAt(at, words[2])
	}
	step := func(what string, do func(msgs []Message) error) {
		st := look(t, in, true)
		if err := do(messages(st)); err != nil {
			t.Fatal(what, err)
		}
		fmt.Println("did", what, look(t, in, true).HighestModSeq, look(t, box, false).HighestModSeq)
	}
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprint("word", i))
	}
	step("store", func(m []Message) error {
		_, err := in.Store(m[:2], Change{Add: Seen, AddKeywords: many})
		return err
	})
	step("append", func([]Message) error {
		_, err := in.Append(AppendOptions{Flags: Replied, Keywords: many[28:]}, strings.NewReader("Subject: x\n\ny\n"))
		return err
	})
	step("copy", func(m []Message) error {
		_, err := in.Copy(m[:1], box)
		return err
	})
	step("move", func(m []Message) error {
		_, err := in.Move(m[1:2], box)
		return err
	})
	step("expunge", func(m []Message) error { return in.Expunge(m[len(m)-1:]) })
	step("store", func(m []Message) error {
		_, err := in.Store(m[:2], Change{Replace: true, Add: Flagged})
		return err
	})
	disk.Hook = nil
	fmt.Println("end", *calls)
}

// A pupil follows a folder as a client with QRESYNC does (RFC 7162 §3.2): it asks for what has changed since.
type pupil struct {
	validity uint32
	modseq   uint64
	known    map[uint32]string
	whole    int // how often it had to ask for everything
}

func (p *pupil) describe(f *Folder, m Message) string {
	keywords := slices.Clone(m.Keywords())
	slices.Sort(keywords)
	return fmt.Sprint(m.Key(), m.Flags, keywords)
}

// follow learns what is new, and tells how that differs from all there is.
func (p *pupil) follow(f *Folder) error {
	st, err := f.Sync(SyncOptions{})
	if err != nil {
		return err
	}
	if p.validity == 0 {
		p.validity, p.known = st.UIDValidity, map[uint32]string{}
	}
	if st.UIDValidity != p.validity {
		return fmt.Errorf("UIDVALIDITY %d became %d", p.validity, st.UIDValidity)
	}
	if st.HighestModSeq < p.modseq {
		return fmt.Errorf("HIGHESTMODSEQ %d became %d", p.modseq, st.HighestModSeq)
	}
	gone, whole := f.Vanished(p.modseq)
	if !whole {
		p.whole++
	}
	for uid := range p.known {
		if _, ok := uidSet(gone).find(uid); ok {
			delete(p.known, uid)
		} else if _, ok := st.Find(uid); !ok && !whole {
			delete(p.known, uid)
		}
	}
	all := map[uint32]string{}
	for _, m := range st.All() {
		all[m.UID] = p.describe(f, m)
		if m.ModSeq > p.modseq {
			p.known[m.UID] = all[m.UID]
		}
		if m.ModSeq > st.HighestModSeq || m.ModSeq == 0 {
			return fmt.Errorf("UID %d has modseq %d of %d", m.UID, m.ModSeq, st.HighestModSeq)
		}
	}
	if !maps.Equal(all, p.known) {
		return fmt.Errorf("since %d to %d:\n%v\nnot\n%v", p.modseq, st.HighestModSeq, p.known, all)
	}
	p.modseq = st.HighestModSeq
	return nil
}

// A process that is killed at any call that changes the disk leaves folders whose followers miss nothing.
func TestFolderKilled(t *testing.T) {
	hush(t)
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	pupils := map[string]*pupil{"INBOX": {}, "Box": {}}
	stride := 3
	if testing.Short() {
		stride = 9
	}
	kills := 0
	for _, how := range []string{"before", "half", "after"} {
		for at := 1 + rand.N(stride); ; at += stride {
			for range 3 {
				deliver(t, s, "Subject: new\n\nx\n")
			}
			cmd := exec.Command(os.Args[0], "-test.run", "^TestFolderVictim$")
			cmd.Env = append(os.Environ(), fmt.Sprint(folderEnv, "=", s.Path(), " ", at, " ", how))
			out, err := cmd.Output()
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() >= 0 {
				t.Fatalf("%s %d: %s", how, at, out)
			}
			for _, name := range []string{"INBOX", "Box"} {
				f := must(s.OpenFolder(name))(t)
				if err := pupils[name].follow(f); err != nil {
					t.Fatalf("%s after a kill %s call %d: %v\n%s", name, how, at, err, out)
				}
				f.Close()
			}
			if strings.Contains(string(out), "\nend ") {
				break
			}
			kills++
		}
	}
	t.Logf("%d kills, all asked for %d and %d times", kills, pupils["INBOX"].whole, pupils["Box"].whole)
}
