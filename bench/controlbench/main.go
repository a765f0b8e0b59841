package controlbench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// BenchMain runs the benchmark as the command line says, prints a table to stdout and returns when everything has ended.
// It fails when the machine could not do the work, so that there are no figures.
func BenchMain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.producers != "" {
		return produce(ctx, o)
	}
	fmt.Fprintf(stderr, "%d revisions × %d pods at 1 Hz, decisions every 2 s: %s to warm up, %s to measure\n", o.revisions, o.pods, o.warmup, o.duration)
	results, err := contest(ctx, o, stderr)
	if err != nil {
		return err
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

// contest runs the contenders one after the other.
func contest(ctx context.Context, o options, stderr io.Writer) ([]Result, error) {
	var results []Result
	for _, streams := range []bool{true, false} {
		r, err := runOurs(ctx, o, streams, stderr)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	if !o.knative {
		return results, nil
	}
	theirs, err := runKnative(ctx, o, stderr)
	if err != nil {
		return nil, fmt.Errorf("knative's autoscaler (leave it out with --knative=false): %w", err)
	}
	return append(results, theirs...), nil
}

// runKnative builds the peer's program and runs it: on fewer revisions with real scrapes, and on all of them with
// reports that are at hand.
func runKnative(ctx context.Context, o options, stderr io.Writer) ([]Result, error) {
	if _, err := os.Stat(filepath.Join(o.peers, "go.mod")); err != nil {
		return nil, fmt.Errorf("no module at %s; say where it is with --peers: %w", o.peers, err)
	}
	dir, err := os.MkdirTemp("", "rouse-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder harms nobody
	bin := filepath.Join(dir, "autoscaler")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin, ".")
	build.Dir, build.Stdout, build.Stderr = o.peers, stderr, stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build %s: %w", o.peers, err)
	}
	var results []Result
	for scrape, revisions := range map[string]int{"http": min(o.scrape, o.revisions), "memory": o.revisions} {
		var out bytes.Buffer
		run := exec.CommandContext(ctx, bin, "-scrape="+scrape, fmt.Sprintf("-revisions=%d", revisions), fmt.Sprintf("-pods=%d", o.pods),
			fmt.Sprintf("-warmup=%s", o.warmup), fmt.Sprintf("-duration=%s", o.duration))
		run.Stdout, run.Stderr = &out, stderr
		if err := run.Run(); err != nil {
			return nil, err
		}
		var r Result
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b Result) int { return strings.Compare(a.Contender, b.Contender) })
	return results, nil
}

// perRevision is microseconds of CPU per revision and second: it compares runs of different size.
func (r Result) perRevision() float64 { return r.CoreShare * 1e6 / float64(r.Revisions) }

func table(w io.Writer, results []Result) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "contender\trevisions\tshare of a core\tµs/s per revision\treports/s\tdecisions/s\tlag p50\tlag p99\tlag max\tB/revision\twith streams\t")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%d\t%.1f %%\t%.1f\t%.0f\t%.0f\t%.1f ms\t%.1f ms\t%.1f ms\t%.0f\t%.0f\t\n", r.Contender, r.Revisions,
			100*r.CoreShare, r.perRevision(), r.Reports, r.Decisions, r.LagP50Ms, r.LagP99Ms, r.LagMaxMs, r.Bytes, r.BytesStream)
	}
	_ = tw.Flush() // the writer's fault shows at its own end
	if len(results) == 4 {
		fmt.Fprintf(w, "knative takes %.1f times the CPU per revision to collect and decide, %.1f times to decide alone\n",
			results[2].perRevision()/results[0].perRevision(), results[3].perRevision()/results[1].perRevision())
	}
}
