package sasl_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pennypost/proto/sasl"
)

// login lets bob in: his password is hungry, his token bobs-token.
func login(c sasl.Claim) error {
	good := c.Secret == "hungry"
	switch {
	case c.Scram() || c.Mechanism == "EXTERNAL":
		good = c.Proved
	case c.Token():
		good = c.Secret == "bobs-token"
	}
	switch {
	case !good || c.Name != "bob":
		return sasl.ErrRefused
	case c.Authzid != "" && c.Authzid != c.Name:
		return sasl.ErrAuthzid
	}
	return nil
}

// options has all ways in that need no TLS.
func options() *sasl.Options {
	return &sasl.Options{Tokens: true, Verifier: func(name string) (*sasl.Verifier, error) {
		password := "of nobody"
		if name == "bob" {
			password = "hungry"
		}
		return sasl.NewVerifier(password, []byte("0123456789abcdef"), 4096)
	}}
}

func TestServer(t *testing.T) {
	big := strings.Repeat("x", 12288)
	for _, test := range []struct {
		mechanism string
		said      []string // "-" stands for none at all
		want      string
		err       error
	}{
		{"PLAIN", []string{"\x00bob\x00hungry"}, "", nil},
		{"plain", []string{"\x00bob\x00hungry"}, "", nil},
		{"PLAIN", []string{"-", "\x00bob\x00hungry"}, `""`, nil},
		{"PLAIN", []string{"bob\x00bob\x00hungry"}, "", nil},
		{"PLAIN", []string{"alice\x00bob\x00hungry"}, "", sasl.ErrAuthzid},
		{"PLAIN", []string{"alice\x00bob\x00wrong"}, "", sasl.ErrRefused},
		{"PLAIN", []string{"\x00bob\x00wrong"}, "", sasl.ErrRefused},
		{"PLAIN", []string{""}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"bob"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00hungry\x00"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00hung\x00ry"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00\x00hungry"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00\xff"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00" + big + "\x00" + big}, "", sasl.ErrRefused},
		{"LOGIN", []string{"-", "bob", "hungry"}, `"Username:" "Password:"`, nil},
		{"LOGIN", []string{"bob", "hungry"}, `"Password:"`, nil},
		{"LOGIN", []string{"-", "bob", "wrong"}, `"Username:" "Password:"`, sasl.ErrRefused},
		{"LOGIN", []string{"-", "bob\x00", "hungry"}, `"Username:" "Password:"`, sasl.ErrMalformed},
		{"LOGIN", []string{"-", "bob", "hungry\x00x"}, `"Username:" "Password:"`, sasl.ErrMalformed},
		{"LOGIN", []string{"-", "", ""}, `"Username:" "Password:"`, sasl.ErrMalformed},
		{"LOGIN", []string{"-", "\xff"}, `"Username:"`, sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01host=localhost\x01port=143\x01auth=Bearer bobs-token\x01\x01"}, "", nil},
		{"OAUTHBEARER", []string{"-", "y,a=bob,\x01auth=bearer  bobs-token\x01new=x\x01\x01"}, `""`, nil},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=Bearer stale\x01\x01", "\x01"}, `"{\"status\":\"invalid_token\"}"`, sasl.ErrRefused},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer bobs-token\x01\x01", "\x01"}, `"{\"status\":\"invalid_token\"}"`, sasl.ErrRefused},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=\x01\x01", "\x01"}, `"{\"status\":\"invalid_token\"}"`, sasl.ErrRefused},
		{"OAUTHBEARER", []string{"\x01"}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{""}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01\x01"}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=Basic Ym9i\x01\x01"}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=Bearer a\x01auth=Bearer b\x01\x01"}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=Bearer a b\x01\x01"}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01a1=x\x01auth=Bearer a\x01\x01"}, "", sasl.ErrMalformed},
		{"OAUTHBEARER", []string{"p=tls-unique,a=bob,\x01auth=Bearer bobs-token\x01\x01"}, "", sasl.ErrMalformed},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer bobs-token\x01\x01"}, "", nil},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer stale\x01\x01", ""}, `"{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}"`, sasl.ErrRefused},
		{"XOAUTH2", []string{"user=\x01auth=Bearer bobs-token\x01\x01"}, "", sasl.ErrMalformed},
		{"XOAUTH2", []string{"user=b\x00b\x01auth=Bearer bobs-token\x01\x01"}, "", sasl.ErrMalformed},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer bobs-token\x01"}, "", sasl.ErrMalformed},
	} {
		t.Run(fmt.Sprintf("%s %.30q", test.mechanism, test.said), func(t *testing.T) {
			s, ok := options().Server(test.mechanism, nil, login)
			if !ok {
				t.Fatal("not known")
			}
			var initial []byte
			said := test.said
			if said[0] != "-" {
				initial = []byte(said[0])
			}
			var asked []string
			err := sasl.Exchange(s, initial, func(challenge []byte) ([]byte, error) {
				asked = append(asked, fmt.Sprintf("%q", challenge))
				if said = said[1:]; len(said) == 0 {
					t.Fatal("asks too much")
				}
				return []byte(said[0]), nil
			})
			if !errors.Is(err, test.err) || len(said) > 1 {
				t.Errorf("error %v; want %v", err, test.err)
			}
			if got := strings.Join(asked, " "); got != test.want {
				t.Errorf("asked %s, want %s", got, test.want)
			}
		})
	}
	for _, mechanism := range []string{"CRAM-MD5", "EXTERNAL", "SCRAM-SHA-256-PLUS", ""} {
		if _, ok := options().Server(mechanism, nil, login); ok {
			t.Errorf("%s is to be had", mechanism)
		}
	}
	none := sasl.Options{}
	if got := strings.Join(none.Mechanisms(nil), " "); got != "PLAIN LOGIN" {
		t.Errorf("offers %s without options", got)
	}
}

// The two sides understand each other, whether or not the initial response is
// sent with the command.
func TestClientAndServer(t *testing.T) {
	for _, c := range []sasl.Client{
		sasl.PlainClient("", "bob", "hungry"),
		sasl.PlainClient("bob", "bob", "hungry"),
		sasl.LoginClient("bob", "hungry"),
	} {
		for _, early := range []bool{true, false} {
			mechanism, response := c.Start()
			s, ok := options().Server(mechanism, nil, login)
			if !ok {
				t.Fatalf("%s is not known", mechanism)
			}
			if !early {
				response = nil
			}
			for range 3 {
				challenge, done, err := s.Next(response)
				if err != nil {
					t.Fatalf("%s: %v", mechanism, err)
				}
				if done {
					break
				}
				if response, err = c.Next(challenge); err != nil {
					t.Fatalf("%s: %v", mechanism, err)
				}
			}
		}
		if _, err := c.Next([]byte("And your pin?")); !errors.Is(err, sasl.ErrChallenge) {
			t.Errorf("answers a question it does not know: %v", err)
		}
	}
}

// What has failed stays so, though the client calls the exchange off; who
// leaves in the middle of a good one has not failed.
func TestExchangeIsLost(t *testing.T) {
	lost := errors.New("lost")
	for said, want := range map[string]error{
		"n,a=bob,\x01auth=Bearer stale\x01\x01": sasl.ErrRefused,
		"-":                                     lost,
	} {
		s, _ := options().Server("OAUTHBEARER", nil, login)
		initial := []byte(said)
		if said == "-" {
			initial = nil
		}
		if err := sasl.Exchange(s, initial, func([]byte) ([]byte, error) { return nil, lost }); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", said, err, want)
		}
	}
}

// No response makes a server panic, ask for ever, or let in who does not know
// the password.
func FuzzServer(f *testing.F) {
	f.Add("PLAIN", []byte("\x00bob\x00hungry"), []byte(""), []byte(""))
	f.Add("LOGIN", []byte("bob"), []byte("hungry"), []byte(""))
	f.Add("OAUTHBEARER", []byte("n,a=bob,\x01auth=Bearer bobs-token\x01\x01"), []byte("\x01"), []byte(""))
	f.Add("XOAUTH2", []byte("user=bob\x01auth=Bearer stale\x01\x01"), []byte(""), []byte(""))
	f.Add("SCRAM-SHA-256", []byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), []byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), []byte(""))
	f.Add("SCRAM-SHA-256", []byte("p=tls-unique,a=b=2Cb,m=x,n=us=3Der,r=r,x=y"), []byte("c=cD10bHMtdW5pcXVlLGE9YiwsYg==,r=r%,y=z,p="), []byte("x"))
	o := rfc7677()
	o.Tokens = true
	f.Fuzz(func(t *testing.T, mechanism string, a, b, c []byte) {
		let := false
		s, ok := o.Server(mechanism, nil, func(c sasl.Claim) error {
			if strings.ContainsRune(c.Authzid+c.Name+c.Secret, 0) || c.Name == "" && !c.Token() || c.Secret == "" && !c.Scram() {
				t.Errorf("asked about %+v", c)
			}
			err := login(c)
			let = err == nil
			if c.Scram() && c.Proved {
				let, err = true, nil
			}
			return err
		})
		if !ok {
			return
		}
		said := [][]byte{a, b, c, nil}
		err := sasl.Exchange(s, a, func([]byte) ([]byte, error) {
			if said = said[1:]; len(said) == 0 {
				t.Fatal("asks too much")
			}
			return said[0], nil
		})
		if err == nil && !let {
			t.Error("let in")
		}
	})
}
