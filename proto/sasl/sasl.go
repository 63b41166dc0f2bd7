// Package sasl holds the mechanisms by which a client proves who it is
// (RFC 4422), the server's side and the client's.
//
// What the octets travel in, base64 for the mail protocols, and how an
// exchange is called off ("*") is the protocol's business. So is the bound on
// their length: 12288 octets a line (RFC 4954 §4).
package sasl

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
)

var (
	// ErrMalformed reports a response that breaks the mechanism's grammar. No
	// password was looked at; it is not a failed login.
	ErrMalformed = errors.New("malformed authentication response")

	// ErrRefused reports a client that is not who it says. A login function
	// returns it, or an error that wraps it, for a wrong name, password, token
	// or proof; every other error is trouble of ours.
	ErrRefused = errors.New("wrong name or password")

	// ErrAuthzid reports a client that has proved who it is, and wants to act
	// as somebody else. Nobody may.
	ErrAuthzid = errors.New("another authorization identity than the login")

	// ErrExpired and ErrBlocked report a client that has proved who it is and
	// may not come in: the account has expired, or the administrator has
	// closed it.
	ErrExpired = errors.New("the account has expired")
	ErrBlocked = errors.New("logins are closed")
)

// A Claim is what a client says, or has shown, to be let in.
type Claim struct {
	Mechanism string // in capitals
	Name      string // who it is; "" when the token has to tell
	Authzid   string // as whom it wants to act; "": itself
	Secret    string // a password, or the token of a mechanism that carries one
	Proved    bool   // the mechanism itself has shown that the client is Name
}

// Scram tells whether the claim is that of a mechanism of RFC 5802: without a
// secret, and refused if it is not proved.
func (c Claim) Scram() bool {
	return c.Mechanism == "SCRAM-SHA-256" || c.Mechanism == "SCRAM-SHA-256-PLUS"
}

// Token tells whether the secret is a token that somebody else has to judge.
func (c Claim) Token() bool { return c.Mechanism == "OAUTHBEARER" || c.Mechanism == "XOAUTH2" }

// A Server is the server's side of one exchange.
type Server interface {
	// Next takes the client's response. The first call takes the initial
	// response: nil when the client sent none, empty but not nil when it sent
	// an empty one. It returns the next challenge, which may be empty; or done
	// when the client is who it says; or the error that ends the exchange,
	// which is ErrMalformed or what the login function returned. A challenge
	// beside an error is the last word: whatever the client answers, the
	// exchange has failed.
	Next(response []byte) (challenge []byte, done bool, err error)
}

// Exchange holds an exchange that begins with the initial response, nil for
// none. ask sends a challenge and returns what the client responds. The error
// is that of the server, or else that of ask, which ends the exchange.
func Exchange(s Server, response []byte, ask func(challenge []byte) ([]byte, error)) error {
	for {
		challenge, done, err := s.Next(response)
		if done || err != nil && challenge == nil {
			return err
		}
		answer, lost := ask(challenge)
		switch {
		case err != nil && !errors.Is(err, ErrMalformed):
			return err // the login has failed, and counts, whatever becomes of the client
		case lost != nil:
			return lost
		case err != nil:
			return err
		}
		if response = answer; response == nil {
			response = []byte{}
		}
	}
}

// Options are the ways in, beside passwords, that a server has. The zero value
// has none.
type Options struct {
	// Verifier returns what is kept of a password for SCRAM. A name that
	// nobody has gets one that no password fits, always the same: what the
	// client sees of it does not tell. nil: SCRAM is not offered.
	Verifier func(name string) (*Verifier, error)

	// Tokens says that the login function can judge them: OAUTHBEARER and
	// XOAUTH2 are offered.
	Tokens bool

	// Names returns the users that a certificate stands for, the first of
	// whom it is if the client does not say. nil: EXTERNAL is not offered. It
	// is asked about verified certificates only.
	Names func(*x509.Certificate) []string

	// Shown returns our own certificate as clients see it that ask for a name;
	// nil: not known, and tls-server-end-point not to be had.
	Shown func(serverName string) *x509.Certificate

	// Nonce makes the server's part of SCRAM's nonce; nil: a random one.
	Nonce func() string
}

// Mechanisms are the names that Server knows for a client of this connection,
// the better ones first. conn is nil where there is no TLS. PLAIN, LOGIN and
// the tokens show a secret to who listens: a server offers them under TLS
// only.
func (o *Options) Mechanisms(conn *tls.ConnectionState) []string {
	var list []string
	if len(o.names(conn)) > 0 {
		list = append(list, "EXTERNAL")
	}
	if o.Verifier != nil {
		if canBind(conn) {
			list = append(list, "SCRAM-SHA-256-PLUS")
		}
		list = append(list, "SCRAM-SHA-256")
	}
	if o.Tokens {
		list = append(list, "OAUTHBEARER", "XOAUTH2")
	}
	return append(list, "PLAIN", "LOGIN")
}

// Server begins an exchange by the named mechanism, written in any case; it
// returns false for one that is not among Mechanisms. login lets the client
// in, or says why not.
func (o *Options) Server(mechanism string, conn *tls.ConnectionState, login func(Claim) error) (Server, bool) {
	mechanism = strings.ToUpper(mechanism)
	if !slices.Contains(o.Mechanisms(conn), mechanism) {
		return nil, false
	}
	b := base{mechanism: mechanism, login: login}
	switch mechanism {
	case "EXTERNAL":
		return &externalServer{base: b, names: o.names(conn)}, true
	case "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS":
		return &scramServer{base: b, options: o, conn: conn}, true
	case "OAUTHBEARER":
		return &bearerServer{base: b, parse: parseBearer, sorry: bearerError}, true
	case "XOAUTH2":
		return &bearerServer{base: b, parse: parseXOAUTH2, sorry: xoauth2Error}, true
	case "PLAIN":
		return &plainServer{base: b}, true
	}
	return &loginServer{base: b}, true
}

// names are the users whose certificate the client has shown, and holds.
func (o *Options) names(conn *tls.ConnectionState) []string {
	if o.Names == nil || conn == nil || len(conn.VerifiedChains) == 0 || len(conn.PeerCertificates) == 0 {
		return nil
	}
	return o.Names(conn.PeerCertificates[0])
}

// base is what all mechanisms have.
type base struct {
	mechanism string
	login     func(Claim) error
	asked     bool // for the initial response
}

// wait says that the client has sent no initial response and is asked for it.
func (b *base) wait(response []byte) bool {
	if response != nil || b.asked {
		return false
	}
	b.asked = true
	return true
}

// admit lets the client in on a claim that can be one.
func (b *base) admit(c Claim) error {
	if strings.ContainsRune(c.Name+c.Authzid+c.Secret, 0) {
		return ErrMalformed
	}
	c.Mechanism = b.mechanism
	return b.login(c)
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
