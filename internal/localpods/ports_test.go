package localpods_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/rousehq/rouse/internal/localpods"
)

// squat listens on a port of its own, as a stranger to all pods, and answers there.
func squat(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler()}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

func TestTakenPortIsRetriedWithAnother(t *testing.T) {
	for _, tc := range []struct {
		name, role string
		with       func(*localpods.Runner)
	}{
		{"the program exits", "serve", nil},
		{"the program stays and a stranger answers", "mute", nil},
		{"without sock_diag the program exits", "serve", (*localpods.Runner).WithoutSockDiag},
		{"without sock_diag a stranger answers", "mute", (*localpods.Runner).WithoutSockDiag},
	} {
		t.Run(tc.name, func(t *testing.T) {
			taken := []uint16{squat(t), squat(t)}
			h := start(t, tc.role, func(s *setup) { s.with = tc.with })
			h.r.OfferPorts(taken...)
			h.apply(1)
			h.await("both ports to be given up", func() bool { return h.r.Stats().PortRetries == 2 })
			third := h.event(localpods.Starting, 3)
			if third.Port == taken[0] || third.Port == taken[1] {
				t.Errorf("third try has port %d of %v", third.Port, taken)
			}
			if tc.role == "serve" {
				if e := h.event(localpods.Ready, 1); e.Port != third.Port {
					t.Errorf("ready on port %d, want %d", e.Port, third.Port)
				}
			}
			for _, e := range h.all(localpods.Ready) {
				if e.Port == taken[0] || e.Port == taken[1] {
					t.Errorf("pod was ready on a stranger's port %d", e.Port)
				}
			}
			if n := len(h.all(localpods.Exited)); n != 0 {
				t.Errorf("%d Exited events, want none: a taken port is nobody's crash", n)
			}
		})
	}
}
