package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset"

	"pennypost/proto/mimetree"
)

// unpackJSON runs mimeunpack -j --digest in this process.
func unpackJSON(t testing.TB, file string) *jsonMessage {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	o := &options{digest: true, maxParts: 100_000, maxDepth: 100, out: bufio.NewWriter(&out)}
	if _, err := o.json(&job{options: o, r: f, name: file}); err != nil {
		t.Fatal(err)
	}
	var m jsonMessage
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return &m
}

// The generated messages of the corpus, whose parts are known by construction, and with MIMECORPUS=DIR
// all messages that DIR/msgs and DIR/oracle have. How exactly a verdict is reached is the business
// of the corpus's own judge; here the trees and the contents must be right.
func TestCorpus(t *testing.T) {
	dirs := []string{"testdata/corpus"}
	if dir := os.Getenv("MIMECORPUS"); dir != "" {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		oracles, err := filepath.Glob(filepath.Join(dir, "oracle", "*.json"))
		if err != nil || len(oracles) == 0 {
			t.Fatalf("%s: no oracles, %v", dir, err)
		}
		wrong := 0
		for _, oracle := range oracles {
			name := strings.TrimSuffix(filepath.Base(oracle), ".json")
			if msg := judge(t, oracle, filepath.Join(dir, "msgs", name+".eml")); msg != "" {
				wrong++
				t.Logf("%s: %s", name, msg)
			}
		}
		if wrong > len(oracles)/100 {
			t.Errorf("%s: %d of %d are wrong", dir, wrong, len(oracles))
		}
	}
}

func judge(t *testing.T, oracle, msg string) string {
	var want struct {
		Tree  struct{ Truth bool }
		Parts []struct {
			Section, Type string
			Filename      *string
			SHA256        []string
			Truth         map[string]bool
		}
	}
	b, err := os.ReadFile(oracle)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	got := unpackJSON(t, msg)
	if !want.Tree.Truth {
		return ""
	}
	if len(got.Parts) != len(want.Parts) {
		return "another number of parts"
	}
	for i, w := range want.Parts {
		g := got.Parts[i]
		switch {
		case g.Section != w.Section || g.Type != w.Type:
			return w.Section + ": is " + g.Section + " " + g.Type
		case w.Truth["filename"] && (w.Filename == nil) != (g.Filename == nil) && *orEmpty(w.Filename)+*orEmpty(g.Filename) != "",
			w.Truth["filename"] && *orEmpty(w.Filename) != *orEmpty(g.Filename):
			return w.Section + ": another name"
		case w.Truth["content"] && !slices.Contains(w.SHA256, g.SHA256):
			return w.Section + ": another content"
		}
	}
	return ""
}

func orEmpty(s *string) *string {
	if s == nil {
		return new(string)
	}
	return s
}

// go-message is a second opinion on messages that follow the standards.
func TestSecondOpinion(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/msgs/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal("no messages", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		e, err := message.Read(f)
		if err != nil && !message.IsUnknownCharset(err) {
			t.Logf("%s: go-message refuses it: %v", file, err)
			continue
		}
		var theirs, ours []string
		err = e.Walk(func(path []int, e *message.Entity, err error) error {
			if e == nil {
				return err
			}
			media, _, _ := e.Header.ContentType()
			theirs = append(theirs, media)
			return nil
		})
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Logf("%s: go-message gives up: %v", file, err)
			continue
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		root, err := mimetree.Parse(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		var add func(p *mimetree.Part)
		add = func(p *mimetree.Part) { // go-message does not look into message/rfc822
			ours = append(ours, p.MediaType())
			for _, q := range p.Parts {
				add(q)
			}
		}
		add(root)
		if !slices.Equal(ours, theirs) {
			t.Errorf("%s: %q, go-message says %q", file, ours, theirs)
		}
	}
}
