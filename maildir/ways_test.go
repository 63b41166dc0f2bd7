package maildir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tell looks into a folder as a client does.
func (c *scene) tell(f *Folder, claim bool) (*State, []string) {
	st, err := f.Sync(SyncOptions{Claim: claim})
	if c.failed(err) {
		return new(State), nil
	}
	list := make([]string, 0, st.Len())
	for _, m := range st.All() {
		r, err := f.Reader(m)
		if errors.Is(err, ErrGone) { // it was not sure yet; whether it may be is seen at the end
			list = append(list, "")
			continue
		}
		if c.failed(err) {
			return new(State), nil
		}
		data, err := io.ReadAll(r)
		r.Close()
		c.check(err)
		id, ok := whole(data)
		if !ok {
			c.Errorf("UID %d is half", m.UID)
		}
		list = append(list, id)
	}
	c.mark(func(l *dues) { l.tell(f.Name(), st, list) })
	return st, list
}

func (c *scene) deliver(folders ...string) string {
	id := c.id()
	due := func(least, most int, but map[int]error) {
		c.mark(func(l *dues) {
			for i, name := range folders {
				if but[i] == nil {
					l.message(id, name, least, most)
				} else {
					l.message(id, name, 0, 0)
				}
			}
		})
	}
	d, err := c.s.Deliver(DeliverOptions{Folder: folders[0]})
	if c.failed(err) {
		return id
	}
	defer d.Abort()
	for _, name := range folders[1:] {
		if c.failed(d.Also(c.s, DeliverOptions{Folder: name})) {
			return id
		}
	}
	if _, err := io.WriteString(d, text(id)); c.failed(err) {
		return id
	}
	due(0, 1, nil)
	_, err = d.Commit()
	if part, ok := errors.AsType[*PartialError](err); ok {
		for _, err := range part.Failed {
			c.failed(err)
		}
		due(1, 1, part.Failed)
	} else if c.failed(err) {
		due(0, 0, nil)
	} else {
		due(1, 1, nil)
	}
	return id
}

func (c *scene) append(f *Folder, o AppendOptions) string { return c.arrive(f, o)[0] }

// arrive adds messages together.
func (c *scene) arrive(f *Folder, list ...AppendOptions) []string {
	ids := make([]string, len(list))
	for i := range ids {
		ids[i] = c.id()
	}
	due := func(least, most int) {
		c.mark(func(l *dues) {
			for _, id := range ids {
				l.message(id, f.Name(), least, most)
			}
		})
	}
	due(0, 1)
	uids, err := arrive(f, ids, list)
	if c.failed(err) {
		due(0, 0)
		return ids
	}
	validity := f.UIDValidity()
	due(1, 1)
	c.mark(func(l *dues) {
		due := l.folder(f.Name())
		due.validity = validity
		for i, id := range ids {
			due.uids[uids[i]], due.now[id] = id, uids[i]
			if len(list[i].Keywords) > 0 {
				due.marked[id] = list[i].Keywords[0]
			}
		}
	})
	return ids
}

func arrive(f *Folder, ids []string, list []AppendOptions) ([]uint32, error) {
	if len(list) == 1 {
		uid, err := f.Append(list[0], strings.NewReader(text(ids[0])))
		return []uint32{uid}, err
	}
	a, err := f.Arrive()
	if err != nil {
		return nil, err
	}
	defer a.Abort()
	for i, o := range list {
		if err := a.Add(o, strings.NewReader(text(ids[i]))); err != nil {
			return nil, err
		}
	}
	return a.Commit()
}

// transfer copies or moves the messages of a State, all of them.
func (c *scene) transfer(from, to *Folder, move bool) {
	st, list := c.tell(from, false)
	verb := from.Copy
	if move {
		verb = from.Move
	}
	c.mark(func(l *dues) {
		for _, id := range list {
			if move {
				l.moves(id, from.Name(), to.Name())
			} else {
				l.message(id, to.Name(), 0, 1)
			}
		}
	})
	pairs, err := verb(st.List(), to)
	if c.failed(err) {
		c.mark(func(l *dues) {
			for _, id := range list {
				if !move {
					l.message(id, to.Name(), 0, 0)
				}
			}
		})
		return
	}
	if len(pairs) != len(list) {
		c.Errorf("%d pairs of %d", len(pairs), len(list))
	}
	validity := to.UIDValidity()
	c.mark(func(l *dues) {
		due := l.folder(to.Name())
		due.validity = validity
		for i, id := range list {
			l.message(id, to.Name(), 1, 1)
			due.uids[pairs[i].To], due.now[id] = id, pairs[i].To
			if k := l.folder(from.Name()).marked[id]; k != "" {
				due.marked[id] = k
			}
		}
	})
}

// expunge removes the first n messages.
func (c *scene) expunge(f *Folder, n int) {
	st, list := c.tell(f, true)
	n = min(n, len(list))
	c.mark(func(l *dues) {
		for _, id := range list[:n] {
			l.message(id, f.Name(), 0, 1)
		}
	})
	c.failed(f.Expunge(st.List()[:n]))
}

func (c *scene) store(f *Folder, change Change) {
	st, _ := c.tell(f, true)
	_, err := f.Store(st.List(), change)
	c.failed(err)
	c.tell(f, false)
}

func (c *scene) create(name string) {
	c.mark(func(l *dues) { l.folder(name).due = maybe })
	due := certain
	failed := c.failed(c.s.CreateFolder(name))
	if failed {
		due = never
	}
	if c.mark(func(l *dues) { l.folder(name).due = due }); failed {
		panic(curtain{})
	}
}

func (c *scene) delete(key, name string) {
	c.mark(func(l *dues) { l.deleted(key, maybe) })
	if !c.failed(c.s.DeleteFolder(name)) {
		c.mark(func(l *dues) { l.deleted(key, never) })
	}
}

// rename gives folders, and what is below them, another name.
func (c *scene) rename(from, to string, keys ...string) {
	each := func(do func(f *folderDue)) {
		c.mark(func(l *dues) {
			for _, key := range keys {
				do(l.folder(key))
			}
		})
	}
	each(func(f *folderDue) { f.names = append(f.names, to+strings.TrimPrefix(f.names[0], from)) })
	if c.failed(c.s.RenameFolder(from, to)) {
		each(func(f *folderDue) { f.names = f.names[:1] })
		panic(curtain{})
	} else {
		each(func(f *folderDue) { f.names = f.names[1:] })
	}
}

func (c *scene) subscribe(name string, on bool) {
	c.mark(func(l *dues) { l.subs[name] = maybe })
	verb, due := c.s.Subscribe, certain
	if !on {
		verb, due = c.s.Unsubscribe, never
	}
	if !c.failed(verb(name)) {
		c.mark(func(l *dues) { l.subs[name] = due })
	}
}

// boxes makes two folders.
func boxes(c *scene) {
	for _, name := range []string{"Box", "Box.a"} {
		c.create(name)
	}
}

// some puts n messages into INBOX, which a client has seen.
func some(n int) func(c *scene) {
	return func(c *scene) {
		f := c.open(inbox)
		for range n {
			c.append(f, AppendOptions{})
		}
		c.tell(f, true)
	}
}

func both(a, b func(c *scene)) func(c *scene) {
	return func(c *scene) {
		a(c)
		b(c)
	}
}

// ways are all the ways to change a Maildir.
var ways = map[string]struct {
	before func(c *scene) // not recorded: all of it is on the disk
	do     func(c *scene)
}{
	"deliver": {do: func(c *scene) {
		c.deliver(inbox)
		c.deliver(inbox)
	}},
	"deliver to many": {boxes, func(c *scene) {
		c.deliver(inbox, "Box", "Box.a")
		c.deliver("Box", inbox)
	}},
	"append": {do: func(c *scene) {
		f := c.open(inbox)
		c.append(f, AppendOptions{})
		c.append(f, AppendOptions{Flags: Seen})
		c.append(f, AppendOptions{Date: time.Unix(1e9, 0), Keywords: []string{"$Later"}})
	}},
	"append many at once": {some(1), func(c *scene) {
		f := c.open(inbox)
		c.arrive(f, AppendOptions{}, AppendOptions{Flags: Seen}, AppendOptions{Keywords: []string{"$Later"}})
		c.tell(f, true)
		c.arrive(f, AppendOptions{}, AppendOptions{})
	}},
	"append by many": {some(1), func(c *scene) {
		f := c.open(inbox)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				c.append(f, AppendOptions{Flags: Flags(i % 2)})
				c.tell(f, false)
				c.append(f, AppendOptions{})
			})
		}
		wg.Wait()
		c.tell(c.apart(inbox), true)
	}},
	"folders kept": {boxes, func(c *scene) {
		Keep(time.Minute)
		defer Keep(0)
		other := c.apart("Box")
		for i := range 3 {
			f := c.open("Box")
			c.append(f, AppendOptions{})
			f.Close()
			c.deliver("Box")
			c.tell(other, i == 1)
			c.store(other, Change{Add: Seen})
			f = c.open("Box")
			c.tell(f, false)
			c.append(f, AppendOptions{Flags: Seen})
			if i < 2 { // what cannot be written now is written when it can be, by who has it open
				f.Close()
			}
		}
	}},
	"claim": {boxes, func(c *scene) {
		f := c.open(inbox)
		c.deliver(inbox)
		c.tell(f, false)
		c.deliver(inbox)
		c.deliver(inbox)
		c.tell(f, true)
		c.tell(c.apart(inbox), true)
	}},
	"copy": {both(boxes, some(3)), func(c *scene) { c.transfer(c.open(inbox), c.open("Box"), false) }},
	"move": {both(boxes, some(3)), func(c *scene) {
		f := c.open(inbox)
		c.transfer(f, c.open("Box"), true)
		c.append(f, AppendOptions{})
	}},
	"move back": {both(boxes, some(2)), func(c *scene) {
		c.transfer(c.open(inbox), c.open("Box"), true)
		c.transfer(c.open("Box"), c.open(inbox), true)
	}},
	"store": {some(3), func(c *scene) {
		f := c.open(inbox)
		c.store(f, Change{Add: Seen})
		c.store(f, Change{Add: Flagged, AddKeywords: []string{"$Junk"}})
		c.append(f, AppendOptions{Keywords: []string{"$Other"}})
		c.store(f, Change{Remove: Seen})
	}},
	"expunge": {some(5), func(c *scene) {
		f := c.open(inbox)
		c.expunge(f, 2)
		c.append(f, AppendOptions{})
		c.expunge(f, 4)
		c.tell(c.apart(inbox), true)
		c.append(f, AppendOptions{})
	}},
	"list anew": {some(90), func(c *scene) {
		f, other := c.open(inbox), c.apart(inbox)
		c.expunge(f, 70)
		c.append(other, AppendOptions{})
		c.append(f, AppendOptions{})
	}},
	"folders": {do: func(c *scene) {
		c.create("One")
		c.create("One.two")
		c.deliver("One.two")
		c.tell(c.open("One.two"), true)
		c.rename("One", "Uno", "One", "One.two")
		c.delete("One.two", "Uno.two")
	}},
	"delete folder": {boxes, func(c *scene) {
		c.deliver("Box")
		c.delete("Box", "Box")
		c.delete("Box.a", "Box.a")
	}},
	"rename INBOX": {some(2), func(c *scene) {
		c.deliver(inbox)
		c.mark(func(l *dues) {
			l.folder("Old").due = maybe
			for _, id := range []string{"m1", "m2", "m3"} {
				l.moves(id, inbox, "Old")
			}
		})
		if c.failed(c.s.RenameFolder(inbox, "Old")) {
			return
		}
		c.mark(func(l *dues) {
			l.folder("Old").due = certain
			l.moved("m1", "Old")
			l.moved("m2", "Old")
			if c.fault == nil { // where there is no room for its UID it is not seen, and stays
				l.moved("m3", "Old")
			}
		})
	}},
	"subscribe": {do: func(c *scene) {
		c.subscribe("a", true)
		c.subscribe("b.c", true)
		c.subscribe("a", false)
	}},
	"prepare": {do: func(c *scene) {
		id := c.id()
		d, err := c.s.Deliver(DeliverOptions{})
		if c.failed(err) {
			return
		}
		defer d.Abort()
		if _, err = io.WriteString(d, text(id)); c.failed(err) {
			return
		}
		name, err := d.Prepare()
		if c.failed(err) {
			return
		}
		c.mark(func(l *dues) {
			l.prepared = append(l.prepared, name)
			l.message(id, inbox, 1, 1)
		})
		if _, err = c.s.Finish(name); !c.failed(err) {
			c.mark(func(l *dues) { l.prepared = nil })
		}
		c.tell(c.apart(inbox), true)
	}},
	"many keywords": {both(boxes, some(1)), func(c *scene) {
		f := c.open(inbox)
		for i := range maxLetters + 2 {
			c.append(f, AppendOptions{Keywords: []string{fmt.Sprint("k", i)}})
		}
		c.transfer(f, c.open("Box"), false)
		c.transfer(f, c.open("Box.a"), true)
	}},
	"journal anew": {both(some(20), func(c *scene) {
		f := c.open(inbox)
		for i := 0; ; i++ { // until the journal is almost long enough
			st := look(c, f, true)
			if _, err := f.Store(st.List(), Change{Add: Flags(1 << (i % 4)), Remove: Flags(1 << ((i + 1) % 4))}); err != nil {
				c.Fatal(err)
			}
			if fi, err := os.Stat(filepath.Join(c.s.Path(), journalName)); err != nil || fi.Size() > 64<<10 {
				c.check(err)
				break
			}
		}
		c.tell(f, true)
	}), func(c *scene) {
		f := c.open(inbox)
		before, _ := os.Stat(filepath.Join(c.s.Path(), journalName))
		for i := range 12 {
			c.store(f, Change{Add: Flags(1 << (i % 4)), Remove: Flags(1 << ((i + 1) % 4))})
		}
		c.expunge(f, 2)
		after, err := os.Stat(filepath.Join(c.s.Path(), journalName))
		if c.check(err); after.Size() > before.Size() && c.fault == nil {
			c.Errorf("the journal has %d octets, not less than %d", after.Size(), before.Size())
		}
	}},
	"somebody's rm": {some(90), func(c *scene) {
		other := c.apart(inbox)
		c.tell(other, true)
		names, _ := filepath.Glob(filepath.Join(c.s.Path(), "cur", "*"))
		c.mark(func(l *dues) {
			for id := range l.messages {
				l.message(id, inbox, 0, 1)
			}
		})
		for _, name := range names[:70] {
			unlinkat(unix.AT_FDCWD, name)
		}
		f := c.open(inbox)
		c.tell(f, true)
		c.append(f, AppendOptions{})
		c.append(other, AppendOptions{})
	}},
	"quota": {both(boxes, some(2)), func(c *scene) {
		c.s.SetQuota(Limits{Octets: 1 << 20, Messages: 100})
		f := c.open(inbox)
		c.deliver(inbox, "Box")
		c.append(f, AppendOptions{})
		c.expunge(f, 2)
		c.transfer(f, c.open("Box.a"), true)
	}},
	"four clients": {both(boxes, some(4)), func(c *scene) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				c.play(func(c *scene) {
					f := c.open(inbox)
					box := c.open("Box")
					c.deliver(inbox, "Box")
					c.append(f, AppendOptions{Keywords: []string{fmt.Sprint("k", i)}})
					c.tell(f, i%2 == 0)
					c.append(box, AppendOptions{Flags: Seen})
					c.tell(box, true)
				})
			})
		}
		wg.Wait()
	}},
}
