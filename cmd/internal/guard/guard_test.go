package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/cmd/internal/account"
	"pennypost/cmd/internal/guard"
	"pennypost/proto/sasl"
)

// try fails to log in n times and says how long that took.
func try(t *testing.T, g *guard.Guard, peer string, n int) time.Duration {
	t.Helper()
	start := time.Now()
	for range n {
		if err := g.Wait(t.Context(), peer); err != nil {
			t.Fatal(err)
		}
		g.Failed(peer)
	}
	return time.Since(start)
}

func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(guard.Guard)
		if d := try(t, g, "192.0.2.1", 10); d != 0 {
			t.Errorf("ten guesses took %v", d)
		}
		if d := try(t, g, "192.0.2.1", 200); d < 15*time.Minute {
			t.Errorf("200 more took only %v", d)
		}
		if d := try(t, g, "192.0.2.2", 1); d != 0 {
			t.Errorf("somebody else waits %v", d)
		}
		start := time.Now()
		if err := g.Wait(t.Context(), "192.0.2.1"); err != nil || time.Since(start) > 30*time.Second {
			t.Errorf("waits %v, %v", time.Since(start), err)
		}
		time.Sleep(time.Hour)
		start = time.Now()
		if err := g.Wait(t.Context(), "192.0.2.1"); err != nil || time.Since(start) > 0 {
			t.Errorf("an hour later still waits %v, %v", time.Since(start), err)
		}
	})
}

// A client that has a network to itself is one client.
func TestNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(guard.Guard)
		for i := range 40 {
			try(t, g, fmt.Sprintf("2001:db8::%x", i), 1)
		}
		start := time.Now()
		if g.Wait(t.Context(), "2001:db8::ffff"); time.Since(start) == 0 {
			t.Error("a new address of the network does not wait")
		}
		start = time.Now()
		if g.Wait(t.Context(), "2001:db8:0:1::1"); time.Since(start) != 0 {
			t.Error("the network beside it waits")
		}
	})
}

func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(guard.Guard)
		try(t, g, "", 100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := g.Wait(ctx, ""); err == nil || time.Since(start) > time.Second {
			t.Errorf("waits %v, %v", time.Since(start), err)
		}
	})
}

// Many attackers do not fill the memory.
func TestManyPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(guard.Guard)
		for i := range 30_000 {
			g.Failed(fmt.Sprintf("10.%d.%d.1", i/256, i%256))
		}
		if n := g.Len(); n > 10_000 {
			t.Errorf("remembers %d addresses", n)
		}
	})
}

// What counts as one address.
func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":        "192.0.2.1",
		"2001:db8:1:2::7":  "2001:db8:1:2::",
		"2001:db8:1:2:3::": "2001:db8:1:2::",
	} {
		if got := guard.Network(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}

// office is one in which bob's password is hungry.
func office(t *testing.T) *account.Office {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "domains/hamburger.edu"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "domains/hamburger.edu/users"), []byte("bob:{PLAIN}hungry\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := account.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A user logs in so many times in a minute from an address, then waits; others do not.
func TestLoginsInATime(t *testing.T) {
	o := office(t)
	synctest.Test(t, func(t *testing.T) {
		d := guard.Door{Guard: &guard.Guard{MaxLogins: 60}, Office: o, Peer: "192.0.2.1"}
		in := func(d guard.Door, n int) time.Duration {
			start := time.Now()
			for range n {
				if u, err := d.Login(t.Context(), sasl.Claim{Mechanism: "PLAIN", Name: "bob", Secret: "hungry"}); err != nil || u.Name != "bob" {
					t.Fatal(u, err)
				}
			}
			return time.Since(start)
		}
		if took := in(d, 60); took != 0 {
			t.Errorf("60 took %v", took)
		}
		if took := in(d, 30); took < 29*time.Second || took > 31*time.Second {
			t.Errorf("30 more took %v", took)
		}
		d.Peer = "192.0.2.2"
		if took := in(d, 60); took != 0 {
			t.Errorf("elsewhere they took %v", took)
		}
		d.Guard.MaxLogins = 0
		if took := in(d, 1000); took != 0 {
			t.Errorf("without bound they took %v", took)
		}
	})
}

// What is proved, what is refused, and as whom somebody wants to act.
func TestClaims(t *testing.T) {
	d := guard.Door{Guard: new(guard.Guard), Office: office(t), Peer: "192.0.2.1"}
	for _, test := range []struct {
		claim sasl.Claim
		want  error
	}{
		{sasl.Claim{Mechanism: "PLAIN", Name: "bob", Secret: "hungry", Authzid: "BOB@hamburger.edu"}, nil},
		{sasl.Claim{Mechanism: "PLAIN", Name: "bob", Secret: "hungry", Authzid: "alice"}, sasl.ErrAuthzid},
		{sasl.Claim{Mechanism: "PLAIN", Name: "bob", Secret: "wrong", Authzid: "alice"}, sasl.ErrRefused},
		{sasl.Claim{Mechanism: "SCRAM-SHA-256", Name: "bob", Proved: true}, nil},
		{sasl.Claim{Mechanism: "SCRAM-SHA-256", Name: "bob"}, sasl.ErrRefused},
		{sasl.Claim{Mechanism: "SCRAM-SHA-256", Name: "bob", Secret: "hungry"}, sasl.ErrRefused},
		{sasl.Claim{Mechanism: "EXTERNAL", Name: "bob", Proved: true}, nil},
		{sasl.Claim{Mechanism: "EXTERNAL", Name: "eve", Proved: true}, sasl.ErrRefused},
		{sasl.Claim{Mechanism: "OAUTHBEARER", Name: "bob", Secret: "hungry"}, sasl.ErrRefused},
	} {
		if _, err := d.Login(t.Context(), test.claim); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v, want %v", test.claim, err, test.want)
		}
	}
	o := d.Options(t.Context())
	if _, err := o.Verifier("bob"); err != nil || o.Tokens {
		t.Errorf("%+v, %v", o, err)
	}
}

// Processes that serve one client each count together.
func TestShared(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for range 10 {
			if d := try(t, &guard.Guard{Dir: dir}, "2001:db8::1", 1); d != 0 {
				t.Errorf("one of ten guesses took %v", d)
			}
		}
		if d := try(t, &guard.Guard{Dir: dir}, "2001:db8::2", 1); d < time.Second {
			t.Errorf("the eleventh guess took %v", d)
		}
		if d := try(t, &guard.Guard{Dir: dir}, "192.0.2.1", 1); d != 0 {
			t.Errorf("somebody else waits %v", d)
		}
		time.Sleep(2 * time.Minute)
		if d := try(t, &guard.Guard{Dir: dir}, "2001:db8::1", 1); d != 0 {
			t.Errorf("later still waits %v", d)
		}
		for _, text := range []string{"", "short", "\xff\xff\xff\xff\xff\xff\xff\xffxxxxxxxx", "\x00\x00\x00\x00\x00\x00\xf0\x7fxxxxxxxx"} {
			if err := os.WriteFile(filepath.Join(dir, "192.0.2.7"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if d := try(t, &guard.Guard{Dir: dir}, "192.0.2.7", 1); d != 0 {
				t.Errorf("%q: waits %v", text, d)
			}
		}
		if d := try(t, &guard.Guard{Dir: filepath.Join(dir, "none")}, "192.0.2.9", 20); d == 0 {
			t.Error("without a directory nobody waits")
		}
	})
}

// Files that tell nothing any more go.
func TestSharedIsCleaned(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "192.0.2.1"), filepath.Join(dir, "192.0.2.2")
	g := &guard.Guard{Dir: dir}
	g.Failed("192.0.2.1")
	g.Failed("192.0.2.2")
	before := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{old, filepath.Join(dir, "cleaned")} {
		if err := os.Chtimes(name, before, before); err != nil {
			t.Fatal(err)
		}
	}
	g.Failed("192.0.2.3")
	if _, err := os.Stat(old); err == nil {
		t.Error("an old one is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("a young one:", err)
	}
}
