// Package cmd_test runs the programs as a user would: built once, from the
// shell, with pipes between them.
package cmd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin is where the built programs lie; it is first in PATH.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "bin")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		bin = dir
		args := []string{"build", "-buildvcs=false", "-tags=urfave_cli_no_docs,urfave_cli_no_suggest", "-o", bin + "/"}
		if testing.CoverMode() != "" {
			args = append(args, "-cover")
		}
		build := exec.Command("go", append(args, "./...")...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		for _, name := range []string{"mailq", "newaliases"} {
			if err := os.Symlink("sendmail", filepath.Join(bin, name)); err != nil {
				panic(err)
			}
		}
		os.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
		for _, name := range []string{"PENNYPOST", "MAILDIR", "MAIL"} { // the tester's own mail stays out of it
			os.Unsetenv(name)
		}
		return m.Run()
	}())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(cond string) (bool, error) {
			if cond != "pty" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0) // not in every chroot
			if err == nil {
				f.Close()
			}
			return err == nil, nil
		},
	})
}
