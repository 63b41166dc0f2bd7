package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
)

// A Verifier is what a server keeps of a password for SCRAM-SHA-256 (RFC 5802
// §2.2, §3; RFC 7677). It opens no account anywhere, but a bad password can be
// found from it.
type Verifier struct {
	Salt       []byte
	Iterations int
	StoredKey  [sha256.Size]byte
	ServerKey  [sha256.Size]byte
}

// NewVerifier makes one (RFC 5802 §3). The error tells that the password
// cannot be one: see Prepare.
func NewVerifier(password string, salt []byte, iterations int) (*Verifier, error) {
	password, err := Prepare(password)
	if err != nil {
		return nil, err
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	v := &Verifier{Salt: salt, Iterations: iterations}
	v.StoredKey = sha256.Sum256(mac(salted, "Client Key"))
	copy(v.ServerKey[:], mac(salted, "Server Key"))
	return v, nil
}

// Matches tells whether the password is the one that the verifier was made of.
func (v *Verifier) Matches(password string) bool {
	other, err := NewVerifier(password, v.Salt, v.Iterations)
	return err == nil && subtle.ConstantTimeCompare(v.StoredKey[:], other.StoredKey[:]) == 1
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// proves tells whether the client's proof for what was said comes from who
// knows the password: ClientKey := ClientProof XOR HMAC(StoredKey,
// AuthMessage), of which StoredKey is the hash (RFC 5802 §3).
func (v *Verifier) proves(proof []byte, said string) bool {
	key := mac(v.StoredKey[:], said)
	if subtle.XORBytes(key, key, proof) != len(key) || len(proof) != len(key) {
		return false
	}
	stored := sha256.Sum256(key)
	return subtle.ConstantTimeCompare(stored[:], v.StoredKey[:]) == 1
}

// scramServer is SCRAM-SHA-256 and, with channel binding, SCRAM-SHA-256-PLUS
// (RFC 5802 §5).
type scramServer struct {
	base
	options  *Options
	conn     *tls.ConnectionState
	gs2      gs2
	said     string // client-first-message-bare "," server-first-message
	nonce    string // the client's and ours
	verifier *Verifier
	claim    Claim
	step     func(response []byte) ([]byte, bool, error)
}

func (s *scramServer) Next(response []byte) ([]byte, bool, error) {
	if s.wait(response) {
		return []byte{}, false, nil
	}
	if s.step == nil {
		s.step = s.first
	}
	return s.step(response)
}

// sorry is the server-final-message of an exchange that has failed:
//
//	server-error = "e=" server-error-value   (RFC 5802 §7)
func sorry(value string, err error) ([]byte, bool, error) {
	return []byte("e=" + value), false, err
}

// first takes the client-first-message and answers with the
// server-first-message: nonce "," salt "," iteration-count.
func (s *scramServer) first(response []byte) ([]byte, bool, error) {
	g, bare, err := parseGS2(string(response))
	if err != nil {
		return nil, false, err
	}
	m, err := parseFirst(bare)
	switch {
	case errors.Is(err, errExtension):
		return sorry("extensions-not-supported", ErrMalformed)
	case err != nil:
		return nil, false, err
	}
	if value := s.bound(g); value != "" {
		return sorry(value, ErrRefused)
	}
	s.gs2 = g
	if s.claim.Name, err = Prepare(m.name); err == nil {
		s.claim.Authzid, err = Prepare(g.authzid)
	}
	if err != nil || s.claim.Name == "" {
		return sorry("invalid-username-encoding", ErrMalformed)
	}
	if s.verifier, err = s.options.Verifier(s.claim.Name); err != nil {
		return nil, false, err
	}
	s.nonce = m.nonce + s.newNonce()
	challenge := appendFirst(nil, s.nonce, s.verifier)
	s.said = bare + "," + string(challenge)
	s.step = s.final
	return challenge, false, nil
}

// bound tells by a server-error-value what is wrong with the client's wish
// for channel binding (RFC 5802 §6).
func (s *scramServer) bound(g gs2) string {
	plus := strings.HasSuffix(s.mechanism, "-PLUS")
	switch {
	case g.flag[0] == 'y' && canBind(s.conn):
		// Somebody on the way has taken the better mechanism off our list.
		return "server-does-support-channel-binding"
	case g.flag[0] == 'p' && !plus:
		return "channel-binding-not-supported"
	case g.flag[0] != 'p' && plus:
		return "other-error"
	case plus && s.options.binding(g.flag[2:], s.conn) == nil:
		return "unsupported-channel-binding-type"
	}
	return ""
}

func (s *scramServer) newNonce() string {
	if s.options.Nonce != nil {
		return s.options.Nonce()
	}
	var octets [18]byte
	rand.Read(octets[:])
	return base64.StdEncoding.EncodeToString(octets[:])
}

// final takes the client-final-message and answers with the
// server-final-message, by which the client sees that we know the password's
// verifier.
func (s *scramServer) final(response []byte) ([]byte, bool, error) {
	m, err := parseFinal(string(response))
	if err != nil {
		return nil, false, err
	}
	input := []byte(s.gs2.header)
	if s.gs2.flag[0] == 'p' {
		input = append(input, s.options.binding(s.gs2.flag[2:], s.conn)...)
	}
	if m.nonce != s.nonce {
		return sorry("other-error", ErrMalformed)
	}
	s.said += "," + m.without
	s.claim.Proved = s.verifier.proves(m.proof, s.said)
	if s.claim.Proved && subtle.ConstantTimeCompare(input, m.binding) != 1 {
		// Who knows the password stands at the other end of two connections.
		s.claim.Proved = false
		return s.refuse("channel-bindings-dont-match")
	}
	if !s.claim.Proved {
		return s.refuse("invalid-proof")
	}
	s.step = s.over
	return appendFinal(nil, mac(s.verifier.ServerKey[:], s.said)), false, nil
}

// refuse has a failed login counted, and says so.
func (s *scramServer) refuse(value string) ([]byte, bool, error) {
	err := s.admit(s.claim)
	if err == nil {
		err = ErrRefused
	}
	return sorry(value, err)
}

// over takes the empty response to the server-final-message: the client is
// content with us, and comes in.
func (s *scramServer) over(response []byte) ([]byte, bool, error) {
	if len(response) > 0 {
		return nil, false, ErrMalformed
	}
	err := s.admit(s.claim)
	return nil, err == nil, err
}
