package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The workers in this file know nothing of our library: they work on the files alone, as other programs do.

// lists names the files of a folder as a mail reader does that opens it now and then: what it knows grows old.
type lists struct {
	dir  string
	name []string // "cur/…"
	uses int
}

func (w *worker) pick(l *lists, folder int) (path, base, info string) {
	if l.uses--; l.uses < 0 || len(l.name) == 0 {
		*l = lists{dir: w.dir(folder), uses: 1 + w.r.IntN(20)}
		for _, sub := range []string{"new", "cur"} {
			entries, err := os.ReadDir(filepath.Join(l.dir, sub))
			if err != nil {
				w.fail("list: %v", err)
			}
			for _, e := range entries {
				l.name = append(l.name, sub+"/"+e.Name())
			}
		}
	}
	if len(l.name) == 0 {
		return "", "", ""
	}
	name := l.name[w.r.IntN(len(l.name))]
	base, _, _ = strings.Cut(name[4:], ":")
	return filepath.Join(l.dir, name), base, name[4+len(base):]
}

// pause is for directories that are slow: a program that changes a file has read one.
func (w *worker) pause() { time.Sleep(time.Duration(w.r.Int64N(int64(w.rest) + 1))) }

// mua is a mail reader on the same Maildir, which renames, links, moves and removes.
func (w *worker) mua() {
	var l [3]lists
	for w.next() {
		w.pause()
		at := w.folder()
		path, base, info := w.pick(&l[at], at)
		if path == "" {
			continue
		}
		name := soakFolders[at]
		crowd := len(l[at].name)
		op := w.r.IntN(100)
		cur := filepath.Join(w.dir(at), "cur", base)
		switch {
		case op < 65 && at == ownFolder:
			w.toggle(path, base, info)
		case op < 50: // mutt's sync: a rename
			to := cur + ":2," + Flags(w.r.IntN(32)).String()
			w.did(os.Rename(path, to), "%s: rename %s to %s", name, path, to)
		case op < 60: // mutt's way where rename might replace: link, then unlink
			to := cur + ":2," + Flags(w.r.IntN(32)).String()
			err := os.Link(path, to)
			if err == nil {
				err = os.Remove(path)
			}
			w.did(err, "%s: link %s to %s", name, path, to)
		case op < 65: // a name in cur without flags, as some leave it
			w.did(os.Rename(path, cur), "%s: rename %s to %s", name, path, cur)
		case op < 78 && crowd > w.room/2:
			e := w.take(at, base)
			err := os.Remove(path)
			w.did(err, "%s: remove %s", name, path)
			if err != nil {
				e.taken.Add(-1)
			}
		case op < 84: // into another folder, under its own name
			w.carry(path, base, at, (at+1+w.r.IntN(2))%3)
		case op < 88: // out and in again
			w.outAndIn(path, base, info, at)
		case op < 92 && at != ownFolder && crowd < w.room: // a copy under its own name
			w.double(path, base, at)
		case op < 96 && crowd < w.room: // a copy under another name
			w.duplicate(path, base, info, (at+1)%3)
		default:
			if data, err := os.ReadFile(path); err == nil {
				if _, ok := noteID(string(data)); !ok {
					w.fail("%s is not whole: %q", path, data[:min(len(data), 80)])
				}
			}
		}
	}
}

// toggle changes the one flag that is ours, by a rename that fails when another one was made meanwhile.
func (w *worker) toggle(path, base, info string) {
	bit := w.bits[0]
	in := parseInfo(info)
	e := w.l.base(soakFolders[ownFolder], base)
	word := flagWord(e.word.Load())
	on := in.flags&(1<<bit) == 0
	to := filepath.Join(w.dir(ownFolder), "cur", base+infoText(in.flags^1<<bit, in.letters, in.other, in.extra))
	e.begin(bit)
	err := os.Rename(path, to)
	w.did(err, "Own: toggle %s to %s", path, to)
	if err != nil {
		e.failed(bit)
		return
	}
	// The name was this one until now, so the flag has to be as we left it.
	if word.known(bit) && !word.pending(bit) && word.is(bit) == on {
		w.fail("Own: %s: %s was acknowledged as %v", path, bitName(bit), on)
	}
	e.done(bit, on)
}

// carry moves a file into another folder under its own name. Where there was one of that name before, it is nobody's
// fault what becomes of it.
func (w *worker) carry(path, base string, at, to int) {
	target, fresh := w.l.claimBase(soakFolders[to], base)
	if to == ownFolder && !fresh {
		return
	}
	e := w.take(at, base)
	if !fresh {
		target.taken.Add(1)
	}
	err := os.Rename(path, filepath.Join(w.dir(to), "cur", filepath.Base(path)))
	w.did(err, "%s: carry %s to %s", soakFolders[at], path, soakFolders[to])
	if err != nil {
		e.taken.Add(-1)
	} else if fresh {
		w.acked(to, base, "")
	}
}

// outAndIn takes a file away for a moment.
func (w *worker) outAndIn(path, base, info string, at int) {
	e := w.take(at, base)
	e.forget(5)
	away := filepath.Join(w.s.Path(), "away", base)
	err := os.Rename(path, away)
	if err == nil {
		time.Sleep(time.Duration(w.r.IntN(30)) * time.Millisecond)
		err = os.Rename(away, filepath.Join(w.dir(at), "cur", base+info))
	}
	w.did(err, "%s: out and in %s", soakFolders[at], path)
}

// double copies a file under its own name, with other flags.
func (w *worker) double(path, base string, at int) {
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	w.take(at, base)
	tmp := filepath.Join(w.dir(at), "tmp", "cp."+w.id())
	to := []string{"new/" + base, "cur/" + base + ":2,", "cur/" + base + ":2,F"}[w.r.IntN(3)]
	if err = os.WriteFile(tmp, data, 0o600); err == nil {
		err = os.Rename(tmp, filepath.Join(w.dir(at), to))
	}
	w.did(err, "%s: double %s as %s", soakFolders[at], path, to)
}

// duplicate copies a file under another name, as mbsync does between folders.
func (w *worker) duplicate(path, base, info string, to int) {
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	id, ok := noteID(string(data))
	if !ok {
		w.fail("%s is not whole: %q", path, data[:min(len(data), 80)])
	}
	w.put(to, "cur", w.foreignName(), info, id, false)
}

// foreignName makes a base name as others do, sorted by anything.
func (w *worker) foreignName() string {
	return fmt.Sprintf("%d.%d_%d.other", time.Now().Unix()-int64(w.r.IntN(3)), os.Getpid(), w.n)
}

// put brings a message in: tmp, then a rename, or link and unlink.
func (w *worker) put(folder int, sub, base, info, id string, link bool) {
	tmp := filepath.Join(w.dir(folder), "tmp", base)
	to := filepath.Join(w.dir(folder), sub, base+info)
	err := os.WriteFile(tmp, []byte(note(id)), 0o600)
	switch {
	case err == nil && link:
		if err = os.Link(tmp, to); err == nil {
			err = os.Remove(tmp)
		}
	case err == nil:
		err = os.Rename(tmp, to)
	}
	if err != nil {
		w.fail("put: %v", err)
	}
	w.acked(folder, base, id)
	w.did(nil, "%s: put %s: %s", soakFolders[folder], id, to)
}

// procmail delivers by link and unlink.
func (w *worker) procmail() {
	for w.next() {
		if at := w.folder(); !w.crowded(at) {
			w.put(at, "new", w.foreignName(), "", w.id(), true)
		}
		time.Sleep(time.Duration(w.r.IntN(3)) * time.Millisecond)
	}
}

// mbsync brings messages in with flags at once, also into new, and flags and removes them later.
func (w *worker) mbsync() {
	var l lists
	for w.next() {
		w.pause()
		at := w.wild()
		path, base, _ := w.pick(&l, at)
		switch op := w.r.IntN(10); {
		case op < 5 || path == "":
			if to := w.folder(); !w.crowded(to) {
				sub := []string{"new", "cur"}[w.r.IntN(2)]
				w.put(to, sub, w.foreignName()+",U=7", ":2,"+Flags(w.r.IntN(32)).String(), w.id(), false)
			}
		case op < 9: // the file stays where it is, in new also
			to := filepath.Join(filepath.Dir(path), base+":2,"+Flags(w.r.IntN(32)).String())
			w.did(os.Rename(path, to), "mbsync: rename %s to %s", path, to)
		default:
			e := w.take(w.folderOf(path), base)
			err := os.Remove(path)
			w.did(err, "mbsync: remove %s", path)
			if err != nil {
				e.taken.Add(-1)
			}
		}
		time.Sleep(time.Duration(w.r.IntN(2)) * time.Millisecond)
	}
}

func (w *worker) folderOf(path string) int {
	for i := range soakFolders {
		if filepath.Dir(filepath.Dir(path)) == w.dir(i) {
			return i
		}
	}
	panic(path)
}
