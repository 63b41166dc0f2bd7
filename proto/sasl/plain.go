package sasl

import (
	"bytes"
	"unicode/utf8"
)

// plainServer is RFC 4616: one response holds all.
type plainServer struct{ base }

func (s *plainServer) Next(response []byte) ([]byte, bool, error) {
	if s.wait(response) {
		return []byte{}, false, nil
	}
	c, err := parsePlain(response)
	if err == nil {
		err = s.admit(c)
	}
	return nil, err == nil, err
}

// parsePlain takes a response apart:
//
//	message = [authzid] UTF8NUL authcid UTF8NUL passwd   (RFC 4616 §2)
func parsePlain(response []byte) (Claim, error) {
	part := bytes.Split(response, []byte{0})
	if len(part) != 3 || len(part[1]) == 0 || len(part[2]) == 0 || !utf8.Valid(response) {
		return Claim{}, ErrMalformed
	}
	return Claim{Authzid: string(part[0]), Name: string(part[1]), Secret: string(part[2])}, nil
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
