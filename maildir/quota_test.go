package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pennypost/maildir/internal/disk"

	"golang.org/x/sys/unix"
)

func TestParseSizes(t *testing.T) {
	for text, want := range map[string]Usage{
		"1000S,3C\n10 2\n":                  {10, 2, Limits{1000, 3}},
		"0S\n10 2\n5 1\n-5 -1\n":            {10, 2, Limits{}},
		"7C\n0 0\n":                         {0, 0, Limits{0, 7}},
		"3C,1000S\n10 2\n":                  {10, 2, Limits{1000, 3}},
		"5S,7X,x,,3C\n        10       2\n": {10, 2, Limits{5, 3}},
		"abc\n10 2\n":                       {10, 2, Limits{}},
	} {
		got, err := parseSizes(text)
		if err != nil || got.usage != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "10S", "10S\n", "10S\nhello\n", "10S\n10 2", "10S\n10 2\n5", "10S\n10 2\n5 1 1\n", "10S\n-10 2\n", "10S\n10 2\n-11 -1\n",
		"10S\n99999999999999999999 1\n", "10S\n1152921504606846976 1\n1152921504606846976 1\n", "10S\n\x00\x00\x00\n", "10S\n\n10 2\n",
	} {
		if got, err := parseSizes(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func FuzzSizes(f *testing.F) {
	f.Add("1000S,3C\n10 2\n-5 -1\n")
	f.Add("0S\n0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseSizes(text)
		if err != nil {
			return
		}
		b, err := parseSizes(a.usage.String())
		if err != nil || b.usage != a.usage || b.lines != 1 {
			t.Errorf("%q: %+v became %+v, %v", text, a, b, err)
		}
	})
}

// all gives the messages of a picture.
func all(st *State) []Message {
	list := make([]Message, 0, st.Len())
	for _, m := range st.All() {
		list = append(list, m)
	}
	return list
}

// audit checks that what is noted is what is there, and gives it.
func audit(t *testing.T, s *Store) Usage {
	t.Helper()
	u, err := s.Quota()
	if err != nil {
		t.Fatal(err)
	}
	is := Usage{Limits: u.Limits}
	if err := s.root.countAll(&is); err != nil {
		t.Fatal(err)
	}
	if u != is {
		t.Errorf("noted %+v, there is %+v", u, is)
	}
	return u
}

// Everything that adds or removes a message is noted.
func TestQuotaFollows(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/1.a:2,", "some\nold\nmail\n")
	put(t, s, "new/2.b,S=100,W=100", "says it is longer\n")
	s.SetQuota(Limits{Octets: 100_000, Messages: 50})
	if u := audit(t, s); u.Octets != 114 || u.Messages != 2 {
		t.Error(u)
	}
	if err := s.CreateFolder("A"); err != nil {
		t.Fatal(err)
	}
	in, a := open(t, s, "INBOX"), open(t, s, "A")
	d, err := s.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Also(s, DeliverOptions{Folder: "A"}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(d, "x\r\ny\r\n")
	if _, err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Octets != 122 || u.Messages != 4 {
		t.Error(u)
	}
	if _, err := in.Append(AppendOptions{Flags: Seen}, strings.NewReader("z\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Copy(all(look(t, in, true)), a); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Messages != 9 {
		t.Error(u)
	}
	if _, err := in.Move(all(look(t, in, true))[:2], a); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Messages != 9 {
		t.Error(u)
	}
	if err := in.Expunge(all(look(t, in, true))); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Messages != 7 {
		t.Error(u)
	}
	p, err := s.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "prepared\n")
	name, err := p.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(name); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Messages != 8 {
		t.Error(u)
	}
	if err := s.RenameFolder("A", "B"); err != nil {
		t.Fatal(err)
	}
	audit(t, s)
	if err := s.DeleteFolder("B"); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Messages != 1 {
		t.Error(u)
	}
	// From one Maildir into another.
	other := newStore(t)
	other.SetQuota(Limits{Messages: 5})
	to := open(t, other, "INBOX")
	if _, err := in.Move(all(look(t, in, true)), to); err != nil {
		t.Fatal(err)
	}
	if u := audit(t, s); u.Messages != 0 {
		t.Error(u)
	}
	if u := audit(t, other); u.Messages != 1 {
		t.Error(u)
	}
	noLeftovers(t, s)
}

// A full Maildir takes nothing more, lets everything go, and says which message is too large for good.
func TestQuotaFull(t *testing.T) {
	s := newStore(t)
	s.SetQuota(Limits{Octets: 100, Messages: 3})
	if err := s.CreateFolder("A"); err != nil {
		t.Fatal(err)
	}
	in, a := open(t, s, "INBOX"), open(t, s, "A")
	long := strings.Repeat("x", 101)
	if _, err := in.Append(AppendOptions{}, strings.NewReader(long)); !errors.Is(err, ErrQuota) || !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
	for _, text := range []string{long[:50], long[:40]} {
		if _, err := in.Append(AppendOptions{}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Room(10); err != nil {
		t.Error(err)
	}
	if err := s.Room(11); !errors.Is(err, ErrQuota) || errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
	if _, err := in.Append(AppendOptions{}, strings.NewReader(long[:11])); !errors.Is(err, ErrQuota) || errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
	if _, err := in.Copy(all(look(t, in, true)), a); !errors.Is(err, ErrQuota) {
		t.Error(err)
	}
	if _, err := in.Append(AppendOptions{}, strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	if err := s.Room(0); !errors.Is(err, ErrQuota) {
		t.Error(err)
	}
	if _, err := s.Deliver(DeliverOptions{}); !errors.Is(err, ErrQuota) {
		t.Error(err)
	}
	if _, err := in.Move(all(look(t, in, true))[:1], a); err != nil {
		t.Error(err)
	}
	if err := in.Expunge(all(look(t, in, true))); err != nil {
		t.Error(err)
	}
	if u := audit(t, s); u.Messages != 1 || u.Octets != 50 {
		t.Error(u)
	}
	// One of two is full: the other gets its mail.
	other := newStore(t)
	d, err := other.Deliver(DeliverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Also(s, DeliverOptions{}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(d, long[:51])
	_, err = d.Commit()
	if part, ok := errors.AsType[*PartialError](err); !ok || !errors.Is(part.Failed[1], ErrQuota) {
		t.Error(err)
	}
	noLeftovers(t, s)
	noLeftovers(t, other)
}

// What other programs do is found when it matters: when the file says that there is no room, and may be wrong.
func TestQuotaForeign(t *testing.T) {
	s := newStore(t)
	file := filepath.Join(s.Path(), sizeName)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ago := func(d time.Duration) {
		at := time.Now().Add(-d)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("100S,3C\n60 2\n30 1\n") // nothing of it is there
	if err := s.Room(1); err != nil {
		t.Error(err)
	}
	if got := get(t, s, sizeName); got != "100S,3C\n0 0\n" {
		t.Errorf("%q", got)
	}
	write("100S,3C\n90 3\n")
	if err := s.Room(1); !errors.Is(err, ErrQuota) {
		t.Error("a fresh count is not believed")
	}
	ago(14 * time.Minute)
	if err := s.Room(1); !errors.Is(err, ErrQuota) {
		t.Error("a count of 14 minutes ago is not believed")
	}
	ago(16 * time.Minute)
	if err := s.Room(1); err != nil {
		t.Error(err)
	}
	// A long one is counted anew, full or not.
	write("100000S\n" + strings.Repeat("1 1\n", 1280))
	if u := audit(t, s); u.Messages != 0 || u.Limits.Octets != 100000 {
		t.Error(u)
	}
	// What is set goes before what is written.
	s.SetQuota(Limits{Messages: 7})
	if u := audit(t, s); u.Limits != (Limits{Messages: 7}) {
		t.Error(u)
	}
	if got := get(t, s, sizeName); got != "7C\n0 0\n" {
		t.Errorf("%q", got)
	}
	// What somebody else, who has been told later, has written goes before what we set once.
	write("9C\n0 0\n")
	if u := audit(t, s); u.Limits.Messages != 9 {
		t.Error(u)
	}
	write("x\n0 0") // but damage does not
	if u := audit(t, s); u.Limits.Messages != 7 {
		t.Error(u)
	}
	os.Remove(file)
	if u := audit(t, s); u.Limits.Messages != 7 {
		t.Error(u)
	}
	s.SetQuota(Limits{})
	audit(t, s)
	if got := get(t, s, sizeName); got != "0S\n0 0\n" {
		t.Errorf("%q", got)
	}
}

// Damaged, foreign and hostile files are counted anew; where nobody has set limits, what is no file is not there.
func TestQuotaDamaged(t *testing.T) {
	for _, make := range []func(path string) error{
		func(path string) error { return os.WriteFile(path, nil, 0o600) },
		func(path string) error { return os.WriteFile(path, []byte("50C\nhello\n"), 0o600) },
		func(path string) error { return os.WriteFile(path, []byte("50C\n1 1\n1"), 0o600) },
		func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{0}, 100), 0o600) },
		func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{'\n'}, 3<<20), 0o600) },
		func(path string) error { return os.Symlink("/etc/passwd", path) },
		func(path string) error { return os.Symlink("nothing", path) },
		func(path string) error {
			if err := os.WriteFile(path+".other", []byte("50C\n0 0\n"), 0o600); err != nil {
				return err
			}
			return os.Link(path+".other", path)
		},
		func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		s := newStore(t)
		if err := make(filepath.Join(s.Path(), sizeName)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Quota(); err != nil {
			t.Error(err)
		}
		s.SetQuota(Limits{Messages: 50})
		if _, err := open(t, s, "INBOX").Append(AppendOptions{}, strings.NewReader("x")); err != nil {
			t.Error(err)
		}
		if u := audit(t, s); u.Messages != 1 {
			t.Error(u)
		}
		noLeftovers(t, s)
	}
}

// Of those who want the last places at once, so many get one as there are.
func TestQuotaAtOnce(t *testing.T) {
	const writers, limit = 10, 25
	s := newStore(t)
	s.SetQuota(Limits{Messages: limit, Octets: 1 << 20})
	var wg sync.WaitGroup
	var taken atomic.Int32
	for range writers {
		wg.Go(func() {
			f := open(t, s, "INBOX")
			for i := range 5 {
				var err error
				if i%2 == 0 {
					_, err = f.Append(AppendOptions{}, newText(100))
				} else if d, derr := s.Deliver(DeliverOptions{}); derr != nil {
					err = derr
				} else {
					io.Copy(d, newText(100))
					_, err = d.Commit()
				}
				if err == nil {
					taken.Add(1)
				} else if !errors.Is(err, ErrQuota) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if u := audit(t, s); u.Messages != limit || taken.Load() != limit {
		t.Errorf("%d taken, %+v", taken.Load(), u)
	}
}

// Ten processes, some of which remove, while others have it counted anew all the time.
func TestQuotaProcesses(t *testing.T) {
	s := newStore(t)
	s.SetQuota(Limits{Messages: 1000})
	audit(t, s)
	procs := make([]*exec.Cmd, 10)
	for i := range procs {
		procs[i] = exec.Command(os.Args[0])
		procs[i].Env = append(os.Environ(), victimEnv+"="+s.Path(), victimEnv+"_DOES=quota")
		procs[i].Stderr = os.Stderr
		if err := procs[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	stop := time.Now().Add(time.Second)
	for time.Now().Before(stop) {
		if err := s.root.recount(); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, p := range procs {
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
	u := audit(t, s)
	t.Logf("%+v", u)
}

// quotaVictim works on a Maildir that is counted.
func quotaVictim(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	f, err := s.OpenFolder("INBOX")
	if err != nil {
		return err
	}
	for i := range 12 {
		uid, err := f.Append(AppendOptions{}, newText(100+i))
		if err != nil {
			return err
		}
		if i%3 == 0 {
			st, err := f.Sync(SyncOptions{})
			if err != nil {
				return err
			}
			k, ok := st.Find(uid)
			if !ok {
				return fmt.Errorf("no UID %d", uid)
			}
			if err := f.Expunge([]Message{st.At(k)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Where nobody counts, a Store looks once.
func TestQuotaCostsNothing(t *testing.T) {
	s := newStore(t)
	looks := 0
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Name == sizeName {
			looks++
		}
		return do()
	}
	defer func() { disk.Hook = nil }()
	f := open(t, s, "INBOX")
	for range 5 {
		if _, err := f.Append(AppendOptions{}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		d, err := s.Deliver(DeliverOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Expunge(all(look(t, f, true))); err != nil {
		t.Fatal(err)
	}
	if looks != 1 {
		t.Errorf("%d looks", looks)
	}
}

// On a full disk mail can be removed, and is not counted wrongly for ever.
func TestQuotaDiskFull(t *testing.T) {
	s := newStore(t)
	s.SetQuota(Limits{Messages: 50})
	f := open(t, s, "INBOX")
	for range 3 {
		if _, err := f.Append(AppendOptions{}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	st := look(t, f, true)
	disk.Hook = func(c *disk.Call, do func() error) error {
		if c.Op == disk.Write || c.Op == disk.Create {
			return unix.ENOSPC
		}
		return do()
	}
	defer func() { disk.Hook = nil }()
	if _, err := f.Append(AppendOptions{}, strings.NewReader("x")); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	if err := f.Expunge(all(st)); err != nil {
		t.Error(err)
	}
	disk.Hook = nil
	if err := s.root.recount(); err != nil {
		t.Fatal(err)
	}
	audit(t, s)
}

// Dovecot and we read, raise, lower and refuse by the same file.
func TestQuotaDovecot(t *testing.T) {
	d := newDovecot(t)
	conf := filepath.Join(d.dir, "dovecot.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "mail_plugins = quota\nprotocol imap {\n mail_plugins = quota imap_quota\n}\nplugin {\n quota = maildir:User quota\n quota_rule = *:bytes=1000:messages=6\n}\n"...)
	if err := os.WriteFile(conf, text, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Create(d.path(), Options{UID: d.uid, GID: d.gid})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetQuota(Limits{Octets: 1000, Messages: 6})
	agree := func(what string, octets, messages int64) {
		t.Helper()
		want := Usage{octets, messages, Limits{1000, 6}}
		if u := audit(t, s); u != want {
			t.Errorf("%s: we say %+v", what, u)
		}
		dc := d.session()
		defer dc.end()
		if got := strings.Join(dc.do("GETQUOTAROOT INBOX"), "\n"); !strings.Contains(got, fmt.Sprintf("MESSAGE %d 6)", messages)) {
			t.Errorf("%s: Dovecot says %s", what, got)
		}
	}
	in := open(t, s, "INBOX")
	if _, err := in.Append(AppendOptions{Flags: Seen}, strings.NewReader("a\r\n\r\nb\r\n")); err != nil {
		t.Fatal(err)
	}
	agree("we append", 5, 1)
	dc := d.session()
	dc.append("INBOX", "", "c\r\n\r\nd\r\n")
	dc.do("CREATE Trash")
	dc.do("SELECT INBOX")
	dc.do("COPY 1:2 Trash")
	dc.end()
	agree("Dovecot appends and copies", 20, 4)
	if err := in.Expunge(all(look(t, in, true))[:1]); err != nil {
		t.Fatal(err)
	}
	agree("we expunge", 15, 3)
	dc = d.session()
	dc.do("SELECT Trash")
	dc.do("STORE 1 +FLAGS (\\Deleted)")
	dc.do("EXPUNGE")
	dc.end()
	agree("Dovecot expunges", 10, 2)
	if err := s.DeleteFolder("Trash"); err != nil {
		t.Fatal(err)
	}
	agree("we delete a folder", 5, 1)
	for range 5 {
		dv, err := s.Deliver(DeliverOptions{})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(dv, "x\n")
		if _, err := dv.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	agree("we deliver", 15, 6)
	dc = d.session()
	fmt.Fprintf(dc.in, "x APPEND INBOX {1+}\r\nx\r\n")
	if line, _ := dc.out.ReadString('\n'); !strings.Contains(line, "[OVERQUOTA]") {
		t.Error(line)
	}
	dc.end()
	if err := s.Room(1); !errors.Is(err, ErrQuota) {
		t.Error(err)
	}
	if fi, err := os.Stat(filepath.Join(d.path(), sizeName)); err != nil || owned(fi) != d.uid {
		t.Error(owned(fi), err)
	}
}

// Killed at any call, whoever adds or removes a message leaves a file that others can go on with, and which counts too much
// by what was in his hands, never too little.
func TestQuotaKilled(t *testing.T) {
	defer func() { disk.Hook = nil }()
	dead := errors.New("killed")
	for what, do := range map[string]func(s *Store, f *Folder, st *State) error{
		"append": func(_ *Store, f *Folder, _ *State) error {
			_, err := f.Append(AppendOptions{Flags: Seen}, strings.NewReader("12345\n"))
			return err
		},
		"deliver": func(s *Store, _ *Folder, _ *State) error {
			d, err := s.Deliver(DeliverOptions{})
			if err != nil {
				return err
			}
			io.WriteString(d, "12345\n")
			_, err = d.Commit()
			return err
		},
		"copy": func(_ *Store, f *Folder, st *State) error {
			_, err := f.Copy(all(st)[:2], f)
			return err
		},
		"expunge": func(_ *Store, f *Folder, st *State) error { return f.Expunge(all(st)[:2]) },
		"recount": func(s *Store, _ *Folder, _ *State) error { return s.root.recount() },
	} {
		done := false
		for kill := 1; !done; kill++ {
			s := newStore(t)
			s.SetQuota(Limits{Messages: 10, Octets: 1000})
			f := open(t, s, "INBOX")
			for range 3 {
				if _, err := f.Append(AppendOptions{Flags: Seen}, strings.NewReader("12345\n")); err != nil {
					t.Fatal(err)
				}
			}
			st := look(t, f, false)
			n := 0
			disk.Hook = func(c *disk.Call, do func() error) error {
				if c.Op != disk.Open {
					n++
				}
				if n >= kill {
					return dead
				}
				return do()
			}
			done = do(s, f, st) == nil && n < kill
			disk.Hook = nil
			os.Remove(filepath.Join(s.Path(), lockName))
			u, err := s.Quota()
			is := Usage{Limits: u.Limits}
			if err == nil {
				err = s.root.countAll(&is)
			}
			if err != nil || u.Messages < is.Messages || u.Octets < is.Octets || u.Messages > is.Messages+2 {
				t.Errorf("%s killed at call %d: noted %+v, there is %+v, %v", what, kill, u, is, err)
			}
			if err := s.root.recount(); err != nil {
				t.Error(err)
			}
			audit(t, s)
		}
	}
}

// What the counting adds to a delivery.
func BenchmarkQuota(b *testing.B) {
	for _, counted := range []bool{false, true} {
		b.Run(fmt.Sprint(counted), func(b *testing.B) {
			s := newStore(b)
			if counted {
				s.SetQuota(Limits{Octets: 1 << 40})
			}
			for b.Loop() {
				d, err := s.Deliver(DeliverOptions{})
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(d, "12345\n")
				if _, err := d.Commit(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
