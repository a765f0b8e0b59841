package up

import (
	"context"
	"fmt"
	"net"

	"github.com/rousehq/rouse/control/keda"
)

// scaler is the listener of --keda. A nil one does nothing.
type scaler struct {
	address string
	server  *keda.Server
	bound   chan net.Addr // gets the address once it is listened on
}

func (s *stack) buildScaler() error {
	if s.o.Keda == "" {
		return nil
	}
	server, err := keda.New(keda.Config{}, s.loop)
	if err != nil {
		return err
	}
	s.scaler = &scaler{address: s.o.Keda, server: server, bound: make(chan net.Addr, 1)}
	return nil
}

// run answers KEDA until ctx ends.
func (k *scaler) run(ctx context.Context) error {
	if k == nil {
		return nil
	}
	ln, err := net.Listen("tcp", k.address)
	if err != nil {
		return fmt.Errorf("--keda: %w", err)
	}
	k.bound <- ln.Addr()
	return k.server.Serve(ctx, ln)
}
