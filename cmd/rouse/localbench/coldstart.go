package localbench

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/rousehq/rouse/cmd/rouse/up"
	"github.com/rousehq/rouse/internal/cmdline"
)

// Sample is one cold start.
type Sample struct {
	DelayMS    int     `json:"delay_ms"` // start-up delay that the application was asked for
	TotalMS    float64 `json:"total_ms"`
	AppMS      float64 `json:"app_ms"` // exec to listen, the application's own clock
	OverheadMS float64 `json:"overhead_ms"`
}

// Row is the summary of one start-up delay.
type Row struct {
	DelayMS       int      `json:"delay_ms"`
	N             int      `json:"n"`
	P50           float64  `json:"overhead_p50_ms"`
	P95           float64  `json:"overhead_p95_ms"`
	Max           float64  `json:"overhead_max_ms"`
	TotalP50      float64  `json:"total_p50_ms"`
	ProbesPerPod  float64  `json:"probes_per_pod"`
	ProbeCPUMSPer float64  `json:"probe_cpu_ms_per_pod"`
	Samples       []Sample `json:"samples"`
}

// options are the flags.
type options struct {
	n        int
	delays   []int
	json     string
	sidecars string
	sidecar  string
	self     string
}

// ColdStart is `rouse bench coldstart`. self is the program that runs the built-in samples.
func ColdStart(ctx context.Context, self string, args []string, stdout, stderr io.Writer) error {
	o := options{self: self, delays: []int{0, 100, 500}}
	fs := flag.NewFlagSet("rouse bench coldstart", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.n, "n", 20, "cold starts per start-up delay")
	fs.StringVar(&o.json, "json", "", "write every sample to this file")
	fs.StringVar(&o.sidecars, "sidecars", "inprocess", "queue-proxies: inprocess, process or none")
	fs.StringVar(&o.sidecar, "sidecar", "", "queue-proxy binary for --sidecars=process")
	if err := cmdline.Parse(fs, args); err != nil {
		return err
	}
	if o.n < 1 {
		return cmdline.Misusef("-n %d: must be at least 1", o.n)
	}
	var rows []Row
	for _, delay := range o.delays {
		row, err := measure(ctx, o, delay, stderr)
		if err != nil {
			return fmt.Errorf("start-up delay %d ms: %w", delay, err)
		}
		rows = append(rows, row)
	}
	print(stdout, o, rows)
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, b, 0o644)
}

func print(w io.Writer, o options, rows []Row) {
	fmt.Fprintf(w, "cold start overhead in ms, %d per row, sidecars %s\n", o.n, o.sidecars)
	fmt.Fprintf(w, "%10s %8s %8s %8s %12s %12s %16s\n", "delay", "p50", "p95", "max", "total p50", "probes/pod", "probe CPU/pod")
	for _, r := range rows {
		fmt.Fprintf(w, "%10d %8.2f %8.2f %8.2f %12.2f %12.1f %16.3f\n", r.DelayMS, r.P50, r.P95, r.Max, r.TotalP50, r.ProbesPerPod, r.ProbeCPUMSPer)
	}
}

// measure starts one rouse and wakes o.n services, one after the other.
func measure(ctx context.Context, o options, delay int, stderr io.Writer) (row Row, err error) {
	err = with(ctx, o.house(stderr), manifests(o.n, delay), func(ctx context.Context, h up.Handle) error {
		row, err = wakeAll(ctx, o, delay, h)
		return err
	})
	return row, err
}

func (o options) house(stderr io.Writer) up.Options {
	opts := up.Default()
	opts.Sidecars, opts.Sidecar, opts.Self, opts.Stderr = o.sidecars, o.sidecar, o.self, stderr
	return opts
}

// manifests makes n services of the sample application that takes delay to listen.
func manifests(n, delay int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: cold-%d, namespace: default}
spec:
  template:
    spec:
      containers:
        - image: autoscale
          env: [{name: STARTUP_DELAY_MS, value: "%d"}]
`, i, delay)
	}
	return b.Bytes()
}

func wakeAll(ctx context.Context, o options, delay int, h up.Handle) (Row, error) {
	row := Row{DelayMS: delay, N: o.n}
	// One connection per service: the first request of each must not reuse another's.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}
	for i := range o.n {
		s, err := wake(ctx, client, h.Addr.String(), "cold-"+strconv.Itoa(i)+".default.example.com")
		if err != nil {
			return row, err
		}
		s.DelayMS = delay
		row.Samples = append(row.Samples, s)
	}
	row.summarise()
	if st := h.Pods(); st.Started > 0 {
		row.ProbesPerPod = float64(st.Probes) / float64(st.Started)
		row.ProbeCPUMSPer = ms(st.ProbeCPU) / float64(st.Started)
	}
	return row, nil
}

func (r *Row) summarise() {
	overhead, total := make([]float64, 0, r.N), make([]float64, 0, r.N)
	for _, s := range r.Samples {
		overhead, total = append(overhead, s.OverheadMS), append(total, s.TotalMS)
	}
	slices.Sort(overhead)
	slices.Sort(total)
	r.P50, r.P95, r.Max = quantile(overhead, 0.5), quantile(overhead, 0.95), overhead[len(overhead)-1]
	r.TotalP50 = quantile(total, 0.5)
}

// quantile is the nearest-rank quantile of sorted values.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
