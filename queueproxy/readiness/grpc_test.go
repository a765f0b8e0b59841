package readiness

import (
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// TestGRPCProbeOfARealServer asks gRPC's own server, so that our reading of the protocol is not only checked by itself.
func TestGRPCProbeOfARealServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, states := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, states)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	defer func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	states.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	states.SetServingStatus("stock", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	for service, want := range map[string]bool{"": true, "shop": true, "stock": false, "unknown": false} {
		p := New(Config{Probes: []Probe{{Kind: GRPC, Address: ln.Addr().String(), Service: service, Timeout: 10 * time.Second}}})
		if got := p.Ready(t.Context()); got != want {
			t.Errorf("Ready of service %q = %t, want %t", service, got, want)
		}
	}
}
