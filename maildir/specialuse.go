package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// useName is a file in a folder that says what the folder is for: words like \Sent, on one line. It goes where the folder
// goes.
const useName = "pennypost-use"

// readUses reads what the folder in dir is for; told is false when nobody said so, nor that it is for nothing. What
// is no file of ours says nothing.
func readUses(root *place, dir string) (uses []string, told bool, err error) {
	data, _, err := root.readFile(dir+"/"+useName, 0, 1024)
	switch {
	case err == nil:
		return parseUses(string(data)), true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EFBIG), errors.Is(err, unix.ENXIO):
		return nil, false, nil
	}
	return nil, false, err
}

// writeUses is its counterpart, within the folder.
func (p *place) writeUses(uses []string) error {
	return p.replace(useName, "tmp/"+uniqueName(), []byte(strings.Join(uses, " ")+"\n"), nil)
}

// SetUses says what a folder other than INBOX is for, words like \Sent, or that it is for nothing. Other folders that were for one of
// these are so no more, and named. It is durable on return.
func (s *Store) SetUses(folder string, uses ...string) (others []string, err error) {
	if others, err = s.setUses(folder, uses); err != nil {
		return nil, fmt.Errorf("say what %q is for: %w", folder, err)
	}
	return others, nil
}

func (s *Store) setUses(folder string, uses []string) (others []string, err error) {
	folder, err = cleanName(folder)
	if err != nil {
		return nil, err
	}
	if folder == inbox {
		return nil, ErrName
	}
	root, done, err := s.lockNotes()
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := s.openFolderPlace(folder)
	if err != nil {
		return nil, err
	}
	defer p.close()
	dirs, err := folderDirs(root)
	if err != nil {
		return nil, err
	}
	for name, dir := range dirs {
		had, _, err := readUses(root, dir)
		if err != nil {
			return nil, err
		}
		left := slices.DeleteFunc(slices.Clone(had), func(use string) bool { return slices.Contains(uses, use) })
		if name == folder || len(left) == len(had) {
			continue
		}
		other, err := openPlace(root.fd, dir, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = other.writeUses(left)
			other.close()
		}
		if err != nil {
			return nil, err
		}
		others = append(others, name)
	}
	if err := p.writeUses(uses); err != nil {
		return nil, err
	}
	root.countChange(s.path)
	slices.Sort(others)
	return others, nil
}

// parseUses reads words that are a backslash and letters, and passes over all others.
func parseUses(text string) (uses []string) {
	for word := range strings.FieldsSeq(text) {
		name, ok := strings.CutPrefix(word, `\`)
		ok = ok && name != "" && strings.IndexFunc(name, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' }) < 0
		if ok && !slices.Contains(uses, word) {
			uses = append(uses, word)
		}
	}
	return uses
}
