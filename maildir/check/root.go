package check

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir"
)

// A folderDir is a directory of the Maildir that is a folder.
type folderDir struct{ name, dir string }

const (
	stagePrefix = "..pennypost-" // folders that are being made or removed
	trashed     = "..DOVECOT-TRASHED"
	planName    = "pennypost-rename" // of folders
)

// folders finds the folders beside INBOX, in the order of their names, and tells of directories that only look like some.
func (c *checker) folders() []folderDir {
	entries, err := c.root.entries(".")
	if err != nil {
		c.fail(c.path, err)
		return nil
	}
	var dirs []folderDir
	by := map[string]string{}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for _, e := range entries {
		switch {
		case e.name[0] != '.':
		case e.kind == unix.DT_LNK:
			c.tell(Finding{Severity: Warning, Kind: kindFolderLink, File: e.name, Text: "it is a symbolic link, which is not followed: no folder"})
		case e.kind != unix.DT_DIR:
		case strings.HasPrefix(e.name, ".."):
			c.hidden(e)
		default:
			if _, err := c.root.stat(e.name + "/cur"); errors.Is(err, fs.ErrNotExist) && !c.partly(e.name) {
				continue // a directory of somebody's, without mail
			}
			name, ok := maildir.FolderName(e.name)
			switch other, twice := by[name]; {
			case !ok:
				name = strings.TrimPrefix(e.name, ".")
				c.tell(Finding{
					Severity: Warning, Kind: kindFolderName, Folder: name, File: e.name,
					Text: "its name is neither modified UTF-7 nor UTF-8 that a folder can be called: no client sees it",
				})
			case twice:
				c.tell(Finding{
					Severity: Warning, Kind: kindFolderName, Folder: name, File: e.name,
					Text: fmt.Sprintf("%s stands for the same folder", other),
				})
			case "."+maildir.EncodeUTF7(name) != e.name:
				c.tell(Finding{
					Severity: Note, Kind: kindFolderName, Folder: name, File: e.name,
					Text: "its name is not modified UTF-7 but UTF-8: other servers may show another name, or none",
				})
			}
			by[name] = e.name
			dirs = append(dirs, folderDir{name, e.name})
		}
	}
	slices.SortStableFunc(dirs, func(a, b folderDir) int { return strings.Compare(a.name, b.name) })
	return dirs
}

// partly tells whether a directory without a cur is what is left of a folder.
func (c *checker) partly(dir string) bool {
	for _, name := range []string{"new", "tmp", "maildirfolder", listName} {
		if _, err := c.root.stat(dir + "/" + name); err == nil {
			return true
		}
	}
	return false
}

// hidden looks at directories with two dots: folders that are on their way out, or in.
func (c *checker) hidden(e entry) {
	st, err := c.root.stat(e.name)
	if err != nil {
		return
	}
	age := c.begun.Sub(time.Unix(st.Ctim.Unix()))
	f := Finding{Severity: Warning, Kind: kindStage, File: e.name}
	switch stage, ours := strings.CutPrefix(e.name, stagePrefix); {
	case ours:
		if sec, err := strconv.ParseInt(until(strings.TrimPrefix(stage, "gone-"), '.'), 10, 64); err == nil {
			age = c.begun.Sub(time.Unix(sec, 0))
		}
		f.Text = fmt.Sprintf("somebody was killed while making or removing a folder %s ago", days(age))
	case e.name == trashed:
		f.Text = fmt.Sprintf("folders that Dovecot has removed are still there, for %s", days(age))
	default:
		return
	}
	if age > leftover {
		f.Mend = "set it aside"
		c.mendRoot(f, func(m *mending) error { return m.aside(e.name) })
	}
}

// until gives what stands before an octet, or nothing.
func until(s string, c byte) string { return s[:max(strings.IndexByte(s, c), 0)] }

// whole looks at what is about the Maildir as a whole, and is told last.
func (c *checker) whole(dirs []folderDir) {
	if c.stopped {
		return
	}
	c.renames()
	c.subscriptions(dirs)
	c.quota(dirs)
}

// renames tells of folders whose renaming somebody was killed at. While he lives he holds a lock on his plan.
func (c *checker) renames() {
	fd, _, err := c.root.open(planName)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		return
	}
	unix.Flock(fd, unix.LOCK_UN)
	pause(100 * time.Millisecond)
	if _, err := c.root.stat(planName); err != nil {
		return
	}
	f := Finding{Severity: Warning, Kind: kindRenames, File: planName, Text: "somebody was killed while renaming folders", Mend: "finish it"}
	if c.o.Repair { // under what locks that takes
		f.Err = c.carryOut()
		f.Mended = f.Err == nil
	}
	c.tell(f)
}

// carryOut has the library finish the renaming of folders: whoever lists them does.
func (c *checker) carryOut() error {
	s, err := maildir.Open(c.path)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err = s.List(); err != nil {
		return err
	}
	if _, err := c.root.stat(planName); err == nil {
		return maildir.ErrLocked
	}
	return nil
}

// subscriptions looks whether there is a folder for each subscription; there need not be (RFC 9051 §6.3.9).
func (c *checker) subscriptions(dirs []folderDir) {
	const file = "subscriptions"
	data, _, err := c.root.read(file)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.fail(c.path+"/"+file, err)
		}
		return
	}
	there := map[string]bool{"INBOX": true}
	for _, d := range dirs {
		for i, r := range d.name {
			if r == '.' {
				there[d.name[:i]] = true
			}
		}
		there[d.name] = true
	}
	text := string(data)
	if i := strings.IndexByte(text, 0); i >= 0 {
		c.tell(Finding{Severity: Warning, Kind: kindSubscriptions, File: file, Text: fmt.Sprintf("it has NUL octets, the first at %d", i)})
	}
	rest, levels := strings.CutPrefix(text, "V\t2\n") // then there is a TAB between levels
	for line := range strings.Lines(rest) {
		if line = strings.TrimRight(line, "\r\n"); line == "" || strings.EqualFold(line, "INBOX") {
			continue
		}
		dir := "." + line
		if levels {
			dir = strings.ReplaceAll(dir, "\t", ".")
		}
		name, ok := maildir.FolderName(dir)
		switch {
		case !ok:
			c.tell(Finding{Severity: Note, Kind: kindSubscriptions, File: file, Text: fmt.Sprintf("no folder can be called so: %q", short(line))})
		case !there[name]:
			c.tell(Finding{Severity: Note, Kind: kindSubscribed, Folder: name, File: file, Text: "there is no such folder"})
		}
	}
}

// mendRoot plans something about the Maildir as a whole.
func (c *checker) mendRoot(fd Finding, do func(*mending) error) {
	f := &folder{c: c, dir: c.root}
	f.plan(fd, do)
	if c.o.Repair {
		f.repair()
	}
}

// dovecotIndex gives UIDVALIDITY and next UID from the head of dovecot.index; zeros when there is none that we know.
func (d *dir) dovecotIndex() (validity, next uint32) {
	fd, st, err := d.open("dovecot.index")
	if err != nil {
		return 0, 0
	}
	defer unix.Close(fd)
	return parseIndex(fd, st.Size)
}

func parseIndex(fd int, size int64) (validity, next uint32) {
	var b [32]byte
	n, err := readFull(fd, b[:])
	if err != nil || n < len(b) {
		return 0, 0
	}
	return indexHead(b, size)
}

// indexHead reads the head of the file as Dovecot 2.x writes it: major version 7, sizes of head and records, index id, flags,
// UIDVALIDITY, next UID, in the octet order of the host.
func indexHead(b [32]byte, size int64) (validity, next uint32) {
	ne := binary.NativeEndian
	if b[0] != 7 || int64(ne.Uint32(b[4:])) > size || ne.Uint16(b[2:]) < 32 {
		return 0, 0
	}
	if validity, next = ne.Uint32(b[24:]), ne.Uint32(b[28:]); next == 0 || next > maxUID {
		return 0, 0
	}
	return validity, next
}
