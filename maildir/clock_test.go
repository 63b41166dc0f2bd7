package maildir

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A directory whose time is set back to what it was has changed all the same: rsync -t and touch -d do that.
func TestTimesSetBack(t *testing.T) {
	s := newStore(t)
	put(t, s, "cur/a:2,", "x\n")
	put(t, s, "cur/b:2,", "x\n")
	cur := filepath.Join(s.Path(), "cur")
	for _, when := range []time.Time{time.Unix(1600000000, 0), time.Unix(4000000000, 5), time.Now().Add(-time.Hour)} {
		f := alone(t, s, "INBOX")
		touch := func() {
			if err := os.Chtimes(cur, when, when); err != nil {
				t.Fatal(err)
			}
		}
		touch()
		time.Sleep(2 * fineGrain)
		look(t, f, true)
		time.Sleep(2 * fineGrain)
		before := look(t, f, true)
		names := files(t, s, "cur")
		text := ":2,S"
		if before.At(0).Flags == Seen {
			text = ":2,F"
		}
		if err := os.Rename(filepath.Join(cur, names[0]), filepath.Join(cur, "a"+text)); err != nil {
			t.Fatal(err)
		}
		touch()
		for _, f := range []*Folder{f, alone(t, s, "INBOX")} {
			if st := look(t, f, true); st.At(0).info.text != text {
				t.Errorf("%v: the change is hidden: %q", when, st.At(0).info.text)
			}
		}
	}
}

// What was seen before the clock was set back says nothing about what hides behind it now.
func TestClockSetBack(t *testing.T) {
	now := time.Now()
	s := stamp{ino: 1, sec: now.Unix(), nsec: int64(now.Nanosecond()), size: 5}
	late := now.Add(time.Hour)
	for name, v := range map[string]dirView{
		"read at once":        {stamp: s, since: late, read: late},
		"read when it was so": {stamp: s, since: late.Add(-time.Minute), read: late},
		"changed by us":       {stamp: s, since: late.Add(-time.Minute), read: late, own: late},
	} {
		if !v.due(s, now) {
			t.Error(name)
		}
		v.saw(s, now)
		if again := now.Add(2 * fineGrain); !v.due(s, again) {
			t.Errorf("%s: not again, though more may hide", name)
		} else if v.saw(s, again); v.due(s, again.Add(time.Second)) {
			t.Errorf("%s: again and again", name)
		}
	}
}
