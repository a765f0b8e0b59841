package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Config is what the runtime needs to know of its node.
type Config struct {
	Images   string       // directory of binaries that serve as images
	Shim     string       // path of cmd/container, built
	State    string       // directory for containers' roots; made when missing
	Bridge   string       // the node's bridge, up and with Gateway and Gateway6 as its addresses
	Gateway  netip.Prefix // the bridge's IPv4 address with the length of the pods' network
	Gateway6 netip.Prefix // the same in IPv6; the last 32 bits of the network are the pods'
	Cgroup   string       // name of the parent cgroup of all containers
	Log      *slog.Logger
}

// Runtime implements kubelet's runtime and image services.
type Runtime struct {
	cfg     Config
	network *network
	limits  *limits // nil: cgroups cannot be written
	streams streaming.Server

	mu   sync.Mutex // guards what follows, and the fields of pods and containers that their comments name
	pods map[string]*pod
	ctrs map[string]*container
	done sync.WaitGroup // goroutines of running containers
}

var (
	_ internalapi.RuntimeService      = (*Runtime)(nil)
	_ internalapi.ImageManagerService = (*Runtime)(nil)
)

// New returns a runtime without pods. It leaves a running one's state alone: one runtime per State.
func New(cfg Config) (*Runtime, error) {
	if err := os.MkdirAll(cfg.State, 0o755); err != nil {
		return nil, fmt.Errorf("runtime: state: %w", err)
	}
	n, err := newNetwork(cfg.Bridge, cfg.Gateway, cfg.Gateway6)
	if err != nil {
		return nil, fmt.Errorf("runtime: network: %w", err)
	}
	r := &Runtime{cfg: cfg, network: n, pods: make(map[string]*pod), ctrs: make(map[string]*container)}
	if r.limits, err = newLimits(cfg.Cgroup); err != nil {
		cfg.Log.Warn("limits of CPU and memory are not enforced", "why", err)
	}
	return r, r.serveStreams()
}

// Close kills every container and waits until they are gone.
func (r *Runtime) Close(context.Context) error {
	r.mu.Lock()
	ids := make([]string, 0, len(r.pods))
	for id := range r.pods {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, r.RemovePodSandbox(context.Background(), id))
	}
	errs = append(errs, r.streams.Stop())
	r.done.Wait()
	return errors.Join(errs...)
}

// Version names the runtime.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "process", RuntimeVersion: "1", RuntimeApiVersion: "v1"}, nil
}

// Status reports ready: there is no daemon that could be away.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// RuntimeConfig says that cgroups are plain directories, not systemd's.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig takes note of nothing: addresses come from the runtime's own network, not from the node's podCIDR.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }
