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
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/usage"
	"github.com/rousehq/rouse/queueproxy"
)

// sidecars puts queue-proxy handlers in front of local pods.
type sidecars struct {
	stats queueproxy.StatSink
	// aims says whether a revision aims at a metric: what nobody looks at is not measured.
	aims  func(identity.Revision, kpa.Metric) bool
	table usage.Table
}

// StartInProcess implements localpods.InProcessSidecar.
func (s *sidecars) StartInProcess(pod localpods.SidecarPod) (netip.AddrPort, func(context.Context) error, error) {
	sidecar, err := queueproxy.NewSidecar(sidecarConfig(pod), queueproxy.Deps{Stats: s.stats, Usage: s.usage(pod)})
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

// podUsage measures a pod's processes while its revision aims at CPU or memory.
type podUsage struct {
	meter  *usage.Meter
	wanted func() bool
}

func (s *sidecars) usage(pod localpods.SidecarPod) podUsage {
	rev := pod.Spec.Revision
	return podUsage{
		meter:  usage.NewMeter(s.table.Tree(pod.PID)),
		wanted: func() bool { return s.aims(rev, kpa.CPU) || s.aims(rev, kpa.Memory) },
	}
}

// Measure implements queueproxy.Usage.
func (u podUsage) Measure(now time.Time) (cores, bytes float64) {
	if !u.wanted() {
		return 0, 0
	}
	return u.meter.Measure(now)
}

// measured says whether a revision aims at CPU or memory from its start.
func measured(rev *config.Revision) bool {
	return slices.ContainsFunc(rev.Policy().Targets, func(t kpa.Target) bool { return t.Metric == kpa.CPU || t.Metric == kpa.Memory })
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
