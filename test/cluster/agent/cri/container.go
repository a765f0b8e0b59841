package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rousehq/rouse/test/cluster/agent/process"
)

// container is one life of a container: kubelet makes a new one for every restart.
type container struct {
	id      string
	pod     *pod
	config  *runtimeapi.ContainerConfig
	created time.Time
	log     *logFile
	exited  chan struct{} // closed when the process and all that it started are gone

	// Guarded by Runtime.mu.
	state             runtimeapi.ContainerState
	pid               int
	started, finished time.Time
	code              int32
	reason, message   string
}

// name is what people know a container by.
func (c *container) name() string {
	return c.pod.config.GetMetadata().GetNamespace() + "/" + c.pod.config.GetMetadata().GetName() + "/" + c.config.GetMetadata().GetName()
}

// CreateContainer checks what StartContainer will need.
func (r *Runtime) CreateContainer(_ context.Context, podID string, config *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, known := r.pods[podID]
	if !known || p.stopped {
		return "", status.Errorf(codes.NotFound, "pod sandbox %s is gone", podID)
	}
	c := &container{
		id: newID(), pod: p, config: config, created: time.Now(), exited: make(chan struct{}),
		state: runtimeapi.ContainerState_CONTAINER_CREATED,
		log:   &logFile{path: filepath.Join(p.config.GetLogDirectory(), config.GetLogPath())},
	}
	if err := os.MkdirAll(c.root(r), 0o755); err != nil {
		return "", err
	}
	r.ctrs[c.id] = c
	return c.id, nil
}

func (c *container) root(r *Runtime) string { return filepath.Join(c.pod.dir(r), c.id) }

// find returns a container by its ID, or kubelet's idea of "not found".
func (r *Runtime) find(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, known := r.ctrs[id]; known {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "container %s is not known", id)
}

// StartContainer returns when the program runs.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	spec, err := r.spec(c)
	if err != nil {
		return err
	}
	if c.config.GetLogPath() == "" {
		return fmt.Errorf("container %s has no log path", c.name())
	}
	return r.launch(c, spec)
}

// spec translates kubelet's configuration for the shim.
func (r *Runtime) spec(c *container) (*process.Spec, error) {
	program, err := r.program(c.config.GetImage().GetUserSpecifiedImage())
	if err != nil {
		return nil, err
	}
	s := &process.Spec{Root: c.root(r), Dir: c.config.GetWorkingDir(), Resolv: c.pod.resolv(), Env: c.env()}
	if !c.pod.onNode() {
		s.Netns, s.Hostname = c.pod.net.path(), c.pod.config.GetHostname()
	}
	for _, m := range c.config.GetMounts() {
		s.Mounts = append(s.Mounts, process.Mount{Source: m.GetHostPath(), Target: m.GetContainerPath(), ReadOnly: m.GetReadonly()})
	}
	entry := c.config.GetCommand()
	if program != "" {
		inside := filepath.Join(imageDir, filepath.Base(program))
		s.Mounts = append(s.Mounts, process.Mount{Source: program, Target: inside, ReadOnly: true})
		if len(entry) == 0 {
			entry = []string{inside}
		}
	}
	// Parents before what is mounted into them.
	slices.SortStableFunc(s.Mounts, func(a, b process.Mount) int { return cmp.Compare(a.Target, b.Target) })
	if s.Args = slices.Concat(entry, c.config.GetArgs()); len(s.Args) == 0 {
		return nil, fmt.Errorf("container %s: image %q has no program, and there is no command", c.name(), hostImage)
	}
	if s.UID, s.GID, err = c.user(); err != nil {
		return nil, err
	}
	s.Cgroups, err = r.limits.create(c.id, c.config.GetLinux().GetResources())
	return s, err
}

func (c *container) env() []string {
	vars := map[string]string{
		"PATH":     imageDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME": c.pod.config.GetHostname(),
		"HOME":     "/",
	}
	for _, kv := range c.config.GetEnvs() {
		vars[kv.GetKey()] = string(kv.GetValue())
	}
	return environment(vars)
}

func (c *container) user() (uid, gid uint32, err error) {
	sc := c.config.GetLinux().GetSecurityContext()
	if name := sc.GetRunAsUsername(); name != "" {
		return 0, 0, fmt.Errorf("container %s: user %q: images here have no names of users; give runAsUser a number", c.name(), name)
	}
	uid = imageUser
	if v := sc.GetRunAsUser(); v != nil {
		uid = uint32(v.GetValue())
	}
	gid = uid
	if v := sc.GetRunAsGroup(); v != nil {
		gid = uint32(v.GetValue())
	}
	return uid, gid, nil
}

// StopContainer asks with SIGTERM, waits for the grace period in seconds, kills, and returns when everything is gone.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace int64) error {
	c, err := r.find(id)
	if err != nil {
		return nil // already removed
	}
	r.mu.Lock()
	pid, running := c.pid, c.state == runtimeapi.ContainerState_CONTAINER_RUNNING
	if c.state == runtimeapi.ContainerState_CONTAINER_CREATED {
		c.state = runtimeapi.ContainerState_CONTAINER_EXITED
		close(c.exited)
	}
	r.mu.Unlock()
	if !running {
		return nil
	}
	if grace > 0 && c.signal(pid, c.stopSignal()) == nil && c.wait(ctx, time.Duration(grace)*time.Second) {
		return nil
	}
	if err := c.signal(pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-c.exited // the kernel has no choice
	return nil
}

func (c *container) stopSignal() syscall.Signal {
	if c.config.GetStopSignal() == runtimeapi.Signal_SIGINT {
		return syscall.SIGINT
	}
	return syscall.SIGTERM
}

// signal reports nil when the process is gone already.
func (c *container) signal(pid int, sig syscall.Signal) error {
	select {
	case <-c.exited:
		return nil
	default:
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("container %s: %v: %w", c.name(), sig, err)
	}
	return nil
}

// wait reports whether the container ended in time.
func (c *container) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.exited:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// RemoveContainer forgets a container; it kills one that still runs.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return nil
	}
	if err := r.StopContainer(ctx, id, 0); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.ctrs, id)
	r.mu.Unlock()
	// The log goes with the container, as containerd has it; kubelet keeps the newest dead container for `kubectl logs -p`.
	return errors.Join(os.RemoveAll(c.root(r)), c.log.remove(), r.limits.remove(c.id))
}

// ListContainers lists the containers that match.
func (r *Runtime) ListContainers(_ context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*runtimeapi.Container
	for _, c := range r.ctrs {
		if !matches(f.GetId(), c.id) || !matches(f.GetPodSandboxId(), c.pod.id) || !matchesLabels(f.GetLabelSelector(), c.config.GetLabels()) ||
			(f.GetState() != nil && f.GetState().State != c.state) {
			continue
		}
		list = append(list, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.pod.id, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(), ImageRef: c.config.GetImage().GetImage(),
			ImageId: c.config.GetImage().GetImage(), State: c.state, CreatedAt: c.created.UnixNano(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations()})
	}
	return list, nil
}

// ContainerStatus tells all about one container.
func (r *Runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.find(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	st := &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state, CreatedAt: c.created.UnixNano(),
		ExitCode: c.code, Reason: c.reason, Message: c.message,
		Image:    &runtimeapi.ImageSpec{Image: c.config.GetImage().GetUserSpecifiedImage()},
		ImageRef: c.config.GetImage().GetImage(), ImageId: c.config.GetImage().GetImage(),
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), Mounts: c.config.GetMounts(), LogPath: c.log.path,
	}
	if !c.started.IsZero() {
		st.StartedAt = c.started.UnixNano()
	}
	if !c.finished.IsZero() {
		st.FinishedAt = c.finished.UnixNano()
	}
	return &runtimeapi.ContainerStatusResponse{Status: st}, nil
}

// UpdateContainerResources changes the limits of a running container.
func (r *Runtime) UpdateContainerResources(_ context.Context, id string, res *runtimeapi.ContainerResources) error {
	if _, err := r.find(id); err != nil {
		return err
	}
	return r.limits.set(id, res.GetLinux())
}

// ReopenContainerLog follows kubelet's rotation.
func (r *Runtime) ReopenContainerLog(_ context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	return c.log.reopen()
}

// CheckpointContainer is not supported.
func (r *Runtime) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return status.Error(codes.Unimplemented, "checkpoints are not supported")
}

// GetContainerEvents is not supported: kubelet lists, as it does by default.
func (r *Runtime) GetContainerEvents(context.Context, chan *runtimeapi.ContainerEventResponse, func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	return status.Error(codes.Unimplemented, "events are not supported; leave the EventedPLEG feature off")
}
