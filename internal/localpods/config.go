package localpods

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// Config holds what is the same for all revisions. Begin with Default.
type Config struct {
	// BaseEnv is the environment that every user process starts from, as NAME=value: usually os.Environ(), because a
	// local program finds its interpreter and its home there. PORT and the K_ variables in it are dropped.
	BaseEnv []string
	// SidecarArgv starts the queue-proxy binary of SidecarProcess.
	SidecarArgv []string

	// MaxGrace bounds how long a stopped pod may finish its requests. Default 30 s.
	MaxGrace time.Duration
	// ExitGrace is what a process has between SIGTERM and SIGKILL once its sidecar has finished. Without a sidecar the
	// pod's whole grace is used, because only the application knows its requests. Default 5 s.
	ExitGrace time.Duration

	// BackoffMin and BackoffMax bound the wait before a crashed pod is replaced; it doubles with each crash in a row.
	// Defaults 100 ms and 30 s.
	BackoffMin time.Duration
	BackoffMax time.Duration
	// BackoffReset is how long a pod must have been ready for its revision's crashes to be forgiven. Default 10 s.
	BackoffReset time.Duration
	// CrashLimit is how many crashes in a row, without a ready pod between, make a revision failing. Default 5.
	CrashLimit int
	// ProgressDeadline is for specs that name none. Default 10 min, as in Knative.
	ProgressDeadline time.Duration
	// WrongPortAfter is how long a program may listen on other ports only before that is reported; some open a
	// port for their own metrics first. Default 1 s.
	WrongPortAfter time.Duration

	// ProbeMin and ProbeMax bound the pause between two tries of a starting pod. It begins at the minimum and grows
	// with the pod's age. Defaults 1 ms and 10 ms.
	ProbeMin time.Duration
	ProbeMax time.Duration

	// TailLines is how many of a pod's last lines are kept for its Exited event. Default 20.
	TailLines int
	// LogLines is how many lines are kept per revision for Logs, over all its pods. Default 2,000.
	LogLines int
	// MaxLine is where a line that does not end is cut, in bytes. Default 16 KiB.
	MaxLine int
}

// Default returns the configuration that the fields document.
func Default() Config {
	return Config{
		MaxGrace:         30 * time.Second,
		ExitGrace:        5 * time.Second,
		BackoffMin:       100 * time.Millisecond,
		BackoffMax:       30 * time.Second,
		BackoffReset:     10 * time.Second,
		CrashLimit:       5,
		ProgressDeadline: 10 * time.Minute,
		WrongPortAfter:   time.Second,
		ProbeMin:         time.Millisecond,
		ProbeMax:         10 * time.Millisecond,
		TailLines:        20,
		LogLines:         2000,
		MaxLine:          16 << 10,
	}
}

// Validate reports every fault of the configuration at once.
func (c *Config) Validate() error {
	var errs []error
	positive := func(name string, v int64) {
		if v <= 0 {
			errs = append(errs, fmt.Errorf("%s must be above 0; Default() has a good value", name))
		}
	}
	positive("MaxGrace", int64(c.MaxGrace))
	positive("ExitGrace", int64(c.ExitGrace))
	positive("BackoffMin", int64(c.BackoffMin))
	positive("BackoffReset", int64(c.BackoffReset))
	positive("CrashLimit", int64(c.CrashLimit))
	positive("ProgressDeadline", int64(c.ProgressDeadline))
	positive("WrongPortAfter", int64(c.WrongPortAfter))
	positive("ProbeMin", int64(c.ProbeMin))
	positive("TailLines", int64(c.TailLines))
	positive("LogLines", int64(c.LogLines))
	positive("MaxLine", int64(c.MaxLine))
	if c.BackoffMax < c.BackoffMin {
		errs = append(errs, fmt.Errorf("BackoffMax %v is below BackoffMin %v", c.BackoffMax, c.BackoffMin))
	}
	if c.ProbeMax < c.ProbeMin {
		errs = append(errs, fmt.Errorf("ProbeMax %v is below ProbeMin %v", c.ProbeMax, c.ProbeMin))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("localpods: %w", errors.Join(errs...))
}

// Deps is what a runner works with.
type Deps struct {
	// Book is where pods are published. Required.
	Book *endpoint.Book
	// InProcess starts the sidecars of revisions with SidecarInProcess.
	InProcess InProcessSidecar
	// SidecarEnv returns variables for a queue-proxy process beyond those that Knative defines, such as where to push
	// stats to. They win over Knative's. Optional.
	SidecarEnv func(SidecarPod, SidecarPorts) []string
	// AwaitIdle blocks until callers have nothing in flight in a pod that was published as draining, or ctx is done.
	// A pod is asked to stop only after it: the moment between picking a pod and sending to it cannot be seen from the
	// pod. Optional, for callers that can tell.
	AwaitIdle func(ctx context.Context, rev identity.Revision, podUID string)
	// Observer is told of every event. Events of one pod come in order; those of different pods may come at the same
	// time. It must not block for long, because the pod waits for it, and may call the runner. Optional.
	Observer func(Event)
	// Output is given every line that a process writes, under the same rules: while it blocks, so does the process at
	// its next write. Optional; PrefixWriter makes one.
	Output func(Line)
}

// SidecarPod is what a sidecar must know of its pod.
type SidecarPod struct {
	Spec *Spec // not to be changed
	UID  string
	// PID is the application's process, which runs already.
	PID int
	// App is where the application will listen; it may not yet.
	App netip.AddrPort
}

// InProcessSidecar puts a queue-proxy handler in front of a pod's application, inside this process.
type InProcessSidecar interface {
	// StartInProcess listens and returns at once: it is called while the application starts, and must not wait for
	// it. addr is where the pod's callers connect. stop refuses new requests, blocks until the last one has ended or
	// ctx is done, and then frees everything; it is called exactly once.
	StartInProcess(pod SidecarPod) (addr netip.AddrPort, stop func(ctx context.Context) error, err error)
}

// SidecarPorts are the ports that the runner chose for a queue-proxy process, all on 127.0.0.1.
type SidecarPorts struct {
	Serving uint16 // QUEUE_SERVING_PORT
	Admin   uint16 // where Knative has 8022
	Metrics uint16 // where Knative has 9090
}
