package cri

import (
	"net/netip"
	"testing"
)

func TestAddressesAreUsedAgainLate(t *testing.T) {
	n := &network{gateway: netip.MustParsePrefix("10.88.0.1/16"), next: netip.MustParseAddr("10.88.0.1")}
	first, err := n.take()
	if err != nil || first != netip.MustParseAddr("10.88.0.2") {
		t.Fatalf("take() = %v, %v, want 10.88.0.2", first, err)
	}
	n.release(first)
	for i := range quarantine - 1 {
		a, err := n.take()
		if err != nil || a == first {
			t.Fatalf("take() number %d = %v, %v: a freed address rests until %d are free", i+2, a, err, quarantine)
		}
		n.release(a)
	}
	if a, err := n.take(); err != nil || a != first {
		t.Errorf("take() = %v, %v, want the address that has rested longest, %v", a, err, first)
	}
}

func TestAddressesEnd(t *testing.T) {
	n := &network{gateway: netip.MustParsePrefix("10.0.0.1/29"), next: netip.MustParseAddr("10.0.0.1")}
	for want := netip.MustParseAddr("10.0.0.2"); want != netip.MustParseAddr("10.0.0.7"); want = want.Next() {
		if got, err := n.take(); err != nil || got != want {
			t.Fatalf("take() = %v, %v, want %v", got, err, want)
		}
	}
	if got, err := n.take(); err == nil {
		t.Errorf("take() = %v, want an error: .7 is the broadcast address", got)
	}
}

// TestAddressesComeInPairs: whoever knows one knows the other.
func TestAddressesComeInPairs(t *testing.T) {
	n := &network{gateway6: netip.MustParsePrefix("fd00:10:88::1/64")}
	if got, want := n.sixth(netip.MustParseAddr("10.88.1.2")), netip.MustParseAddr("fd00:10:88::a58:102"); got != want {
		t.Errorf("sixth(10.88.1.2) = %v, want %v", got, want)
	}
}

func TestImageNames(t *testing.T) {
	for ref, want := range map[string]string{
		"testapp": "testapp", "local/testapp:test": "testapp", "gcr.io:443/a/b/queue@sha256:00": "queue", "ghcr.io/rousehq/activator:v1@sha256:00": "activator",
	} {
		if got := imageName(ref); got != want {
			t.Errorf("imageName(%q) = %q, want %q", ref, got, want)
		}
	}
}
