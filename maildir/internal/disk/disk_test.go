package disk

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// changing are the functions of unix, syscall and os that change a disk or open a file for it; each stands for those that
// begin like it.
var changing = map[string][]string{
	"unix": {
		"Open", "Creat", "Write", "Pwrite", "Rename", "Link", "Unlink", "Symlink", "Mkdir", "Mknod", "Mkfifo", "Rmdir", "Truncate", "Ftruncate",
		"Fallocate", "Chmod", "Fchmod", "Chown", "Lchown", "Fchown", "Utim", "Futim", "Lutim", "Fsync", "Fdatasync", "Sync", "CopyFileRange", "Sendfile",
		"Splice", "Setxattr", "Fsetxattr", "Lsetxattr", "Removexattr", "IoctlFile",
	},
	"os": {
		"Create", "OpenFile", "OpenRoot", "OpenInRoot", "WriteFile", "Mkdir", "Remove", "Rename", "Link", "Symlink", "Truncate", "Chmod", "Chown", "Lchown",
		"Chtimes", "CopyFS",
	},
}

// Nothing in maildir and its queue changes the disk but by this package: what went by it would not be tested.
func TestAllCallsHere(t *testing.T) {
	changing["syscall"] = changing["unix"]
	for _, dir := range []string{"../..", "../../queue"} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(names) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				pkg, ok := sel.X.(*ast.Ident)
				if !ok {
					return true
				}
				for _, f := range changing[pkg.Name] {
					if strings.HasPrefix(sel.Sel.Name, f) {
						t.Errorf("%s: %s.%s: use the wrappers in dir.go (in queue: file.go)", set.Position(n.Pos()), pkg.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// The hook sees a call before it is made, can refuse it, and sees its result.
func TestHook(t *testing.T) {
	defer func() { Hook = nil }()
	var seen []Op
	Hook = func(c *Call, do func() error) error {
		seen = append(seen, c.Op)
		return do()
	}
	path := filepath.Join(t.TempDir(), "x")
	fd, err := OpenAt(-100, path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := WriteTo(fd, []byte("abc")); n != 3 || err != nil {
		t.Error(n, err)
	}
	Hook = func(*Call, func() error) error { return os.ErrInvalid }
	if err := Fsync(fd); err != os.ErrInvalid {
		t.Error(err)
	}
	if len(seen) != 2 || seen[0] != Create || seen[1] != Write {
		t.Error(seen)
	}
}
