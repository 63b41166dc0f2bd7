package maildir

import (
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
)

func TestMetadata(t *testing.T) {
	s := newStore(t)
	if err := s.CreateFolder("a"); err != nil {
		t.Fatal(err)
	}
	odd := "two\r\nlines, \x00\xff and ü\""
	for _, folder := range []string{"", "INBOX", "a"} {
		before, err := s.MetadataChanges()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetMetadata(folder, map[string]*string{"/shared/comment": new("of " + folder), "/private/comment": &odd}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetMetadata(folder, map[string]*string{"/shared/comment": nil, "/private/x": new("")}); err != nil {
			t.Fatal(err)
		}
		if after, _ := s.MetadataChanges(); after != before+2 {
			t.Errorf("%q: %d changes after %d", folder, after, before)
		}
		a, err := s.Metadata(folder)
		if want := (Annotations{"/private/comment": odd, "/private/x": ""}); err != nil || !maps.Equal(a, want) {
			t.Errorf("%q: %q, %v", folder, a, err)
		}
	}
	if err := s.RenameFolder("a", "b.c"); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Metadata("b.c"); err != nil || len(a) != 2 {
		t.Errorf("renamed: %q, %v", a, err)
	}
	if _, err := s.Metadata("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := s.RenameFolder("INBOX", "old"); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"old", "INBOX"} { // RFC 5464 §4.1
		if a, err := s.Metadata(folder); err != nil || len(a) != 2 {
			t.Errorf("%s: %q, %v", folder, a, err)
		}
	}
	if err := s.DeleteFolder("old"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateFolder("old"); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Metadata("old"); err != nil || len(a) != 0 {
		t.Errorf("made anew: %q, %v", a, err)
	}
}

func TestMetadataBounds(t *testing.T) {
	s := newStore(t)
	changes := map[string]*string{}
	for i := range MaxAnnotations {
		changes["/private/vendor/x/"+strings.Repeat("y", i)] = new("")
	}
	if err := s.SetMetadata("INBOX", changes); err != nil {
		t.Fatal(err)
	}
	if err := s.SetMetadata("INBOX", map[string]*string{"/private/comment": new("one more"), "/private/vendor/x/y": new("other")}); !errors.Is(err, ErrAnnotations) {
		t.Error(err)
	}
	a, err := s.Metadata("INBOX")
	if err != nil || len(a) != MaxAnnotations || a["/private/vendor/x/y"] != "" {
		t.Errorf("%d, %q, %v", len(a), a["/private/vendor/x/y"], err)
	}
	long := strings.Repeat("z", MaxAnnotation)
	clear(changes)
	for i := range annotationsAll/MaxAnnotation + 1 {
		changes["/shared/vendor/x/"+strings.Repeat("y", i)] = &long
	}
	if err := s.SetMetadata("", changes); !errors.Is(err, ErrAnnotations) {
		t.Error(err)
	}
}

func TestSetUses(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"one", "two", "three"} {
		if err := s.CreateFolder(name); err != nil {
			t.Fatal(err)
		}
	}
	if others, err := s.SetUses("one", `\Sent`); err != nil || len(others) != 0 {
		t.Error(others, err)
	}
	if others, err := s.SetUses("two", `\Sent`); err != nil || strings.Join(others, " ") != "one" {
		t.Error(others, err)
	}
	if _, err := s.SetUses("INBOX", `\Sent`); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if want := map[string]string{"two": `\Sent`}[i.Name]; i.Use != want || i.Told != (i.Name == "one" || i.Name == "two") {
			t.Errorf("%+v", i)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(string(printMetadata(Annotations{"/private/comment": "a\r\nb", "/shared/x": ""}, 7)))
	f.Add("pennypost metadata 1\nchanges x\n/a \"b\n/a b c\n\xff\n/c \"\\u1234\"")
	f.Fuzz(func(t *testing.T, text string) {
		a, changes := parseMetadata(text)
		b, changes2 := parseMetadata(string(printMetadata(a, changes)))
		if !maps.Equal(a, b) || changes != changes2 {
			t.Errorf("%q %d became %q %d", a, changes, b, changes2)
		}
	})
}
