package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/status"
)

// maxLine bounds the first line of standard input, in octets: longer than any
// password that is taken.
const maxLine = 4096

// newPassword asks for a password, twice on a terminal, and returns what to store.
func newPassword(name, scheme string) (string, error) {
	var password string
	var err error
	if term.IsTerminal(syscall.Stdin) {
		if password, err = prompt("New password for " + name + ": "); err != nil {
			return "", err
		}
		again, err := prompt("Again: ")
		if err != nil {
			return "", err
		}
		if again != password {
			return "", status.Errorf(status.DataErr, "the two passwords differ")
		}
	} else if password, err = firstLine(os.Stdin); err != nil {
		return "", err
	}
	if err := account.CheckPassword(password); err != nil {
		return "", status.With(status.DataErr, err)
	}
	stored, err := account.Hash(scheme, password)
	if errors.Is(err, account.ErrPassword) {
		return "", status.With(status.DataErr, err)
	}
	return stored, status.With(status.Usage, err)
}

// oldPassword asks once for a password that may be wrong.
func oldPassword(name string) (string, error) {
	if term.IsTerminal(syscall.Stdin) {
		return prompt("Password for " + name + ": ")
	}
	return firstLine(os.Stdin)
}

// prompt reads a line from the terminal, which shows none of it. An interrupt leaves
// the terminal as it was.
func prompt(text string) (string, error) {
	state, err := term.GetState(syscall.Stdin)
	if err != nil {
		return "", status.With(status.IOErr, err)
	}
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(interrupt)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case s := <-interrupt:
			term.Restore(syscall.Stdin, state)
			fmt.Fprintln(os.Stderr)
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-done:
		}
	}()
	fmt.Fprint(os.Stderr, status.Clean(text))
	line, err := term.ReadPassword(syscall.Stdin)
	fmt.Fprintln(os.Stderr)
	if errors.Is(err, io.EOF) {
		return "", status.Errorf(status.NoInput, "no password was typed")
	}
	if err != nil {
		return "", status.With(status.IOErr, err)
	}
	return string(line), nil
}

// firstLine reads one line and not an octet more: what follows belongs to somebody
// else. A line end of CRLF counts as one.
func firstLine(r io.Reader) (string, error) {
	var line strings.Builder
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		switch {
		case n == 1 && b[0] == '\n':
			return strings.TrimSuffix(line.String(), "\r"), nil
		case n == 1 && line.Len() == maxLine:
			return "", status.Errorf(status.DataErr, "%w: the line is too long", account.ErrPassword)
		case n == 1:
			line.WriteByte(b[0])
		case errors.Is(err, io.EOF) && line.Len() == 0:
			return "", status.Errorf(status.NoInput, "no password on standard input")
		case errors.Is(err, io.EOF):
			return line.String(), nil
		case err != nil:
			return "", status.Errorf(status.IOErr, "read password: %w", err)
		}
	}
}
