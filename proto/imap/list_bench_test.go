package imap_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pennypost/maildir"
	"pennypost/proto/imap"
	"pennypost/proto/wire"
)

// BenchmarkList asks about 100 folders of 10 messages, as clients do that have
// just come.
func BenchmarkList(b *testing.B) {
	maildir.Keep(time.Minute)
	defer maildir.Keep(0)
	dir := b.TempDir()
	store, err := maildir.Create(dir, maildir.Options{})
	if err != nil {
		b.Fatal(err)
	}
	status := "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY)"
	var all strings.Builder
	for i := range 100 {
		name := fmt.Sprintf("folder%d", i)
		if err := store.CreateFolder(name); err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&all, "s%d STATUS %s %s\r\n", i, name, status)
		f, err := store.OpenFolder(name)
		if err != nil {
			b.Fatal(err)
		}
		for range 10 {
			if _, err := f.Append(maildir.AppendOptions{}, strings.NewReader("Subject: x\n\nx\n")); err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
	}
	store.Close()
	time.Sleep(1200 * time.Millisecond) // so that the directories' times are of the past
	for _, test := range []struct{ name, says string }{
		{"nothing", ""},
		{"LIST", "a LIST \"\" *\r\n"},
		{"LIST-STATUS", "a LIST \"\" * RETURN (STATUS " + status + ")\r\n"},
		{"STATUS", all.String()},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				store, err := maildir.Open(dir)
				if err != nil {
					b.Fatal(err)
				}
				c := &script{Reader: strings.NewReader(test.says)}
				s := &imap.Session{Conn: wire.New(c, 8192, time.Minute), Preauth: &imap.User{Name: "bob", Store: store}}
				s.Serve(b.Context())
			}
		})
	}
}
