package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/queueproxy"
)

// sidecars puts queue-proxy handlers in front of local pods.
type sidecars struct {
	stats queueproxy.StatSink
}

// StartInProcess implements localpods.InProcessSidecar.
func (s *sidecars) StartInProcess(pod localpods.SidecarPod) (netip.AddrPort, func(context.Context) error, error) {
	sidecar, err := queueproxy.NewSidecar(sidecarConfig(pod), queueproxy.Deps{Stats: s.stats})
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	rev := pod.Spec.Revision
	telemetry, err := queueproxy.NewTelemetry(prometheus.NewRegistry(), queueproxy.Labels{
		Namespace: rev.Namespace, Service: pod.Spec.Service, Configuration: pod.Spec.Configuration, Revision: rev.Name, Pod: pod.UID,
	}, sidecar.Proxy())
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	sidecar.Proxy().Observe(telemetry)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, nil, fmt.Errorf("queue-proxy of %s: %w", pod.UID, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sidecar.Run(ctx, ln) }()
	stop := func(grace context.Context) error {
		err := sidecar.Stop(grace)
		cancel()
		return errors.Join(err, <-done)
	}
	return ln.Addr().(*net.TCPAddr).AddrPort(), stop, nil
}

// sidecarConfig makes the same proxy as the real binary makes of its environment. The drain has no minimum: the
// activator of this process is told at once.
func sidecarConfig(pod localpods.SidecarPod) queueproxy.SidecarConfig {
	s := pod.Spec
	return queueproxy.SidecarConfig{
		Proxy: queueproxy.Config{
			Revision: s.Revision, Pod: pod.UID, App: pod.App,
			ContainerConcurrency: s.ContainerConcurrency,
			Timeouts:             forward.Timeouts{Total: s.Timeout, FirstByte: s.ResponseStartTimeout, Idle: s.IdleTimeout},
		},
		Protocol: s.Protocol,
		Drain:    queueproxy.NoDrainDelay(s.Timeout + time.Minute),
	}
}

// findSidecar returns the queue-proxy binary of --sidecars=process.
func findSidecar(o *Options) (string, error) {
	if o.Sidecar != "" {
		return o.Sidecar, nil
	}
	beside := filepath.Join(filepath.Dir(o.Self), "queueproxy")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath("queueproxy")
	if err != nil {
		return "", errors.New("--sidecars=process: no queueproxy binary beside this program or in PATH: build one with `go build -o bin/ ./cmd/queueproxy` and name it with --sidecar PATH")
	}
	return path, nil
}
