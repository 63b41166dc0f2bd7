// Bench runs imapd beside Dovecot on equal Maildirs, in turns, and prints the medians of what clients
// wait for and their ratios. Servers listen on 127.0.0.1 only. Where there is no Dovecot, or who runs it
// is not root (Dovecot wants to be started by root), imapd runs alone.
//
//	go run ./scripts/bench -imapd bin/imapd -sizes 1000,10000 -rounds 5
//	go run ./scripts/bench -sizes 100000 -rounds 1 -only SELECT,STATUS
//	go run ./scripts/bench -inetd -only SELECT
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	imapd := flag.String("imapd", "bin/imapd", "the program to measure")
	sizes := flag.String("sizes", "1000,10000", "messages in the mailbox, a run for each")
	rounds := flag.Int("rounds", 5, "how often each server has its turn")
	only := flag.String("only", "", "only what has one of these words (word,word,...) in its name")
	inetd := flag.Bool("inetd", false, "run imapd as a process for each connection in all that is measured")
	quiet := flag.Int("idle", 0, "hold so many connections in IDLE, too: without TLS, and with it")
	where := flag.String("dir", "", "where the Maildirs are made (default: a temporary directory)")
	flag.Parse()

	dir, err := os.MkdirTemp(*where, "pennypost-bench")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(dir, *imapd, *sizes, *rounds, chosen(*only), *inetd, *quiet); err != nil {
		os.RemoveAll(dir)
		log.Fatal(err)
	}
}

// chosen are the measures with one of these words in their names.
func chosen(only string) (list []measure) {
	for _, m := range measures {
		for word := range strings.SplitSeq(strings.ToLower(only), ",") {
			if strings.Contains(strings.ToLower(m.name), word) {
				list = append(list, m)
				break
			}
		}
	}
	return list
}

func run(dir, imapd, sizes string, rounds int, list []measure, inetd bool, quiet int) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	servers, err := begin(dir, imapd)
	for _, s := range servers {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	if inetd {
		servers[0].addr = servers[0].inetd
	}
	if quiet > 0 {
		if err := idleAll(servers, dir, quiet); err != nil {
			return err
		}
	}
	if sizes == "" {
		return nil
	}
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			return fmt.Errorf("-sizes %s: %w", sizes, err)
		}
		if err := compare(servers, dir, n, rounds, list); err != nil {
			return err
		}
	}
	return nil
}

// compare takes measures on mailboxes of n messages.
func compare(servers []*server, dir string, n, rounds int, list []measure) error {
	user := fmt.Sprintf("u%d", n)
	if err := fill(filepath.Join(dir, servers[0].name, user), n); err != nil {
		return err
	}
	for _, s := range servers[1:] { // messages never change: links are as good as copies
		if err := link(filepath.Join(dir, servers[0].name, user), filepath.Join(dir, s.name, user)); err != nil {
			return err
		}
	}
	settle()
	took := map[string]map[string][]float64{}
	for range rounds {
		for _, m := range list {
			for _, s := range servers {
				box := &mailbox{server: s, user: user, path: filepath.Join(dir, s.name, user), n: n}
				d, err := box.take(m)
				if errors.Is(err, errNotAnnounced) {
					continue
				}
				if err != nil {
					return fmt.Errorf("%s, %s, %d messages: %w", s.name, m.name, n, err)
				}
				if took[m.name] == nil {
					took[m.name] = map[string][]float64{}
				}
				took[m.name][s.name] = append(took[m.name][s.name], d)
			}
		}
	}
	report(servers, list, took, n)
	return nil
}

// settle waits until no server thinks of a Maildir as just changed.
func settle() { time.Sleep(2500 * time.Millisecond) }

// report prints a line for each measure: medians, how many times faster we are, and how many times we are to be.
func report(servers []*server, list []measure, took map[string]map[string][]float64, n int) {
	fmt.Printf("\n%-51s", fmt.Sprintf("%d messages", n))
	for _, s := range servers {
		fmt.Printf("%14s", s.name)
	}
	if len(servers) > 1 {
		fmt.Printf("%8s%6s", "ratio", "goal")
	}
	fmt.Println()
	for _, m := range list {
		if took[m.name] == nil {
			continue
		}
		fmt.Printf("%-51s", m.name)
		var medians []float64
		for _, s := range servers {
			d := took[m.name][s.name]
			if len(d) == 0 {
				fmt.Printf("%14s", "-")
				continue
			}
			slices.Sort(d)
			medians = append(medians, d[len(d)/2])
			fmt.Printf("%14s", m.show(d[len(d)/2]))
		}
		if len(medians) > 1 {
			ratio, goal := medians[1]/medians[0], m.goalAt(n)
			fmt.Printf("%8.1f", ratio)
			if goal > 0 {
				fmt.Printf("%6.4g", goal)
			}
			if ratio < goal {
				fmt.Print("  missed")
			}
		}
		fmt.Println()
	}
}

// fill makes a Maildir of n generated messages, a few of them with attachments, a day old.
func fill(path string, n int) error {
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(path, sub), 0o755); err != nil {
			return err
		}
	}
	flags := []string{"", "S", "S", "S", "RS", "FS"}
	when := time.Now().Add(-24*time.Hour - time.Duration(n)*time.Second)
	for i := range n {
		text := letter(i)
		date := when.Add(time.Duration(i) * time.Second)
		name := fmt.Sprintf("%d.M%06dP7.host,S=%d,W=%d:2,%s", date.Unix(), i%1e6, len(text), len(text)+strings.Count(text, "\n"), flags[i%len(flags)])
		file := filepath.Join(path, "cur", name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(file, date, date); err != nil {
			return err
		}
	}
	for i := range 100 {
		for _, sub := range []string{"tmp", "new", "cur"} {
			if err := os.MkdirAll(filepath.Join(path, fmt.Sprintf(".Folder%d", i), sub), 0o755); err != nil {
				return err
			}
		}
		name := fmt.Sprintf("%d.M1P7.host:2,S", when.Unix())
		if err := os.WriteFile(filepath.Join(path, fmt.Sprintf(".Folder%d", i), "cur", name), []byte(letter(i)), 0o644); err != nil {
			return err
		}
	}
	return own(path)
}

// letter writes message i as it is stored: a header as mail of today has it, and a body of one or three parts.
func letter(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Return-Path: <alice%d@crepes.fr>\nReceived: from mx%d.crepes.fr (mx%d.crepes.fr [192.0.2.%d])\n\tby hamburger.edu with ESMTPS id %08x;\n\tMon, 23 Nov 2026 10:%02d:%02d +0000\n",
		i%97, i%7, i%7, i%250, i*7919, i/60%60, i%60)
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=crepes.fr; s=mail;\n\th=from:to:subject:date; bh=%s=;\n\tb=%s\n", strings.Repeat("abcd", 10), strings.Repeat("0123456789", 17))
	fmt.Fprintf(&b, "Message-ID: <%d.%d@crepes.fr>\nIn-Reply-To: <%d.%d@crepes.fr>\nReferences: <%d.%d@crepes.fr>\n", i, i*31, i/2, i/2*31, i/2, i/2*31)
	fmt.Fprintf(&b, "Date: Mon, 23 Nov 2026 10:%02d:%02d +0100\nFrom: \"Alice Dupont %d\" <alice%d@crepes.fr>\nTo: Bob <bob@hamburger.edu>, carol%d@hamburger.edu\nCc: \"The list\" <list%d@example.org>\nSubject: =?utf-8?q?Re:_Cr=C3=AApes_et_p=C3=A2tes?= number %d\nMIME-Version: 1.0\n",
		i/60%60, i%60, i%97, i%97, i%13, i%5, i%1000)
	body := strings.Repeat(fmt.Sprintf("Line of text number %d, long enough to look like what people write.\n", i), 20+i%30)
	if i%4 != 0 {
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n%s", body)
		return b.String()
	}
	base64 := strings.Repeat(strings.Repeat("QUJDRA==", 9)+"\n", 40+i%40)
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"=_%d\"\n\n--=_%d\nContent-Type: text/plain; charset=utf-8\n\n%s\n--=_%d\nContent-Type: text/html; charset=utf-8\n\n<p>%s</p>\n--=_%d\nContent-Type: image/jpeg; name=\"crepe.jpg\"\nContent-Disposition: attachment; filename=\"crepe.jpg\"\nContent-Transfer-Encoding: base64\n\n%s\n--=_%d--\n",
		i, i, body, i, body, i, base64, i)
	return b.String()
}

// link makes a tree of the same files.
func link(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
	if err != nil {
		return err
	}
	return own(to)
}

// own gives a tree to the user the servers work as.
func own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	})
}

// forget removes every index that a server has made of INBOX, so that the next SELECT is the first ever.
func forget(path string) error {
	for _, pattern := range []string{"dovecot*", "pennypost-*"} {
		found, err := filepath.Glob(filepath.Join(path, pattern))
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}
