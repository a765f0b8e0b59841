package cri

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ContainerStats tells what a container uses, as far as there are cgroups.
func (r *Runtime) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	c, err := r.find(id)
	if err != nil {
		return nil, err
	}
	return r.stats(c), nil
}

func (r *Runtime) stats(c *container) *runtimeapi.ContainerStats {
	now := time.Now().UnixNano()
	cpu, memory := r.limits.usage(c.id)
	return &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{Id: c.id, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations()},
		Cpu:        &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: cpu}},
		Memory:     &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: &runtimeapi.UInt64Value{Value: memory}},
	}
}

// ListContainerStats lists the running containers'.
func (r *Runtime) ListContainerStats(_ context.Context, f *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	r.mu.Lock()
	var running []*container
	for _, c := range r.ctrs {
		if c.state == runtimeapi.ContainerState_CONTAINER_RUNNING && matches(f.GetId(), c.id) && matches(f.GetPodSandboxId(), c.pod.id) &&
			matchesLabels(f.GetLabelSelector(), c.config.GetLabels()) {
			running = append(running, c)
		}
	}
	r.mu.Unlock()
	list := make([]*runtimeapi.ContainerStats, 0, len(running))
	for _, c := range running {
		list = append(list, r.stats(c))
	}
	return list, nil
}

var errNoPodStats = status.Error(codes.Unimplemented, "statistics are the containers'; leave the PodAndContainerStatsFromCRI feature off")

// PodSandboxStats is not supported.
func (r *Runtime) PodSandboxStats(context.Context, string) (*runtimeapi.PodSandboxStats, error) {
	return nil, errNoPodStats
}

// ListPodSandboxStats is not supported.
func (r *Runtime) ListPodSandboxStats(context.Context, *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	return nil, errNoPodStats
}

// ListMetricDescriptors is not supported.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, errNoPodStats
}

// ListPodSandboxMetrics is not supported.
func (r *Runtime) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, errNoPodStats
}
