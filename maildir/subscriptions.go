package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

const (
	subscriptionsName = "subscriptions"
	subscriptionsTmp  = "subscriptions.tmp"
	subscriptionsHead = "V\t2\n\n"
)

// parseSubscriptions reads Dovecot's file: version 2 with a header, names in modified UTF-7, TAB between levels; or
// version 1, plain names with ".". v2 tells which it was.
func parseSubscriptions(text string) (names []string, v2 bool) {
	rest, v2 := strings.CutPrefix(text, "V\t2\n")
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		if v2 {
			levels := strings.Split(line, "\t")
			for i := range levels {
				levels[i] = unescapeTab(levels[i])
			}
			line = strings.Join(levels, ".")
		}
		if name, ok := DecodeUTF7(line); ok {
			line = name
		}
		if name, err := cleanName(line); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, v2
}

// printSubscriptions writes version 2.
func printSubscriptions(names []string) []byte {
	b := []byte(subscriptionsHead)
	for _, name := range names {
		for i, level := range strings.Split(name, ".") {
			if i > 0 {
				b = append(b, '\t')
			}
			b = append(b, escapeTab(EncodeUTF7(level))...)
		}
		b = append(b, '\n')
	}
	return b
}

var (
	tabEscaper   = strings.NewReplacer("\x01", "\x011", "\x00", "\x010", "\t", "\x01t", "\r", "\x01r", "\n", "\x01n")
	tabUnescaper = strings.NewReplacer("\x011", "\x01", "\x010", "\x00", "\x01t", "\t", "\x01r", "\r", "\x01n", "\n")
)

func escapeTab(s string) string   { return tabEscaper.Replace(s) }
func unescapeTab(s string) string { return tabUnescaper.Replace(s) }

// Subscriptions lists the names the user has subscribed to, in the order they were. There need not be
// a folder for each (RFC 9051 §6.3.9).
func (s *Store) Subscriptions() ([]string, error) {
	root, err := s.dir()
	if err != nil {
		return nil, err
	}
	defer root.close()
	names, err := readSubscriptions(root)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	return names, nil
}

func readSubscriptions(root *place) ([]string, error) {
	data, _, err := root.readFile(subscriptionsName, 0, 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		data, _, err = root.readFile(courierSubscribed, 0, 16<<20)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return parseCourierSubscriptions(string(data)), err
	}
	if err != nil {
		return nil, err
	}
	names, _ := parseSubscriptions(string(data))
	return names, nil
}

// Subscribe adds a name; there need not be such a folder. It is durable on return.
func (s *Store) Subscribe(name string) error { return s.subscribe(name, true) }

// Unsubscribe removes a name. One that is not there is no error.
func (s *Store) Unsubscribe(name string) error { return s.subscribe(name, false) }

func (s *Store) subscribe(name string, on bool) error {
	name, err := cleanName(name)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	root, err := s.dir()
	if err != nil {
		return err
	}
	defer root.close()
	if err := changeSubscriptions(root, name, on); err != nil {
		return fmt.Errorf("change subscriptions: %w", err)
	}
	return nil
}

// changeSubscriptions replaces the file under its lock. Dovecot writes the new file into the lock itself; ours holds our pid
// instead, so that nobody waits for us when we have died.
func changeSubscriptions(root *place, name string, on bool) error {
	lk, err := root.lockBy(subscriptionsLock)
	if err != nil {
		return err
	}
	defer lk.release()
	names, err := readSubscriptions(root)
	if err != nil {
		return err
	}
	if on == slices.Contains(names, name) {
		return nil
	}
	if on {
		names = append(names, name)
	} else {
		names = slices.DeleteFunc(names, func(n string) bool { return n == name })
	}
	return root.replace(subscriptionsName, subscriptionsTmp, printSubscriptions(names), nil)
}
