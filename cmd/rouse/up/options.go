package up

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/localpods"
)

// Options are what `rouse up` was asked for. Begin with Default.
type Options struct {
	// Files are manifests, directories of them, or "-" for standard input.
	Files []string
	// Listen is the public address. Trusted, when not empty, is an address where Knative's revision headers are
	// honoured: no public client may reach it. Admin serves metrics, explanations and health.
	Listen  string
	Trusted string
	Admin   string
	// Keda is an address where KEDA's external scalers ask for the load of services; empty for none.
	Keda string
	// Activators is how many processes take the requests: 0 has this process do it. ActivatorDrain is how long each goes
	// on accepting at least when it is told to stop.
	Activators     int
	ActivatorDrain time.Duration
	// Sidecars is none, inprocess or process.
	Sidecars string
	// Sidecar is the queue-proxy binary of --sidecars=process; empty looks beside this program and in PATH.
	Sidecar string
	// Exec maps images to programs (IMAGE=PATH), Images is a folder of programs by image name.
	Exec   []string
	Images string
	// Set overrides settings of every revision (KEY=VALUE: see config.ParseFlags).
	Set []string
	// Data is a folder for the history of what was applied and for the socket of `rouse apply` and its kin; empty for
	// neither.
	Data string
	// Record writes what happens to a service to a file, for `rouse simulate --recorded`: SERVICE=FILE, or FILE for
	// the first service.
	Record string
	// Strict refuses what is not built instead of warning.
	Strict bool
	// QueueTotal bounds the parked requests of all revisions.
	QueueTotal int
	// ColdStartHeader and ServerTiming tell clients what the activator did with their request.
	ColdStartHeader bool
	ServerTiming    bool
	// Domain is the public domain of service hosts.
	Domain string
	// Grace bounds how long requests in flight may take at the end.
	Grace time.Duration
	// Verbose shows what the applications write.
	Verbose bool
	// Environ is the environment; Self is this program, which runs the built-in samples.
	Environ []string
	Self    string

	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// tries bounds how often a request is dispatched; 0 means the activator's default. Tests switch retries off by it.
	tries int
	// OnReady is called once requests are accepted; nil for nobody.
	OnReady func(Handle)
}

// Handle is what a program that runs this package in itself can see of it.
type Handle struct {
	// Addr is the public address.
	Addr net.Addr
	// Pods tells what starting and probing has cost so far.
	Pods func() localpods.Stats
	// Health tells how many processes a service has, by the service's name.
	Health func(service string) (localpods.Health, error)
	stack  *stack // for tests of this package
	// InFlight tells how many requests of a service are with its processes.
	InFlight func(service string) int
}

// Default returns the documented defaults.
func Default() Options {
	return Options{
		Listen: ":8080", Admin: "127.0.0.1:8081", Sidecars: "inprocess", QueueTotal: 100_000, Domain: "example.com",
		Grace: 30 * time.Second, ActivatorDrain: activatorDrain,
	}
}

func (o *Options) mode() (localpods.SidecarMode, error) {
	for _, m := range []localpods.SidecarMode{localpods.SidecarNone, localpods.SidecarInProcess, localpods.SidecarProcess} {
		if o.Sidecars == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("--sidecars %q: must be none, inprocess or process", o.Sidecars)
}

// Validate names every fault of the options at once, as Run does before it starts anything.
func (o *Options) Validate() error { return o.validate() }

func (o *Options) validate() error {
	var errs []error
	if len(o.Files) == 0 {
		errs = append(errs, errors.New("no manifest: give one with -f FILE"))
	}
	if _, err := o.mode(); err != nil {
		errs = append(errs, err)
	}
	if _, err := config.ParseFlags(o.Set); err != nil {
		errs = append(errs, err)
	}
	for name, addr := range map[string]string{"--listen": o.Listen, "--trusted-listen": o.Trusted, "--admin": o.Admin, "--keda": o.Keda} {
		if _, _, err := net.SplitHostPort(addr); addr != "" && err != nil {
			errs = append(errs, fmt.Errorf("%s %q: must be HOST:PORT or :PORT", name, addr))
		}
	}
	if err := o.checkActivators(); err != nil {
		errs = append(errs, err)
	}
	if o.Grace <= 0 {
		errs = append(errs, fmt.Errorf("--grace %s: must be above 0", o.Grace))
	}
	return errors.Join(errs...)
}
