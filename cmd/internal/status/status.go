// Package status gives errors the exit status of sysexits(3) that a program's
// caller looks at: 75 means try again later, 67 there is no such user, 64 you
// called me wrongly.
package status

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The statuses of sysexits(3).
const (
	OK          = 0
	Usage       = 64 // the command line is wrong
	DataErr     = 65 // the input is wrong
	NoInput     = 66 // an input file is not there or not readable
	NoUser      = 67 // the addressee is unknown
	NoHost      = 68 // the host is unknown
	Unavailable = 69 // a service or program is not there
	Software    = 70 // a mistake of ours
	OSErr       = 71 // the system refused a call
	OSFile      = 72 // a system file is missing or wrong
	CantCreate  = 73 // an output file cannot be made
	IOErr       = 74 // reading or writing went wrong
	TempFail    = 75 // try again later
	Protocol    = 76 // the other side said something impossible
	NoPerm      = 77 // not allowed, by the system or by policy
	Config      = 78 // a configuration file is wrong
)

// An Error is an error with the exit status it stands for.
type Error struct {
	Code int // of sysexits(3)
	Err  error
}

// Error returns the text of the error alone, without its status.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that has the status.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error as [fmt.Errorf] does; %w wraps.
func Errorf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// With gives err a status, unless it is nil or already has one.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Code: code, Err: err}
}

// Made gives an error in making a file the status [CantCreate], unless it has one or
// the reason may pass, as a full disk may.
func Made(err error) error {
	if err == nil || Code(err) == TempFail {
		return err
	}
	return With(CantCreate, err)
}

// Code returns the exit status for err: 0 for nil, an [Error]'s own, or what the
// system's error tells. A full disk is a reason to try again later. Only what
// nobody foresaw is [Software].
func Code(err error) int {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	for _, temporary := range []error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.ESTALE,
		os.ErrDeadlineExceeded,
	} {
		if errors.Is(err, temporary) {
			return TempFail
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return NoPerm
	case errors.Is(err, fs.ErrNotExist):
		return NoInput
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EPIPE):
		return IOErr
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return OSErr
	}
	return Software
}

// Exit ends the program with the status of err, after one line "program: err" on
// standard error; with nil it ends quietly with 0.
func Exit(err error) {
	if err != nil {
		Print(os.Stderr, filepath.Base(os.Args[0]), err)
	}
	os.Exit(Code(err))
}

// Print writes err as one line: "program: message", or as one for each error that
// [errors.Join] joined. What could forge a second
// line or move a terminal's cursor is shown as Go writes it in a string. An error
// without text (the program has said all it wants) prints nothing.
func Print(w io.Writer, program string, err error) {
	if several, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		for _, err := range several.Unwrap() {
			Print(w, program, err)
		}
		return
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(w, "%s: %s\n", Clean(program), Clean(text))
	}
}

// Clean returns s with every character that is not printable written as Go
// escapes it, so that it can stand in one line of a log or a terminal.
func Clean(s string) string {
	clean := true
	for _, r := range s {
		if !printable(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := decode(s)
		if printable(r) {
			b.WriteString(s[:n])
		} else {
			quoted := fmt.Sprintf("%q", s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}
