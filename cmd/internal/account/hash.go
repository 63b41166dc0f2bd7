package account

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
	"golang.org/x/text/unicode/norm"
)

// DefaultScheme is what a new password is stored as, unless another is asked for.
const DefaultScheme = "ARGON2ID"

// Argon2id with 19 MiB and two passes: a tenth of a second of an attacker's
// hardware for each guess, little enough memory for many logins at once.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
)

const maxPassword = 1024 // octets

// ErrPassword is the reason why a password cannot be one.
var ErrPassword = errors.New("not a usable password")

// decode reads the hashes that {CRYPT} and its kin may hold, and no others.
func decode(hash string) (algorithm.Digest, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(hash, "$"), "$")
	switch id {
	case "argon2id":
		return argon2.DecodeVariant(argon2.VariantID)(hash)
	case "argon2i":
		return argon2.DecodeVariant(argon2.VariantI)(hash)
	case "2a", "2b", "2y":
		return bcrypt.DecodeVariant(bcrypt.VariantStandard)(hash)
	case "5":
		return shacrypt.DecodeVariant(shacrypt.VariantSHA256)(hash)
	case "6":
		return shacrypt.DecodeVariant(shacrypt.VariantSHA512)(hash)
	case "y":
		return scrypt.DecodeVariant(scrypt.VariantYescrypt)(hash)
	}
	return nil, fmt.Errorf("$%s$ is not a hash we know", id)
}

// schemes maps Dovecot's names to the hashes that may follow them.
var schemes = map[string][]string{
	"CRYPT":        {"$5$", "$6$", "$2a$", "$2b$", "$2y$", "$y$", "$argon2id$", "$argon2i$"},
	"SHA256-CRYPT": {"$5$"},
	"SHA512-CRYPT": {"$6$"},
	"BLF-CRYPT":    {"$2a$", "$2b$", "$2y$"},
	"ARGON2ID":     {"$argon2id$"},
	"ARGON2I":      {"$argon2i$"},
}

// salted maps the schemes of LDAP to their hash: base64 of the digest of password
// and salt, with the salt behind it.
var salted = map[string]func() hash.Hash{
	"SSHA":    sha1.New,
	"SSHA256": sha256.New,
	"SSHA512": sha512.New,
}

// scheme takes {SCHEME} off a stored password. Without one it is crypt(3)'s, as in
// Dovecot's passwd-file.
func scheme(stored string) (name, rest string, err error) {
	if !strings.HasPrefix(stored, "{") {
		return "CRYPT", stored, nil
	}
	name, rest, ok := strings.Cut(stored[1:], "}")
	if !ok {
		return "", "", errors.New("{SCHEME} has no end")
	}
	return strings.ToUpper(name), rest, nil
}

// effort is what a stored password has in common with those that take as long to check:
// scheme and work factor.
func effort(stored string) string {
	name, rest, err := scheme(stored)
	if err != nil {
		return ""
	}
	if work, _, found := strings.Cut(rest, ","); found && name == scramScheme {
		return name + work
	}
	if !strings.HasPrefix(rest, "$") || schemes[name] == nil {
		return name
	}
	last := strings.LastIndexByte(rest, '$')
	if !strings.HasPrefix(rest, "$2") { // where salt and hash are one field
		last = max(strings.LastIndexByte(rest[:last], '$'), 0)
	}
	return rest[:last]
}

// locked tells whether a hash is one that no password has, as in shadow(5).
func locked(hash string) bool {
	return hash == "" || hash[0] == '*' || hash[0] == '!' || hash == "x"
}

// usable tells whether any password can match a stored one.
func usable(stored string) bool {
	if stored == "" {
		return false
	}
	name, rest, err := scheme(stored)
	if err != nil {
		return false
	}
	if _, crypts := schemes[name]; crypts {
		return !locked(rest)
	}
	return rest != ""
}

// verifier prepares to compare a stored password with what somebody typed. It
// refuses schemes that we do not know and work factors that would be an attack on
// ourselves.
func verifier(stored string) (func(password string) (bool, error), error) {
	name, rest, err := scheme(stored)
	if err != nil {
		return nil, err
	}
	if name == "PLAIN" || name == "CLEARTEXT" {
		return func(password string) (bool, error) { return rest != "" && same(rest, password), nil }, nil
	}
	if name == scramScheme {
		v, err := parseVerifier(rest)
		if err != nil {
			return nil, fmt.Errorf("{%s}: %w", name, err)
		}
		return func(password string) (bool, error) { return v.Matches(password), nil }, nil
	}
	plainName, encoding, _ := strings.Cut(name, ".")
	if f := salted[plainName]; f != nil {
		digest, salt, err := ldapHash(rest, encoding, f().Size())
		if err != nil {
			return nil, fmt.Errorf("{%s}: %w", name, err)
		}
		return func(password string) (bool, error) {
			h := f()
			h.Write([]byte(password))
			h.Write(salt)
			return subtle.ConstantTimeCompare(h.Sum(nil), digest) == 1, nil
		}, nil
	}
	prefixes, ok := schemes[name]
	if !ok {
		return nil, fmt.Errorf("{%s} is not a scheme we know", name)
	}
	if locked(rest) {
		return func(string) (bool, error) { return false, nil }, nil
	}
	if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(rest, p) }) {
		return nil, fmt.Errorf("not a hash of the kind {%s}", name)
	}
	if err := affordable(rest); err != nil {
		return nil, err
	}
	d, err := decode(rest)
	if err != nil {
		return nil, fmt.Errorf("not a hash of the kind {%s}", name)
	}
	return d.MatchAdvanced, nil
}

// checkPassword tells what is wrong with the password field of a users file.
func checkPassword(stored string) error {
	_, err := verifier(stored)
	return err
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func ldapHash(text, encoding string, size int) (digest, salt []byte, err error) {
	var raw []byte
	switch encoding {
	case "", "B64", "BASE64":
		raw, err = base64.StdEncoding.DecodeString(text)
		if err != nil {
			raw, err = base64.RawStdEncoding.DecodeString(text)
		}
	case "HEX":
		raw, err = hex.DecodeString(text)
	default:
		return nil, nil, errors.New("unknown encoding")
	}
	if err != nil || len(raw) < size {
		return nil, nil, errors.New("not a whole hash")
	}
	return raw[:size], raw[size:], nil
}

// affordable refuses hashes that cost a login more than some seconds or a gigabyte,
// and those whose parameters the algorithms do not allow.
func affordable(hash string) error {
	f := strings.Split(hash, "$") // f[0] is empty
	expensive := fmt.Errorf("the work factor of the hash is out of bounds")
	switch f[1] {
	case "2a", "2b", "2y":
		if cost, err := strconv.Atoi(f[2]); err != nil || cost < 4 || cost > 18 {
			return expensive
		}
	case "5", "6":
		if rounds, ok := strings.CutPrefix(f[2], "rounds="); ok {
			if n, err := strconv.Atoi(rounds); err != nil || n < 1000 || n > 20_000_000 {
				return expensive
			}
			f = f[1:]
		}
		if len(f) != 4 || len(f[2]) > 16 || len(f[3]) != map[string]int{"5": 43, "6": 86}[hash[1:2]] {
			return errors.New("the hash is not whole")
		}
	case "y":
		// "j", then log2 N and r, one digit each, "." for one: 128 N r octets of memory.
		const digits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		if len(f) != 5 || len(f[2]) != 3 || f[2][0] != 'j' || len(f[4]) != 43 {
			return errors.New("the hash is not whole")
		}
		ln, r := strings.IndexByte(digits, f[2][1])+1, strings.IndexByte(digits, f[2][2])+1
		if ln < 7 || ln > 18 || r < 1 || r > 32 {
			return expensive
		}
	case "argon2id", "argon2i":
		if len(f) != 6 {
			return errors.New("the hash is not whole")
		}
		most := map[string]uint64{"m": 1 << 20, "t": 100, "p": 64}
		for param := range strings.SplitSeq(f[3], ",") {
			key, value, _ := strings.Cut(param, "=")
			n, err := strconv.ParseUint(value, 10, 32)
			if limit, ok := most[key]; !ok || err != nil || n < 1 || n > limit {
				return expensive
			}
			delete(most, key)
		}
		if len(most) != 0 {
			return errors.New("the hash is not whole")
		}
	}
	return nil
}

// CheckPassword tells whether a password may be stored: not empty, at most 1024
// octets, no control characters. The error is ErrPassword.
func CheckPassword(password string) error {
	switch {
	case password == "":
		return fmt.Errorf("%w: it is empty", ErrPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("%w: it is longer than %d octets", ErrPassword, maxPassword)
	}
	for i := range len(password) {
		if password[i] < ' ' || password[i] == 0x7f {
			return fmt.Errorf("%w: it has a control character", ErrPassword)
		}
	}
	return nil
}

// Hash makes the text of a password field, "{SCHEME}hash", of the password in NFC
// (RFC 8265 §4.2).
func Hash(scheme, password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	password = norm.NFC.String(password)
	scheme = strings.ToUpper(strings.Trim(scheme, "{}"))
	var h algorithm.Hash
	var err error
	switch scheme {
	case "ARGON2ID":
		h, err = argon2.New(argon2.WithVariantID(), argon2.WithM(argonMemory), argon2.WithT(argonPasses), argon2.WithP(1))
	case "SHA512-CRYPT":
		h, err = shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithRounds(100_000))
	case "SHA256-CRYPT":
		h, err = shacrypt.New(shacrypt.WithSHA256(), shacrypt.WithRounds(100_000))
	case "BLF-CRYPT":
		if len(password) > 72 {
			return "", fmt.Errorf("%w: {BLF-CRYPT} looks at 72 octets of it only", ErrPassword)
		}
		h, err = bcrypt.New(bcrypt.WithCost(11))
	case scramScheme:
		return hashScram(password)
	case "PLAIN", "CLEARTEXT":
		if strings.ContainsRune(password, ':') {
			return "", fmt.Errorf("%w: a colon cannot be stored as {%s}", ErrPassword, scheme)
		}
		return "{" + scheme + "}" + password, nil
	default:
		return "", fmt.Errorf("no passwords are made with the scheme %q", scheme)
	}
	if err != nil {
		return "", err
	}
	d, err := h.Hash(password)
	if err != nil {
		return "", err
	}
	return "{" + scheme + "}" + d.Encode(), nil
}

// Schemes lists the schemes that Hash makes.
func Schemes() []string {
	return []string{"ARGON2ID", "SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT", scramScheme, "PLAIN"}
}
