package maildir

import (
	"maps"
	"testing"

	"golang.org/x/sys/unix"

	"pennypost/maildir/internal/disk"
)

// Whatever call fails while an annotation, an access control list or a use is changed: it is the old one or the new one as a
// whole, the new one if that was acknowledged, and the next change goes on.
func TestNotesFail(t *testing.T) {
	hush(t)
	s := newStore(t)
	for _, name := range []string{"a", "b"} {
		if err := s.CreateFolder(name); err != nil {
			t.Fatal(err)
		}
	}
	set := map[string]func(to string) error{
		"annotation": func(to string) error { return s.SetMetadata("a", map[string]*string{"/private/comment": &to}) },
		"account":    func(to string) error { return s.SetMetadata("", map[string]*string{"/private/comment": &to}) },
		"list": func(to string) error {
			return s.SetACL("a", "anyone", false, func(Rights, bool) (Rights, bool) {
				r, _ := ParseRights(to)
				return r, true
			})
		},
		"use": func(to string) error {
			_, err := s.SetUses(to, `\Sent`)
			return err
		},
	}
	get := map[string]func() string{
		"annotation": func() string { return must(s.Metadata("a"))(t)["/private/comment"] },
		"account":    func() string { return must(s.Metadata(""))(t)["/private/comment"] },
		"list":       func() string { return must(s.ACL("a"))(t)[0].Rights.String() },
		"use": func() (where string) {
			for _, i := range must(s.List())(t) {
				if i.Use != "" {
					where += i.Name
				}
			}
			return where
		},
	}
	words := map[string][2]string{"annotation": {"old", "new"}, "account": {"old", "new"}, "list": {"l", "lr"}, "use": {"a", "b"}}
	for what, do := range set {
		old, now := words[what][0], words[what][1]
		for _, op := range faults[unix.EIO] {
			for nth := 1; ; nth++ {
				if err := do(old); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				fds, seen := descriptors(), 0
				disk.Hook = func(c *disk.Call, call func() error) error {
					if c.Op == op {
						if seen++; seen == nth {
							return unix.EIO
						}
					}
					return call()
				}
				err := do(now)
				disk.Hook = nil
				got := get[what]()
				// Between two folders nobody may have the use for a moment, but never both.
				if got != now && (err == nil || got != old && !(what == "use" && got == "")) {
					t.Errorf("%s, %v %d: %q, %v", what, op, nth, got, err)
				}
				if n := descriptors(); n > fds {
					t.Errorf("%s, %v %d: %d descriptors more", what, op, nth, n-fds)
				}
				if seen < nth {
					break
				}
			}
		}
	}
	if a := must(s.Metadata("b"))(t); !maps.Equal(a, Annotations{}) {
		t.Error(a)
	}
}
