package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"pennypost/cmd/internal/status"
	"pennypost/maildir/check"
)

// A report is what is printed, and what it comes to.
type report struct {
	out     *bufio.Writer
	err     error // the first one in writing
	json    bool
	quiet   bool
	repair  bool
	several bool // Maildirs
	tally   check.Tally

	counts [check.Error + 1]int // findings of each severity
	wrong  int                  // warnings and errors
	left   int                  // of these, what is not mended
	mended int
	worst  int // exit status of what could not be read
}

// finding prints one finding on one line.
func (r *report) finding(f check.Finding) {
	r.counts[f.Severity]++
	if f.Severity > check.Note {
		if r.wrong++; !f.Mended {
			r.left++
		}
	}
	if f.Mended {
		r.mended++
	}
	if f.Err != nil && f.Severity > check.Note {
		if c := code(f.Err); c == status.TempFail {
			r.worst = max(r.worst, c)
		}
	}
	if r.quiet && f.Severity == check.Note {
		return
	}
	if r.json {
		r.object(jsonFinding(f))
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", f.Severity)
	if r.several {
		b.WriteString(status.Clean(f.Maildir) + ": ")
	}
	if f.Folder != "" {
		b.WriteString(status.Clean(f.Folder) + ": ")
	}
	if f.File != "" {
		b.WriteString(status.Clean(f.File))
		if f.UID != 0 {
			fmt.Fprintf(&b, " (UID %d)", f.UID)
		}
		b.WriteString(": ")
	}
	b.WriteString(status.Clean(f.Text))
	switch {
	case f.Mended:
		b.WriteString("; mended: " + status.Clean(f.Mend))
	case f.Err != nil:
		b.WriteString("; could not " + status.Clean(f.Mend) + ": " + status.Clean(f.Err.Error()))
	case f.Mend != "":
		b.WriteString("; --repair would " + status.Clean(f.Mend))
	}
	r.printf("%s [%s]\n", b.String(), f.Kind)
}

// A jsonObject is a finding as --json prints it. Keys stay; more may come.
type jsonObject struct {
	Severity string `json:"severity"`
	Kind     string `json:"kind"`
	Maildir  string `json:"maildir"`
	Folder   string `json:"folder,omitempty"`
	File     string `json:"file,omitempty"`
	UID      uint32 `json:"uid,omitempty"`
	Count    int    `json:"count,omitempty"`
	Text     string `json:"text"`
	Mend     string `json:"mend,omitempty"`
	Mended   bool   `json:"mended"`
	Error    string `json:"error,omitempty"`
}

func jsonFinding(f check.Finding) jsonObject {
	o := jsonObject{
		Severity: f.Severity.String(), Kind: f.Kind, Maildir: valid(f.Maildir), Folder: valid(f.Folder), File: valid(f.File), UID: f.UID, Count: f.Count,
		Text: f.Text, Mend: f.Mend, Mended: f.Mended,
	}
	if f.Err != nil {
		o.Error = f.Err.Error()
	}
	return o
}

func (r *report) object(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		r.err = err
		return
	}
	r.printf("%s\n", line)
}

// valid makes a name that is not UTF-8 such that JSON can hold it.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return status.Clean(s)
}

// end prints the sum.
func (r *report) end() error {
	switch {
	case r.quiet:
	case r.json:
		r.object(map[string]any{"summary": map[string]int{
			"maildirs": r.tally.Maildirs, "folders": r.tally.Folders, "messages": r.tally.Messages,
			"errors": r.counts[check.Error], "warnings": r.counts[check.Warning], "notes": r.counts[check.Note], "mended": r.mended,
		}})
	default:
		if r.several {
			r.printf("%d Maildirs, ", r.tally.Maildirs)
		}
		r.printf("%d folders, %d messages: ", r.tally.Folders, r.tally.Messages)
		if r.wrong == 0 {
			r.printf("nothing wrong")
		} else {
			r.printf("%d errors, %d warnings", r.counts[check.Error], r.counts[check.Warning])
		}
		if n := r.counts[check.Note]; n > 0 {
			r.printf(", %d notes", n)
		}
		if r.repair && r.wrong > 0 {
			r.printf("; %d mended, %d left", r.wrong-r.left, r.left)
		}
		r.printf("\n")
	}
	if err := r.out.Flush(); r.err == nil {
		r.err = err
	}
	return r.err
}
