// Package proto_test keeps proto/README.md true.
package proto_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	cited = regexp.MustCompile(`RFC (\d{2,5})`)
	row   = regexp.MustCompile(`^\| (?:RFC )?(\d{2,5}) \|.*\| ` + "`?" + `([a-z0-9/, ` + "`" + `]+?)` + "`?" + ` \|$`)
)

// Every RFC that the code cites has a row, and every row is cited by the
// package that it names.
func TestReadmeListsEveryRFC(t *testing.T) {
	cites := map[string]map[string]bool{} // package -> RFCs
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(name))
		if cites[pkg] == nil {
			cites[pkg] = map[string]bool{}
		}
		for _, m := range cited.FindAllSubmatch(text, -1) {
			cites[pkg][string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| RFC |") && !strings.HasPrefix(line, "| --- ") {
				t.Errorf("not a row: %s", line)
			}
			continue
		}
		rfc := m[1]
		listed[rfc] = true
		for pkg := range strings.SplitSeq(strings.ReplaceAll(m[2], "`", ""), ", ") {
			if !cites[pkg][rfc] {
				t.Errorf("RFC %s: %s does not cite it", rfc, pkg)
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(cites)) {
		for _, rfc := range slices.Sorted(maps.Keys(cites[pkg])) {
			if !listed[rfc] {
				t.Errorf("%s cites RFC %s, which has no row", pkg, rfc)
			}
		}
	}
}
