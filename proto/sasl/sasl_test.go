package sasl_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pennypost/proto/sasl"
)

var errRefused = errors.New("refused")

// bob's password is hungry, whatever he wants to be.
func verify(authzid, name, password string) error {
	if name == "bob" && password == "hungry" {
		return nil
	}
	return errRefused
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
		{"PLAIN", []string{"\x00bob\x00wrong"}, "", errRefused},
		{"PLAIN", []string{""}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"bob"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00hungry\x00"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00hung\x00ry"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00\x00hungry"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00\xff"}, "", sasl.ErrMalformed},
		{"PLAIN", []string{"\x00" + big + "\x00" + big}, "", errRefused},
		{"LOGIN", []string{"-", "bob", "hungry"}, `"Username:" "Password:"`, nil},
		{"LOGIN", []string{"bob", "hungry"}, `"Password:"`, nil},
		{"LOGIN", []string{"-", "bob", "wrong"}, `"Username:" "Password:"`, errRefused},
		{"LOGIN", []string{"-", "bob\x00", "hungry"}, `"Username:" "Password:"`, sasl.ErrMalformed},
		{"LOGIN", []string{"-", "bob", "hungry\x00x"}, `"Username:" "Password:"`, sasl.ErrMalformed},
		{"LOGIN", []string{"-", "", ""}, `"Username:" "Password:"`, sasl.ErrMalformed},
		{"LOGIN", []string{"-", "\xff"}, `"Username:"`, sasl.ErrMalformed},
	} {
		t.Run(fmt.Sprintf("%s %.30q", test.mechanism, test.said), func(t *testing.T) {
			s, ok := sasl.NewServer(test.mechanism, verify)
			if !ok {
				t.Fatal("not known")
			}
			var asked []string
			for i, r := range test.said {
				response := []byte(r)
				if r == "-" {
					response = nil
				}
				challenge, done, err := s.Next(response)
				if last := i == len(test.said)-1; last {
					if !errors.Is(err, test.err) || done != (test.err == nil) {
						t.Errorf("done %v, error %v; want %v", done, err, test.err)
					}
					break
				}
				if done || err != nil {
					t.Fatalf("after %q: done %v, error %v", r, done, err)
				}
				asked = append(asked, fmt.Sprintf("%q", challenge))
			}
			if got := strings.Join(asked, " "); got != test.want {
				t.Errorf("asked %s, want %s", got, test.want)
			}
		})
	}
	if _, ok := sasl.NewServer("CRAM-MD5", verify); ok {
		t.Error("CRAM-MD5 is known")
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
			s, ok := sasl.NewServer(mechanism, verify)
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

// No response makes a server panic, ask for ever, or let in who does not know
// the password.
func FuzzServer(f *testing.F) {
	f.Add("PLAIN", []byte("\x00bob\x00hungry"), []byte(""), []byte(""))
	f.Add("LOGIN", []byte("bob"), []byte("hungry"), []byte(""))
	f.Fuzz(func(t *testing.T, mechanism string, a, b, c []byte) {
		let := false
		s, ok := sasl.NewServer(mechanism, func(authzid, name, password string) error {
			if strings.ContainsRune(authzid+name+password, 0) || name == "" || password == "" {
				t.Errorf("asked about %q %q %q", authzid, name, password)
			}
			let = name == "bob" && password == "hungry"
			return verify(authzid, name, password)
		})
		if !ok {
			return
		}
		for _, r := range [][]byte{a, b, c} {
			_, done, err := s.Next(r)
			if done && !let {
				t.Error("let in")
			}
			if done || err != nil {
				return
			}
		}
		t.Error("asked three times")
	})
}
