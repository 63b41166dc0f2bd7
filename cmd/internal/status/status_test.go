package status

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{Errorf(Usage, "no"), 64},
		{fmt.Errorf("send: %w", Errorf(NoHost, "no")), 68},
		{errors.Join(errors.New("a"), Errorf(Config, "b")), 78},
		{With(TempFail, Errorf(NoUser, "no")), 67},
		{With(TempFail, io.ErrUnexpectedEOF), 75},
		{With(TempFail, nil), 0},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, 77},
		{Made(&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}), 73},
		{Made(&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}), 75},
		{Made(Errorf(NoUser, "no")), 67},
		{Made(nil), 0},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, 66},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, 75},
		{&os.LinkError{Op: "link", Err: syscall.EDQUOT}, 75},
		{&fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}, 74},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ELOOP}, 71},
		{errors.New("what"), 70},
	} {
		if got := Code(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestPrint(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("no such user"), "p: no such user\n"},
		{errors.New("user \"jürgen\""), "p: user \"jürgen\"\n"},
		{errors.New("x\nroot: granted\x1b[2J\u202e\xff\t"), `p: x\nroot: granted\x1b[2J\u202e\xff\t` + "\n"},
		{errors.Join(errors.New("a"), errors.New("b\nc")), "p: a\np: b\\nc\n"},
		{Errorf(Usage, ""), ""},
	} {
		var b strings.Builder
		Print(&b, "p", c.err)
		if b.String() != c.want {
			t.Errorf("%q, want %q", b.String(), c.want)
		}
	}
}

func TestExit(t *testing.T) {
	if os.Getenv("EXIT_NOW") == "1" {
		Exit(Errorf(NoUser, "no such user"))
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestExit")
	cmd.Env = append(os.Environ(), "EXIT_NOW=1")
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != NoUser || !strings.HasSuffix(string(out), ": no such user\n") {
		t.Errorf("%v: %q", err, out)
	}
}
