package maildir

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// tell looks into a folder as a client does.
func (c *scene) tell(f *Folder, claim bool) (*State, []string) {
	st := look(c, f, claim)
	list := ids(c, f, st)
	c.mark(func(l *dues) { l.tell(f.Name(), st, list) })
	return st, list
}

func (c *scene) deliver(folders ...string) string {
	id := c.id()
	d, err := c.s.Deliver(DeliverOptions{Folder: folders[0]})
	c.check(err)
	for _, name := range folders[1:] {
		c.check(d.Also(c.s, DeliverOptions{Folder: name}))
	}
	io.WriteString(d, text(id))
	c.mark(func(l *dues) {
		for _, name := range folders {
			l.message(id, name, 0, 1)
		}
	})
	_, err = d.Commit()
	c.check(err)
	c.mark(func(l *dues) {
		for _, name := range folders {
			l.message(id, name, 1, 1)
		}
	})
	return id
}

func (c *scene) append(f *Folder, o AppendOptions) string {
	id := c.id()
	c.mark(func(l *dues) { l.message(id, f.Name(), 0, 1) })
	uid, err := f.Append(o, strings.NewReader(text(id)))
	c.check(err)
	validity := f.UIDValidity()
	c.mark(func(l *dues) {
		l.message(id, f.Name(), 1, 1)
		due := l.folder(f.Name())
		due.validity, due.uids[uid], due.now[id] = validity, id, uid
		if len(o.Keywords) > 0 {
			due.marked[id] = o.Keywords[0]
		}
	})
	return id
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
	if c.check(err); len(pairs) != len(list) {
		c.Errorf("%d pairs of %d", len(pairs), len(list))
	}
	validity := to.UIDValidity()
	c.mark(func(l *dues) {
		due := l.folder(to.Name())
		due.validity = validity
		for i, id := range list {
			l.message(id, to.Name(), 1, 1)
			due.uids[pairs[i].To], due.now[id] = id, pairs[i].To
		}
	})
}

// expunge removes the first n messages.
func (c *scene) expunge(f *Folder, n int) {
	st, list := c.tell(f, true)
	c.mark(func(l *dues) {
		for _, id := range list[:n] {
			l.message(id, f.Name(), 0, 1)
		}
	})
	c.check(f.Expunge(st.List()[:n]))
}

func (c *scene) store(f *Folder, change Change) {
	st, _ := c.tell(f, true)
	_, err := f.Store(st.List(), change)
	c.check(err)
	c.tell(f, false)
}

func (c *scene) create(name string) {
	c.mark(func(l *dues) { l.folder(name).due = maybe })
	c.check(c.s.CreateFolder(name))
	c.mark(func(l *dues) { l.folder(name).due = certain })
}

func (c *scene) delete(key, name string) {
	c.mark(func(l *dues) { l.deleted(key, maybe) })
	c.check(c.s.DeleteFolder(name))
	c.mark(func(l *dues) { l.deleted(key, never) })
}

// rename gives folders, and what is below them, another name.
func (c *scene) rename(from, to string, keys ...string) {
	c.mark(func(l *dues) {
		for _, key := range keys {
			f := l.folder(key)
			f.names = append(f.names, to+strings.TrimPrefix(f.names[0], from))
		}
	})
	c.check(c.s.RenameFolder(from, to))
	c.mark(func(l *dues) {
		for _, key := range keys {
			f := l.folder(key)
			f.names = f.names[1:]
		}
	})
}

func (c *scene) subscribe(name string, on bool) {
	c.mark(func(l *dues) { l.subs[name] = maybe })
	if on {
		c.check(c.s.Subscribe(name))
		c.mark(func(l *dues) { l.subs[name] = certain })
	} else {
		c.check(c.s.Unsubscribe(name))
		c.mark(func(l *dues) { l.subs[name] = never })
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
	"claim": {boxes, func(c *scene) {
		f := c.open(inbox)
		c.deliver(inbox)
		c.tell(f, false)
		c.deliver(inbox)
		c.deliver(inbox)
		c.tell(f, true)
		c.tell(c.open(inbox), true)
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
		c.tell(c.open(inbox), true)
		c.append(f, AppendOptions{})
	}},
	"list anew": {some(90), func(c *scene) {
		f, other := c.open(inbox), c.open(inbox)
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
		c.check(c.s.RenameFolder(inbox, "Old"))
		c.mark(func(l *dues) {
			l.folder("Old").due = certain
			for _, id := range []string{"m1", "m2", "m3"} {
				l.moved(id, "Old")
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
		c.check(err)
		io.WriteString(d, text(id))
		name, err := d.Prepare()
		c.check(err)
		c.mark(func(l *dues) {
			l.prepared = append(l.prepared, name)
			l.message(id, inbox, 1, 1)
		})
		_, err = c.s.Finish(name)
		c.check(err)
		c.mark(func(l *dues) { l.prepared = nil })
		c.tell(c.open(inbox), true)
	}},
	"four clients": {both(boxes, some(4)), func(c *scene) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				f := c.open(inbox)
				box := c.open("Box")
				c.deliver(inbox, "Box")
				c.append(f, AppendOptions{Keywords: []string{fmt.Sprint("k", i)}})
				c.tell(f, i%2 == 0)
				c.append(box, AppendOptions{Flags: Seen})
				c.tell(box, true)
			})
		}
		wg.Wait()
	}},
}
