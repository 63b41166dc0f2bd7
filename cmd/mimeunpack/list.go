package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"pennypost/cmd/internal/status"
	"pennypost/proto/mimetree"
)

// list prints the tree of a message: for people indented, for scripts as lines of fields between tabs.
func (o *options) list(m *job) (int, error) {
	type row struct {
		*leaf
		size int64
	}
	var rows []*row
	sizes := map[*leaf]*row{}
	_, err := m.parse(func(l *leaf, _ mimetree.Header) io.Writer {
		if !m.selects(l) {
			return nil
		}
		r := &row{leaf: l}
		rows = append(rows, r)
		sizes[l] = r
		if l.container() || l.part.IsMultipart() {
			return nil
		}
		c := &measure{}
		c.dec, _ = mimetree.NewDecoder(c, l.part.Encoding)
		return feed{c}
	}, func(l *leaf, w io.Writer) error {
		r := sizes[l]
		if r == nil {
			return nil
		}
		r.size = l.part.Body.Len()
		if f, ok := w.(feed); ok {
			if err := f.dec.Close(); err != nil {
				return err
			}
			r.size = f.size
			l.decoded(f.dec)
		}
		delete(sizes, l)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if o.several && !o.tsv {
		fmt.Fprintf(o.out, "%s:\n", status.Clean(m.name))
	}
	for _, r := range rows {
		p := r.part
		name, charset := p.Filename(), p.Charset()
		if o.tsv {
			fields := []string{r.section, p.MediaType(), charset, p.Encoding, strconv.FormatInt(r.size, 10), p.Disposition, name}
			if o.several {
				fields = append([]string{m.name}, fields...)
			}
			for i, f := range fields {
				fields[i] = status.Clean(f)
			}
			fmt.Fprintln(o.out, strings.Join(fields, "\t"))
			continue
		}
		words := []string{fmt.Sprintf("%-8s %s%s", r.section, strings.Repeat("  ", r.depth), p.MediaType())}
		for _, f := range []string{charset, p.Encoding, human(r.size)} {
			if f != "" {
				words = append(words, f)
			}
		}
		if name != "" {
			words = append(words, strconv.Quote(name))
		}
		for _, q := range r.problems() {
			words = append(words, "["+q.Code+"]")
		}
		fmt.Fprintln(o.out, status.Clean(strings.Join(words, " ")))
	}
	return m.exit, nil
}

// human is a number of octets in few digits.
func human(n int64) string {
	if n < 10_000 {
		return strconv.FormatInt(n, 10)
	}
	f := float64(n)
	for _, unit := range []string{"k", "M", "G"} {
		if f /= 1000; f < 999.5 || unit == "G" {
			return strconv.FormatFloat(f, 'f', max(0, 3-len(strconv.Itoa(int(f)))), 64) + unit
		}
	}
	return ""
}

// check prints what is wrong with a message, one problem a line.
func (o *options) check(m *job) (int, error) {
	found := 0
	_, err := m.parse(func(l *leaf, _ mimetree.Header) io.Writer {
		if l.part.IsMultipart() || l.part.IsMessage() || !m.selects(l) {
			return nil
		}
		c := &measure{}
		c.dec, _ = mimetree.NewDecoder(c, l.part.Encoding)
		return feed{c}
	}, func(l *leaf, w io.Writer) error {
		if f, ok := w.(feed); ok {
			if err := f.dec.Close(); err != nil {
				return err
			}
			l.decoded(f.dec)
		}
		if !m.selects(l) {
			return nil
		}
		for _, q := range l.problems() {
			if found++; found <= maxReported {
				fmt.Fprintf(o.out, "%s: %s: %s: %s\n", status.Clean(m.name), status.Clean(l.section), q.Code, q.Text)
			}
		}
		return nil
	})
	if err == nil && found > 0 {
		return exitNothing, nil
	}
	return 0, err
}
