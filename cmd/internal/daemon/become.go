package daemon

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"pennypost/cmd/internal/status"
)

// become drops the rights of root for those of the user called name, for good.
// Without a name, or when we are that user already, it does nothing.
func become(name string) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return config("--user %s: %w", name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return config("--user %s: %w", name, err)
	}
	if os.Getuid() == uid && os.Geteuid() == uid {
		return nil
	}
	groups := []int{gid}
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil && n != gid {
				groups = append(groups, n)
			}
		}
	}
	err = syscall.Setgroups(groups)
	if err == nil {
		err = syscall.Setresgid(gid, gid, gid)
	}
	if err == nil {
		err = syscall.Setresuid(uid, uid, uid)
	}
	if err != nil {
		return status.Errorf(status.NoPerm, "--user %s: %w", name, err)
	}
	if uid != 0 && (syscall.Setuid(0) == nil || os.Geteuid() != uid || os.Getegid() != gid) {
		return system("--user %s: root's rights could not be given up", name)
	}
	return nil
}
