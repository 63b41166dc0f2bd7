package prototest

import (
	"crypto/x509"
	"encoding/base64"
	"errors"

	"pennypost/proto/sasl"
)

// SASL has every way to log in: as user with the password pencil, with the
// nonce and the salt of RFC 7677 §3; with a token; as whom the certificate of
// AskCertificate names.
func SASL() sasl.Options {
	return sasl.Options{
		Verifier: func(name string) (*sasl.Verifier, error) {
			password := "pencil"
			switch name {
			case "broken":
				return nil, errors.New("disk trouble")
			case "user":
			default:
				password = "of nobody"
			}
			salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
			return sasl.NewVerifier(password, salt, 4096)
		},
		Tokens: true,
		Names:  func(c *x509.Certificate) []string { return []string{c.Subject.CommonName} },
		Nonce:  func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" },
	}
}

// Login judges claims: user has the password pencil, user@example.com the
// token of RFC 7628 §4.1, bob his certificate; late and shut know their
// password, open, but may not come in, and broken's cannot be looked up.
func Login(c sasl.Claim) error {
	good := false
	switch {
	case c.Name == "broken":
		return errors.New("disk trouble")
	case c.Mechanism == "EXTERNAL":
		good = c.Proved && c.Name == "bob"
	case c.Scram():
		good = c.Proved && c.Name == "user"
	case c.Token():
		good = c.Secret == "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==" && c.Name == "user@example.com"
	case c.Name == "late" && c.Secret == "open":
		return sasl.ErrExpired
	case c.Name == "shut" && c.Secret == "open":
		return sasl.ErrBlocked
	default:
		good = c.Name == "user" && c.Secret == "pencil"
	}
	switch {
	case !good:
		return sasl.ErrRefused
	case c.Authzid != "" && c.Authzid != c.Name:
		return sasl.ErrAuthzid
	}
	return nil
}
