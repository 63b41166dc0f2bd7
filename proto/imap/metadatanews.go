package imap

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// A notice is what a client that wants to hear of changed annotations knows of
// all of them (RFC 5464 §4.4): sums of the values, by mailbox and entry.
type notice struct {
	changes uint64 // in the Maildir when we last looked
	seed    maphash.Seed
	sums    map[string]map[string]uint64
}

// heed begins to notice changes of annotations.
func (s *Session) heed() {
	if s.notice != nil {
		return
	}
	s.notice = &notice{seed: maphash.MakeSeed()}
	if err := s.survey(func(string, []string) {}); err != nil {
		s.Log.Error("look at annotations", "user", s.name(), "err", err)
	}
}

// survey looks at all annotations and says which have changed.
func (s *Session) survey(changed func(mailbox string, entries []string)) error {
	o := s.notice
	changes, err := s.user.Store.MetadataChanges() // what comes behind this is found the next time
	if err != nil {
		return err
	}
	names, err := s.names(false)
	if err != nil {
		return err
	}
	sums := map[string]map[string]uint64{}
	for _, n := range append([]*name{{exists: true}}, names...) {
		if !n.exists {
			continue
		}
		all, err := s.annotations(n.text, []string{specialUseEntry}, func() (string, error) { return n.use, nil })
		if err != nil {
			s.Log.Debug("annotations", "user", s.name(), "folder", n.text, "err", err)
			continue // it has gone meanwhile
		}
		sums[n.text] = map[string]uint64{}
		for entry, value := range all {
			sums[n.text][entry] = maphash.String(o.seed, value)
		}
		differ := map[string]bool{}
		for entry, sum := range sums[n.text] {
			if old, there := o.sums[n.text][entry]; !there || old != sum {
				differ[entry] = true
			}
		}
		for entry := range o.sums[n.text] {
			if _, there := sums[n.text][entry]; !there {
				differ[entry] = true
			}
		}
		if len(differ) > 0 {
			changed(n.text, slices.Sorted(maps.Keys(differ)))
		}
	}
	o.changes, o.sums = changes, sums
	return nil
}

// tellAnnotated says which annotations somebody else has changed, without
// their values (RFC 5464 §4.4.2), to a client that has asked for it.
func (s *Session) tellAnnotated() {
	if s.notice == nil || s.state&mailboxes == 0 {
		return
	}
	changes, err := s.user.Store.MetadataChanges()
	if err == nil && changes != s.notice.changes {
		err = s.survey(func(mailbox string, entries []string) {
			if !s.heedsMetadata(mailbox) {
				return
			}
			for i, e := range entries {
				entries[i] = astring(e)
			}
			s.untagged("METADATA %s %s", s.metadataName(mailbox), strings.Join(entries, " "))
		})
	}
	if err != nil {
		s.Log.Error("look at annotations", "user", s.name(), "err", err)
	}
}

// annotated notes changes of this session, which its client knows.
func (s *Session) annotated(mailbox string, changes map[string]*string) {
	if s.notice == nil {
		return
	}
	sums := s.notice.sums[mailbox]
	if sums == nil {
		sums = map[string]uint64{}
		s.notice.sums[mailbox] = sums
	}
	for entry, value := range changes {
		if value == nil {
			delete(sums, entry)
		} else {
			sums[entry] = maphash.String(s.notice.seed, *value)
		}
	}
}

// renamed takes along what is known of a mailbox and those below it.
func (o *notice) renamed(from, to string) {
	if o == nil {
		return
	}
	if from == inbox {
		o.sums[to] = maps.Clone(o.sums[inbox])
		return
	}
	for name, sums := range maps.Clone(o.sums) {
		if below, ok := strings.CutPrefix(name, from); ok && (below == "" || below[0] == separator[0]) {
			delete(o.sums, name)
			o.sums[to+below] = sums
		}
	}
}
