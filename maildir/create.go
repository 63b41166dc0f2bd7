package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Create makes the Maildir at path, and the directories above it, and opens it. All of it is synced, and it is there as a
// whole or not at all: whoever is killed at it leaves nothing that belongs to the wrong user under that name.
// One that is there already is only opened.
func Create(path string, o Options) (*Store, error) {
	s, err := Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := create(path, o); err != nil {
		return nil, fmt.Errorf("create maildir %s: %w", path, err)
	}
	return Open(path)
}

func create(path string, o Options) error {
	mode := o.Mode.Perm()
	if mode == 0 {
		mode = 0o700
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := makeAll(filepath.Dir(abs)); err != nil {
		return err
	}
	up, err := o.place(filepath.Dir(abs))
	if err != nil {
		return err
	}
	defer up.close()
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		up.cleanAround()
		err := up.stage(filepath.Base(abs), func(stage string) error { return up.makeMaildir(stage, uint32(mode)) })
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// There is a directory, made by hand or by somebody else just now: it gets what it lacks.
	p, err := o.place(abs)
	if err != nil {
		return err
	}
	defer p.close()
	p.cleanAround()
	return p.complete(uint32(mode))
}

// place opens a directory, in which the options say who owns what is made.
func (o Options) place(path string) (*place, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &place{fd: fd, uid: owner(o.UID), gid: owner(o.GID)}
	p.users.Store(1)
	return p, nil
}

// makeMaildir makes a directory with tmp, new and cur in it.
func (p *place) makeMaildir(name string, mode uint32) error {
	if err := p.mkdir(name, mode); err != nil {
		return err
	}
	fd, err := openDir(p.fd, name)
	if err != nil {
		return err
	}
	dir := &place{fd: fd, uid: p.uid, gid: p.gid}
	dir.users.Store(1)
	defer dir.close()
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := dir.mkdir(sub, mode); err != nil {
			return err
		}
	}
	return nil
}

// complete makes what a Maildir lacks. cur comes last: what has a cur is whole.
func (p *place) complete(mode uint32) error {
	for _, sub := range []string{"tmp", "new", "cur"} {
		var st unix.Stat_t
		err := statat(p.fd, sub, &st)
		if errors.Is(err, fs.ErrNotExist) {
			err = p.mkdirWhole(sub, mode)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// mkdirWhole is mkdir that gives the directory its name last.
func (p *place) mkdirWhole(name string, mode uint32) error {
	return p.stage(name, func(stage string) error { return p.mkdir(stage, mode) })
}

// stage makes something under a name that tells when, and then gives it its own, durably and never over another one.
func (p *place) stage(name string, make func(stage string) error) error {
	stage := stagingName + uniqueName()
	err := make(stage)
	if err == nil {
		err = p.move(stage, name)
	}
	if err != nil {
		p.removeAll(stage)
	}
	return err
}

// cleanAround removes what somebody who was killed has staged in a directory. It is called where something is made, which is
// seldom.
func (p *place) cleanAround() {
	fd, err := openDir(p.fd, ".")
	if err != nil {
		return
	}
	dir := os.NewFile(uintptr(fd), ".")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if begun, ok := strings.CutPrefix(name, stagingName); ok {
				if sec, n := number(begun); n > 0 && time.Since(time.Unix(int64(sec), 0)) > leftover {
					p.removeAll(name)
				}
			}
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

// makeAll makes a directory and those above it that are missing; each new one is synced into its parent. They belong to
// whoever we are and others may pass through them: several users' Maildirs may lie below.
func makeAll(path string) error {
	if st, err := os.Stat(path); err == nil {
		if !st.IsDir() {
			return unix.ENOTDIR
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	up := filepath.Dir(path)
	if up != path {
		if err := makeAll(up); err != nil {
			return err
		}
	}
	if err := mkdirat(unix.AT_FDCWD, path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(unix.AT_FDCWD, up)
}
