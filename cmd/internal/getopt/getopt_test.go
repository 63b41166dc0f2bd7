package getopt

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestParse(t *testing.T) {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "all", Aliases: []string{"a"}},
		&cli.BoolFlag{Name: "alone"},
		&cli.StringSliceFlag{Name: "to", Aliases: []string{"t"}},
		&cli.StringFlag{Name: "header", Aliases: []string{"H"}},
	}
	optional := Optional{"header": func(next string) bool { return next != "file" }}
	for _, tt := range []struct{ argv, want, err string }{
		{"x -a y -t bob z", "--all --to=bob -- x y z", ""},
		{"-at bob", "--all --to=bob --", ""},
		{"-tbob --to bob --to=bob", "--to=bob --to=bob --to=bob --", ""},
		{"-- -a", "-- -a", ""},
		{"- -a", "--all -- -", ""},
		{"-H -a", "--header= --all --", ""},
		{"-H file", "--header= -- file", ""},
		{"-H subject file", "--header=subject -- file", ""},
		{"--hea=x", "--header=x --", ""},
		{"--alo", "--alone --", ""},
		{"--al", "", "ambiguous"},
		{"--nothing", "", "unknown option --nothing"},
		{"-az", "", "unknown option -z"},
		{"--all=yes", "", "takes no value"},
		{"-t", "", "needs a value"},
		{"--to", "", "needs a value"},
		{"--help", "--help --", ""},
	} {
		args, err := Parse(flags, optional, strings.Fields(tt.argv))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v", tt.argv, err)
			}
			continue
		}
		if got := Line("p", args)[1:]; err != nil || !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q: %q, %v; want %q", tt.argv, got, err, tt.want)
		}
	}
}
