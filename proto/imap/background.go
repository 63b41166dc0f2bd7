package imap

import (
	"context"
	"time"

	"pennypost/maildir"
)

// fillAfter is how long a mailbox is selected before what clients will ask of
// its messages is looked up for the cache: at first they ask themselves.
const fillAfter = 2 * time.Second

// fill begins to look up by the way what clients ask for in this mailbox.
func (v *view) fill(ctx context.Context) {
	if v.filling != nil {
		select {
		case <-v.filling:
		default:
			return // it still goes on
		}
		v.stop()
	}
	ctx, stop := context.WithCancel(ctx)
	v.stop = stop
	done := make(chan struct{})
	v.filling = done
	folder, state := v.folder, v.state
	go func() {
		defer close(done)
		defer stop()
		select {
		case <-time.After(fillAfter):
			folder.FillCache(ctx, state, entries)
		case <-ctx.Done():
		}
	}()
}

func (v *view) close() {
	if v.filling != nil {
		v.stop()
		<-v.filling
	}
	v.folder.Close()
}

// learn makes the entries of messages that were added to a folder.
func learn(f *maildir.Folder, uids []uint32) {
	st, err := f.Sync(maildir.SyncOptions{})
	if err != nil {
		return // they are there all the same
	}
	var msgs []maildir.Message
	for _, uid := range uids {
		if i, ok := st.Find(uid); ok {
			msgs = append(msgs, st.At(i))
		}
	}
	f.Learn(msgs, entries)
}
