package sasl

import "unicode/utf8"

// loginServer is LOGIN, which no RFC describes and every client knows: the
// server asks for the name, then for the password. A client may send the name
// as its initial response.
type loginServer struct {
	base
	name *string
}

func (s *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case s.wait(response):
		return []byte("Username:"), false, nil
	case !utf8.Valid(response):
		return nil, false, ErrMalformed
	case s.name == nil:
		name := string(response)
		s.name, s.asked = &name, true
		return []byte("Password:"), false, nil
	case *s.name == "" || len(response) == 0:
		return nil, false, ErrMalformed
	}
	err := s.admit(Claim{Name: *s.name, Secret: string(response)})
	return nil, err == nil, err
}

type loginClient struct {
	user, pass string
	said       int // answers given
}

// LoginClient proves with LOGIN that we are user. It answers in order, since
// the words of the server's questions differ.
func LoginClient(user, pass string) Client { return &loginClient{user: user, pass: pass} }

func (c *loginClient) Start() (string, []byte) {
	c.said = 0
	return "LOGIN", nil
}

func (c *loginClient) Next([]byte) ([]byte, error) {
	c.said++
	switch c.said {
	case 1:
		return []byte(c.user), nil
	case 2:
		return []byte(c.pass), nil
	}
	return nil, ErrChallenge
}
