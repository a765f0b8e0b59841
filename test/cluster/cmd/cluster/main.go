// Command cluster runs a command inside a whole Kubernetes cluster, which is gone when the command ends.
//
//	cluster build                    # compile Kubernetes into the cache, print the directory
//	cluster run [flags] -- COMMAND   # KUBECONFIG and kubectl are set for COMMAND
//	cluster check                    # what this machine lacks, if anything
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/rousehq/rouse/test/cluster/launch"
)

func main() {
	runtime.LockOSThread() // the cluster dies with the thread that started it
	code, err := run(context.Background(), os.Args, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

var errUsage = errors.New("usage: cluster build | check | run [-bin DIR] [-module DIR] [-images DIR] [-state DIR] [-delay-slices D] [-ipv6-first] [-verbose] -- COMMAND [ARG ...]")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	if launch.IsInside(args) {
		return launch.Inside(ctx)
	}
	if len(args) < 2 {
		return 2, errUsage
	}
	fs := flag.NewFlagSet("cluster "+args[1], flag.ContinueOnError)
	fs.SetOutput(stderr)
	var o launch.Options
	module := fs.String("module", ".", "directory of the module test/cluster")
	fs.StringVar(&o.Images, "images", "", "image registry/NAME:tag is the binary NAME in this directory")
	fs.StringVar(&o.Bin, "bin", "", "the directory that cluster build printed; default: what -module builds")
	fs.StringVar(&o.State, "state", "", "directory for keys and logs; default a temporary one that is removed at the end")
	fs.DurationVar(&o.DelaySlices, "delay-slices", 0, "how much later kube-proxy hears of EndpointSlices, as on a large cluster: 3s")
	fs.BoolVar(&o.IPv6First, "ipv6-first", false, "IPv6 is the family of who asks for none, as on clusters that were made for IPv6")
	fs.BoolVar(&o.Verbose, "verbose", false, "say how long each step took")
	if err := fs.Parse(args[2:]); err != nil {
		return 2, nil // the flag set has said it
	}
	o.Command = fs.Args()
	switch args[1] {
	case "check":
		return 0, launch.Check()
	case "build":
		bin, err := launch.Build(ctx, *module, stderr)
		fmt.Fprintln(stdout, bin)
		return 0, err
	case "run":
		return enter(ctx, *module, o, stderr)
	}
	return 2, errUsage
}

func enter(ctx context.Context, module string, o launch.Options, stderr io.Writer) (code int, err error) {
	if len(o.Command) == 0 {
		return 2, errUsage
	}
	if o.Bin == "" {
		if o.Bin, err = launch.Build(ctx, module, stderr); err != nil {
			return 1, err
		}
	}
	if o.Images == "" {
		o.Images = o.Bin
	}
	if o.Images, err = filepath.Abs(o.Images); err != nil {
		return 1, err
	}
	return launch.Enter(ctx, o)
}
