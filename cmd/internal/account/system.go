package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// system is what the machine itself knows: its names and its users.
type system struct {
	passwd, shadow, aliases, mailname, hosts, nsswitch string // paths
	hostname                                           func() (string, error)

	state *systemState
}

type systemState struct {
	passwd *file[map[string]passwdLine]
	shadow *file[shadowTable]
	others *file[bool]   // users may come from elsewhere than passwd(5)
	getent chan struct{} // one token for each getent(1) that may run at once

	mu    sync.Mutex
	known map[string]answer // of getent

	hostOnce sync.Once
	host     string
	mail     string
}

// An answer of getent is believed for a minute.
type answer struct {
	line  passwdLine
	found bool
	until time.Time
}

const (
	answerFor  = time.Minute
	maxAnswers = 10000
)

func hostSystem() system {
	return system{
		passwd:   "/etc/passwd",
		shadow:   "/etc/shadow",
		aliases:  "/etc/aliases",
		mailname: "/etc/mailname",
		hosts:    "/etc/hosts",
		nsswitch: "/etc/nsswitch.conf",
		hostname: os.Hostname,
	}.ready()
}

func (s system) ready() system {
	s.state = &systemState{getent: make(chan struct{}, 4), known: map[string]answer{}}
	s.state.passwd = newFile(&Office{}, s.passwd, parsePasswd)
	s.state.shadow = newFile(&Office{}, s.shadow, parseShadow)
	s.state.others = newFile(&Office{}, s.nsswitch, parseSwitch)
	return s
}

// host returns the name of the machine; where that is one word, the full name that
// /etc/hosts has for it. No name server is asked: nothing here may wait for one.
func (s system) host() string {
	s.names()
	return s.state.host
}

// mailDomain returns the domain of the system's users: /etc/mailname, else the
// machine's name.
func (s system) mailDomain() string {
	s.names()
	return s.state.mail
}

func (s system) names() {
	s.state.hostOnce.Do(func() {
		name, _ := s.hostname()
		host, err := domainKey(name)
		if err != nil {
			host = "localhost"
		}
		if !strings.Contains(host, ".") {
			if full := s.fullName(host); full != "" {
				host = full
			}
		}
		s.state.host, s.state.mail = host, host
		data, err := readFile(s.mailname)
		if err != nil {
			return
		}
		for _, text := range lines(data) {
			if key, err := domainKey(text); err == nil {
				s.state.mail = key
			}
			break
		}
	})
}

func (s system) fullName(host string) string {
	data, err := readFile(s.hosts)
	if err != nil {
		return ""
	}
	for _, text := range lines(data) {
		names := strings.Fields(text)[1:]
		for _, name := range names {
			if !strings.EqualFold(name, host) {
				continue
			}
			for _, full := range names {
				if key, err := domainKey(full); err == nil && strings.HasPrefix(key, host+".") {
					return key
				}
			}
		}
	}
	return ""
}

// A passwdLine is a line of passwd(5).
type passwdLine struct {
	name     string
	password string
	uid, gid int
	gecos    string
	home     string
	shell    string
}

// parsePasswd reads passwd(5). The file is the system's: a line that makes no sense
// is passed over, as the C library does.
func parsePasswd(path string, data []byte) (map[string]passwdLine, error) {
	users := map[string]passwdLine{}
	for text := range strings.Lines(string(data)) {
		if p, ok := parsePasswdLine(strings.TrimRight(text, "\n")); ok {
			if _, twice := users[p.name]; !twice {
				users[p.name] = p
			}
		}
	}
	return users, nil
}

func parsePasswdLine(text string) (passwdLine, bool) {
	f := strings.Split(text, ":")
	if len(f) != 7 {
		return passwdLine{}, false
	}
	uid, err1 := strconv.ParseUint(f[2], 10, 32)
	gid, err2 := strconv.ParseUint(f[3], 10, 32)
	if key, err := localKey(f[0]); err1 != nil || err2 != nil || err != nil || f[0][0] == '+' || f[0][0] == '-' || f[0][0] == '#' || !filepath.IsAbs(f[5]) {
		return passwdLine{}, false
	} else {
		return passwdLine{name: key, password: f[1], uid: int(uid), gid: int(gid), gecos: f[4], home: f[5], shell: f[6]}, true
	}
}

// A shadowLine is what shadow(5) says about a password.
type shadowLine struct {
	hash    string
	expires int // days since 1970, 0: never
}

// A shadowTable is shadow(5).
type shadowTable struct {
	users  map[string]shadowLine
	sample string // some password, as a users file would have it
}

func parseShadow(path string, data []byte) (shadowTable, error) {
	t := shadowTable{users: map[string]shadowLine{}}
	for text := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(text, "\n"), ":")
		if len(f) < 8 {
			continue
		}
		key, err := localKey(f[0])
		if err != nil {
			continue
		}
		expires, _ := strconv.Atoi(f[7])
		t.users[key] = shadowLine{hash: f[1], expires: max(expires, 0)}
		if stored := "{CRYPT}" + f[1]; t.sample == "" && usable(stored) && checkPassword(stored) == nil {
			t.sample = stored
		}
	}
	return t, nil
}

// lookup finds one of the system's users: in passwd(5), and where the name service
// switch knows other places, by getent(1). It returns ErrUnknown if there is none.
func (s system) lookup(key string) (passwdLine, error) {
	users, err := s.state.passwd.get()
	if err != nil {
		return passwdLine{}, err
	}
	if p, ok := users[key]; ok {
		return p, nil
	}
	if others, err := s.state.others.get(); err != nil || !others || !systemName(key) {
		return passwdLine{}, ErrUnknown
	}
	return s.ask(key)
}

// systemName tells whether a name may be given to getent(1): no option, and no number,
// which it would take for a uid.
func systemName(key string) bool {
	if len(key) > 32 || key[0] == '-' {
		return false
	}
	digits := true
	for i := range len(key) {
		c := key[i]
		switch {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z', c == '.', c == '_', c == '-':
			digits = false
		default:
			return false
		}
	}
	return !digits
}

// parseSwitch tells from nsswitch.conf(5) whether users can come from anywhere but
// passwd(5).
func parseSwitch(path string, data []byte) (bool, error) {
	for _, text := range lines(data) {
		rest, ok := strings.CutPrefix(text, "passwd:")
		if !ok {
			continue
		}
		for service := range strings.FieldsSeq(rest) {
			switch {
			case service == "files", service == "compat", service == "systemd", strings.HasPrefix(service, "["):
			default:
				return true, nil
			}
		}
	}
	return false, nil
}

// ask runs getent(1), a few at once at most.
func (s system) ask(key string) (passwdLine, error) {
	st := s.state
	now := time.Now()
	st.mu.Lock()
	a, ok := st.known[key]
	st.mu.Unlock()
	if ok && now.Before(a.until) {
		if !a.found {
			return passwdLine{}, ErrUnknown
		}
		return a.line, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	select {
	case st.getent <- struct{}{}:
		defer func() { <-st.getent }()
	case <-ctx.Done():
		return passwdLine{}, fmt.Errorf("look up system user: %w", ctx.Err())
	}
	cmd := exec.CommandContext(ctx, "getent", "passwd", "--", key)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return passwdLine{}, ErrUnknown
	}
	a = answer{until: now.Add(answerFor)}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 2 {
		err = nil // not found
	} else if err == nil {
		text, _, _ := bytes.Cut(out, []byte("\n"))
		if a.line, a.found = parsePasswdLine(string(text)); a.found && a.line.name != key {
			a.found = false
		}
	}
	if err != nil {
		return passwdLine{}, fmt.Errorf("look up system user: getent: %w", err)
	}
	st.mu.Lock()
	if len(st.known) >= maxAnswers {
		clear(st.known)
	}
	st.known[key] = a
	st.mu.Unlock()
	if !a.found {
		return passwdLine{}, ErrUnknown
	}
	return a.line, nil
}
