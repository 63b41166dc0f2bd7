// Mimepack makes a message of files. See mimepack(1).
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"pennypost/cmd/internal/getopt"
	"pennypost/cmd/internal/status"
	"pennypost/cmd/internal/version"
)

var flags = []cli.Flag{
	&cli.StringFlag{Name: "subject", Aliases: []string{"s"}, Usage: "the `SUBJECT`"},
	&cli.StringFlag{Name: "from", Aliases: []string{"f"}, Usage: "who sends: `ADDRESS`"},
	&cli.StringSliceFlag{Name: "to", Aliases: []string{"t"}, Usage: "who gets it: `ADDRESS,...`"},
	&cli.StringSliceFlag{Name: "cc", Aliases: []string{"c"}, Usage: "who gets a copy: `ADDRESS,...`"},
	&cli.StringSliceFlag{Name: "bcc", Aliases: []string{"b"}, Usage: "who gets a copy that the others do not see: `ADDRESS,...`"},
	&cli.StringSliceFlag{Name: "reply-to", Aliases: []string{"r"}, Usage: "where answers go: `ADDRESS,...`"},
	&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "a further field: `'NAME: VALUE'`"},
	&cli.StringFlag{Name: "body", Aliases: []string{"m"}, Usage: "the text is in `FILE`, - is standard input"},
	&cli.StringFlag{Name: "text", Aliases: []string{"B"}, Usage: "the text is `STRING`"},
	&cli.StringFlag{Name: "html", Aliases: []string{"w"}, Usage: "the text as HTML is in `FILE`"},
	&cli.StringSliceFlag{Name: "inline", Aliases: []string{"i"}, Usage: "a picture that the HTML shows: `FILE[=CID]`"},
	&cli.StringSliceFlag{Name: "message", Aliases: []string{"M"}, Usage: "attach the message in `FILE`"},

	&cli.StringSliceFlag{Name: "type", Aliases: []string{"T"}, Usage: "the next file is of this media `TYPE`"},
	&cli.StringSliceFlag{Name: "name", Aliases: []string{"n"}, Usage: "the next file is called `NAME` in the message"},
	&cli.StringSliceFlag{Name: "encoding", Aliases: []string{"e"}, Usage: "the next file goes as `ENCODING`: auto, 7bit, 8bit, quoted-printable, base64"},
	&cli.StringSliceFlag{Name: "charset", Usage: "the next file is text in this `CHARSET`"},
	&cli.StringSliceFlag{Name: "disposition", Usage: "the next file is `attachment or inline`"},
	&cli.StringSliceFlag{Name: "description", Usage: "the next file is described by `TEXT`"},
	&cli.StringSliceFlag{Name: "cid", Usage: "the next file has the Content-ID `ID`"},

	&cli.BoolFlag{Name: "8bit", Usage: "send text with umlauts as it is"},
	&cli.BoolFlag{Name: "crlf", Usage: "end lines with CRLF"},
	&cli.BoolFlag{Name: "no-date", Usage: "make no Date field"},
	&cli.StringFlag{Name: "message-id", Usage: "take this Message-ID: `<ID@HOST>`"},
	&cli.BoolFlag{Name: "reproducible", Usage: "make the same message of the same input: no time, no chance", EnvVars: []string{"MIMEPACK_REPRODUCIBLE"}},
	&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write `FILE`, whole or not at all"},
	&cli.StringFlag{Name: "send", Usage: "give the message to `COMMAND`, or to sendmail -t -i"},
	&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print the tree of what is made on standard error"},
}

func main() {
	// A reader that goes away is an error like any other, with an exit status.
	// Caught, not ignored: the command of --send must have the default again.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	cli.VersionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"}
	args, err := getopt.Parse(flags, getopt.Optional{"send": func(string) bool { return false }}, os.Args[1:])
	app := &cli.App{
		Name:                      "mimepack",
		Usage:                     "make a message of files",
		UsageText:                 "mimepack [-s SUBJECT] [-f FROM] [-t TO]... [-c CC]... [-b BCC]... [-m FILE|-] [-w HTMLFILE] [option]... [FILE|-]...",
		Version:                   version.String(),
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Flags:                     flags,
		Action:                    func(c *cli.Context) error { return run(c, args) },
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usage(err) },
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	if err == nil {
		err = app.Run(getopt.Line("mimepack", args))
	} else {
		err = usage(err)
	}
	if child, ok := errors.AsType[*exec.ExitError](err); ok && child.Exited() {
		os.Exit(child.ExitCode()) // the command has said why
	}
	status.Exit(err)
}

// usage is a mistake on the command line.
func usage(err error) error {
	return status.Errorf(status.Usage, "%w (see mimepack --help)", err)
}

// run looks at everything first, and writes only when nothing can be wrong any more but reading and
// writing itself.
func run(c *cli.Context, args []getopt.Arg) error {
	p := &packer{
		eightBit: c.Bool("8bit"), reproducible: c.Bool("reproducible"), noDate: c.Bool("no-date"),
		messageID: c.String("message-id"),
	}
	defer p.close()
	if err := p.readArgs(args); err != nil {
		return err
	}
	root, err := p.tree()
	if err != nil {
		return err
	}
	if err := p.makeHeader(); err != nil {
		return status.With(status.DataErr, err)
	}
	if c.Bool("verbose") {
		root.describe(os.Stderr, 0)
	}
	switch {
	case c.IsSet("output") && c.IsSet("send"):
		return usage(errors.New("--output and --send exclude each other"))
	case c.IsSet("output"):
		return p.toFile(c.Path("output"), root, c.Bool("crlf"))
	case c.IsSet("send"):
		return p.toCommand(c.String("send"), root)
	}
	if err := p.write(os.Stdout, root, c.Bool("crlf")); err != nil {
		return fmt.Errorf("standard output: %w", status.With(status.IOErr, err))
	}
	return nil
}
