package sasl

import "unicode/utf8"

// externalServer is EXTERNAL (RFC 4422 §A): the client has shown who it is by
// the certificate that TLS has verified, and may say as whom of those it
// stands for it wants to act.
type externalServer struct {
	base
	names []string
}

// Next takes the only response:
//
//	extern-initial-resp = *( UTF8-char-no-nul )   (RFC 4422 §A.1)
func (s *externalServer) Next(response []byte) ([]byte, bool, error) {
	if s.wait(response) {
		return []byte{}, false, nil
	}
	if !utf8.Valid(response) {
		return nil, false, ErrMalformed
	}
	c := Claim{Name: s.names[0], Authzid: string(response), Proved: true}
	for _, name := range s.names {
		if name == c.Authzid {
			c.Name = name
		}
	}
	err := s.admit(c)
	return nil, err == nil, err
}
