// Mimeunpack lists, prints and extracts what is in a message. See mimeunpack(1).
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"pennypost/cmd/internal/getopt"
	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
)

// Exit statuses besides those of sysexits(3).
const (
	exitNothing = 1 // nothing matched, or --check found problems
	exitDamaged = 2 // output was made, of content that is damaged
)

// options are what the command line asks for.
type options struct {
	sections []string
	types    []string
	names    []string

	dir       string
	all       bool
	overwrite bool
	skip      bool
	nul       bool
	noNested  bool
	utf8      bool
	crlf      bool
	html      bool
	tsv       bool
	digest    bool
	section   string // of -p and -r
	fields    []string
	maxParts  int
	maxDepth  int
	maxBytes  int64

	out      *bufio.Writer
	terminal bool // standard output is one
	several  bool // more than one message may come
	extract  *extractor
}

var modes = []string{"extract", "list", "print", "raw", "body", "header", "json", "check"}

var flags = []cli.Flag{
	&cli.BoolFlag{Name: "extract", Aliases: []string{"x"}, Usage: "write the attachments into files (the default)"},
	&cli.BoolFlag{Name: "list", Aliases: []string{"l"}, Usage: "list the parts as a tree"},
	&cli.StringFlag{Name: "print", Aliases: []string{"p"}, Usage: "print the part `SECTION`, decoded"},
	&cli.StringFlag{Name: "raw", Aliases: []string{"r"}, Usage: "print `SECTION` as it stands: 2, 2.MIME, 2.HEADER, 2.TEXT, HEADER, TEXT"},
	&cli.BoolFlag{Name: "body", Aliases: []string{"b"}, Usage: "print the text of the message for reading"},
	&cli.StringFlag{Name: "header", Aliases: []string{"H"}, Usage: "print the header fields decoded, all or `NAME,...`"},
	&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print one JSON object a message"},
	&cli.BoolFlag{Name: "check", Usage: "print the problems found, one a line"},

	&cli.PathFlag{Name: "directory", Aliases: []string{"C"}, Value: ".", Usage: "extract into `DIR`"},
	&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "extract bodies and embedded messages too"},
	&cli.BoolFlag{Name: "overwrite", Usage: "replace files that exist"},
	&cli.BoolFlag{Name: "skip-existing", Usage: "leave out parts whose file exists"},
	&cli.BoolFlag{Name: "null", Aliases: []string{"0"}, Usage: "end the paths that are printed with NUL, and print nothing else"},
	&cli.StringSliceFlag{Name: "section", Aliases: []string{"s"}, Usage: "only the parts `SECTION,...`"},
	&cli.StringSliceFlag{Name: "type", Aliases: []string{"T"}, Usage: "only parts whose type fits `PATTERN`"},
	&cli.StringSliceFlag{Name: "name", Aliases: []string{"n"}, Usage: "only parts whose file name fits `PATTERN`"},
	&cli.BoolFlag{Name: "no-nested", Usage: "leave embedded messages closed"},
	&cli.BoolFlag{Name: "utf8", Aliases: []string{"u"}, Usage: "with -p: convert text to UTF-8"},
	&cli.BoolFlag{Name: "crlf", Usage: "with -r: end lines with CRLF, as a signature covers them"},
	&cli.BoolFlag{Name: "html", Usage: "with -b: print the HTML as it is, if there is some"},
	&cli.BoolFlag{Name: "tsv", Usage: "with -l: one part a line, fields between tabs"},
	&cli.BoolFlag{Name: "digest", Usage: "with -j: add SHA-256 of the contents"},
	&cli.IntFlag{Name: "max-depth", Value: 100, Usage: "levels that are looked into: `N`"},
	&cli.IntFlag{Name: "max-parts", Value: 100_000, Usage: "parts of one message that are told apart: `N`"},
	&cli.Int64Flag{Name: "max-bytes", Usage: "stop extracting after `OCTETS` in all"},
}

func main() {
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"}
	app := &cli.App{
		Name:                      "mimeunpack",
		Usage:                     "make files of a message",
		UsageText:                 "mimeunpack [-x | -l | -p SECTION | -r SECTION | -b | -H [NAME,...] | -j | --check] [option]... [MESSAGE]...",
		Version:                   version.String(),
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Flags:                     flags,
		Action:                    run,
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usage(err) },
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	args, err := getopt.Parse(flags, getopt.Optional{"header": isFieldList}, os.Args[1:])
	if err == nil {
		err = app.Run(getopt.Line("mimeunpack", args))
	} else {
		err = usage(err)
	}
	status.Exit(err)
}

// usage is a mistake on the command line.
func usage(err error) error {
	return status.Errorf(status.Usage, "%w (see mimeunpack --help)", err)
}

var fieldList = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*(,[A-Za-z][A-Za-z0-9-]*)*$`)

// isFieldList decides whether the word behind -H is its list of names: it looks like one and is not a
// file.
func isFieldList(next string) bool {
	if !fieldList.MatchString(next) {
		return false
	}
	_, err := os.Lstat(next)
	return errors.Is(err, os.ErrNotExist)
}

func run(c *cli.Context) error {
	mode := "extract"
	for i, name := range slices.DeleteFunc(slices.Clone(modes), func(m string) bool { return !c.IsSet(m) }) {
		if i > 0 {
			return usage(fmt.Errorf("--%s and --%s exclude each other", mode, name))
		}
		mode = name
	}
	o := &options{
		dir: c.Path("directory"), all: c.Bool("all"), overwrite: c.Bool("overwrite"), skip: c.Bool("skip-existing"), nul: c.Bool("null"),
		noNested: c.Bool("no-nested"), utf8: c.Bool("utf8"), crlf: c.Bool("crlf"), html: c.Bool("html"), tsv: c.Bool("tsv"), digest: c.Bool("digest"),
		maxParts: c.Int("max-parts"), maxDepth: c.Int("max-depth"), maxBytes: c.Int64("max-bytes"),
		types: c.StringSlice("type"), names: c.StringSlice("name"),
		out: bufio.NewWriterSize(os.Stdout, 64<<10), terminal: term.IsTerminal(int(os.Stdout.Fd())),
	}
	for _, s := range c.StringSlice("section") {
		o.sections = append(o.sections, strings.Split(s, ",")...)
	}
	if h := c.String("header"); h != "" {
		o.fields = strings.Split(h, ",")
	}
	if o.maxParts < 1 || o.maxDepth < 1 || o.maxBytes < 0 {
		return usage(errors.New("a limit must be positive"))
	}
	if o.overwrite && o.skip {
		return usage(errors.New("--overwrite and --skip-existing exclude each other"))
	}
	for _, p := range append(slices.Clone(o.types), o.names...) {
		if _, err := matchPattern(p, ""); err != nil {
			return usage(fmt.Errorf("pattern %q: %w", p, err))
		}
	}
	o.several = len(c.Args().Slice()) > 1
	if args := c.Args().Slice(); len(args) == 1 {
		info, err := os.Stat(args[0])
		o.several = err == nil && info.IsDir()
	}
	o.section = c.String(mode)
	do := map[string]func(*options, *job) (int, error){
		"extract": (*options).files, "list": (*options).list, "print": (*options).print, "raw": (*options).raw,
		"body": (*options).body, "header": (*options).header, "json": (*options).json, "check": (*options).check,
	}[mode]
	return o.each(c.Args().Slice(), do)
}

// each does the same with every message; the exit status is the worst one.
func (o *options) each(operands []string, do func(*options, *job) (int, error)) error {
	worst, any := 0, false
	for f, err := range messages(operands) {
		exit := 0
		if err == nil {
			m := &job{options: o, r: io.Reader(f), name: f.Name()}
			if f == os.Stdin {
				m.name = "-"
			}
			exit, err = do(o, m)
			any = any || m.any
		} else {
			err = status.With(status.NoInput, err)
		}
		if flush := o.out.Flush(); err == nil && flush != nil {
			err = status.With(status.IOErr, flush)
		}
		if err != nil {
			status.Print(os.Stderr, "mimeunpack", err)
			exit = status.Code(err)
			if exit == status.Software || exit == status.OSErr || exit == status.TempFail {
				exit = status.IOErr
			}
			if errors.Is(err, errFatal) {
				return quiet(exit)
			}
		}
		worst = max(worst, exit)
	}
	if worst == 0 && !any {
		worst = exitNothing
	}
	return quiet(worst)
}

// errFatal is in errors after which other messages need not be tried.
var errFatal = errors.New("the output is lost")

// quiet is an exit status about which everything has been said.
func quiet(code int) error {
	if code == 0 {
		return nil
	}
	return &status.Error{Code: code, Err: errors.New("")}
}
