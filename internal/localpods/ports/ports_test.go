package ports

import (
	"errors"
	"net"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPool(t *testing.T) {
	p := New()
	seen := make(map[uint16]bool)
	for range 50 {
		port, err := p.Take()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("Take() gave %d twice", port)
		}
		seen[port] = true
	}
	full := &Pool{held: map[uint16]struct{}{}, lo: 100, n: 2, Probe: func(port int) (uint16, error) { return uint16(port), nil }}
	for _, want := range []uint16{100, 101} {
		if got, err := full.Take(); got != want || err != nil {
			t.Errorf("Take() = %d, %v, want %d", got, err, want)
		}
	}
	full.Release(100)
	if got, err := full.Take(); got != 100 || err != nil {
		t.Errorf("Take() after release = %d, %v, want 100", got, err)
	}
}

func TestTakenPortsAreSkipped(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := probe(n); err == nil {
			t.Errorf("probe(%d) = %d, want an error: %s listens", n, got, ln.Addr())
		}
	}
	busy := &Pool{held: map[uint16]struct{}{}, lo: 100, n: 2, Probe: func(int) (uint16, error) { return 0, net.ErrClosed }}
	if got, err := busy.Take(); !errors.Is(err, errNone) {
		t.Errorf("Take() of a full machine = %d, %v, want errNone", got, err)
	}
	low := &Pool{held: map[uint16]struct{}{}, Probe: probe}
	if got, err := low.Take(); got == 0 || err != nil {
		t.Errorf("Take() without a range of our own = %d, %v, want what the kernel gives", got, err)
	}
}
