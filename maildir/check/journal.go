package check

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"pennypost/maildir"
)

// journal looks at the journal, after the list: what the journal tells of a message stands in the list first.
func (f *folder) journal() {
	j, err := f.readJournal()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		f.plan(Finding{
			Severity: Error, Kind: kindJournal, File: maildir.JournalName, Text: "the journal cannot be used: " + err.Error(),
			Mend: "set it aside; whoever opens the folder next begins a new one",
		}, func(m *mending) error { return m.aside(maildir.JournalName) })
		return
	}
	if j.Rest > 0 {
		f.plan(Finding{
			Severity: Warning, Kind: kindJournal, File: maildir.JournalName, Mend: "cut them off",
			Text: fmt.Sprintf("the last %s of the journal are no whole record, as when somebody was killed", plural(int(j.Rest), "octet", "octets")),
		}, func(m *mending) error { return m.m.CutJournal() })
	}
	if f.list == nil || f.list.validity == 0 {
		return
	}
	if j.UIDValidity != f.list.validity {
		f.plan(Finding{
			Severity: Warning, Kind: kindJournal, File: maildir.JournalName,
			Text: fmt.Sprintf("the journal is of UIDVALIDITY %d, the folder has %d", j.UIDValidity, f.list.validity),
			Mend: "set it aside; whoever opens the folder next begins a new one",
		}, func(m *mending) error { return m.aside(maildir.JournalName) })
		return
	}
	f.known = j
	f.disagree(j)
}

// readJournal reads the journal, and again when it seems damaged: a record may just be on its way.
func (f *folder) readJournal() (j *maildir.JournalView, err error) {
	for try := range 4 {
		j, err = maildir.ReadJournal(f.dir.fd)
		if err == nil && j.Rest == 0 || errors.Is(err, fs.ErrNotExist) {
			break
		}
		pause(time.Duration(50<<try) * time.Millisecond)
	}
	return j, err
}

// disagree tells where a journal that knew the list as it is says something else.
func (f *folder) disagree(j *maildir.JournalView) {
	again, err := maildir.ReadJournal(f.dir.fd)
	if err != nil || !j.List || !again.List || again.HighestModSeq != j.HighestModSeq {
		return // it is being written: the next run sees
	}
	var wrong []uint32
	for _, ln := range f.list.lines {
		if base, ok := j.Bases[ln.uid]; ok && base != ln.base {
			wrong = append(wrong, ln.uid)
		}
	}
	if len(wrong) > 0 {
		f.plan(Finding{
			Severity: Error, Kind: kindJournal, File: maildir.JournalName, UID: wrong[0], Count: len(wrong),
			Text: "the journal and the UID list tell different names for UID " + ranges(wrong),
			Mend: "set it aside; whoever opens the folder next begins a new one",
		}, func(m *mending) error { return m.aside(maildir.JournalName) })
	}
}

// lost finds files whose UIDs the list has lost, and the journal still knows.
func (f *folder) lost(files []file) {
	if f.known == nil || f.list == nil {
		return
	}
	byBase := make(map[string]uint32, len(f.known.Bases))
	for uid, base := range f.known.Bases {
		byBase[base] = uid
	}
	for _, e := range files {
		base, _ := split(e.name)
		uid, ok := byBase[base]
		if !ok || f.uids[base] != 0 || uid >= f.list.nextUID() && !f.behind(uid) {
			continue
		}
		f.plan(Finding{
			Severity: Error, Kind: kindUIDLost, File: e.path(), UID: uid,
			Text: fmt.Sprintf("the UID list does not have it; by the journal it is UID %d", uid), Mend: "put it back into the list",
		}, (*mending).mendList)
	}
}

// behind tells whether the list, read anew, is surely behind a UID: whoever gives one writes the list first.
func (f *folder) behind(uid uint32) bool {
	data, _, err := f.dir.read(listName)
	if err != nil {
		return false
	}
	l := parseList(string(data))
	return l.validity == f.known.UIDValidity && l.nextUID() <= uid
}

// misplaced tells of messages that the journal surely has wrong: nobody would look for them.
func (f *folder) misplaced(files []file) {
	if f.known == nil || !f.known.Files {
		return
	}
	there := make(map[string]bool, len(files))
	for _, e := range files {
		there[e.path()] = true
	}
	wrong := func(j *maildir.JournalView) []uint32 {
		var uids []uint32
		for uid, path := range j.Paths {
			if !there[path] {
				uids = append(uids, uid)
			}
		}
		slices.Sort(uids)
		return uids
	}
	uids := wrong(f.known)
	if len(uids) == 0 {
		return
	}
	// Both must have been as they are now all the time.
	again, err := maildir.ReadJournal(f.dir.fd)
	if err != nil || !again.Files || again.HighestModSeq != f.known.HighestModSeq {
		return
	}
	f.plan(Finding{
		Severity: Error, Kind: kindJournal, File: maildir.JournalName, UID: uids[0], Count: len(uids),
		Text: "the journal has other flags or places than the files for UID " + ranges(uids),
		Mend: "set it aside; whoever opens the folder next begins a new one",
	}, func(m *mending) error { return m.aside(maildir.JournalName) })
}

// A cached is what the cache says of a message's octets.
type cached struct {
	size, crlf int64
	lacks      int64
}

// cache looks at the cache as a file. What it says of each message is compared when the message is read.
func (f *folder) cache() {
	if f.list == nil {
		return
	}
	bases := make(map[uint32]string, len(f.list.lines))
	for _, ln := range f.list.lines {
		bases[ln.uid] = ln.base
	}
	var rest int64
	var err error
	for try := range 3 {
		entries := map[uint32]cached{}
		rest, err = maildir.SurveyCache(f.dir.fd, f.list.validity, bases, func(uid uint32, e *maildir.Entry) {
			entries[uid] = cached{e.Octets, e.Size, int64(e.Lacks)}
		})
		f.entries = entries
		if err == nil && rest == 0 || errors.Is(err, fs.ErrNotExist) {
			break
		}
		pause(time.Duration(50<<try) * time.Millisecond)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.badCache("the cache cannot be used: "+err.Error(), Warning)
	case rest > 0:
		f.badCache(fmt.Sprintf("%s of the cache are no whole records", plural(int(rest), "octet", "octets")), Note)
	}
}

func (f *folder) badCache(text string, severity Severity) {
	f.plan(Finding{Severity: severity, Kind: kindCache, File: maildir.CacheName, Text: text, Mend: "remove it; it is filled again when it is needed"},
		func(m *mending) error { return gone(m.m.Drop(maildir.CacheName)) })
}

// cacheLies compares what the cache says of a message with the message.
func (f *folder) cacheLies(uid uint32, o octets) bool {
	c, ok := f.entries[uid]
	return ok && uid != 0 && !f.c.o.Quick && (c.size != o.size || c.crlf != o.crlf || c.lacks != o.lacks)
}
