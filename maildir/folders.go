package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	inbox       = "INBOX"
	markerName  = "maildirfolder"       // says that a directory is a folder, not a Maildir of its own
	stagingName = "..pennypost-"        // begins the names of folders that are being made; two dots hide them
	trashName   = stagingName + "gone-" // of those that are being removed
)

// An Info is a line of a Store's list of folders.
type Info struct {
	Name     string // UTF-8, "." between levels
	NoSelect bool   // there are only folders below it
	Use      string // what it is for, as CreateFolder or SetUses was told: words like \Sent with a space between (RFC 6154)
	Told     bool   // one of them was told, or that it is for nothing
}

// cleanName brings a folder's name into its one form, or tells that it can be none.
func cleanName(name string) (string, error) {
	if strings.EqualFold(name, inbox) {
		return inbox, nil
	}
	if name == "" || len(name) > 1000 || !utf8.ValidString(name) || name[0] == '~' {
		return "", ErrName
	}
	for _, r := range name {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '/' || r == 0x2028 || r == 0x2029 || r == utf8.RuneError {
			return "", ErrName
		}
	}
	for level := range strings.SplitSeq(name, ".") {
		if level == "" {
			return "", ErrName
		}
	}
	if first, rest, ok := strings.Cut(name, "."); ok && strings.EqualFold(first, inbox) {
		name = inbox + "." + rest
	}
	if len(EncodeUTF7(name)) > 254 {
		return "", ErrName
	}
	return name, nil
}

// folderDir gives the directory of a folder other than INBOX: in modified UTF-7, or in UTF-8 where it is found so.
func folderDir(root *place, name string) (string, error) {
	coded := "." + EncodeUTF7(name)
	plain := "." + name
	if coded == plain || len(plain) > 255 {
		return coded, nil
	}
	if own, ok := folderName(plain); !ok || own != name {
		return coded, nil // what lies there under the plain name is another one
	}
	var st unix.Stat_t
	found := coded
	err := statat(root.fd, coded, &st)
	if errors.Is(err, fs.ErrNotExist) {
		if err = statat(root.fd, plain, &st); err == nil {
			found = plain
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return found, nil
}

// folderName gives the name that a directory of the Maildir stands for.
func folderName(dir string) (string, bool) {
	dir, ok := strings.CutPrefix(dir, ".")
	if !ok || dir == "" || dir[0] == '.' {
		return "", false
	}
	name, ok := DecodeUTF7(dir)
	if !ok {
		name = dir // UTF-8, or an "&" that means itself
	}
	clean, err := cleanName(name)
	return name, err == nil && clean == name && name != inbox
}

// openFolderPlace opens a folder's directory; the caller closes it.
func (s *Store) openFolderPlace(name string) (*place, error) {
	name, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	root, err := s.dir()
	if err != nil || name == inbox {
		return root, err
	}
	defer root.close()
	dir, err := folderDir(root, name)
	if err != nil {
		return nil, err
	}
	return openPlace(root.fd, dir, false)
}

// Holds tells whether an open folder is still the one that its name stands for: somebody may have renamed or removed it
// since, and made another one.
func (s *Store) Holds(f *Folder) bool {
	name, err := cleanName(f.name)
	if err != nil || name == inbox {
		return err == nil
	}
	root, err := s.dir()
	if err != nil {
		return false
	}
	defer root.close()
	dir, err := folderDir(root, name)
	if err != nil {
		return false
	}
	b, err := f.enter()
	if err != nil {
		return false
	}
	defer b.leave()
	var st unix.Stat_t
	return statat(root.fd, dir, &st) == nil && st.Dev == b.dir.dev && st.Ino == b.dir.ino
}

// List gives INBOX, then all folders in the order of their names. Names that only have folders below them are
// there too, as NoSelect.
func (s *Store) List() ([]Info, error) {
	root, err := s.dir()
	if err != nil {
		return nil, err
	}
	defer root.close()
	s.tidy(root)
	found, err := folderDirs(root)
	if err != nil {
		return nil, fmt.Errorf("list folders: %w", err)
	}
	list := make([]Info, 0, len(found)+1)
	for name, dir := range found {
		uses, told, _ := readUses(root, dir)
		list = append(list, Info{Name: name, Use: strings.Join(uses, " "), Told: told})
		for i, c := range name {
			if c == '.' && name[:i] != inbox {
				if _, there := found[name[:i]]; !there {
					list = append(list, Info{Name: name[:i], NoSelect: true})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	list = slices.CompactFunc(list, func(a, b Info) bool { return a.Name == b.Name })
	return slices.Insert(list, 0, Info{Name: inbox}), nil
}

// folderDirs finds the directories that are folders: by name, those with a cur.
func folderDirs(root *place) (map[string]string, error) {
	var names, stages []string
	_, err := root.readEntries(".", func(name []byte, kind byte) {
		switch {
		case bytes.HasPrefix(name, []byte(stagingName)):
			stages = append(stages, string(name))
		case name[0] == '.' && (kind == unix.DT_DIR || kind == unix.DT_UNKNOWN):
			names = append(names, string(name))
		}
	})
	if err != nil {
		return nil, err
	}
	for _, s := range stages {
		root.cleanStage(s)
	}
	found := map[string]string{}
	for _, dir := range names {
		name, ok := folderName(dir)
		if !ok {
			continue
		}
		if there, err := directoryAt(root, dir+"/cur"); err != nil {
			return nil, err
		} else if !there {
			continue
		}
		if _, twice := found[name]; twice && dir != "."+EncodeUTF7(name) {
			continue
		}
		found[name] = dir
	}
	return found, nil
}

// directoryAt tells whether there is a directory of this name that we may look into. Nobody takes a folder for gone
// because a disk has failed.
func directoryAt(root *place, path string) (bool, error) {
	var st unix.Stat_t
	err := statat(root.fd, path, &st)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || err == unix.ENOTDIR {
		return false, nil
	}
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// isFolder tells whether a directory is a folder, or what somebody has made of one.
func isFolder(root *place, dir string) (bool, error) {
	if is, err := directoryAt(root, dir); !is {
		return false, err
	}
	if is, err := directoryAt(root, dir+"/cur"); is || err != nil {
		return is, err
	}
	marker, err := root.stamp(dir + "/" + markerName)
	return marker != stamp{}, err
}

// move gives a folder another name, durably and never over another one. An error means that it has the old one.
func (p *place) move(from, to string) error {
	if err := renameNew(p.fd, from, p.fd, to); err != nil {
		return err
	}
	err := fsync(p.fd)
	if err != nil {
		renameNew(p.fd, to, p.fd, from)
	}
	return err
}

// CreateFolder makes a folder, whole or not at all, and synced; uses say what it is for, as \Sent (RFC 6154).
// fs.ErrExist when there is one of this name, ErrName when there cannot be.
func (s *Store) CreateFolder(name string, uses ...string) error {
	err := s.createFolder(name, uses...)
	if err != nil {
		return fmt.Errorf("create folder %q: %w", name, err)
	}
	return nil
}

func (s *Store) createFolder(name string, uses ...string) error {
	name, err := cleanName(name)
	if err != nil {
		return err
	}
	if name == inbox {
		return fs.ErrExist
	}
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	dir, err := folderDir(root, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if statat(root.fd, dir, &st) == nil {
		if statat(root.fd, dir+"/cur", &st) == nil {
			return fs.ErrExist
		}
		// Left half made by somebody else; an empty one gives way.
		if rmdirat(root.fd, dir) != nil {
			return fs.ErrExist
		}
	}
	if err := fstat(root.fd, &st); err != nil {
		return err
	}
	above, err := nearest(root, name)
	if err != nil {
		return err
	}
	stage := stagingName + uniqueName()
	if err = s.stage(root, stage, above, st.Mode&0o777, uses); err == nil {
		err = root.move(stage, dir)
	}
	if err != nil {
		root.removeAll(stage)
	}
	return err
}

// stage makes a new folder under a hidden name, synced but for that name. Its UIDVALIDITY is given now, so that whoever
// asks next gets the same answer.
func (s *Store) stage(root *place, stage, above string, perm uint32, uses []string) error {
	if err := root.subdir(stage, perm); err != nil {
		return err
	}
	fd, err := openDir(root.fd, stage)
	if err != nil {
		return err
	}
	p := &place{fd: fd, mode: root.mode, uid: root.uid, gid: root.gid}
	p.users.Store(1)
	defer p.close()
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := p.subdir(sub, perm); err != nil {
			return err
		}
	}
	marker, err := p.create(markerName)
	if err != nil {
		return err
	}
	unix.Close(marker)
	if len(uses) > 0 {
		if err := p.writeUses(uses); err != nil {
			return err
		}
	}
	if above != "" {
		if err := p.inheritACL(root, above); err != nil {
			return err
		}
	}
	v, err := nextValidity(root)
	if err != nil {
		return err
	}
	head := appendListHead(nil, listHead{validity: v, next: 1, fields: []string{newGUID()}})
	return p.replace(listName, listTmp, head, nil) // syncs the directory, too
}

// DeleteFolder removes a folder with its messages; folders below it stay. INBOX cannot be removed (ErrName).
func (s *Store) DeleteFolder(name string) error {
	err := s.deleteFolder(name)
	if err != nil {
		return fmt.Errorf("delete folder %q: %w", name, err)
	}
	return nil
}

func (s *Store) deleteFolder(name string) error {
	name, err := cleanName(name)
	if err != nil {
		return err
	}
	if name == inbox {
		return ErrName
	}
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	dir, err := folderDir(root, name)
	if err != nil {
		return err
	}
	if is, err := isFolder(root, dir); err != nil {
		return err
	} else if !is { // nor is it removed: who knows what it is
		return fs.ErrNotExist
	}
	if err := outlive(root, dir); err != nil {
		return err
	}
	// One rename takes it away. What follows is housekeeping: what it leaves, because we are killed or somebody still
	// delivers there, is removed by those who come later.
	trash := trashName + uniqueName()
	count := root.leaving()
	if err = root.move(dir, trash); err == nil {
		count.noteGone(trash)
	}
	count.close()
	if err != nil {
		return err
	}
	root.removeAll(trash)
	return nil
}
