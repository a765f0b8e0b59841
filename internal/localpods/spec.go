package localpods

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// SidecarMode says what stands between callers and a pod's application.
type SidecarMode uint8

// The sidecar modes.
const (
	SidecarNone      SidecarMode = iota // callers reach the application itself
	SidecarInProcess                    // a queue-proxy handler inside this process: Deps.InProcess
	SidecarProcess                      // the queue-proxy binary as a process of its own: Config.SidecarArgv
)

// String returns the mode's name as flags write it.
func (m SidecarMode) String() string {
	if int(m) < len(sidecarModes) {
		return sidecarModes[m]
	}
	return "unknown"
}

var sidecarModes = [...]string{"none", "inprocess", "process"}

// Spec is what the pods of one revision are made from. The runner keeps what it is given: the caller must not change
// its slices afterwards.
type Spec struct {
	Revision      identity.Revision
	Service       string // K_SERVICE; the Knative Service that owns the configuration
	Configuration string // K_CONFIGURATION

	// Argv is the program and its arguments. As in Kubernetes, $(NAME) in arguments and in Env values is replaced
	// by the variable, PORT included; $$ is one dollar, and an unknown name is left as it stands.
	Argv []string
	// Env is the container's environment as NAME=value, laid over Config.BaseEnv.
	Env []string
	// PortEnv names further variables that get the same value as PORT.
	PortEnv []string
	// Dir is the working directory. Empty means this process's own.
	Dir string

	// Protocol is what the application speaks on its port, and so what its endpoint is published as.
	Protocol endpoint.Protocol
	// Readiness is the probe that a pod must answer before it is ready. The zero value asks for an open TCP port.
	Readiness Probe
	Sidecar   SidecarMode
	// Measured says that the autoscaler looks at CPU or memory: a queue-proxy process should report them, which costs a
	// look at the process table per second. It is for Deps.SidecarEnv.
	Measured bool

	// ContainerConcurrency is the hard limit of requests in one pod; 0 means none. The sidecar enforces it.
	ContainerConcurrency int
	// Timeout bounds a request; ResponseStart and Idle bound its first byte and its silences, 0 turns them off. They
	// are handed to the sidecar.
	Timeout              time.Duration
	ResponseStartTimeout time.Duration
	IdleTimeout          time.Duration

	// Grace is how long a stopped pod may finish the requests it has. 0 means Timeout. Config.MaxGrace bounds both.
	Grace time.Duration
	// ProgressDeadline is how long a revision may be without a ready pod, from its first start, before it is failing.
	// 0 means Config.ProgressDeadline.
	ProgressDeadline time.Duration
}

// Probe says how to find out whether an application can take requests. Until a pod is ready for the first time, it
// is tried as often as is cheap, whatever the period says.
type Probe struct {
	// HTTP asks for a status of 200 to 399 from Path. False asks for an open TCP port only.
	HTTP    bool
	Path    string // "/" when empty
	Host    string // the Host header; the address when empty
	Headers http.Header

	// InitialDelay holds the first try back.
	InitialDelay time.Duration
	// Timeout bounds one try. 0 means 1 s.
	Timeout time.Duration
	// Period is how often a ready pod is probed again. 0 means never: a process that dies is seen at once anyway.
	Period time.Duration
	// SuccessThreshold is how many tries in a row must succeed. 0 means 1.
	SuccessThreshold int
	// FailureThreshold is how many tries in a row must fail before a ready pod is taken out of rotation. 0 means 3.
	FailureThreshold int
}

// Validate reports every fault of the spec at once.
func (s *Spec) Validate() error {
	var errs []error
	if s.Revision.Name == "" {
		errs = append(errs, errors.New("revision: name is empty"))
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		errs = append(errs, errors.New("argv: names no program"))
	}
	if int(s.Sidecar) >= len(sidecarModes) {
		errs = append(errs, fmt.Errorf("sidecar: unknown mode %d; use none, inprocess or process", s.Sidecar))
	}
	if s.ContainerConcurrency < 0 {
		errs = append(errs, fmt.Errorf("containerConcurrency: %d is negative; use 0 for no limit", s.ContainerConcurrency))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"timeout", s.Timeout}, {"responseStartTimeout", s.ResponseStartTimeout}, {"idleTimeout", s.IdleTimeout},
		{"grace", s.Grace}, {"progressDeadline", s.ProgressDeadline}, {"readiness.initialDelay", s.Readiness.InitialDelay},
		{"readiness.timeout", s.Readiness.Timeout}, {"readiness.period", s.Readiness.Period},
	} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is negative", d.name, d.d))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("localpods: spec of %s: %w", s.Revision, errors.Join(errs...))
}
