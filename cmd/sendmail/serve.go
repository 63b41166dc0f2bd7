package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"pennypost/cmd/internal/status"
)

// serve is -bd: smtpd takes over, with a listener of its own. The way of other
// sendmails, into the background, is left to who starts it.
func (p *program) serve() error {
	smtpd := "smtpd"
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "smtpd"); exec.Command(beside).Err == nil {
			if _, err := os.Stat(beside); err == nil {
				smtpd = beside
			}
		}
	}
	path, err := exec.LookPath(smtpd)
	if err != nil {
		return &status.Error{Code: status.Unavailable, Err: errors.New("smtpd is not installed")}
	}
	argv := []string{"smtpd"}
	if p.office != "" {
		argv = append(argv, "--post-office", p.office)
	}
	if os.Getenv("SMTPD_LISTEN") == "" {
		argv = append(argv, "--listen", ":25")
	}
	return syscall.Exec(path, argv, os.Environ())
}
