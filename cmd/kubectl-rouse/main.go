// Command kubectl-rouse is a plug-in of kubectl: `kubectl rouse adopt NAME` and `kubectl rouse release NAME` move a
// Service with a selector into Rouse's hands and out of them, without a lost request. It uses the caller's own rights.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/rousehq/rouse/internal/kube"
)

const usage = `usage: kubectl rouse adopt SERVICE [-n NAMESPACE] [--timeout 60s]
       kubectl rouse release SERVICE [-n NAMESPACE] [--timeout 60s]

adopt    control fills the Service's endpoints from now on; its selector is kept in an annotation
release  the Service gets its selector back; one pod at least stays
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are what the flags say.
type options struct {
	verb, service, namespace, kubeconfig string
	timeout                              time.Duration
}

// run is the whole program: 0 when the Service was moved, 1 when it was not, 2 when the arguments make no sense.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%v\n%s", err, usage)
		return 2
	}
	kube.Quiet()
	client, err := kube.Connect(o.kubeconfig, "kubectl-rouse")
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		say := func(step string) { fmt.Fprintln(stdout, step) }
		if o.verb == "adopt" {
			err = client.Adopt(ctx, o.namespace, o.service, say)
		} else {
			err = client.Release(ctx, o.namespace, o.service, say)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintf(stdout, "Service %s: %s done\n", o.service, o.verb)
	return 0
}

// parse reads "VERB NAME [flags]", flags before the name too.
func parse(args []string, getenv func(string) string, stderr io.Writer) (o options, err error) {
	if len(args) == 0 || args[0] != "adopt" && args[0] != "release" {
		return o, errors.New("adopt or release?")
	}
	o.verb = args[0]
	f := flag.NewFlagSet("kubectl rouse "+o.verb, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {}
	f.StringVar(&o.namespace, "n", "default", "namespace of the Service")
	f.StringVar(&o.namespace, "namespace", "default", "namespace of the Service")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait for the cluster to follow")
	f.StringVar(&o.kubeconfig, "kubeconfig", kubeconfig(getenv), "kubeconfig file")
	rest := args[1:]
	for len(rest) > 0 {
		if err := f.Parse(rest); err != nil {
			return o, err
		}
		if rest = f.Args(); len(rest) > 0 {
			if o.service != "" {
				return o, fmt.Errorf("one Service at a time: %s or %s?", o.service, rest[0])
			}
			o.service, rest = rest[0], rest[1:]
		}
	}
	if o.service == "" {
		return o, errors.New("which Service?")
	}
	return o, nil
}

// kubeconfig is where kubectl looks.
func kubeconfig(getenv func(string) string) string {
	if path := getenv("KUBECONFIG"); path != "" {
		return path
	}
	path := filepath.Join(getenv("HOME"), ".kube", "config")
	if _, err := os.Stat(path); err != nil {
		return "" // inside a pod: its service account
	}
	return path
}
