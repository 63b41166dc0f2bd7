package maildir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// To rename a folder with others below it takes a rename each, to rename INBOX one for each message. What is to be done
// is written down first; whoever finds the plan of somebody who was killed carries it out. The planner holds a kernel lock
// on it while he lives, and two who work by one plan do each other no harm.
const (
	planName = "pennypost-rename"
	planHead = "pennypost rename 1\n"
	planEnd  = "end\n"
	planWait = 30 * time.Second // for somebody else's
	planMost = 64 << 20         // octets of a plan
)

// A plan is either a row of folders to rename, or INBOX's messages to move.
type plan struct {
	steps []step

	inbox string // the folder that gets them, by its name
	below uint32 // those with smaller UIDs
	under uint32 // the UIDVALIDITY of these
}

// A step renames one directory, known by its inode.
type step struct {
	ino      uint64
	from, to string
}

func (p *plan) text() []byte {
	b := []byte(planHead)
	if p.inbox != "" {
		b = fmt.Appendf(b, "inbox %d %d %s\n", p.under, p.below, p.inbox)
	}
	for _, st := range p.steps {
		b = fmt.Appendf(b, "%d %s\t%s\n", st.ino, st.from, st.to)
	}
	return append(b, planEnd...)
}

// parsePlan reads what text writes. A plan that makes no sense as a whole is none.
func parsePlan(text string) (p plan, ok bool) {
	text, ok = strings.CutPrefix(text, planHead)
	if ok {
		text, ok = strings.CutSuffix(text, planEnd)
	}
	if !ok {
		return plan{}, false
	}
	for line := range strings.Lines(text) {
		line, whole := strings.CutSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		if !whole {
			return plan{}, false
		}
		if word == "inbox" {
			words := strings.SplitN(rest, " ", 3)
			if len(words) < 3 || p.inbox != "" {
				return plan{}, false
			}
			var okV, okN bool
			p.under, okV = parseUID(words[0])
			p.below, okN = parseUID(words[1])
			name, err := cleanName(words[2])
			if !okV || !okN || err != nil || name == inbox || name != words[2] {
				return plan{}, false
			}
			p.inbox = name
			continue
		}
		ino, err := strconv.ParseUint(word, 10, 64)
		from, to, ok := strings.Cut(rest, "\t")
		_, okFrom := folderName(from)
		_, okTo := folderName(to)
		if err != nil || word != strconv.FormatUint(ino, 10) || !ok || !okFrom || !okTo || len(from) > 255 || len(to) > 255 {
			return plan{}, false
		}
		p.steps = append(p.steps, step{ino, from, to})
	}
	return p, len(p.steps) > 0 != (p.inbox != "")
}

// begin makes the plan known, durably. Who has another one is waited for, and the plan of the dead carried out first. The
// caller ends it by end.
func (s *Store) begin(root *place, p *plan) (*os.File, error) {
	beside := stagingName + uniqueName()
	fd, err := root.create(beside)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), planName)
	if err = again(func() error { return unix.Flock(fd, unix.LOCK_EX) }); err == unix.ENOTSUP || err == unix.ENOLCK || err == unix.ENOSYS {
		err = nil // no such locks here
	}
	if err == nil {
		err = writeAll(fd, p.text())
	}
	if err == nil {
		err = fsync(fd)
	}
	if err == nil {
		err = s.enter(root, beside)
	}
	if err != nil {
		root.unlink(beside)
		file.Close()
		return nil, err
	}
	if err := fsync(root.fd); err != nil {
		s.end(root, file)
		return nil, err
	}
	return file, nil
}

// enter gives a plan its name when there is no other one any more.
func (s *Store) enter(root *place, beside string) error {
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := renameNew(root.fd, beside, root.fd, planName)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.mend(root); err != nil {
			return err
		}
		if time.Since(begun) > planWait {
			return ErrLocked
		}
	}
}

// end forgets a plan that is done, or taken back.
func (s *Store) end(root *place, file *os.File) error {
	defer file.Close()
	return root.unlink(planName)
}

// mend carries out what somebody who was killed has left half done. While he lives it is his.
func (s *Store) mend(root *place) error {
	fd, err := openat(root.fd, planName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), planName)
	defer file.Close()
	if again(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }) == unix.EWOULDBLOCK {
		return nil
	}
	var mine, now unix.Stat_t
	if err := fstat(fd, &mine); err != nil {
		return err
	}
	err = statat(root.fd, planName, &now)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || mine.Ino != now.Ino || mine.Dev != now.Dev {
		return nil // done meanwhile
	}
	text, err := io.ReadAll(io.LimitReader(file, planMost))
	if err != nil {
		return err
	}
	p, ok := parsePlan(string(text))
	if !ok {
		slog.Warn("no plan of a rename, passed over", "folder", s.path)
		return root.unlink(planName)
	}
	if p.inbox != "" {
		err = s.moveInbox(&p)
	} else {
		err = p.finish(root)
	}
	if err != nil {
		return err
	}
	slog.Info("rename of a folder carried out that was left half done", "folder", s.path)
	return root.unlink(planName)
}

// tidy is mend for those who came for something else.
func (s *Store) tidy(root *place) {
	if err := s.mend(root); err != nil {
		slog.Warn("rename of a folder is left half done", "folder", s.path, "err", err)
	}
}

// finish does the steps that are not done yet. Where one cannot be, since somebody has made a folder of its new name, all
// get their old names back.
func (p *plan) finish(root *place) error {
	err := p.run(root)
	if errors.Is(err, fs.ErrExist) {
		if err = p.takeBack(root); err == nil {
			err = fsync(root.fd)
		}
	}
	return err
}

// run renames what is not renamed yet, durably.
func (p *plan) run(root *place) error {
	for _, st := range p.steps {
		if err := st.rename(root, st.from, st.to); err != nil {
			return err
		}
	}
	return fsync(root.fd)
}

// takeBack gives everything its old name, not yet durably.
func (p *plan) takeBack(root *place) (err error) {
	for _, st := range slices.Backward(p.steps) {
		if berr := st.rename(root, st.to, st.from); err == nil {
			err = berr
		}
	}
	return err
}

// rename renames the directory if it is under that name; otherwise there is nothing to do.
func (st *step) rename(root *place, from, to string) error {
	var now unix.Stat_t
	err := statat(root.fd, from, &now)
	if err == nil && now.Ino == st.ino {
		err = renameNew(root.fd, from, root.fd, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RenameFolder gives a folder and all below it another name. Renaming INBOX moves its messages to a new folder and
// leaves INBOX and the folders below it where they are (RFC 9051 §6.3.6). fs.ErrExist when there is a folder of
// the new name, or below it one that would be overwritten; then nothing has changed. Subscriptions stay as they are.
func (s *Store) RenameFolder(old, new string) error {
	err := s.renameFolder(old, new)
	if err != nil {
		return fmt.Errorf("rename folder %q to %q: %w", old, new, err)
	}
	return nil
}

func (s *Store) renameFolder(old, new string) error {
	old, err := cleanName(old)
	if err != nil {
		return err
	}
	if new, err = cleanName(new); err != nil {
		return err
	}
	if new == inbox || new == old {
		return fs.ErrExist
	}
	if old == inbox {
		return s.renameInbox(new)
	}
	if strings.HasPrefix(new, old+".") {
		return ErrName
	}
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	p, err := planRename(root, old, new)
	if err != nil {
		return err
	}
	if len(p.steps) == 1 {
		return root.move(p.steps[0].from, p.steps[0].to)
	}
	file, err := s.begin(root, p)
	if err != nil {
		return err
	}
	for _, st := range p.steps {
		var now unix.Stat_t
		err := statat(root.fd, st.from, &now)
		if err == nil && now.Ino != st.ino { // somebody's plan was first
			err = fs.ErrNotExist
		}
		if err != nil {
			s.end(root, file)
			return err
		}
	}
	if err = p.run(root); err == nil {
		// The folders have their new names. A plan that stays behind finds nothing to do.
		s.end(root, file)
		return nil
	}
	if berr := p.takeBack(root); berr != nil {
		file.Close() // who comes next tries again
		return errors.Join(err, berr)
	}
	fsync(root.fd) // should it fail, all the more may nobody carry out what was refused
	s.end(root, file)
	return err
}

// planRename finds what has to be renamed, and that all of it can be.
func planRename(root *place, old, new string) (*plan, error) {
	dirs, err := folderDirs(root)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	for name, dir := range dirs {
		below, ok := strings.CutPrefix(name, old)
		if !ok || below != "" && below[0] != '.' {
			continue
		}
		to, err := cleanName(new + below)
		if err != nil {
			return nil, err
		}
		if _, there := dirs[to]; there {
			return nil, fs.ErrExist
		}
		if dir != "."+EncodeUTF7(name) {
			to = "." + to // it stays in UTF-8
		} else {
			to = "." + EncodeUTF7(to)
		}
		if len(to) > 255 {
			return nil, ErrName
		}
		if err := outlive(root, dir); err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := statat(root.fd, dir, &st); err != nil {
			return nil, err
		}
		p.steps = append(p.steps, step{st.Ino, dir, to})
	}
	if len(p.steps) == 0 {
		return nil, fs.ErrNotExist
	}
	slices.SortFunc(p.steps, func(a, b step) int { return strings.Compare(a.from, b.from) })
	return p, nil
}

// outlive sees to it that a folder which gets the name of this one later has a larger UIDVALIDITY.
func outlive(root *place, dir string) error {
	fd, err := openat(root.fd, dir+"/"+listName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil // it has none
	}
	defer unix.Close(fd)
	var head [1024]byte
	n, err := unix.Pread(fd, head[:], 0)
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	if h, ok := parseListHead(line); ok {
		return raiseValidity(root, h.validity)
	}
	return nil
}

// renameInbox moves what is in INBOX now into a new folder.
func (s *Store) renameInbox(new string) error {
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	dir, err := folderDir(root, new)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if statat(root.fd, dir, &st) == nil && statat(root.fd, dir+"/cur", &st) == nil {
		return fs.ErrExist
	}
	from, err := s.OpenFolder(inbox)
	if err != nil {
		return err
	}
	defer from.Close()
	now, err := from.Sync(SyncOptions{})
	if err != nil {
		return err
	}
	p := &plan{inbox: new, under: now.UIDValidity, below: now.UIDNext}
	file, err := s.begin(root, p)
	if err != nil {
		return err
	}
	if err := s.createFolder(new); err != nil {
		s.end(root, file)
		return err
	}
	if err := s.moveInbox(p); err != nil {
		file.Close() // who comes next tries again
		return err
	}
	return s.end(root, file)
}

// moveInbox moves the messages of a plan that are still in INBOX. Those that came later stay.
func (s *Store) moveInbox(p *plan) error {
	if err := s.createFolder(p.inbox); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	from, err := s.OpenFolder(inbox)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := s.OpenFolder(p.inbox)
	if err != nil {
		return err
	}
	defer to.Close()
	st, err := from.Sync(SyncOptions{})
	if err != nil || st.UIDValidity != p.under {
		return err
	}
	var msgs []Message
	for _, m := range st.All() {
		if m.UID < p.below {
			msgs = append(msgs, m)
		}
	}
	if err := s.copyMetadata(p.inbox); err != nil {
		return err
	}
	_, err = from.Move(msgs, to)
	return err
}
