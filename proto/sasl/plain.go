package sasl

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// plainServer is RFC 4616: one response holds all.
type plainServer struct {
	verify  Verifier
	started bool
}

func (s *plainServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && !s.started {
		s.started = true
		return []byte{}, false, nil
	}
	authzid, name, password, err := parsePlain(response)
	if err == nil {
		err = verify(s.verify, authzid, name, password)
	}
	return nil, err == nil, err
}

// parsePlain takes a response apart:
//
//	message = [authzid] UTF8NUL authcid UTF8NUL passwd   (RFC 4616 §2)
func parsePlain(response []byte) (authzid, name, password string, err error) {
	part := bytes.Split(response, []byte{0})
	if len(part) != 3 || !utf8.Valid(response) {
		return "", "", "", ErrMalformed
	}
	return string(part[0]), string(part[1]), string(part[2]), nil
}

// verify asks v about names and passwords that can be ones.
func verify(v Verifier, authzid, name, password string) error {
	switch {
	case name == "" || password == "" || strings.ContainsRune(name+password, 0):
		return ErrMalformed
	case authzid != "" && authzid != name:
		return ErrAuthzid
	}
	return v(authzid, name, password)
}

type plainClient struct{ authzid, user, pass string }

// PlainClient proves with PLAIN (RFC 4616) that we are user, and asks to act
// as authzid; "" is the user himself. The initial response holds all.
func PlainClient(authzid, user, pass string) Client { return &plainClient{authzid, user, pass} }

func (c *plainClient) Start() (string, []byte) { return "PLAIN", c.response() }

// Next answers the empty challenge of a server that took no initial response.
func (c *plainClient) Next(challenge []byte) ([]byte, error) {
	if len(challenge) > 0 {
		return nil, ErrChallenge
	}
	return c.response(), nil
}

func (c *plainClient) response() []byte {
	return []byte(c.authzid + "\x00" + c.user + "\x00" + c.pass)
}
