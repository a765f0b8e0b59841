package controlbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"
)

// BenchMain runs the benchmark as the command line says, prints a table to stdout and returns when everything has ended.
// It fails when the machine could not do the work, so that there are no figures.
func BenchMain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.producers != "" {
		return produce(ctx, o)
	}
	fmt.Fprintf(stderr, "%d revisions × %d pods at 1 Hz, decisions every 2 s: %s to warm up, %s to measure\n", o.revisions, o.pods, o.warmup, o.duration)
	ours, err := runOurs(ctx, o, stderr)
	if err != nil {
		return err
	}
	results := []Result{ours}
	if o.knative {
		theirs, err := runKnative(ctx, o, stderr)
		if err != nil {
			return fmt.Errorf("knative's autoscaler (leave it out with --knative=false): %w", err)
		}
		results = append(results, theirs)
	}
	table(stdout, results)
	if o.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(raw, '\n'), 0o644)
}

// runKnative builds the peer's program and runs it on the same work.
func runKnative(ctx context.Context, o options, stderr io.Writer) (Result, error) {
	var res Result
	if _, err := os.Stat(filepath.Join(o.peers, "go.mod")); err != nil {
		return res, fmt.Errorf("no module at %s; say where it is with --peers: %w", o.peers, err)
	}
	dir, err := os.MkdirTemp("", "rouse-bench")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder harms nobody
	bin := filepath.Join(dir, "autoscaler")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin, ".")
	build.Dir, build.Stdout, build.Stderr = o.peers, stderr, stderr
	if err := build.Run(); err != nil {
		return res, fmt.Errorf("build %s: %w", o.peers, err)
	}
	var out bytes.Buffer
	run := exec.CommandContext(ctx, bin, fmt.Sprintf("-revisions=%d", o.revisions), fmt.Sprintf("-pods=%d", o.pods),
		fmt.Sprintf("-warmup=%s", o.warmup), fmt.Sprintf("-duration=%s", o.duration))
	run.Stdout, run.Stderr = &out, stderr
	if err := run.Run(); err != nil {
		return res, err
	}
	return res, json.Unmarshal(out.Bytes(), &res)
}

func table(w io.Writer, results []Result) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "contender\tshare of a core\treports/s\tdecisions/s\tlag p50\tlag p99\tlag max\tB/revision\twith streams\t")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%.1f %%\t%.0f\t%.0f\t%.1f ms\t%.1f ms\t%.1f ms\t%.0f\t%.0f\t\n", r.Contender, 100*r.CoreShare, r.Reports,
			r.Decisions, r.LagP50Ms, r.LagP99Ms, r.LagMaxMs, r.Bytes, r.BytesStream)
	}
	_ = tw.Flush() // the writer's fault shows at its own end
	if len(results) == 2 && results[0].CoreShare > 0 {
		fmt.Fprintf(w, "knative takes %.1f times the CPU\n", results[1].CoreShare/results[0].CoreShare)
	}
}
