package sasl_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"pennypost/proto/sasl"
)

// rfc7677 is the server of the example: user has the password pencil.
func rfc7677() *sasl.Options {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	v, _ := sasl.NewVerifier("pencil", salt, 4096)
	return &sasl.Options{
		Verifier: func(string) (*sasl.Verifier, error) { return v, nil },
		Nonce:    func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" },
	}
}

// RFC 7677 §3, to the octet, and what breaks it.
func TestScramExample(t *testing.T) {
	const (
		first  = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
		server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
		nonce  = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
		proof  = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
		final  = "c=biws," + nonce + "," + proof
		v      = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	)
	for _, test := range []struct {
		said, heard []string
		err         error
	}{
		{[]string{first, final, ""}, []string{server, v}, nil},
		{[]string{first, final, "more"}, []string{server, v}, sasl.ErrMalformed},
		{[]string{first, strings.Replace(final, "p=d", "p=e", 1), ""}, []string{server, "e=invalid-proof"}, sasl.ErrRefused},
		{[]string{first, "c=biws," + nonce + ",p=", ""}, []string{server, "e=invalid-proof"}, sasl.ErrRefused},
		{[]string{first, "c=biws," + nonce + ",x=1," + proof, ""}, []string{server, "e=invalid-proof"}, sasl.ErrRefused},
		{[]string{first, "c=eSws," + nonce + "," + proof, ""}, []string{server, "e=invalid-proof"}, sasl.ErrRefused},
		{[]string{first, "c=biws,r=rOprNGfwEbeRWgbNEkqO," + proof, ""}, []string{server, "e=other-error"}, sasl.ErrMalformed},
		{[]string{first, "c=b!ws," + nonce + "," + proof}, []string{server}, sasl.ErrMalformed},
		{[]string{first, "c=biws," + proof}, []string{server}, sasl.ErrMalformed},
		{[]string{first, nonce + ",c=biws," + proof}, []string{server}, sasl.ErrMalformed},
		{[]string{first, "c=biws," + nonce}, []string{server}, sasl.ErrMalformed},
		{[]string{first, ""}, []string{server}, sasl.ErrMalformed},
		{[]string{""}, nil, sasl.ErrMalformed},
		{[]string{"n,,"}, nil, sasl.ErrMalformed},
		{[]string{"n,n=user,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"x,,n=user,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,b=user,n=user,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,a=,n=user,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,,r=x,n=user"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=user"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=us=er,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=us=2cer,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=us\x00er,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=us\xffer,r=x"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=user,r=a b"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=user,r=x,"}, nil, sasl.ErrMalformed},
		{[]string{"n,,n=user,r=x,y"}, nil, sasl.ErrMalformed},
		{[]string{"n,,m=new,n=user,r=x", ""}, []string{"e=extensions-not-supported"}, sasl.ErrMalformed},
		{[]string{"n,,n=\u0007,r=x", ""}, []string{"e=invalid-username-encoding"}, sasl.ErrMalformed},
		{[]string{"n,,n=\u00ad,r=x", ""}, []string{"e=invalid-username-encoding"}, sasl.ErrMalformed},
		{[]string{"p=tls-unique,,n=user,r=x", ""}, []string{"e=channel-binding-not-supported"}, sasl.ErrRefused},
		{[]string{"p=tls_unique,,n=user,r=x"}, nil, sasl.ErrMalformed},
	} {
		s, _ := rfc7677().Server("scram-sha-256", nil, func(c sasl.Claim) error {
			if c != (sasl.Claim{Mechanism: "SCRAM-SHA-256", Name: "user", Proved: true}) {
				return sasl.ErrRefused
			}
			return nil
		})
		said := test.said
		var heard []string
		err := sasl.Exchange(s, []byte(said[0]), func(challenge []byte) ([]byte, error) {
			heard = append(heard, string(challenge))
			if said = said[1:]; len(said) == 0 {
				t.Fatalf("%q: asks too much: %q", test.said, challenge)
			}
			return []byte(said[0]), nil
		})
		if !errors.Is(err, test.err) || !slices.Equal(heard, test.heard) || len(said) > 1 {
			t.Errorf("%q: heard %q, error %v; want %q, %v", test.said, heard, err, test.heard, test.err)
		}
	}
}

// converse has another implementation's client log in.
func converse(t *testing.T, s sasl.Server, c *scram.ClientConversation, early bool) (string, error) {
	t.Helper()
	var initial []byte
	if early {
		text, err := c.Step("")
		if err != nil {
			t.Fatal(err)
		}
		initial = []byte(text)
	}
	e := ""
	err := sasl.Exchange(s, initial, func(challenge []byte) ([]byte, error) {
		text, err := c.Step(string(challenge))
		if strings.HasPrefix(string(challenge), "e=") {
			e = string(challenge[2:])
			return nil, errors.New("called off")
		}
		return []byte(text), err
	})
	if err == nil && !c.Valid() {
		t.Error("the client does not believe in the server")
	}
	return e, err
}

func TestScramClient(t *testing.T) {
	for _, test := range []struct {
		name, password, authzid string
		err                     error
	}{
		{"bob", "hungry", "", nil},
		{"bob", "hungry", "bob", nil},
		{"b\u00adob", "hun\u00adgry", "", nil},
		{"ｂｏｂ", "ｈungry", "", nil},
		{"bob", "wrong", "", sasl.ErrRefused},
		{"bob", "hungry", "alice", sasl.ErrAuthzid},
		{"bob", "wrong", "alice", sasl.ErrRefused},
		{"nobody", "of nobody", "", sasl.ErrRefused},
		{"a,b=c", "hungry", "", sasl.ErrRefused},
	} {
		c, err := scram.SHA256.NewClient(test.name, test.password, test.authzid)
		if err != nil {
			t.Fatal(err)
		}
		for _, early := range []bool{true, false} {
			s, _ := options().Server("SCRAM-SHA-256", nil, login)
			if _, err := converse(t, s, c.NewConversation(), early); !errors.Is(err, test.err) {
				t.Errorf("%+v: %v", test, err)
			}
		}
	}
	c, _ := scram.SHA256.NewClient("bob", "hungry", "")
	s, _ := options().Server("SCRAM-SHA-256", nil, login)
	if _, err := converse(t, s, c.NewConversationAdvertisingChannelBinding(), true); err != nil {
		t.Errorf("refuses who can bind, where we cannot: %v", err)
	}
	trouble := errors.New("trouble")
	o := &sasl.Options{Verifier: func(string) (*sasl.Verifier, error) { return nil, trouble }}
	s, _ = o.Server("SCRAM-SHA-256", nil, login)
	if _, err := converse(t, s, c.NewConversation(), true); !errors.Is(err, trouble) {
		t.Errorf("trouble is %v", err)
	}
}

// shake makes both ends of a TLS connection.
func shake(t *testing.T, version uint16) (client, server tls.ConnectionState, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version})
	done := make(chan error)
	go func() { done <- s.Handshake() }()
	c := tls.Client(near, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if version == tls.VersionTLS13 {
		go c.Read(make([]byte, 1)) // the ticket
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState(), s.ConnectionState(), cert
}

// Each type of channel binding, with the TLS it is sound in; a binding of
// another connection, and a mechanism that somebody took off the list.
func TestChannelBinding(t *testing.T) {
	client, _ := scram.SHA256.NewClient("bob", "hungry", "")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		near, far, cert := shake(t, version)
		other, _, _ := shake(t, version)
		o := options()
		o.Shown = func(name string) *x509.Certificate {
			if name != "localhost" {
				t.Errorf("asked for %q", name)
			}
			return cert
		}
		if got := o.Mechanisms(&far); !slices.Contains(got, "SCRAM-SHA-256-PLUS") {
			t.Fatalf("offers %q", got)
		}
		exporter := func(c *tls.ConnectionState) (scram.ChannelBinding, error) { return scram.NewTLSExporterBinding(c) }
		endPoint := func(c *tls.ConnectionState) (scram.ChannelBinding, error) {
			return scram.NewTLSServerEndpointBinding(c)
		}
		unique := func(c *tls.ConnectionState) (scram.ChannelBinding, error) {
			if c.TLSUnique == nil {
				return scram.NewTLSUniqueBinding([]byte("there is none")), nil
			}
			return scram.NewTLSUniqueBinding(c.TLSUnique), nil
		}
		for _, test := range []struct {
			bind func(*tls.ConnectionState) (scram.ChannelBinding, error)
			of   *tls.ConnectionState
			e    string
		}{
			{exporter, &near, ""},
			{exporter, &other, "channel-bindings-dont-match"},
			{endPoint, &near, ""},
			{endPoint, &other, "channel-bindings-dont-match"},
			{unique, &near, map[uint16]string{tls.VersionTLS13: "unsupported-channel-binding-type"}[version]},
			{unique, &other, map[uint16]string{tls.VersionTLS12: "channel-bindings-dont-match", tls.VersionTLS13: "unsupported-channel-binding-type"}[version]},
			{func(*tls.ConnectionState) (scram.ChannelBinding, error) {
				return scram.ChannelBinding{Type: "tls-something", Data: []byte("x")}, nil
			}, &near, "unsupported-channel-binding-type"},
		} {
			b, err := test.bind(test.of)
			if err != nil {
				t.Fatal(err)
			}
			s, _ := o.Server("SCRAM-SHA-256-PLUS", &far, login)
			e, err := converse(t, s, client.NewConversationWithChannelBinding(b), true)
			if e != test.e || (err == nil) != (e == "") {
				t.Errorf("%x %s: %q, %v; want %q", version, b.Type, e, err, test.e)
			}
			s, _ = o.Server("SCRAM-SHA-256", &far, login)
			if e, _ := converse(t, s, client.NewConversationWithChannelBinding(b), true); e != "channel-binding-not-supported" {
				t.Errorf("%s without PLUS: %q", b.Type, e)
			}
		}
		s, _ := o.Server("SCRAM-SHA-256", &far, login)
		if e, err := converse(t, s, client.NewConversationAdvertisingChannelBinding(), true); e != "server-does-support-channel-binding" || err == nil {
			t.Errorf("a downgrade: %q, %v", e, err)
		}
		s, _ = o.Server("SCRAM-SHA-256", &far, login)
		if _, err := converse(t, s, client.NewConversation(), true); err != nil {
			t.Errorf("a client without binding: %v", err)
		}
		s, _ = o.Server("SCRAM-SHA-256-PLUS", &far, login)
		if e, err := converse(t, s, client.NewConversation(), true); e != "other-error" || err == nil {
			t.Errorf("PLUS without binding: %q, %v", e, err)
		}
		o.Shown = nil
		b, _ := endPoint(&near)
		s, _ = o.Server("SCRAM-SHA-256-PLUS", &far, login)
		if e, _ := converse(t, s, client.NewConversationWithChannelBinding(b), true); e != "unsupported-channel-binding-type" {
			t.Errorf("a certificate that nobody knows: %q", e)
		}
	}
}

// EXTERNAL is for verified certificates, and for whom they name.
func TestExternal(t *testing.T) {
	cert := &x509.Certificate{}
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	o := &sasl.Options{Names: func(c *x509.Certificate) []string {
		if c != cert {
			t.Error("asked about another certificate")
		}
		return []string{"bob", "alice"}
	}}
	if _, ok := o.Server("EXTERNAL", state, login); ok {
		t.Fatal("believes in a certificate that nobody has verified")
	}
	state.VerifiedChains = [][]*x509.Certificate{{cert}}
	if got := strings.Join(o.Mechanisms(state), " "); got != "EXTERNAL PLAIN LOGIN" {
		t.Errorf("offers %s", got)
	}
	for response, want := range map[string]error{
		"":      nil,
		"bob":   nil,
		"alice": sasl.ErrRefused, // login knows bob only
		"carol": sasl.ErrAuthzid,
		"b\x00": sasl.ErrMalformed,
		"\xff":  sasl.ErrMalformed,
	} {
		for _, early := range []bool{true, false} {
			s, _ := o.Server("EXTERNAL", state, login)
			var initial []byte
			if early {
				initial = []byte(response)
			}
			if err := sasl.Exchange(s, initial, func(challenge []byte) ([]byte, error) {
				if early || len(challenge) > 0 {
					t.Errorf("asks %q", challenge)
				}
				return []byte(response), nil
			}); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", response, err, want)
			}
		}
	}
}

// RFC 4013 §3, and the tables at their edges.
func TestPrepare(t *testing.T) {
	for in, want := range map[string]string{
		"I\u00adX":                     "IX",
		"user":                         "user",
		"USER":                         "USER",
		"\u00aa":                       "a",
		"\u2168":                       "IX",
		"":                             "",
		"a\u3000b\u00a0c":              "a b c",
		"\u0627\u0628":                 "\u0627\u0628",
		"\u06271\u0628":                "\u06271\u0628",
		"e\u0301":                      "\u00e9",
		"\u1f600\U0001f600 unassigned": "\u1f600\U0001f600 unassigned",
	} {
		if got, err := sasl.Prepare(in); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"\u0007", "\u06271", "\u0627a\u0628", "\x7f", "\u0080", "\ue000", "\uf8ff", "\ufffe", "\U0001ffff", "\U000f0000", "\U0010fffd",
		"\ufffd", "\ufff9", "\u2ff0", "\u200e", "\u202a", "\U000e0001", "\U000e0041", "\xff", "a\x00",
	} {
		if got, err := sasl.Prepare(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// Prepare agrees with another implementation, where that has no word of its
// own about characters that are younger than the standard.
func FuzzPrepare(f *testing.F) {
	f.Add("I\u00adX \u00aa\u2168\u06271")
	f.Fuzz(func(t *testing.T, in string) {
		if strings.ToValidUTF8(in, "") != in || strings.ContainsFunc(in, stringprep.TableA1.Contains) {
			return
		}
		got, err := sasl.Prepare(in)
		want, oracle := stringprep.SASLprep.Prepare(in)
		if (err == nil) != (oracle == nil) || err == nil && got != want {
			t.Errorf("%q: %q, %v; want %q, %v", in, got, err, want, oracle)
		}
		if again, err := sasl.Prepare(got); err != nil || again != got {
			t.Errorf("%q: twice %q, %v", in, again, err)
		}
	})
}
