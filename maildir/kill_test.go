package maildir

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victimEnv tells the test program to be one that is killed: it works on the Maildir named there.
const victimEnv = "MAILDIR_TEST_VICTIM"

// cacheVictimEnv likewise, for one that fills a cache.
const cacheVictimEnv = "MAILDIR_TEST_CACHE_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victimEnv); path != "" {
		if os.Getenv(victimEnv+"_DOES") == "quota" {
			if err := quotaVictim(path); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
		slog.SetDefault(slog.New(slog.DiscardHandler)) // that a list is damaged is no news here
		victim(path)
		return
	}
	if spec := os.Getenv(soakEnv); spec != "" {
		soakWorker(spec)
		return
	}
	if path := os.Getenv(cacheVictimEnv); path != "" {
		cacheVictim(path)
	}
	os.Exit(m.Run())
}

func text(id string) string {
	return "Subject: " + id + "\r\n\r\n" + strings.Repeat("all of it\r\n", 1+len(id)*37%900) + "end " + id + "\r\n"
}

// whole tells the id of a message that has its beginning and its end.
func whole(data []byte) (string, bool) {
	id, ok := strings.CutPrefix(strings.SplitN(string(data), "\n", 2)[0], "Subject: ")
	return id, ok && bytes.Equal(data, bytes.ReplaceAll([]byte(text(id)), []byte("\r\n"), []byte("\n")))
}

// victim does everything there is to do to a Maildir, and says before and after each step what it was.
func victim(path string) {
	check := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	s, err := Open(path)
	check(err)
	in, err := s.OpenFolder("INBOX")
	check(err)
	box, err := s.OpenFolder("Box")
	check(err)
	for n := 0; ; n++ {
		id := fmt.Sprintf("%d.%d", os.Getpid(), n)
		st, err := in.Sync(SyncOptions{Claim: n%3 == 0})
		check(err)
		var one []Message
		if st.Len() > 0 {
			one = st.List()[rand.N(st.Len()):][:1]
		}
		switch op := rand.N(10); {
		case op < 3:
			d, err := s.Deliver(DeliverOptions{})
			check(err)
			check(d.Also(s, DeliverOptions{Folder: "Box"}))
			io.WriteString(d, text(id))
			fmt.Println("try", id)
			_, err = d.Commit()
			check(err)
			fmt.Println("added", id)
		case op < 5:
			uid, err := in.Append(AppendOptions{Flags: Flags(rand.N(32)), Keywords: []string{"$Kill"}}, strings.NewReader(text(id)))
			check(err)
			fmt.Println("added", id, uid)
		case len(one) == 0:
		case op < 7:
			_, err := in.Store(one, Change{Add: Flags(rand.N(32)), Remove: Flags(rand.N(32)), AddKeywords: []string{fmt.Sprint("k", rand.N(20))}})
			check(err)
		case op < 8:
			_, err := in.Copy(one, box)
			check(err)
		case op < 9:
			_, err := in.Move(one, box)
			check(err)
		case st.Len() > 20:
			r, err := in.Reader(one[0])
			if err != nil {
				continue
			}
			data, _ := io.ReadAll(r)
			r.Close()
			gone, _ := whole(data)
			fmt.Println("remove", gone)
			check(in.Expunge(one))
		}
	}
}

func TestKill(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	s := newStore(t)
	if err := s.CreateFolder("Box"); err != nil {
		t.Fatal(err)
	}
	added, removed := map[string]bool{}, map[string]bool{}
	type place struct {
		folder   string
		validity uint32
		uid      uint32
	}
	owner := map[place]string{}
	validity := map[string]uint32{}
	for range rounds {
		victims := make([]*exec.Cmd, 1+rand.N(2))
		outs := make([]*bytes.Buffer, len(victims))
		for i := range victims {
			outs[i] = new(bytes.Buffer)
			victims[i] = exec.Command(os.Args[0])
			victims[i].Env = append(os.Environ(), victimEnv+"="+s.Path())
			victims[i].Stdout, victims[i].Stderr = outs[i], outs[i]
			if err := victims[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(20+rand.N(150)) * time.Millisecond)
		for _, v := range victims {
			v.Process.Signal(syscall.SIGKILL)
			v.Wait()
		}
		for _, out := range outs {
			for sc := bufio.NewScanner(out); sc.Scan(); {
				words := strings.Fields(sc.Text())
				switch words[0] {
				case "added":
					added[words[1]] = true
				case "remove":
					removed[words[1]] = true
				case "try":
				default:
					t.Fatal(sc.Text())
				}
			}
		}
		begun := time.Now()
		found := map[string]int{}
		for _, name := range []string{"INBOX", "Box"} {
			f := open(t, s, name)
			st := look(t, f, false)
			if v := validity[name]; v != 0 && v != st.UIDValidity {
				t.Errorf("%s: UIDVALIDITY %d became %d", name, v, st.UIDValidity)
			}
			validity[name] = st.UIDValidity
			for i, m := range st.All() {
				if i > 0 && st.At(i-1).UID >= m.UID || m.UID >= st.UIDNext {
					t.Errorf("%s: UID %d out of order", name, m.UID)
				}
				data := read(t, f, m)
				id, ok := whole([]byte(data))
				if !ok {
					t.Errorf("%s: UID %d is half: %q", name, m.UID, data[:min(len(data), 40)])
				}
				if n, err := f.Size(m); err != nil || n != int64(len(text(id))) {
					t.Errorf("%s: UID %d: %d octets, %v", name, m.UID, n, err)
				}
				p := place{name, st.UIDValidity, m.UID}
				if owner[p] == "" {
					owner[p] = id
				} else if owner[p] != id {
					t.Errorf("%s: UID %d was %s, is %s", name, m.UID, owner[p], id)
				}
				found[id]++
			}
			f.Close()
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("looking after the kill took %v", d)
		}
		for id := range added {
			if found[id] == 0 && !removed[id] {
				t.Errorf("%s is lost", id)
			}
		}
	}
	for _, sub := range []string{".", ".Box"} {
		if left, _ := filepath.Glob(filepath.Join(s.Path(), sub, "dovecot-*.tmp*")); len(left) > 1 {
			t.Error(left)
		}
	}
	t.Logf("%d added, %d removed, %d UIDs", len(added), len(removed), len(owner))
}
