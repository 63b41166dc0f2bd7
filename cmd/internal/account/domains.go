package account

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"pennypost/cmd/internal/status"
)

// A domain is a mail domain that is ours.
type domain struct {
	name    string // as domainKey spells it
	dir     string // its folder; "" for the system's
	users   *file[*userTable]
	aliases *file[aliasTable]
}

// domains is the folder of that name: each folder in it is a mail domain, and a
// symbolic link to another one there is a second name for it. A post office
// without the folder has one domain, the host's, with the system's users.
type domains struct {
	office *Office
	path   string
	now    atomic.Pointer[domainList]
	mu     sync.Mutex
	system *domain
}

type domainList struct {
	stamp  stamp
	none   bool // there is no such folder
	sorted []*domain
	byName map[string]*domain
}

func (ds *domains) init(o *Office) {
	ds.office = o
	ds.path = o.path("domains")
}

// all returns the domains, sorted by name.
func (ds *domains) all() ([]*domain, error) {
	if ds.path == "" {
		return ds.host(), nil
	}
	s, err := ds.office.look(ds.path)
	l := ds.now.Load()
	if l == nil || err != nil || l.stamp != s {
		if l, err = ds.read(); err != nil {
			return nil, err
		}
	}
	if l.none {
		return ds.host(), nil
	}
	return l.sorted, nil
}

// named returns a domain by its key, nil if it is not ours. The list is the one that
// all returned last.
func (ds *domains) named(key string) *domain {
	if l := ds.now.Load(); l != nil && !l.none {
		return l.byName[key]
	}
	if d := ds.host()[0]; d.name == key {
		return d
	}
	return nil
}

// host returns the one domain of a machine that has no domains of its own.
func (ds *domains) host() []*domain {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	name := ds.office.hostDomain()
	if ds.system == nil || ds.system.name != name {
		o := ds.office
		d := &domain{name: name}
		d.users = newFile(o, "", parseNoUsers)
		d.aliases = newFile(o, o.sys.aliases, func(path string, data []byte) (aliasTable, error) { return parseAliases(path, "", data) })
		ds.system = d
	}
	return []*domain{ds.system}
}

func (ds *domains) read() (*domainList, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	old := ds.now.Load()
	if old != nil && !old.none {
		awaitReturn(ds.path)
	}
	l, err := ds.scan(old)
	if err != nil {
		if old != nil {
			l := *old
			l.stamp, _ = ds.office.look(ds.path)
			if l.stamp != old.stamp {
				ds.office.log().Warn("post office: what the directory said before stays in force", "file", ds.path, "err", err)
			}
			ds.now.Store(&l)
			return &l, nil
		}
		return nil, err
	}
	ds.now.Store(l)
	return l, nil
}

// scan lists the folder. Domains that were there before keep what was read of them.
func (ds *domains) scan(old *domainList) (*domainList, error) {
	s, err := ds.office.look(ds.path)
	for try := 0; err == nil && try < 10 && s.await(); try++ {
		s, err = ds.office.look(ds.path)
	}
	if err != nil {
		return nil, err
	}
	l := &domainList{stamp: s, none: !s.there, byName: map[string]*domain{}}
	if !s.there {
		return l, nil
	}
	entries, err := os.ReadDir(ds.path)
	if err != nil {
		return nil, err
	}
	links := map[string]string{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue // an editor's or version control's
		}
		path := filepath.Join(ds.path, name)
		fi, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile, or a dangling link
		}
		if err != nil {
			return nil, err
		}
		if !fi.IsDir() {
			continue // a README
		}
		key, err := domainKey(name)
		if err != nil {
			return nil, status.Errorf(status.Config, "%s: not the name of a domain", path)
		}
		if e.Type()&fs.ModeSymlink != 0 {
			if to, err := os.Readlink(path); err == nil && filepath.Base(to) == filepath.Clean(to) {
				if target, err := domainKey(filepath.Clean(to)); err == nil {
					links[key] = target
					continue
				}
			}
		}
		if l.byName[key] != nil {
			return nil, status.Errorf(status.Config, "%s: the domain %s has a folder already", path, key)
		}
		var d *domain
		if old != nil {
			d = old.byName[key]
		}
		if d == nil || d.dir != path {
			d = ds.office.newDomain(key, path)
		}
		l.byName[key] = d
		l.sorted = append(l.sorted, d)
	}
	for key, target := range links {
		if d := l.byName[target]; d != nil && l.byName[key] == nil {
			l.byName[key] = d
		}
	}
	slices.SortFunc(l.sorted, func(a, b *domain) int { return strings.Compare(a.name, b.name) })
	return l, nil
}

func (o *Office) newDomain(key, dir string) *domain {
	d := &domain{name: key, dir: dir}
	d.users = newFile(o, filepath.Join(dir, "users"), func(path string, data []byte) (*userTable, error) { return parseUsers(path, key, data) })
	d.aliases = newFile(o, filepath.Join(dir, "aliases"), func(path string, data []byte) (aliasTable, error) { return parseAliases(path, key, data) })
	return d
}

// hostDomain returns the name of the one domain of a post office without domains:
// its own name, else the system's mail name.
func (o *Office) hostDomain() string {
	if me, err := o.me.get(); err == nil && me != "" {
		return me
	}
	return o.sys.mailDomain()
}
