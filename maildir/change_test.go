package maildir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func files(t testing.TB, s *Store, sub string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Path(), sub))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestFlagsInNames(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change Change
		want   string
	}{
		{"new/a", Change{Add: Seen}, "a:2,S"},
		{"new/a:2,P", Change{Add: Trashed | Draft}, "a:2,DPT"},
		{"cur/a", Change{Add: Seen}, "a:2,S"},
		{"cur/a:2,", Change{Add: Flagged | Seen | Replied}, "a:2,FRS"},
		{"cur/a:2,FS", Change{Remove: Seen}, "a:2,F"},
		{"cur/a:2,FSXab,more,yet", Change{Remove: Seen, Add: Replied}, "a:2,FRXab,more,yet"},
		{"cur/a:2,S", Change{Add: Seen}, "a:2,S"},
		{"cur/a:2,PSa", Change{Replace: true, Add: Flagged}, "a:2,FP"},
		{"cur/a:1,old", Change{Add: Seen}, "a:2,S"},
		{"cur/a:2,S", Change{AddKeywords: []string{"One", "Two", "one"}}, "a:2,Sab"},
		{"cur/a:2,Sc", Change{AddKeywords: []string{"New"}}, "a:2,Sac"},
		{"cur/a:2,Sac", Change{RemoveKeywords: []string{"unknown-2", "never"}}, "a:2,Sa"},
	} {
		s := newStore(t)
		put(t, s, tt.name, "x\n")
		f := open(t, s, "INBOX")
		if _, err := f.Store(look(t, f, false).List(), tt.change); err != nil {
			t.Error(err)
		}
		if got := files(t, s, "cur"); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s %+v: %q", tt.name, tt.change, got)
		}
		if n := look(t, f, false).Len(); n != 1 || len(files(t, s, "new")) != 0 {
			t.Error(n)
		}
	}
}

// What is no plain file holds no names, and harms nobody.
func TestKeywordsOdd(t *testing.T) {
	for _, odd := range []func(path string) error{
		func(path string) error { return os.Mkdir(path, 0o700) },
		func(path string) error { return os.Symlink("/etc/passwd", path) },
		func(path string) error { return os.WriteFile(path, make([]byte, 2<<20), 0o600) },
	} {
		s := newStore(t)
		put(t, s, "cur/a:2,Sa", "x\n")
		if err := odd(filepath.Join(s.Path(), keywordsName)); err != nil {
			t.Fatal(err)
		}
		if st := look(t, open(t, s, "INBOX"), true); st.Len() != 1 || !st.At(0).HasKeyword("unknown-0") {
			t.Error(st.At(0).Keywords())
		}
	}
}

func TestKeywords(t *testing.T) {
	s := newStore(t)
	put(t, s, keywordsName, "1 $Forwarded\n0 Work\n")
	put(t, s, "cur/a:2,Sabz", "x\n")
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	if got := st.At(0).Keywords(); !slices.Equal(got, []string{"Work", "$Forwarded", "unknown-25"}) {
		t.Error(got)
	}
	before, err := os.Stat(filepath.Join(s.Path(), keywordsName))
	if err != nil {
		t.Fatal(err)
	}
	var more []string
	for i := range 24 + maxMore { // "z" has no name, but is in use
		more = append(more, fmt.Sprint("k", i))
	}
	_, err = f.Store(st.List(), Change{AddKeywords: more})
	if !errors.Is(err, ErrKeywords) {
		t.Error(err)
	}
	if got := get(t, s, keywordsName); got != "1 $Forwarded\n0 Work\n" {
		t.Errorf("%q", got)
	}
	if _, err := f.Store(st.List(), Change{AddKeywords: more[:23]}); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(s.Path(), keywordsName))
	if err != nil || after.ModTime().Unix() <= before.ModTime().Unix() {
		t.Error("Dovecot would not see the new names")
	}
	st = look(t, f, false)
	if m := st.At(0); len(m.Keywords()) != 26 || !m.HasKeyword("K22") || len(st.Keywords) != 25 {
		t.Error(m.Keywords(), st.Keywords)
	}
	// There are no letters left; the journal has room.
	name := st.At(0).info.text
	if _, err := f.Store(st.List(), Change{AddKeywords: []string{"over", "K23", "Over"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Store(st.List(), Change{RemoveKeywords: []string{"OVER", "k0"}}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Folder{f, alone(t, s, "INBOX")} {
		st = look(t, f, false)
		if m := st.At(0); len(m.Keywords()) != 26 || !m.HasKeyword("k23") || m.HasKeyword("over") || len(st.Keywords) != 27 {
			t.Error(m.Keywords(), st.Keywords)
		}
	}
	if _, err := f.Store(st.List(), Change{AddKeywords: []string{"k0"}, RemoveKeywords: []string{"k23"}}); err != nil {
		t.Fatal(err)
	}
	if st = look(t, f, false); st.At(0).info.text != name || len(st.At(0).Keywords()) != 26 {
		t.Error(st.At(0).info.text, st.At(0).Keywords())
	}
	// Another session learns the names; when a letter gets its name later, the message's picture changes.
	g := alone(t, s, "INBOX")
	other := look(t, g, false)
	put(t, s, keywordsName, get(t, s, keywordsName)+"25 Late\n")
	now := look(t, g, false)
	if !now.At(0).HasKeyword("Late") || other.At(0).HasKeyword("Late") {
		t.Error(now.At(0).Keywords())
	}
	for _, bad := range []string{"", "a b", "a]\n", "(", `\Seen`, strings.Repeat("x", 256)} {
		if _, err := f.Store(st.List(), Change{AddKeywords: []string{bad}}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Two files under one base name: a message each.
func TestTwins(t *testing.T) {
	s := newStore(t)
	put(t, s, "new/a", "one\n")
	f := open(t, s, "INBOX")
	look(t, f, false)
	put(t, s, "cur/a:2,S", "two\n")
	st := look(t, f, true)
	if st.Len() != 2 || st.At(0).Key() != "a" || st.At(0).UID != 1 {
		t.Fatal(keys(st))
	}
	got := []string{read(t, f, st.At(0)), read(t, f, st.At(1))}
	slices.Sort(got)
	if !slices.Equal(got, []string{"one\n", "two\n"}) {
		t.Error(got)
	}
	// Two links to one file are on their way from one name to the other: one message.
	if err := os.Link(filepath.Join(s.Path(), "cur", files(t, s, "cur")[0]), filepath.Join(s.Path(), "cur", strings.SplitN(files(t, s, "cur")[0], ":", 2)[0]+":2,T")); err != nil {
		t.Fatal(err)
	}
	if now := look(t, f, false); !slices.Equal(uids(now), uids(st)) {
		t.Error(keys(now))
	}
}

// A mail reader was killed between link and unlink: the message keeps one of its names, or it would come back when it
// is removed.
func TestLinkedTwice(t *testing.T) {
	defer func(d time.Duration) { linkedLong = d }(linkedLong)
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	if err := os.Link(filepath.Join(s.Path(), "cur/a:2,"), filepath.Join(s.Path(), "cur/a:2,S")); err != nil {
		t.Fatal(err)
	}
	f := open(t, s, "INBOX")
	look(t, f, false)
	if got := files(t, s, "cur"); len(got) != 2 {
		t.Errorf("at once: %v", got)
	}
	linkedLong = time.Nanosecond
	put(t, s, "cur/b:2,", "two\n") // there is a reason to look
	st := look(t, f, false)
	if got := files(t, s, "cur"); len(got) != 2 || st.Len() != 2 || st.At(0).Key() != "a" {
		t.Errorf("later: %v, %v", got, keys(st))
	}
	if err := f.Expunge(st.List()[:1]); err != nil {
		t.Fatal(err)
	}
	if st = look(t, open(t, s, "INBOX"), false); st.Len() != 1 || st.At(0).Key() != "b" {
		t.Errorf("it has come back: %v", keys(st))
	}
}

// The same before anybody has looked: both are there at the first look.
func TestTwinsFromTheBeginning(t *testing.T) {
	s := newStore(t)
	for i, name := range []string{"new/a", "cur/a:2,S", "cur/a:2,F"} {
		put(t, s, name, fmt.Sprint(i))
	}
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	var got []string
	for _, m := range st.All() {
		got = append(got, read(t, f, m))
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("%v: %q", keys(st), got)
	}
}

// Others rename, move to cur, remove; a session follows.
func TestOthersTouchIt(t *testing.T) {
	s := newStore(t)
	name := deliver(t, s, "x\n")
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	mv := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(s.Path(), from), filepath.Join(s.Path(), to)); err != nil {
			t.Fatal(err)
		}
	}
	mv("new/"+name, "cur/"+name)
	if read(t, f, st.At(0)) != "x\n" { // without a Sync
		t.Error("lost")
	}
	mv("cur/"+name, "cur/"+name+":2,RS")
	if n, err := f.Size(st.At(0)); n != 3 || err != nil {
		t.Error(n, err)
	}
	now := look(t, f, false)
	if now.At(0).Flags != Replied|Seen || now.At(0).UID != 1 || st.At(0).Flags != 0 {
		t.Error(now.At(0))
	}
	os.Remove(filepath.Join(s.Path(), "cur", name+":2,RS"))
	if _, err := f.Store(st.List(), Change{Add: Seen}); err != nil {
		t.Error(err)
	}
	if err := f.Expunge(st.List()); err != nil {
		t.Error(err)
	}
	if _, err := f.Date(st.At(0)); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	if n := look(t, f, false).Len(); n != 0 {
		t.Error(n)
	}
}

// Our own renames do not make us read cur again, and somebody else's among them are seen a little later.
func TestOwnRenames(t *testing.T) {
	s := newStore(t)
	for i := range 20 {
		put(t, s, fmt.Sprintf("cur/%d.a:2,", i), "x\n")
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(s.Path(), "cur"), old, old)
	os.Chtimes(filepath.Join(s.Path(), "new"), old, old)
	f := open(t, s, "INBOX")
	st := look(t, f, true)
	begun := f.box.cur.read
	for i := range 10 {
		if _, err := f.Store(st.List()[i:i+1], Change{Add: Seen}); err != nil {
			t.Fatal(err)
		}
		st = look(t, f, true)
		if st.At(i).Flags != Seen {
			t.Error(i)
		}
	}
	if f.box.cur.read != begun {
		t.Error("cur was read again")
	}
	// Hidden behind our own change, as if it had come between two of our system calls.
	os.Rename(filepath.Join(s.Path(), "cur/15.a:2,"), filepath.Join(s.Path(), "cur/15.a:2,F"))
	f.box.cur.stamp, _ = f.box.dir.stamp("cur")
	if look(t, f, true).At(15).Flags != 0 {
		t.Error("the test is wrong")
	}
	time.Sleep(ownRescan + 10*time.Millisecond)
	if look(t, f, true).At(15).Flags != Flagged {
		t.Error("somebody else's change was not seen")
	}
}

// On a full disk nothing is torn, mail can be removed, and service goes on when there is room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,nr_inodes=200"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s, err := Create(filepath.Join(dir, "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := open(t, s, "INBOX")
	if _, err := f.Append(AppendOptions{}, strings.NewReader(text("first"))); err != nil {
		t.Fatal(err)
	}
	st := look(t, f, true)
	for _, full := range []string{"blocks", "inodes"} {
		for i := 0; ; i++ {
			data := ""
			if full == "blocks" {
				data = strings.Repeat("x", 4096)
			}
			if os.WriteFile(filepath.Join(dir, fmt.Sprint("fill", i)), []byte(data), 0o600) != nil {
				break
			}
		}
		if full == "blocks" {
			os.Remove(filepath.Join(dir, "fill0")) // one block for the message's beginning
		}
		d, err := s.Deliver(DeliverOptions{})
		if err == nil {
			_, err = io.Copy(d, newText(60000))
			if err == nil {
				_, err = d.Commit()
			}
			d.Abort()
		}
		if !noRoom(err) {
			t.Errorf("%s: deliver: %v", full, err)
		}
		if _, err := f.Append(AppendOptions{}, newText(60000)); !noRoom(err) {
			t.Errorf("%s: append: %v", full, err)
		}
		noLeftovers(t, s)
		if now := look(t, f, true); now.Len() != st.Len() {
			t.Errorf("%s: %v", full, keys(now))
		}
		if _, err := f.Store(st.List(), Change{Add: Seen}); err != nil {
			t.Errorf("%s: store: %v", full, err)
		}
		if err := f.Expunge(st.List()); err != nil {
			t.Errorf("%s: expunge: %v", full, err)
		}
		fill, _ := filepath.Glob(filepath.Join(dir, "fill*"))
		for _, name := range fill {
			os.Remove(name)
		}
		if _, err := f.Append(AppendOptions{}, strings.NewReader(text("again"))); err != nil {
			t.Errorf("%s: afterwards: %v", full, err)
		}
		st = look(t, f, true)
		if st.Len() != 1 {
			t.Errorf("%s: %v", full, keys(st))
		}
	}
}

// A name that leaves no room for flags, and which a list has already, keeps the other messages from nothing.
func TestNameTooLong(t *testing.T) {
	s := newStore(t)
	long := strings.Repeat("n", 252)
	put(t, s, listName, "3 V77 N4\n1 :"+long+"\n2 :b\n")
	put(t, s, "new/"+long, "x\n")
	put(t, s, "new/b", "x\n")
	f := open(t, s, "INBOX")
	st := look(t, f, true)
	if _, err := f.Store(st.List(), Change{Add: Seen}); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Error(err)
	}
	st = look(t, f, true)
	if !slices.Equal(uids(st), []uint32{1, 2}) || st.At(0).Flags != 0 || st.At(1).Flags != Seen {
		t.Error(keys(st), st.At(0).Flags, st.At(1).Flags)
	}
	if read(t, f, st.At(0)) != "x\n" {
		t.Error("cannot be read")
	}
}

// What cannot be written can still be read.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s, err := Create(filepath.Join(dir, "Maildir"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	deliver(t, s, "x\n")
	f := open(t, s, "INBOX")
	look(t, f, true)
	deliver(t, s, "y\n") // gets no UID any more
	f.Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	f = open(t, s, "INBOX")
	st := look(t, f, true)
	if !slices.Equal(uids(st), []uint32{1}) || read(t, f, st.At(0)) != "x\n" {
		t.Error(keys(st))
	}
	if _, err := f.Store(st.List(), Change{Add: Seen}); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	if err := f.Expunge(st.List()); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	if _, err := f.Append(AppendOptions{}, strings.NewReader("z\n")); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	if err := s.CreateFolder("x"); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	s := newStore(t)
	f := open(t, s, "INBOX")
	deliver(t, s, "x\n")
	st := look(t, f, false)
	s.Close()
	look(t, f, true) // the folder goes on
	f.Close()
	f.Close()
	if _, err := f.Sync(SyncOptions{}); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := f.Reader(st.At(0)); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := f.Append(AppendOptions{}, strings.NewReader("")); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := f.Store(st.List(), Change{}); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.OpenFolder("INBOX"); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.Deliver(DeliverOptions{}); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}

// RFC 7162 §3.1.3: what another program has changed after the client's MODSEQ is refused, though nobody has looked yet.
func TestConditionalStoreSeesOthers(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	put(t, s, "cur/b:2,", "two\n")
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	if err := os.Rename(filepath.Join(s.Path(), "cur/a:2,"), filepath.Join(s.Path(), "cur/a:2,F")); err != nil {
		t.Fatal(err)
	}
	refused, err := f.Store(st.List(), Change{Add: Seen, UnchangedSince: st.HighestModSeq})
	if err != nil || !slices.Equal(refused, []uint32{1}) {
		t.Errorf("refused %v, %v", refused, err)
	}
	now := look(t, f, false)
	if now.At(0).Flags != Flagged || now.At(1).Flags != Seen || now.At(0).ModSeq <= st.HighestModSeq {
		t.Errorf("%+v", now.List())
	}
	if refused, err = f.Store(now.List(), Change{Add: Seen, UnchangedSince: now.HighestModSeq}); err != nil || len(refused) > 0 {
		t.Errorf("refused %v, %v", refused, err)
	}
}

// A message that is gone is not brought back by what somebody has noted of it before.
func TestGoneStaysGone(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	put(t, s, "cur/b:2,", "two\n")
	for name, note := range map[string]func(b, other *box){
		"record": func(b, _ *box) {
			b.replay(&record{modseq: b.modseq + 1, added: []addition{{1, 0, "a", where{dir: inCur, text: ":2,"}}}})
		},
		"snapshot": func(b, other *box) {
			if err := other.journal.replace(other.dir, other.head.validity, other.snapshot(), false); err != nil {
				t.Fatal(err)
			}
			if err := b.refresh(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		f, g := alone(t, s, "INBOX"), alone(t, s, "INBOX")
		look(t, f, false)
		look(t, g, false)
		b := f.box
		b.mu.Lock()
		b.vanish(1)
		note(b, g.box)
		st := b.picture()
		b.mu.Unlock()
		if !slices.Equal(uids(st), []uint32{2}) || !slices.Equal(b.log.gone.list(), []uint32{1}) {
			t.Errorf("%s: %v, to be noted as gone: %v", name, uids(st), b.log.gone.list())
		}
	}
}

// The first journal of a folder can be read, though something has gone while it was made.
func TestFirstJournalWithGone(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	put(t, s, "cur/b:2,", "two\n")
	f := alone(t, s, "INBOX")
	look(t, f, false)
	if err := os.Remove(filepath.Join(s.Path(), journalName)); err != nil {
		t.Fatal(err)
	}
	b := f.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(); err != nil {
		t.Fatal(err)
	}
	b.grave = graveyard{}
	b.vanish(1)
	lk, err := b.dir.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lk.release()
	if err := b.commit(lk, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := new(journal).read(b.dir); err != nil {
		t.Error(err)
	}
}

// A journal that somebody wrote before he has looked for the files says nothing of them: the UID list does.
func TestJournalLacksLines(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	put(t, s, "cur/b:2,", "two\n")
	f, g := alone(t, s, "INBOX"), alone(t, s, "INBOX")
	look(t, f, false)
	if err := os.Remove(filepath.Join(s.Path(), journalName)); err != nil {
		t.Fatal(err)
	}
	b := g.box
	b.mu.Lock()
	if err := b.refresh(); err != nil {
		t.Fatal(err)
	}
	if err := b.write(0, false); err != nil {
		t.Fatal(err)
	}
	b.mu.Unlock()
	for name, h := range map[string]*Folder{"who knew them": f, "who did not": alone(t, s, "INBOX")} {
		if st := look(t, h, false); !slices.Equal(uids(st), []uint32{1, 2}) {
			t.Errorf("%s: %v", name, uids(st))
		}
	}
}

// The name that a message is to have next is taken: by itself, or by a copy of it.
func TestStoreInTheWay(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	put(t, s, "cur/b:2,", "two\n")
	f := open(t, s, "INBOX")
	st := look(t, f, false)
	if err := os.Link(filepath.Join(s.Path(), "cur/a:2,"), filepath.Join(s.Path(), "cur/a:2,S")); err != nil {
		t.Fatal(err)
	}
	put(t, s, "cur/b:2,S", "two again\n")
	if _, err := f.Store(st.List(), Change{Add: Seen}); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(s.Path(), "cur/a:2,")) // the other program goes on
	now := look(t, f, false)
	if now.Len() != 3 || now.At(0).Flags != Seen || now.At(1).Flags != Seen || now.At(1).UID != 2 {
		t.Fatalf("%+v", now.List())
	}
	var got []string
	for _, m := range now.All() {
		got = append(got, read(t, f, m))
	}
	if !slices.Equal(got, []string{"one\n", "two\n", "two again\n"}) {
		t.Errorf("%q", got)
	}
}

// What one process has seen in passing, and not noted yet, may be past when another one has read the directory.
func TestSeenInPassing(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "one\n")
	f, g := alone(t, s, "INBOX"), alone(t, s, "INBOX")
	st := look(t, f, false)
	mv := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(s.Path(), from), filepath.Join(s.Path(), to)); err != nil {
			t.Fatal(err)
		}
	}
	mv("cur/a:2,", "cur/a:2,F")
	read(t, f, st.At(0))
	mv("cur/a:2,F", "cur/a:2,")
	put(t, s, "cur/b:2,", "two\n")
	for range 3 {
		time.Sleep(2 * fineGrain)
		look(t, g, false)
	}
	for name, h := range map[string]*Folder{"in passing": f, "afresh": alone(t, s, "INBOX")} {
		if st := look(t, h, false); st.Len() != 2 || st.At(0).Flags != 0 {
			t.Errorf("%s: %+v", name, st.List())
		}
	}
}
