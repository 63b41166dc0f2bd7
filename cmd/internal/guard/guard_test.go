package guard_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pennypost/cmd/internal/guard"
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
