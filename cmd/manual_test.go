package cmd_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	helpFlag = regexp.MustCompile(`(?m)^\s+((?:--?[A-Za-z0-9][A-Za-z0-9-]*[^,\n]*?(?:, |\s))+)`)
	oneFlag  = regexp.MustCompile(`(?:^|[\s,])--?([A-Za-z0-9][A-Za-z0-9-]*)`)
	manItem  = regexp.MustCompile(`(?m)^\.It Fl (.*)`)
	manFlag  = regexp.MustCompile(`(?:^|\bFl )-?([A-Za-z0-9][A-Za-z0-9-]*)`)
)

// Every flag a program knows is in its manual, and the other way round.
func TestManualsNameEveryFlag(t *testing.T) {
	for _, page := range pages(t, "[18]") {
		name := strings.TrimSuffix(filepath.Base(page), filepath.Ext(page))
		if name == "sendmail" || name == "mailq" || name == "newaliases" {
			continue // their spellings have tables of their own
		}
		t.Run(name, func(t *testing.T) {
			help, err := exec.Command(name, "--help").Output()
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			known, told := map[string]bool{}, map[string]bool{}
			_, options, _ := strings.Cut(string(help), "OPTIONS:")
			for line := range strings.Lines(options) {
				if m := helpFlag.FindString(line); m != "" {
					spellings, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
					for _, f := range oneFlag.FindAllStringSubmatch(spellings, -1) {
						known[f[1]] = true
					}
				}
			}
			for _, item := range manItem.FindAllStringSubmatch(string(text), -1) {
				for _, f := range manFlag.FindAllStringSubmatch(item[1], -1) {
					told[f[1]] = true
				}
			}
			for _, everywhere := range []string{"help", "h", "version", "V", "v"} {
				delete(known, everywhere)
				delete(told, everywhere)
			}
			if len(known) == 0 {
				t.Error("--help names no flags")
			}
			if !maps.Equal(known, told) {
				t.Errorf("flags:  %v\nmanual: %v", slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(told)))
			}
		})
	}
}

// Every program has a manual, answers --help and --version, and refuses what
// it does not know with EX_USAGE.
func TestEveryProgramIntroducesItself(t *testing.T) {
	mains, err := filepath.Glob("*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatal("no programs", err)
	}
	for _, file := range mains {
		name := filepath.Dir(file)
		t.Run(name, func(t *testing.T) {
			if found, _ := filepath.Glob("../man/" + name + ".[18]"); len(found) != 1 {
				t.Errorf("manuals: %v", found)
			}
			for _, flag := range []string{"--help", "--version"} {
				out, err := exec.Command(name, flag).Output()
				if err != nil || len(out) == 0 {
					t.Errorf("%s %s: %v, %q", name, flag, err, out)
				}
			}
			cmd := exec.Command(name, "--no-such-flag")
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 64 {
				t.Errorf("%s --no-such-flag: exit %d (%v)\n%s", name, code, err, out)
			}
		})
	}
}

var manArgs = regexp.MustCompile(`(?:^|\bFl )(-?[A-Za-z0-9][A-Za-z0-9-]*)`)

// Every flag that a manual describes is in a line that can be pasted, under
// EXAMPLES or beside the description, in one of its spellings.
func TestManualsShowEveryFlag(t *testing.T) {
	for _, page := range pages(t, "[18]") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var shown strings.Builder
		literal := false
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, ".Dl $ ") {
				t.Errorf("%s: with the prompt nobody can paste %s", page, line)
			}
			switch {
			case strings.HasPrefix(line, ".Bd "):
				literal = true
			case strings.HasPrefix(line, ".Ed"):
				literal = false
			case literal, strings.HasPrefix(line, ".Dl "):
				shown.WriteString(line)
			}
		}
		examples := strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(dq`, `"`, `\e`, `\`, `\&`, "").Replace(shown.String())
		for _, item := range manItem.FindAllStringSubmatch(string(text), -1) {
			if item[1] == "-help" || item[1] == "-version" {
				continue // no example is needed for these
			}
			var spellings []string
			for _, f := range manArgs.FindAllStringSubmatch(item[1], -1) {
				name := regexp.QuoteMeta(f[1])
				switch {
				case strings.HasPrefix(name, "-"): // --flag
					spellings = append(spellings, "-"+name+`(?:[ =\n]|$)`)
				default: // alone, among others in one word, or with its value
					spellings = append(spellings, "-[a-zA-Z]*"+name)
				}
			}
			used := regexp.MustCompile(`(?m)(?:^|\s)(?:` + strings.Join(spellings, "|") + `)`)
			if !used.MatchString(examples) {
				t.Errorf("%s: no example has .It Fl %s", page, item[1])
			}
		}
	}
}

// Manuals have the sections a reader looks for.
func TestManualsAreWhole(t *testing.T) {
	for _, page := range pages(t, "[18]") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
			if !strings.Contains(string(text), "\n.Sh "+section+"\n") {
				t.Errorf("%s: no section %s", page, section)
			}
		}
	}
}

func pages(t *testing.T, sections string) []string {
	pages, err := filepath.Glob("../man/*." + sections)
	if err != nil || len(pages) == 0 {
		t.Fatal("no manuals", err)
	}
	return pages
}

// Imports run downhill: cmd, then proto, then maildir.
func TestImportsRunDownhill(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "pennypost/"
	height := map[string]int{"maildir": 0, "proto": 1, "cmd": 2}
	for line := range strings.Lines(string(out)) {
		pkgs := strings.Fields(line)
		from, _, _ := strings.Cut(strings.TrimPrefix(pkgs[0], module), "/")
		for _, p := range pkgs[1:] {
			rest, ours := strings.CutPrefix(p, module)
			to, _, _ := strings.Cut(rest, "/")
			if ours && height[to] > height[from] {
				t.Errorf("%s imports %s", pkgs[0], p)
			}
			if from == "proto" && (p == "os" || p == "os/exec" || p == "flag" || p == "github.com/urfave/cli/v2") && !strings.HasSuffix(pkgs[0], "test") {
				t.Errorf("%s imports %s: the process belongs to cmd", pkgs[0], p)
			}
			if p == "github.com/urfave/cli/v2" && from != "cmd" {
				t.Errorf("%s imports %s: argv belongs to cmd", pkgs[0], p)
			}
		}
	}
}
