package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Annotations are what users have noted about a folder, or about all the mail there is: by the name of the entry, in small
// letters, as /private/comment (RFC 5464 §3).
type Annotations map[string]string

// The bounds of what is noted about one folder, or about all.
const (
	MaxAnnotations = 100      // entries
	MaxAnnotation  = 32 << 10 // octets of a value
	annotationsAll = 1 << 20  // octets of all names and values
)

// ErrAnnotations says that there would be too many, or too long ones.
var ErrAnnotations = errors.New("no room for a further annotation")

// Each folder has its annotations in a file that goes where the folder goes. That of the account stands in the Maildir and also
// counts the changes of all, so that one look tells whether there are any.
const (
	MetadataName = "pennypost-metadata"
	AccountName  = "pennypost-account"

	metadataHead = "pennypost metadata 1"
	metadataMost = 8 << 20 // octets of a file
)

// parseMetadata reads a file: its head, then a line "changes" and a number, and for each entry its name and its value, quoted as in Go.
// What cannot be understood is passed over.
func parseMetadata(text string) (a Annotations, changes uint64) {
	a, changes, _ = surveyMetadata(text)
	return a, changes
}

// SurveyMetadata tells what a file of annotations says, and how many of its lines cannot be understood (maildircheck(8)).
func SurveyMetadata(text string) (a Annotations, faults int) {
	a, _, faults = surveyMetadata(text)
	return a, faults
}

func surveyMetadata(text string) (a Annotations, changes uint64, faults int) {
	a = Annotations{}
	head, rest, _ := strings.Cut(text, "\n")
	if head != metadataHead {
		return a, 0, 1
	}
	size := 0
	for line := range strings.Lines(rest) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.ParseUint(value, 10, 64); name == "changes" && err == nil {
			changes = n
			continue
		}
		value, err := strconv.Unquote(value)
		size += len(name) + len(value)
		if ok && err == nil && isEntry(name) && len(a) < MaxAnnotations && size <= annotationsAll {
			a[strings.ToLower(name)] = value
		} else {
			faults++
		}
	}
	return a, changes, faults
}

func isEntry(name string) bool {
	return strings.HasPrefix(name, "/") && strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

// printMetadata writes what parseMetadata reads.
func printMetadata(a Annotations, changes uint64) []byte {
	b := []byte(metadataHead + "\n")
	if changes > 0 {
		b = fmt.Appendf(b, "changes %d\n", changes)
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		b = append(append(b, name...), ' ')
		b = append(strconv.AppendQuote(b, a[name]), '\n')
	}
	return b
}

func (p *place) readMetadata(file string) (a Annotations, changes uint64, err error) {
	data, _, err := p.readFile(file, 0, metadataMost)
	if errors.Is(err, fs.ErrNotExist) {
		return Annotations{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	a, changes = parseMetadata(string(data))
	return a, changes, nil
}

// writeMetadata replaces a file; one that would be empty goes.
func (p *place) writeMetadata(file string, a Annotations, changes uint64) error {
	if len(a) == 0 && changes == 0 {
		if err := p.unlink(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fsync(p.fd)
	}
	return p.replace(file, "tmp/"+uniqueName(), printMetadata(a, changes), nil)
}

// Metadata gives what is noted about a folder, or with "" about the account. fs.ErrNotExist when there is no such folder.
func (s *Store) Metadata(folder string) (Annotations, error) {
	p, file, err := s.annotated(folder)
	if err != nil {
		return nil, fmt.Errorf("annotations of %q: %w", folder, err)
	}
	defer p.close()
	a, _, err := p.readMetadata(file)
	if err != nil {
		return nil, fmt.Errorf("annotations of %q: %w", folder, err)
	}
	return a, nil
}

// annotated opens the directory that has the annotations of a folder, and names the file.
func (s *Store) annotated(folder string) (p *place, file string, err error) {
	if folder == "" {
		p, err = s.dir()
		return p, AccountName, err
	}
	p, err = s.openFolderPlace(folder)
	return p, MetadataName, err
}

// SetMetadata changes annotations, durably and all of them or none; nil removes one. The names are in small letters.
// ErrAnnotations when there would be too many.
func (s *Store) SetMetadata(folder string, changes map[string]*string) error {
	err := s.changeMetadata(folder, func(a Annotations) error {
		for name, value := range changes {
			if value == nil {
				delete(a, name)
			} else {
				a[name] = *value
			}
		}
		size := 0
		for name, value := range a {
			size += len(name) + len(value)
		}
		if len(a) > MaxAnnotations || size > annotationsAll {
			return ErrAnnotations
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("annotate %q: %w", folder, err)
	}
	return nil
}

// lockNotes opens the Maildir and locks what is noted about its folders: annotations, uses and rights. done ends both.
func (s *Store) lockNotes() (root *place, done func(), err error) {
	if root, err = s.dir(); err != nil {
		return nil, nil, err
	}
	lk, err := root.lockBy(metadataLock)
	if err != nil {
		root.close()
		return nil, nil, err
	}
	return root, func() { lk.release(); root.close() }, nil
}

// changeMetadata replaces the file of a folder, and lets all sessions know.
func (s *Store) changeMetadata(folder string, change func(Annotations) error) error {
	root, done, err := s.lockNotes()
	if err != nil {
		return err
	}
	defer done()
	p, file, err := s.annotated(folder)
	if err != nil {
		return err
	}
	defer p.close()
	a, count, err := p.readMetadata(file)
	if err != nil {
		return err
	}
	if err := change(a); err != nil {
		return err
	}
	if file == AccountName {
		return root.writeMetadata(AccountName, a, count+1)
	}
	if err := p.writeMetadata(file, a, 0); err != nil {
		return err
	}
	root.countChange(s.path)
	return nil
}

// countChange lets all sessions know that something has changed. It has changed all the same if that cannot be written.
func (p *place) countChange(path string) {
	account, count, err := p.readMetadata(AccountName)
	if err == nil {
		err = p.writeMetadata(AccountName, account, count+1)
	}
	if err != nil {
		slog.Warn("cannot count a change of annotations", "folder", path, "err", err)
	}
}

// MetadataChanges counts the changes of annotations in all folders of the Maildir, by whatever process.
func (s *Store) MetadataChanges() (uint64, error) {
	root, err := s.dir()
	if err != nil {
		return 0, err
	}
	defer root.close()
	fd, err := openat(root.fd, AccountName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("annotations of %s: %w", s.path, err)
	}
	defer unix.Close(fd)
	var head [64]byte
	n, err := preadAll(fd, head[:], 0)
	if err != nil {
		return 0, fmt.Errorf("annotations of %s: %w", s.path, err)
	}
	text := string(head[:n])
	_, changes := parseMetadata(text[:strings.LastIndexByte(text, '\n')+1])
	return changes, nil
}

// copyMetadata gives a folder what is noted about INBOX, whose messages it has got (RFC 5464 §4.1).
func (s *Store) copyMetadata(folder string) error {
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	a, _, err := root.readMetadata(MetadataName)
	if err != nil || len(a) == 0 {
		return err
	}
	to, err := s.openFolderPlace(folder)
	if err != nil {
		return err
	}
	defer to.close()
	var st unix.Stat_t
	if statat(to.fd, MetadataName, &st) == nil {
		return nil // somebody was killed behind this
	}
	return to.writeMetadata(MetadataName, a, 0)
}
