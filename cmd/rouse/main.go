// Command rouse is Rouse for people: it runs services on this machine, measures, simulates and explains.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // schedules name zones, and an image has no database of them

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/cmd/rouse/up"
	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/cmdline/commands"
	"github.com/rousehq/rouse/internal/front"
	"github.com/rousehq/rouse/internal/sampleapp"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if len(os.Args) > 1 && os.Args[1] == up.ActivatorCommand { // a process of `rouse up --activators`, not for people
		os.Exit(front.Main(os.Args[2:], os.Environ(), signals, os.Stdin, os.Stderr))
	}
	os.Exit(run(os.Args[1:], signals, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: the first signal asks for a drain, the second ends it at once.
func run(args []string, signals <-chan os.Signal, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cut := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
			return
		}
		awaitSecond(signals)
		close(cut)
	}()
	root := newRoot(cut)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case errors.As(err, &status):
		return int(status)
	case err == nil || errors.Is(err, flag.ErrHelp): // which commands that read their own flags return
		return 0
	}
	fmt.Fprintln(stderr, "rouse:", err)
	return commands.Code(err, root, args)
}

// sameWish is how close two signals are that one hand sent: a terminal signals the whole process group, and so do
// programs such as timeout(1) besides the process itself.
const sameWish = 300 * time.Millisecond

// awaitSecond returns when somebody asks again.
func awaitSecond(signals <-chan os.Signal) {
	first := time.Now()
	for range signals {
		if time.Since(first) > sameWish {
			return
		}
	}
}

func newRoot(cut <-chan struct{}) *cobra.Command {
	root := &cobra.Command{
		Use:           "rouse",
		Short:         "Wake services: scale HTTP services from zero to many and back, losing no request",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUp(cut), newSample(), newApply(), newStatus(), newLogs(), newStop(), newBench(), newSimulate(), newExplain())
	root.AddCommand(newKafka()...)
	root.AddCommand(newManifests()...)
	root.AddCommand(newCluster()...)
	commands.Prepare(root)
	return root
}

func newUp(cut <-chan struct{}) *cobra.Command {
	o := up.Default()
	cmd := &cobra.Command{
		Use:   "up -f FILE",
		Short: "Run Knative Services on this machine: processes as pods, from zero to many and back",
		Args:  filesByFlag,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("the path of this program, which runs the built-in samples: %w", err)
			}
			o.Self, o.Environ = self, os.Environ()
			o.Stdin, o.Stdout, o.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			if err := o.Validate(); err != nil {
				return cmdline.Misuse(err)
			}
			return up.Run(cmd.Context(), o, cut)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Files, "file", "f", nil, "manifest: a file, a directory (its own *.yaml, *.yml and *.json), or - for standard input (repeatable)")
	f.StringVar(&o.Listen, "listen", o.Listen, "public address")
	f.StringVar(&o.Trusted, "trusted-listen", "", "address where Knative's revision headers are honoured; no public client may reach it")
	f.StringVar(&o.Admin, "admin", o.Admin, "address of metrics, explanations and health")
	f.StringVar(&o.Keda, "keda", "", "address of a KEDA external scaler (gRPC) over the services; empty for none")
	f.IntVar(&o.Activators, "activators", 0, "take requests by so many activator processes, the first at --listen; 0 has this process do it")
	f.StringVar(&o.Sidecars, "sidecars", o.Sidecars, "queue-proxies: inprocess, process (the real binary), or none")
	f.StringVar(&o.Sidecar, "sidecar", "", "queue-proxy binary for --sidecars=process (default: beside this program, then PATH)")
	f.StringArrayVar(&o.Exec, "exec", nil, "IMAGE=PATH: the program that an image runs; * stands for any text (repeatable)")
	f.StringVar(&o.Images, "images", "", "folder of programs: registry/NAME:tag runs FOLDER/NAME")
	f.StringArrayVar(&o.Set, "set", nil, "KEY=VALUE: override a setting of every service, such as max-scale=5 or containerConcurrency=1 (repeatable)")
	f.StringVar(&o.Data, "data", dataDir(), "folder for the history of what was applied and the socket of apply, status, logs and stop; empty for neither")
	f.StringVar(&o.Record, "record", "", "[SERVICE=]FILE: record what happens to a service, for rouse simulate --recorded FILE")
	f.BoolVar(&o.Strict, "strict", false, "refuse manifests with kinds or fields that are not built, instead of warning")
	f.IntVar(&o.QueueTotal, "queue-total", o.QueueTotal, "parked requests of all services together, at most")
	f.BoolVar(&o.ColdStartHeader, "cold-start-header", false, "add X-Rouse-Cold-Start to answers of requests that met no process")
	f.BoolVar(&o.ServerTiming, "server-timing", false, "add Server-Timing to answers of requests that were parked")
	f.StringVar(&o.Domain, "domain", o.Domain, "public domain of the services' hosts")
	f.DurationVar(&o.Grace, "grace", o.Grace, "how long requests in flight may take at the end")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "show what the applications write")
	return cmd
}

func newSample() *cobra.Command {
	return &cobra.Command{
		Use:    "sample NAME",
		Short:  "Run a built-in sample application on $PORT: hello, event-display, autoscale",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return sampleapp.Main(args[0], args[1:]) },
	}
}
