package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"pennypost/proto/sasl"
)

// scramScheme is Dovecot's name for a verifier of RFC 5802 by SHA-256:
//
//	iterations "," salt "," StoredKey "," ServerKey
//
// where all but the first are in base64.
const scramScheme = "SCRAM-SHA-256"

const (
	scramIterations = 4096 // as RFC 7677 §4 wants at least, and Dovecot makes
	scramSalt       = 16   // octets
	maxIterations   = 5_000_000
	offersFor       = time.Second // how long an answer what is offered stays good
)

var errVerifier = errors.New("not a whole verifier")

func parseVerifier(text string) (*sasl.Verifier, error) {
	part := strings.Split(text, ",")
	if len(part) != 4 {
		return nil, errVerifier
	}
	n, err := strconv.Atoi(part[0])
	if err != nil || n < 1 || n > maxIterations {
		return nil, errors.New("the work factor of the hash is out of bounds")
	}
	v := &sasl.Verifier{Iterations: n}
	if v.Salt, err = base64.StdEncoding.DecodeString(part[1]); err != nil || len(v.Salt) == 0 || len(v.Salt) > 1024 {
		return nil, errVerifier
	}
	for i, key := range [][]byte{v.StoredKey[:], v.ServerKey[:]} {
		octets, err := base64.StdEncoding.DecodeString(part[2+i])
		if err != nil || len(octets) != len(key) {
			return nil, errVerifier
		}
		copy(key, octets)
	}
	return v, nil
}

// hashScram makes a password field.
func hashScram(password string) (string, error) {
	salt := make([]byte, scramSalt)
	rand.Read(salt)
	v, err := sasl.NewVerifier(password, salt, scramIterations)
	if err != nil {
		return "", fmt.Errorf("%w: it has characters that not every program sends alike", ErrPassword)
	}
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("{%s}%d,%s,%s,%s", scramScheme, v.Iterations, enc(v.Salt), enc(v.StoredKey[:]), enc(v.ServerKey[:])), nil
}

// canScram tells whether a stored password is one that SCRAM can be done with.
func canScram(stored string) bool {
	name, rest, err := scheme(stored)
	if err != nil {
		return false
	}
	if plain(name) {
		_, err := sasl.Prepare(rest)
		return err == nil
	}
	return name == scramScheme
}

// plain tells whether a password is stored as it is.
func plain(scheme string) bool { return scheme == "PLAIN" || scheme == "CLEARTEXT" }

// scram is what SCRAM needs to remember.
type scram struct {
	mu  sync.Mutex
	key []byte // of made-up salts
}

// Offers are the ways to log in beside passwords.
type Offers struct{ Scram, Tokens bool }

// offers is what was found out about them, a moment ago.
type offers struct {
	mu    sync.Mutex
	last  Offers
	until time.Time
}

// Offers tells what is to be offered, as it was a second ago at most. SCRAM is as the
// file "login" says, else when every password in the users files can do it, since a
// client that is offered it will not fall back on another mechanism.
func (o *Office) Offers() Offers {
	o.offers.mu.Lock()
	defer o.offers.mu.Unlock()
	if now := time.Now(); now.After(o.offers.until) {
		l, err := o.ways.get()
		o.offers.last = Offers{Tokens: err == nil && l.tokens != nil}
		if err == nil && l.scram != nil {
			o.offers.last.Scram = *l.scram
		} else {
			o.offers.last.Scram = o.allScram()
		}
		o.offers.until = now.Add(offersFor)
	}
	return o.offers.last
}

func (o *Office) allScram() bool {
	all, err := o.domains.all()
	if err != nil || o.dir == "" {
		return false
	}
	some := false
	for _, d := range all {
		t, err := d.users.get()
		if err != nil || t.system || t.sample != "" && !t.scram {
			return false
		}
		some = some || t.scram
	}
	return some
}

// Verifier returns what SCRAM needs to know of a password. A name that nobody has, or
// somebody whose password cannot do it, gets one that no password fits, with a salt
// that is always the same, after the same time.
func (o *Office) Verifier(name string) (*sasl.Verifier, error) {
	c, err := o.credentials(name)
	if err != nil {
		return nil, err
	}
	kind, text, err := scheme(c.stored)
	if err != nil {
		return nil, fmt.Errorf("stored password: %w", err)
	}
	if c.user != nil && kind == scramScheme {
		return parseVerifier(text)
	}
	salt, iterations := scramSalt, scramIterations
	sample := o.standIn(c.domain)
	like, work, _ := scheme(sample)
	if like == scramScheme {
		if v, err := parseVerifier(work); err == nil {
			salt, iterations = len(v.Salt), v.Iterations
		}
	}
	v := &sasl.Verifier{Salt: o.salt(c.address, salt), Iterations: iterations}
	rand.Read(v.StoredKey[:])
	if !plain(kind) || c.user == nil && !plain(like) {
		return v, nil
	}
	done, err := o.turn()
	if err != nil {
		return nil, err
	}
	defer done()
	real, err := sasl.NewVerifier(text, v.Salt, v.Iterations)
	if err != nil || c.user == nil {
		return v, nil
	}
	return real, nil
}

// salt makes up the salt of an address.
func (o *Office) salt(address string, octets int) []byte {
	var salt []byte
	for i := 0; len(salt) < octets; i++ {
		h := hmac.New(sha256.New, o.saltKey())
		fmt.Fprintf(h, "%d:%s", i, address)
		salt = h.Sum(salt)
	}
	return salt[:octets]
}

// saltKey returns the key by which salts are made up. It is kept in the spool, so that
// they are the same in every process; where that cannot be, each has its own.
func (o *Office) saltKey() []byte {
	o.scram.mu.Lock()
	defer o.scram.mu.Unlock()
	if o.scram.key == nil {
		key, err := o.keepKey(filepath.Join(o.Spool(), "scram-key"))
		if err != nil {
			o.log().Warn("SCRAM: salts of unknown users change with the process, which may tell that they are unknown", "err", err)
		}
		o.scram.key = key
	}
	return o.scram.key
}

// keepKey reads the key in a file that only we can read, or makes both. With an error
// comes a key all the same.
func (o *Office) keepKey(path string) ([]byte, error) {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	kept, err := os.ReadFile(path)
	if err == nil && len(kept) == len(key) {
		return kept, nil
	}
	if err == nil {
		return key, fmt.Errorf("%s: want %d octets", path, len(key))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, err := os.Stat(o.Spool()); err != nil && !o.holds(o.Spool()) {
		return key, err
	}
	uid, gid := o.spoolOwner()
	if err := makeAbove(path, uid, gid); err != nil {
		return key, err
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), ".scram-key-*") // mode 0600
	if err != nil {
		return key, err
	}
	defer os.Remove(fresh.Name())
	defer fresh.Close()
	if _, err = fresh.Write(key); err == nil && os.Geteuid() == 0 && uid >= 0 {
		err = fresh.Chown(uid, gid)
	}
	if err == nil {
		err = fresh.Sync()
	}
	if err == nil {
		err = os.Link(fresh.Name(), path)
	}
	if errors.Is(err, syscall.EEXIST) { // somebody else was quicker
		if kept, err := os.ReadFile(path); err == nil && len(kept) == len(key) {
			return kept, nil
		}
	}
	return key, err
}
