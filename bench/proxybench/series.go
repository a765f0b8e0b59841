//go:build linux

package proxybench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/bench/cpuclock"
	"github.com/rousehq/rouse/bench/load"
	"github.com/rousehq/rouse/internal/localpods/procfs"
)

// seriesManifest is one pod behind an activator process, with the limit and the timeouts of the other contenders.
const seriesManifest = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: bench, namespace: example}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/min-scale: "1", autoscaling.knative.dev/max-scale: "1"}
    spec:
      containerConcurrency: %d
      timeoutSeconds: 300
      containers:
        - image: backend
          command: [%q, "-listen", "127.0.0.1:$(PORT)"]
`

// makeSeries is the way of a request through both of our proxies: activator, queue-proxy, application, each a process
// of its own under `rouse up`. What counts is the CPU of the two proxies together.
func makeSeries(ctx context.Context, b *builder, limit int) (contender, error) {
	rouse, err := b.program(ctx)
	if err != nil {
		return contender{}, err
	}
	sidecar, err := b.ours(ctx, "cmd/queueproxy")
	if err != nil {
		return contender{}, err
	}
	app, err := b.ours(ctx, "bench/cmd/backend")
	if err != nil {
		return contender{}, err
	}
	c := contender{Name: "series", Version: "activator and queue-proxy, source tree, " + runtime.Version(), proxies: seriesProxies}
	return withBinary(c, rouse, func(at place) (command, error) {
		file := filepath.Join(at.dir, "series.yaml")
		args := []string{"up", "-f", file, "--listen", at.proxy.String(), "--admin", "127.0.0.1:0", "--data", "", "--domain", "com",
			"--activators", "1", "--sidecars", "process", "--sidecar", sidecar}
		text := fmt.Appendf(nil, seriesManifest, limit, app)
		return command{path: rouse, args: args, env: []string{"GOMAXPROCS=1"}}, os.WriteFile(file, text, 0o600)
	})
}

// seriesProxies are the two processes that requests go through, among those that `rouse up` has started.
func seriesProxies(tree []int) ([]int, error) {
	var activators, queueProxies []int
	for _, pid := range tree {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(line), "\x00")
		switch {
		case filepath.Base(args[0]) == "queueproxy":
			queueProxies = append(queueProxies, pid)
		case len(args) > 1 && args[1] == "activator":
			activators = append(activators, pid)
		}
	}
	if len(activators) != 1 || len(queueProxies) != 1 {
		return nil, fmt.Errorf("%d activators and %d queue-proxies run, want one of each", len(activators), len(queueProxies))
	}
	return append(activators, queueProxies...), nil
}

// descend lists a process and everything that descends from it.
func descend(pid int) ([]int, error) {
	all, err := procfs.Processes()
	if err != nil {
		return nil, err
	}
	var tree []int
	for _, p := range procfs.Tree(all, pid) {
		tree = append(tree, p.PID)
	}
	return tree, nil
}

// assemble waits until a contender of several processes serves, notes those that count, and puts the others on the core
// of the backend, where those of the other contenders are.
func (c *contest) assemble(ctx context.Context) error {
	if err := c.settled(ctx); err != nil {
		return err
	}
	tree, err := descend(c.proxy.pid())
	if err != nil {
		return err
	}
	if c.counted, err = c.proxies(tree); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.Name, err, c.proxy.log)
	}
	for _, pid := range tree {
		if slices.Contains(c.counted, pid) {
			continue
		}
		if err := pinProcess(pid, c.cores.rest); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until every one of some requests is answered: an activator listens before it knows its routes.
func (c *contest) settled(ctx context.Context) error {
	few := load.Config{Addr: c.addr(), Request: load.Get("/"), Conns: 1, Duration: maxWarm, MaxRequests: 50, Timeout: 10 * time.Second, Dial: c.arena.dial}
	for deadline := time.Now().Add(10 * time.Second); ; {
		r, err := load.Run(ctx, few)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && r.Errors == 0 && r.Requests > 0:
			return nil
		case time.Now().After(deadline):
			return errors.Join(fmt.Errorf("%s does not answer: %s\n%s", c.Name, r.FirstError, c.proxy.log), err)
		}
	}
}

// spent is the CPU time of what counts.
func (c *contest) spent() (sum time.Duration, err error) {
	if c.proxies == nil {
		return cpuclock.Of(c.proxy.pid())
	}
	for _, pid := range c.counted {
		d, err := cpuclock.Of(pid)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}
