package prototest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// file does what another program might do to the files meanwhile.
func (s *stage) file(line, verb string, args []string) []string {
	var err error
	switch {
	case verb == "ls" && len(args) > 0:
		return s.ls(args)
	case verb == "cat" && len(args) > 0:
		return s.cat(args)
	case verb == "mv" && len(args) == 2:
		for _, name := range s.glob(args[0]) {
			err = os.Rename(name, s.target(name, args[1]))
		}
	case verb == "cp" && len(args) == 2:
		for _, name := range s.glob(args[0]) {
			var data []byte
			if data, err = os.ReadFile(name); err == nil {
				err = os.WriteFile(s.target(name, args[1]), data, 0o666)
			}
		}
	case verb == "put" && len(args) > 1:
		_, quoted, _ := strings.Cut(strings.TrimPrefix(line, "put "), " ")
		err = os.WriteFile(filepath.Join(s.dir, args[0]), []byte(unquote(s.t, line, quoted)), 0o666)
	case verb == "rm" && len(args) > 0:
		for _, arg := range args {
			for _, name := range s.glob(arg) {
				err = os.RemoveAll(name)
			}
		}
	case verb == "mkdir" && len(args) > 0:
		for _, arg := range args {
			err = os.MkdirAll(filepath.Join(s.dir, arg), 0o777)
		}
	default:
		s.t.Fatalf("%s: not a transcript line", line)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	return nil
}

// glob returns the files that pattern names; one that does not exist is a
// mistake in the transcript.
func (s *stage) glob(pattern string) []string {
	names, err := filepath.Glob(filepath.Join(s.dir, pattern))
	if err != nil || len(names) == 0 {
		s.t.Fatalf("%s: no such file (%v)", pattern, err)
	}
	return names
}

// target is where name goes: to a file, or into a directory.
func (s *stage) target(name, to string) string {
	to = filepath.Join(s.dir, to)
	if fi, err := os.Stat(to); err == nil && fi.IsDir() {
		to = filepath.Join(to, filepath.Base(name))
	}
	return to
}

// ls lists the files in directories, or those that match patterns.
func (s *stage) ls(args []string) []string {
	var out []string
	for _, arg := range args {
		pattern := filepath.Join(s.dir, arg)
		if fi, err := os.Stat(pattern); err == nil && fi.IsDir() {
			pattern = filepath.Join(pattern, "*")
		}
		names, _ := filepath.Glob(pattern)
		slices.Sort(names)
		for _, name := range names {
			rel, _ := filepath.Rel(s.dir, name)
			out = append(out, "= "+filepath.ToSlash(rel))
		}
	}
	return out
}

// cat shows files, line by line.
func (s *stage) cat(args []string) []string {
	var out []string
	for _, arg := range args {
		for _, name := range s.glob(arg) {
			data, err := os.ReadFile(name)
			if err != nil {
				s.t.Fatal(err)
			}
			for line := range strings.Lines(string(data)) {
				text, whole := strings.CutSuffix(line, "\n")
				if !whole || !plain(text) {
					text = fmt.Sprintf("%q", line)
				}
				out = append(out, strings.TrimRight("= "+text, " "))
			}
		}
	}
	return out
}
