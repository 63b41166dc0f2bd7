package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// idleUsers is among how many users idle connections are shared out, and deliveries how many messages each way of
// delivering brings to one of them after the other.
const idleUsers, deliveries = 20, 40

// An idler is a connection in IDLE. It has no buffer of its own: there are thousands of them.
type idler struct {
	net.Conn
	heard []byte // what has come since somebody asked
}

// until reads until what has come holds word.
func (c *idler) until(word string, patience time.Duration) error {
	c.SetReadDeadline(time.Now().Add(patience))
	var b [512]byte
	for !bytes.Contains(c.heard, []byte(word)) {
		n, err := c.Read(b[:])
		if err != nil {
			return fmt.Errorf("no %q but %q: %w", word, c.heard, err)
		}
		c.heard = append(c.heard, b[:n]...)
	}
	c.heard = nil
	return nil
}

// idle logs in, selects INBOX and goes to sleep.
func idle(addr, user string, config *tls.Config) (*idler, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		nc = tls.Client(nc, config)
	}
	c := &idler{Conn: nc}
	if err = c.until("\r\n", time.Minute); err != nil {
		return nil, err
	}
	for _, say := range []struct{ command, answer string }{
		{"a LOGIN " + user + " hungry", "a OK"}, {"b SELECT INBOX", "b OK"}, {"c IDLE", "+ "},
	} {
		if _, err = c.Write([]byte(say.command + "\r\n")); err == nil {
			err = c.until(say.answer, time.Minute)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// idleAll measures each server, and each way in.
func idleAll(servers []*server, dir string, n int) error {
	for _, s := range servers {
		if err := idleRows(s, dir, n, nil); err != nil {
			return err
		}
		if s.tls == "" {
			continue
		}
		if err := certify(filepath.Join(s.tls, "cert.pem"), filepath.Join(s.tls, "key.pem")); err != nil {
			return err
		}
		if err := idleRows(s, dir, n, &tls.Config{InsecureSkipVerify: true}); err != nil {
			return err
		}
	}
	return nil
}

// idleRows holds n connections in IDLE, and prints what each costs, and after what time a delivered message is told.
func idleRows(s *server, dir string, n int, config *tls.Config) error {
	paths := make([]string, idleUsers)
	for i := range paths {
		paths[i] = filepath.Join(dir, s.name, fmt.Sprint("i", i))
		for _, sub := range []string{"tmp", "new", "cur"} {
			if err := os.MkdirAll(filepath.Join(paths[i], sub), 0o755); err != nil {
				return err
			}
		}
		if err := own(paths[i]); err != nil {
			return err
		}
	}
	if err := s.restart(); err != nil {
		return err
	}
	addr, name := s.addr, s.name
	if config != nil {
		addr, name = s.secure, name+", TLS"
	}
	awake := s.pss()
	kernel := field("/proc/meminfo", "SUnreclaim:") + field("/proc/meminfo", "PageTables:")
	clients := make([]*idler, n)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
	}()
	began := time.Now()
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for k := range errs {
		wg.Go(func() {
			for i := k; i < n && errs[k] == nil; i += len(errs) {
				clients[i], errs[k] = idle(addr, fmt.Sprint("i", i%idleUsers), config)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	took := time.Since(began)
	time.Sleep(10 * time.Second) // until what the logins took is given back
	each := (s.pss() - awake) / n
	kernel = (field("/proc/meminfo", "SUnreclaim:") + field("/proc/meminfo", "PageTables:") - kernel) / n // both ends of a socket
	var first, last []time.Duration
	for i := range deliveries {
		user := i % idleUsers
		told := make([]time.Duration, 0, n/idleUsers+1)
		var mu sync.Mutex
		var listeners sync.WaitGroup
		at := make(chan time.Time, 1)
		if err := drop(paths[user], i, at); err != nil {
			return err
		}
		delivered := <-at
		var failed error
		for k := user; k < n; k += idleUsers {
			listeners.Go(func() {
				err := clients[k].until(" EXISTS\r\n", time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = err
				}
				told = append(told, time.Since(delivered))
			})
		}
		listeners.Wait()
		if failed != nil {
			return failed
		}
		first, last = append(first, slices.Min(told)), append(last, slices.Max(told))
		time.Sleep(200 * time.Millisecond)
	}
	fmt.Printf("%d idle, %-20s %6.1f KB each, %6.1f KB more of the kernel, begun in %s; new mail told first in %s (worst %s), to the last in %s (%s)\n",
		n, name, float64(each)/1024, float64(kernel)/1024, took.Round(time.Millisecond),
		median(first), slices.Max(first), median(last), slices.Max(last))
	return nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// drop lays a message into new, as a delivery agent does.
func drop(path string, i int, at chan<- time.Time) error {
	name := fmt.Sprintf("%d.M%dP%dQ%d.host", time.Now().Unix(), time.Now().Nanosecond()/1000, os.Getpid(), i)
	tmp := filepath.Join(path, "tmp", name)
	if err := os.WriteFile(tmp, []byte(letter(i)), 0o644); err != nil {
		return err
	}
	if err := own(tmp); err != nil {
		return err
	}
	at <- time.Now()
	return os.Rename(tmp, filepath.Join(path, "new", name))
}

// pss is the memory of a server with all its processes, octets.
func (s *server) pss() int {
	sum := 0
	for _, pid := range append(children(s.cmd.Process.Pid), s.cmd.Process.Pid) {
		sum += pss(pid)
	}
	return sum
}

func children(pid int) (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			all = append(append(all, child), children(child)...)
		}
	}
	return all
}

func pss(pid int) int { return field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:") }

// field reads a line "NAME 12 kB".
func field(file, name string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n << 10
		}
	}
	return 0
}

// certify writes a certificate for 127.0.0.1 and its key.
func certify(cert, key string) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &k.PublicKey, k)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cert), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o644)
}
