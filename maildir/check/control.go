package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pennypost/maildir"
)

// leftover is how long a file in tmp may lie untouched: whoever writes there gives up after a day (maildir(5)).
const leftover = 36 * time.Hour

// lists looks at the UID list.
func (f *folder) lists() {
	data, st, err := f.dir.read(listName)
	for try := 0; err == nil; try++ {
		f.list = parseList(string(data))
		if len(f.list.faults) == 0 || try == 3 {
			break
		}
		// A line may just be on its way.
		pause(time.Duration(100<<try) * time.Millisecond)
		again, st2, err2 := f.dir.read(listName)
		if err2 != nil {
			err = err2
			break
		}
		same := st2.Ino == st.Ino && st2.Size == st.Size && st2.Mtim == st.Mtim
		data, st = again, st2
		if same && try > 0 {
			break
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.list = nil
		if _, err := f.dir.stat("courierimapuiddb"); err == nil {
			f.tell(Note, kindListOld, "courierimapuiddb", "the UIDs are Courier's; they are taken over when the folder is opened")
			return
		}
		f.listMissing()
		return
	case errors.Is(err, errIrregular) || errors.Is(err, unix.ELOOP):
		f.list = nil
		f.plan(Finding{Severity: Error, Kind: kindListFile, File: listName, Text: "the UID list is no file", Mend: "set it aside"},
			func(m *mending) error { return m.aside(listName) })
		return
	case err != nil:
		f.list = nil
		f.fail(listName, err)
		return
	}
	f.rights(listName, &st, f.c.mode())
	for _, ln := range f.list.lines {
		f.uids[ln.base] = ln.uid
		if ln.ext != "" {
			if f.exts == nil {
				f.exts = map[uint32]string{}
			}
			f.exts[ln.uid] = ln.ext
		}
	}
	const most = 20
	of := map[string]int{}
	for _, ft := range f.list.faults {
		of[ft.kind]++
	}
	told := map[string]int{}
	for _, ft := range f.list.faults {
		finding := Finding{Severity: Error, Kind: ft.kind, File: listName, UID: ft.uid, Text: ft.text, Mend: "write the list anew, with every UID that can be known"}
		if told[ft.kind]++; told[ft.kind] == most && of[ft.kind] > most {
			finding.Count = of[ft.kind] - most + 1
			finding.Text = fmt.Sprintf("%d more lines are like this: %s", finding.Count-1, ft.text)
		} else if told[ft.kind] > most {
			continue
		}
		f.plan(finding, (*mending).mendList)
	}
	if f.list.version == 1 {
		f.plan(Finding{Severity: Warning, Kind: kindListOld, File: listName, Text: "the UID list is of version 1", Mend: "write it as version 3"}, (*mending).mendList)
	}
}

// listMissing tells of a list that was there: the journal would not be without one.
func (f *folder) listMissing() {
	j, err := maildir.ReadJournal(f.dir.fd)
	if err != nil {
		return
	}
	pause(100 * time.Millisecond) // it may be about to be made
	if _, err := f.dir.stat(listName); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	f.plan(Finding{
		Severity: Error, Kind: kindListFile, File: listName, Count: len(j.Bases),
		Text: fmt.Sprintf("the UID list is missing; the journal knows %s of UIDVALIDITY %d", plural(len(j.Bases), "UID", "UIDs"), j.UIDValidity),
		Mend: "write it by the journal",
	}, (*mending).mendList)
}

// splitExt gives the fields between UID and name.
func splitExt(ext string) []string { return strings.Fields(ext) }

// tmp looks for what was never finished.
func (f *folder) tmp() {
	entries, err := f.dir.entries("tmp")
	if err != nil {
		return // told of already
	}
	for _, e := range entries {
		name := "tmp/" + e.name
		st, err := f.dir.stat(name)
		if err != nil {
			continue
		}
		if e.kind != unix.DT_REG {
			f.plan(Finding{Severity: Warning, Kind: kindNotMessage, File: name, Text: "it is no file", Mend: "set it aside"},
				func(m *mending) error { return m.aside(name) })
			continue
		}
		last := time.Unix(0, max(st.Atim.Nano(), st.Mtim.Nano()))
		switch age := f.c.begun.Sub(last); {
		case age > leftover:
			f.plan(Finding{
				Severity: Warning, Kind: kindLeftover, File: name, Mend: "remove it",
				Text: fmt.Sprintf("a delivery of %s was left unfinished %s ago", plural(int(st.Size), "octet", "octets"), days(age)),
			}, func(m *mending) error { return m.leftover(name) })
		case age > time.Hour && st.Nlink == 1:
			f.tell(Note, kindYoung, name, fmt.Sprintf("a delivery was left unfinished %s ago; it is removed after 36 hours", days(age)))
		}
	}
}

// days writes an age for people.
func days(d time.Duration) string {
	if d < 72*time.Hour {
		return plural(int(d/time.Hour), "hour", "hours")
	}
	return plural(int(d/(24*time.Hour)), "day", "days")
}

// control looks at locks, and at what those have left who were killed while they wrote a control file.
func (f *folder) control() {
	if _, err := f.dir.stat(maildir.RenamesName); err == nil {
		f.plan(Finding{
			Severity: Warning, Kind: kindRenames, File: maildir.RenamesName, Mend: "finish it",
			Text: "somebody was killed while giving messages other names: some may have two",
		}, (*mending).done)
	}
	if owner, dead := f.deadLock(); dead {
		f.plan(Finding{
			Severity: Warning, Kind: kindLock, File: lockName, Mend: "remove it",
			Text: fmt.Sprintf("the lock was left by a process that is no more: %q", short(owner)),
		}, (*mending).done)
	}
	entries, err := f.dir.entries(".")
	if err != nil {
		f.fail("", err)
		return
	}
	for _, e := range entries {
		age, known := unfinished(e.name)
		st, err := f.dir.stat(e.name)
		if !known || err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if since := f.c.begun.Sub(time.Unix(st.Mtim.Unix())); since > age {
			f.plan(Finding{
				Severity: Warning, Kind: kindLeftover, File: e.name, Mend: "remove it",
				Text: fmt.Sprintf("somebody was killed while writing a control file %s ago", since.Round(time.Second)),
			}, func(m *mending) error { return m.stale(e.name, age) })
		}
	}
}

const lockName = "dovecot-uidlist.lock"

// deadLock looks twice: a process that has just died may be somebody who has just given its lock back.
func (f *folder) deadLock() (owner string, dead bool) {
	for range 2 {
		if owner, dead = maildir.DeadLock(f.dir.fd); !dead {
			return owner, false
		}
		pause(50 * time.Millisecond)
	}
	return owner, dead
}

// unfinished tells whether a name is that of a control file which is being written, and for how long that may take.
func unfinished(name string) (time.Duration, bool) {
	switch {
	case name == "dovecot-uidlist.tmp", name == "dovecot-keywords.lock", name == "subscriptions.tmp", strings.HasPrefix(name, "dovecot-uidvalidity.tmp."):
		return 10 * time.Minute, true
	case name == "subscriptions.lock", name == "pennypost-metadata.lock":
		return 2 * time.Minute, true
	case strings.HasPrefix(name, "pennypost-") && strings.HasSuffix(name, ".tmp"):
		return 10 * time.Minute, true
	case strings.HasPrefix(name, stagePrefix):
		return leftover, true
	}
	return 0, false
}

// metadata looks at what is noted about the folder, or about all the mail there is.
func (f *folder) metadata(name string) {
	data, st, err := f.dir.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, errIrregular) || errors.Is(err, unix.ELOOP):
		f.plan(Finding{Severity: Error, Kind: kindMetadata, File: name, Text: "the annotations are no file", Mend: "set it aside"},
			func(m *mending) error { return m.aside(name) })
		return
	case err != nil:
		f.fail(name, err)
		return
	}
	f.rights(name, &st, f.c.mode())
	if _, faults := maildir.SurveyMetadata(string(data)); faults > 0 {
		f.tell(Warning, kindMetadata, name, fmt.Sprintf("%s no annotation: whoever changes one drops them", plural(faults, "line is", "lines are")))
	}
}

// next looks whether a UID may be given twice: the journal and Dovecot's index know which were given.
func (f *folder) next() {
	if f.list == nil || f.list.validity == 0 {
		return
	}
	given := f.givenNext()
	if next := f.list.nextUID(); given > next {
		f.plan(Finding{
			Severity: Error, Kind: kindUIDNext, File: listName, UID: next, Mend: fmt.Sprintf("make it %d", given),
			Text: fmt.Sprintf("the next UID is %d, and UIDs up to %d have been given", next, given-1),
		}, (*mending).mendList)
	}
}

// givenNext gives the next UID by all that is noted of the same UIDVALIDITY beside the list.
func (f *folder) givenNext() uint32 {
	validity, next := f.dir.dovecotIndex()
	if validity != f.list.validity {
		next = 0
	}
	if f.known != nil && f.known.UIDNext > next && f.behind(f.known.UIDNext-1) {
		next = f.known.UIDNext
	}
	return next
}
