package imap

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"pennypost/maildir"
)

// A movement is a mailbox that has got another name.
type movement struct {
	from, to string
	at       time.Time
}

// tellNames says which mailboxes have come, gone or got other names, and which
// are subscribed or no longer so (RFC 5465 §5.4, §5.5).
func (s *Session) tellNames(given []mentioned) error {
	a := s.attention
	now, by, err := s.knownNames(a)
	if err != nil {
		return err
	}
	old := a.names
	a.names = now
	own := func(name string) bool {
		return slices.ContainsFunc(given, func(m mentioned) bool {
			below, ok := strings.CutPrefix(name, strings.TrimSuffix(m.meant, separator))
			return ok && (below == "" || strings.HasPrefix(below, separator))
		})
	}
	info := map[string]string{} // of those affected
	affect := func(name, oldName string, e event) {
		k := now[name]
		subscribed := func(name string) bool {
			return now[name] != nil && now[name].subscribed || old[name] != nil && old[name].subscribed
		}
		wanted := a.wants(name, subscribed(name))
		if oldName != "" { // who asks for the old one wants to hear where it has gone
			wanted |= a.wants(oldName, subscribed(oldName))
		}
		if wanted&e == 0 {
			return
		}
		if k != nil && k.exists && errors.Is(s.may(name, maildir.RightRead), errRights) { // §5
			return
		}
		if oldName != "" {
			info[name] = ` ("OLDNAME" (` + s.mailboxName(oldName) + `))`
		} else if _, there := info[name]; !there {
			info[name] = ""
		}
	}
	come, gone := differences(old, now)
	moves := a.moved(old, now, come, gone)
	for _, name := range slices.Concat(come, gone) {
		from, renamed := moves[name]
		if renamed {
			s.follows(from, name)
		}
		switch {
		case own(name):
		case renamed && from != "":
			affect(name, from, nameChange)
		case !renamed:
			affect(name, "", nameChange)
			for up := range parents(name) { // the direct one (§5.4)
				affect(up, "", nameChange)
				break
			}
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(old)), slices.Collect(maps.Keys(now))) {
		was, is := old[name] != nil && old[name].subscribed, now[name] != nil && now[name].subscribed
		if was != is && !own(name) {
			affect(name, "", subscriptionChange)
		}
	}
	for _, name := range sortedNames(info) {
		n := by[name]
		if n == nil {
			n = s.newName(name)
		}
		s.tellName(n, true, true, info[name])
	}
	return s.watchFolders(a, old)
}

// differences are the mailboxes that have come and gone, in the order of their
// names.
func differences(old, now map[string]*known) (come, gone []string) {
	for _, name := range sortedNames(now) {
		if k := old[name]; now[name].exists && (k == nil || !k.exists) {
			come = append(come, name)
		}
	}
	for _, name := range sortedNames(old) {
		if k := now[name]; old[name].exists && (k == nil || !k.exists) {
			gone = append(gone, name)
		}
	}
	return come, gone
}

// goesOn is for how long mailboxes below one that has got another name may still be
// on their way after it.
const goesOn = 5 * time.Second

// moved finds those that have only got other names: for each new one the old one;
// "" for the old names themselves, and for those whose parents have moved in the same
// way, of which nobody needs to hear (RFC 5465 §5.4).
func (a *attention) moved(old, now map[string]*known, come, gone []string) map[string]string {
	moves := map[string]string{}
	a.moves = slices.DeleteFunc(a.moves, func(m movement) bool { return time.Since(m.at) > goesOn })
	for _, to := range come {
		i := slices.IndexFunc(gone, func(from string) bool { return now[to].id != "" && old[from].id == now[to].id })
		if i < 0 {
			continue
		}
		from := gone[i]
		moves[from], moves[to] = "", from
		if slices.ContainsFunc(a.moves, func(m movement) bool {
			below, ok := strings.CutPrefix(from, m.from+separator)
			return ok && to == m.to+separator+below
		}) {
			moves[to] = ""
		}
		a.moves = append(a.moves, movement{from, to, time.Now()})
	}
	return moves
}

// follows keeps what the client has heard of a mailbox that has got another name.
func (s *Session) follows(from, to string) {
	a := s.attention
	f := a.folders[from]
	if f == nil || from == "" {
		return
	}
	f.stop()
	delete(a.folders, from)
	moved := &attended{name: to, events: f.events, told: f.told, own: f.own}
	if s.watchFolder(a, moved) == nil {
		a.folders[to] = moved
		moved.stir(a)
	}
}
