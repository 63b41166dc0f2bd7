// Package sasl holds the mechanisms by which a client proves who it is
// (RFC 4422), the server's side and the client's.
//
// What the octets travel in, base64 for the mail protocols, and how an
// exchange is called off ("*") is the protocol's business. So is the bound on
// their length: 12288 octets a line (RFC 4954 §4).
package sasl

import (
	"errors"
	"strings"
)

var (
	// ErrMalformed reports a response that breaks the mechanism's grammar. No
	// password was looked at; it is not a failed login.
	ErrMalformed = errors.New("malformed authentication response")

	// ErrAuthzid reports a client that wants to act as someone else than it
	// proves to be. Nobody may.
	ErrAuthzid = errors.New("another authorization identity than the login")
)

// A Server is the server's side of one exchange.
type Server interface {
	// Next takes the client's response. The first call takes the initial
	// response: nil when the client sent none, empty but not nil when it sent
	// an empty one. It returns the next challenge, which may be empty; or done
	// when the client is who it says; or the error that ends the exchange,
	// which is ErrMalformed, ErrAuthzid or what the verifier returned.
	Next(response []byte) (challenge []byte, done bool, err error)
}

// A Verifier returns nil when password is that of name. authzid is "" or equal
// to name.
type Verifier = func(authzid, name, password string) error

// Mechanisms are the names NewServer knows, the better ones first. All of them
// show the password to who listens, so they are offered under TLS only.
func Mechanisms() []string { return []string{"PLAIN", "LOGIN"} }

// NewServer begins an exchange by the named mechanism, written in any case;
// it returns false for one that is not known.
func NewServer(mechanism string, verify func(authzid, name, password string) error) (Server, bool) {
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		return &plainServer{verify: verify}, true
	case "LOGIN":
		return &loginServer{verify: verify}, true
	}
	return nil, false
}

// A Client is the client's side of one exchange.
type Client interface {
	// Start names the mechanism and gives the initial response, nil for none.
	Start() (mechanism string, ir []byte)
	// Next answers a challenge. After an error the client calls the exchange
	// off.
	Next(challenge []byte) ([]byte, error)
}

// ErrChallenge reports a server that asks for what the mechanism has no answer
// to.
var ErrChallenge = errors.New("unexpected challenge")
