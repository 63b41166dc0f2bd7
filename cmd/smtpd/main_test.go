package main

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/delivery"
	"pennypost/proto/smtp"
)

func TestTrust(t *testing.T) {
	var s server
	for _, text := range []string{"192.0.2.0/24", "198.51.100.7", "2001:db8:1::/48", "::ffff:203.0.113.1", "192.0.3.9/24"} {
		p, err := network(text)
		if err != nil {
			t.Fatal(err)
		}
		s.trust = append(s.trust, p)
	}
	for peer, want := range map[string]bool{
		"192.0.2.1":           true,
		"::ffff:192.0.2.1":    true,
		"192.0.3.200":         true,
		"198.51.100.7":        true,
		"198.51.100.8":        false,
		"203.0.113.1":         true,
		"2001:db8:1:2::3":     true,
		"2001:db8:2::3":       false,
		"2001:db8:1::1%eth0":  true,
		"127.0.0.1":           false,
		"::1":                 false,
		"":                    false,
		"localhost":           false,
		"192.0.2.1, 10.0.0.1": false,
	} {
		if s.trusts(peer) != want {
			t.Errorf("%q: %v", peer, !want)
		}
	}
	for _, text := range []string{"", "everybody", "192.0.2.0/33", "192.0.2", "::ffff:192.0.2.0/120", "0x7f.1"} {
		if p, err := network(text); err == nil {
			t.Errorf("%q: %v", text, p)
		}
	}
	if all, err := network("0.0.0.0/0"); err != nil || !all.Contains(netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("all: %v, %v", all, err)
	}
}

// Trouble of ours is never the sender's fault, and of what has no words of its
// own the client hears nothing.
func TestAnswer(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{account.ErrUnknown, 550},
		{fmt.Errorf("bob: %w", account.ErrLoop), 550},
		{account.ErrSyntax, 553},
		{&delivery.Refusal{Code: 554, Status: "5.4.6", Text: "mail loop"}, 554},
		{fmt.Errorf("deliver: %w", syscall.ENOSPC), 452},
		{fmt.Errorf("deliver: %w", syscall.EDQUOT), 452},
	} {
		got, ok := errors.AsType[*smtp.Error](answer(test.err))
		if !ok || got.Code != test.code || got.Status[0] != byte('0'+test.code/100) {
			t.Errorf("%v: %v", test.err, got)
		}
	}
	for _, err := range []error{nil, syscall.EIO, syscall.EMFILE, errors.New("trouble")} {
		if got := answer(err); got != err {
			t.Errorf("%v: %v", err, got)
		}
	}
}
