package maildir

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// A journal may come from a backup, or with a copy of the Maildir, or a power cut has taken its end: then clients were told
// more than it says. What follows sees to it that they hear of all that is otherwise, under numbers they do not know yet.

// slack is how far times may be apart that would be the same on a quick disk and with good clocks.
const slack = time.Minute

// age tells what to believe of the journal that was read for the first time. One that was written before this host was
// started may lack its end. One that was changed later than it was written, by its times, or that is from another directory,
// is a copy of some age: nothing is known of what was removed since.
func (b *box) age() {
	var st unix.Stat_t
	cur, err := b.dir.stamp("cur")
	if err != nil || statat(b.dir.fd, journalName, &st) != nil {
		return
	}
	written, changed := time.Unix(st.Mtim.Unix()), time.Unix(st.Ctim.Unix())
	age := time.Since(written)
	copied := cur.ino != b.cur.stamp.ino || changed.Sub(written) > slack
	if copied {
		b.grave = graveyard{}
	}
	b.past = copied || age > sinceBoot() || age < -slack
}

// A recollection is what clients of this process may have been told before another journal was read.
type recollection struct {
	blocks blocks
	infos  []*info
	modseq uint64
	grave  graveyard
	log    changes
}

// memory gives that of now; nil when nobody was told anything.
func (b *box) memory() *recollection {
	if b.modseq == 0 {
		return nil
	}
	m := &recollection{infos: b.infos, modseq: b.modseq, grave: b.grave, log: b.log}
	m.blocks, _ = b.rows.freeze()
	return m
}

// latest gives the last modseq of records.
func latest(recs []record) (seq uint64) {
	for i := range recs {
		seq = max(seq, recs[i].modseq)
	}
	return seq
}

// recall compares what was told before with what another journal says, up to the modseq last, and notes what is not told
// there.
func (b *box) recall(was *recollection, last uint64) {
	var gone uidSet
	if last < was.modseq { // it may be an older one
		slog.Warn("the journal is older than what was told", "folder", b.journal.folder)
		for _, v := range was.grave.list {
			if v.modseq > last {
				gone = append(gone, v.UIDRange)
			}
		}
	}
	var buried uidSet
	for _, v := range b.grave.list {
		buried = append(buried, v.UIDRange)
	}
	buried = joined(buried)
	var changed []uint32
	old, now := cursor{s: &State{blocks: was.blocks}}, cursor{s: &State{blocks: b.rows.blocks}}
	for old.more() || now.more() {
		switch {
		case !now.more() || old.more() && old.uid() < now.uid():
			// Those beyond what the journal knows may stand in the list: noteGaps sees to them.
			if was.blocks[old.k].mark[old.i] != 0 && old.uid() < b.known && b.grave.floor <= was.modseq && !buried.has(old.uid()) {
				gone = append(gone, UIDRange{old.uid(), old.uid()})
			}
			old.next()
		case !old.more() || now.uid() < old.uid():
			if bl := b.rows.blocks[now.k]; bl.modseq.at(now.i) <= was.modseq {
				changed = append(changed, now.uid())
			}
			now.next()
		default:
			o, n := was.blocks[old.k], b.rows.blocks[now.k]
			before, after := o.modseq.at(old.i), n.modseq.at(now.i)
			if after < before || after == before && !was.infos[o.mark[old.i]].same(b.infos[n.mark[now.i]]) {
				changed = append(changed, now.uid())
			}
			old.next()
			now.next()
		}
	}
	b.log.changed = append(b.log.changed, changed...)
	b.log.gone = joined(append(append(b.log.gone, was.log.gone...), gone...))
	for _, id := range was.log.ids {
		if _, _, ok := b.rows.blocks.find(id.uid); ok {
			b.log.ids = append(b.log.ids, id)
		}
	}
	b.log.by = was.log.by
}

// heard notes how far the journal knows UIDs.
func (b *box) heard(r *record) {
	for _, a := range r.added {
		b.known = max(b.known, a.uid+1)
	}
	for _, u := range r.vanished {
		if u.Last <= maxUID {
			b.known = max(b.known, u.Last+1)
		}
	}
}

// late takes in a record that is not told under its own modseq.
func (c *changes) late(r *record) {
	for _, a := range r.added {
		c.changed = append(c.changed, a.uid)
	}
	for _, s := range r.changed {
		c.changed = append(c.changed, s.uids...)
	}
	for _, u := range r.vanished {
		c.gone.addAll(u)
	}
}
