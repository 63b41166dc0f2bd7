package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"pennypost/proto/sasl"
)

const (
	tokenTime = 30 * time.Second // for the command that judges a token
	maxEnv    = 64 << 10         // octets of what it answers
)

// Token has a token judged by the command that the file "login" names. It speaks the
// interface of checkpassword (https://cr.yp.to/checkpwd/interface.html): on descriptor
// 3 it reads name, token and an empty timestamp, each with a NUL behind it, and goes on
// to the program in its arguments if the token is good; else it ends with status 1, or
// 111 when it cannot tell. Where the client has not said who it is, the name is empty,
// and the command puts it into $USER. The errors are those of Login.
func (o *Office) Token(ctx context.Context, service, peer string, c sasl.Claim) (*User, error) {
	l, err := o.ways.get()
	if err != nil {
		return nil, err
	}
	if l.tokens == nil || strings.ContainsRune(c.Name+c.Secret, 0) {
		return nil, ErrRefused
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	done, err := o.turn()
	if err != nil {
		return nil, err
	}
	defer done()
	name, err := judge(ctx, l.tokens, service, peer, c)
	if err != nil {
		return nil, err
	}
	if c.Name != "" {
		name = c.Name
	}
	return o.Admit(name)
}

// judge runs the command. It returns the name that it gives.
func judge(ctx context.Context, command []string, service, peer string, c sasl.Claim) (string, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], "env")...)
	cmd.WaitDelay = time.Second
	cmd.ExtraFiles = []*os.File{in}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "PROTO=TCP", "TCPREMOTEIP=" + peer,
		"SERVICE=" + service, "AUTH_MECH=" + c.Mechanism, "AUTH_USER=" + c.Name, "AUTH_REMOTE_IP=" + peer,
	}
	var answer bounded
	cmd.Stdout = &answer
	if err := cmd.Start(); err != nil {
		in.Close()
		return "", fmt.Errorf("judge a token: %w", err)
	}
	in.Close()
	out.SetWriteDeadline(time.Now().Add(tokenTime))
	out.WriteString(c.Name + "\x00" + c.Secret + "\x00\x00") // who does not read it has judged without
	out.Close()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return "", ErrRefused
	}
	if err != nil {
		return "", fmt.Errorf("judge a token: %s: %w", command[0], err)
	}
	for line := range bytes.Lines(answer.b) {
		if name, ok := bytes.CutPrefix(line, []byte("USER=")); ok {
			return string(bytes.TrimSuffix(name, []byte("\n"))), nil
		}
	}
	return "", nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ b []byte }

func (w *bounded) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), maxEnv-len(w.b))]...)
	return len(p), nil
}
