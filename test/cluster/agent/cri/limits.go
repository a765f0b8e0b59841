package cri

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// limits keeps containers' cgroups, of version 2, or of version 1 where a machine still has its controllers there. A nil *limits enforces
// nothing.
type limits struct {
	unified bool
	parents []string // one directory per hierarchy
}

const cgroupRoot = "/sys/fs/cgroup"

// newLimits makes the parent cgroup, or says why it cannot.
func newLimits(name string) (*limits, error) {
	l := &limits{}
	if controllers, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		l.unified, l.parents = true, []string{filepath.Join(cgroupRoot, name)}
		for _, c := range []string{"cpu", "memory"} {
			if !strings.Contains(string(controllers), c) {
				return nil, fmt.Errorf("%s has no controller %s", cgroupRoot, c)
			}
		}
		if err := delegate(cgroupRoot); err != nil {
			return nil, err
		}
	} else {
		l.parents = []string{filepath.Join(cgroupRoot, "memory", name), filepath.Join(cgroupRoot, "cpu", name)}
	}
	for _, dir := range l.parents {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	if l.unified {
		return l, delegate(l.parents[0])
	}
	return l, nil
}

// delegate lets a version 2 cgroup's children have limits.
func delegate(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory"), 0); err != nil {
		return fmt.Errorf("cgroup: delegate cpu and memory: %w", err)
	}
	return nil
}

// create makes a container's cgroups and returns what its first process has to join.
func (l *limits) create(id string, res *runtimeapi.LinuxContainerResources) ([]string, error) {
	if l == nil {
		return nil, nil
	}
	var dirs []string
	for _, parent := range l.parents {
		dir := filepath.Join(parent, id)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		dirs = append(dirs, dir)
	}
	return dirs, l.set(id, res)
}

// set writes the limits; 0 means none.
func (l *limits) set(id string, res *runtimeapi.LinuxContainerResources) error {
	if l == nil || res == nil {
		return nil
	}
	quota, period, memory := res.GetCpuQuota(), res.GetCpuPeriod(), res.GetMemoryLimitInBytes()
	if l.unified {
		return errors.Join(
			l.write(id, "cpu.max", limit(quota, "max")+" "+strconv.FormatInt(max(period, 1000), 10)),
			l.write(id, "memory.max", limit(memory, "max")))
	}
	errs := []error{l.write(id, "memory.limit_in_bytes", limit(memory, "-1"))}
	if period > 0 {
		errs = append(errs, l.write(id, "cpu.cfs_period_us", strconv.FormatInt(period, 10)))
	}
	return errors.Join(append(errs, l.write(id, "cpu.cfs_quota_us", limit(quota, "-1")))...)
}

func limit(v int64, none string) string {
	if v <= 0 {
		return none
	}
	return strconv.FormatInt(v, 10)
}

func (l *limits) write(id, file, value string) error {
	return os.WriteFile(l.file(id, file), []byte(value), 0)
}

// file finds a container's file by its controller's name.
func (l *limits) file(id, name string) string {
	parent := l.parents[0]
	if !l.unified && strings.HasPrefix(name, "cpu") {
		parent = l.parents[1]
	}
	return filepath.Join(parent, id, name)
}

// killed reports whether the kernel killed a process of the container for its memory.
func (l *limits) killed(id string) bool {
	if l == nil {
		return false
	}
	name := "memory.oom_control"
	if l.unified {
		name = "memory.events"
	}
	return l.counter(id, name, "oom_kill") > 0
}

// usage returns a container's CPU time in nanoseconds and its memory in bytes.
func (l *limits) usage(id string) (cpu, memory uint64) {
	switch {
	case l == nil:
		return 0, 0
	case l.unified:
		return l.counter(id, "cpu.stat", "usage_usec") * 1000, l.value(id, "memory.current")
	default:
		return l.value(id, "cpuacct.usage"), l.value(id, "memory.usage_in_bytes")
	}
}

func (l *limits) value(id, file string) uint64 {
	b, err := os.ReadFile(l.file(id, file))
	if err != nil {
		return 0
	}
	v, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // "max" counts as 0
	return v
}

func (l *limits) counter(id, file, key string) uint64 {
	b, err := os.ReadFile(l.file(id, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == key {
			n, _ := strconv.ParseUint(v, 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}

// remove takes a container's cgroups away once it is empty.
func (l *limits) remove(id string) error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, parent := range l.parents {
		if err := os.Remove(filepath.Join(parent, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
