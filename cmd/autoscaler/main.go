// Command autoscaler is control in Kubernetes: it watches annotated Deployments and StatefulSets, takes reports of load,
// decides how many pods each should have, and tells activators what to serve. Several instances share the work.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	_ "time/tzdata" // schedules name zones, and an image has no database of them

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/telemetry"
)

// gcPercent trades a little CPU for memory: what control holds hardly changes.
const gcPercent = 50

func main() {
	if config.Help(os.Args[1:], "autoscaler is control in Kubernetes: it decides how many pods annotated workloads have. See docs/kubernetes.md.", &settings{}, os.Stdout) {
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signals, stop := lifecycle.Notify()
	code := run(os.Environ(), signals, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole life of control: the first signal stops it in order, the second at once.
func run(environ []string, signals lifecycle.Signals, stderr io.Writer) int {
	s, err := load(environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	log, _, err := telemetry.NewLogger(stderr, telemetry.LogConfig{Format: s.LogFormat, Level: s.LogLevel, Component: "control"})
	if err != nil {
		fmt.Fprintln(stderr, "ROUSE_LOG_LEVEL, ROUSE_LOG_FORMAT:", err)
		return 2
	}
	kube.Quiet()
	client, err := kube.Connect(s.Kubeconfig, "rouse-control")
	if err != nil {
		log.Error("no way to the API server", "error", err)
		return 1
	}
	n, err := newNode(context.Background(), &s, client, log)
	if err != nil {
		log.Error("control does not start", "error", err)
		return 1
	}
	if err := lifecycle.RunSignals(signals, s.Grace, n.stages()...); err != nil {
		log.Error("control ended", "error", err)
		return 1
	}
	return 0
}
