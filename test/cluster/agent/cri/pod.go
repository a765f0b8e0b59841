package cri

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is a sandbox in the interface's words.
type pod struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	created time.Time
	net     attachment // without a name: the node's own network

	stopped bool // guarded by Runtime.mu
}

// newID is the first free name; short enough to read, long enough not to repeat.
func newID() string { return strings.ToLower(rand.Text())[:20] }

func (p *pod) onNode() bool {
	return p.config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

func (p *pod) dir(r *Runtime) string { return filepath.Join(r.cfg.State, p.id) }

// RunPodSandbox gives a pod its network.
func (r *Runtime) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	if config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() == runtimeapi.NamespaceMode_POD {
		return "", errors.New("shareProcessNamespace: every container here has process 1 of its own; leave the field out")
	}
	p := &pod{id: newID(), config: config, created: time.Now()}
	if err := os.MkdirAll(p.dir(r), 0o755); err != nil {
		return "", err
	}
	if dir := config.GetLogDirectory(); dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	if !p.onNode() {
		at, err := r.network.attach("pod-" + p.id)
		if err != nil {
			return "", fmt.Errorf("pod %s/%s: %w", config.GetMetadata().GetNamespace(), config.GetMetadata().GetName(), err)
		}
		p.net = at
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[p.id] = p
	return p.id, nil
}

// StopPodSandbox kills what still runs and takes the network away. It may be called again.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	r.mu.Lock()
	p, known := r.pods[id]
	stop := known && !p.stopped
	if stop {
		p.stopped = true
	}
	ctrs := r.ofPod(id)
	r.mu.Unlock()
	if !stop {
		return nil
	}
	var errs []error
	for _, c := range ctrs {
		errs = append(errs, r.StopContainer(ctx, c.id, 0))
	}
	if !p.onNode() {
		errs = append(errs, r.network.detach(p.net))
	}
	return errors.Join(errs...)
}

// RemovePodSandbox forgets a pod and its containers. It may be called again.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	errs := []error{r.StopPodSandbox(ctx, id)}
	r.mu.Lock()
	p, known := r.pods[id]
	ctrs := r.ofPod(id)
	r.mu.Unlock()
	if !known {
		return nil
	}
	for _, c := range ctrs {
		errs = append(errs, r.RemoveContainer(ctx, c.id))
	}
	r.mu.Lock()
	delete(r.pods, id)
	r.mu.Unlock()
	return errors.Join(append(errs, os.RemoveAll(p.dir(r)))...)
}

// ofPod lists a pod's containers. Callers hold r.mu.
func (r *Runtime) ofPod(id string) (found []*container) {
	for _, c := range r.ctrs {
		if c.pod.id == id {
			found = append(found, c)
		}
	}
	return found
}

// PodSandboxStatus says where a pod is and whether it may still start containers.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, known := r.pods[id]
	if !known {
		return nil, status.Errorf(codes.NotFound, "pod sandbox %s is not known", id)
	}
	st := &runtimeapi.PodSandboxStatus{
		Id: p.id, Metadata: p.config.GetMetadata(), State: p.state(), CreatedAt: p.created.UnixNano(),
		Labels: p.config.GetLabels(), Annotations: p.config.GetAnnotations(),
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: p.config.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
	}
	if !p.onNode() {
		st.Network = &runtimeapi.PodSandboxNetworkStatus{Ip: p.net.addr.String(), AdditionalIps: []*runtimeapi.PodIP{{Ip: p.net.addr6.String()}}}
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: st}, nil
}

// state needs Runtime.mu.
func (p *pod) state() runtimeapi.PodSandboxState {
	if p.stopped {
		return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	}
	return runtimeapi.PodSandboxState_SANDBOX_READY
}

// ListPodSandbox lists the pods that match.
func (r *Runtime) ListPodSandbox(_ context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*runtimeapi.PodSandbox
	for _, p := range r.pods {
		if !matches(f.GetId(), p.id) || !matchesLabels(f.GetLabelSelector(), p.config.GetLabels()) || (f.GetState() != nil && f.GetState().State != p.state()) {
			continue
		}
		list = append(list, &runtimeapi.PodSandbox{Id: p.id, Metadata: p.config.GetMetadata(), State: p.state(), CreatedAt: p.created.UnixNano(),
			Labels: p.config.GetLabels(), Annotations: p.config.GetAnnotations()})
	}
	return list, nil
}

// matches reports whether a filter's ID, possibly shortened or empty, means id.
func matches(want, id string) bool { return strings.HasPrefix(id, want) }

func matchesLabels(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// UpdatePodSandboxResources has nothing to do: limits are the containers'.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// resolv renders what kubelet wants in /etc/resolv.conf.
func (p *pod) resolv() string {
	dns := p.config.GetDnsConfig()
	if dns == nil {
		return ""
	}
	var b strings.Builder
	for _, s := range dns.GetServers() {
		fmt.Fprintln(&b, "nameserver", s)
	}
	if s := dns.GetSearches(); len(s) > 0 {
		fmt.Fprintln(&b, "search", strings.Join(s, " "))
	}
	if o := dns.GetOptions(); len(o) > 0 {
		fmt.Fprintln(&b, "options", strings.Join(o, " "))
	}
	return b.String()
}

// environment puts name=value pairs in a fixed order.
func environment(vars map[string]string) []string {
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out
}
