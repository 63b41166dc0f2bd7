// Package getopt reads a command line by the habits of getopt_long(3): options may stand among
// operands, "--" ends them, short ones combine (-aj) and take their value attached or behind
// (-s5, -s 5), long ones take it behind an equals sign or a blank and may be cut as long as
// they stay unique. The flags themselves are those of urfave/cli, which then gets a command
// line it can read. The order is kept for programs to whom it means something.
package getopt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// An Arg is one option or operand of a command line, in its place.
type Arg struct {
	Flag  string // the flag's first name, "" for an operand
	Value string // the option's value or the operand; "" for a switch
	set   bool   // the option has a value
}

// Optional names the flags whose value may be missing; the function decides whether the next
// word of the command line, which does not begin with a dash, is the value.
type Optional map[string]func(next string) bool

// Parse reads argv, without the program's name. Its errors say what is wrong in a few words: the
// caller exits with EX_USAGE.
func Parse(flags []cli.Flag, optional Optional, argv []string) ([]Arg, error) {
	p := parser{flags: append(slices.Clone(flags), cli.HelpFlag, cli.VersionFlag), optional: optional, argv: argv}
	for len(p.argv) > 0 {
		word := p.argv[0]
		p.argv = p.argv[1:]
		var err error
		switch {
		case word == "--":
			for _, operand := range p.argv {
				p.args = append(p.args, Arg{Value: operand})
			}
			return p.args, nil
		case strings.HasPrefix(word, "--"):
			err = p.long(word[2:])
		case len(word) > 1 && word[0] == '-':
			err = p.short(word[1:])
		default:
			p.args = append(p.args, Arg{Value: word})
		}
		if err != nil {
			return nil, err
		}
	}
	return p.args, nil
}

type parser struct {
	flags    []cli.Flag
	optional Optional
	argv     []string
	args     []Arg
}

// long reads "name" or "name=value".
func (p *parser) long(word string) error {
	name, value, has := strings.Cut(word, "=")
	f, err := p.find(name)
	if err != nil {
		return err
	}
	return p.add(f, "--"+name, value, has)
}

// short reads "abc", "avalue".
func (p *parser) short(word string) error {
	for i, r := range word {
		name := string(r)
		j := slices.IndexFunc(p.flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
		if j < 0 {
			return fmt.Errorf("unknown option -%s", name)
		}
		f, rest := p.flags[j], word[i+len(name):]
		if !takesValue(f) {
			p.args = append(p.args, Arg{Flag: f.Names()[0]})
			continue
		}
		return p.add(f, "-"+name, rest, rest != "")
	}
	return nil
}

// find looks for a long name, whole or cut.
func (p *parser) find(name string) (cli.Flag, error) {
	var found cli.Flag
	for _, f := range p.flags {
		for _, n := range f.Names() {
			switch {
			case n == name && name != "":
				return f, nil
			case len(n) > 1 && len(name) > 1 && strings.HasPrefix(n, name):
				if found != nil && found.Names()[0] != f.Names()[0] {
					return nil, fmt.Errorf("option --%s is ambiguous", name)
				}
				found = f
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("unknown option --%s", name)
	}
	return found, nil
}

// add notes an option that was found, with the value that it takes.
func (p *parser) add(f cli.Flag, spelling, value string, has bool) error {
	name := f.Names()[0]
	switch maybe, ok := p.optional[name]; {
	case has && !takesValue(f):
		return fmt.Errorf("option %s takes no value", spelling)
	case has || !takesValue(f):
	case ok:
		if len(p.argv) > 0 && p.argv[0] != "" && p.argv[0][0] != '-' && maybe(p.argv[0]) {
			value, p.argv = p.argv[0], p.argv[1:]
		}
		has = true
	case len(p.argv) == 0:
		return fmt.Errorf("option %s needs a value", spelling)
	default:
		value, p.argv, has = p.argv[0], p.argv[1:], true
	}
	p.args = append(p.args, Arg{Flag: name, Value: value, set: has})
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// Line is the command line of args as urfave/cli reads it: the program's name, the options, "--", the
// operands.
func Line(program string, args []Arg) []string {
	line := []string{program}
	for _, a := range args {
		switch {
		case a.Flag == "":
		case a.set:
			line = append(line, "--"+a.Flag+"="+a.Value)
		default:
			line = append(line, "--"+a.Flag)
		}
	}
	line = append(line, "--")
	for _, a := range args {
		if a.Flag == "" {
			line = append(line, a.Value)
		}
	}
	return line
}
