package localbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/cmd/rouse/up"
	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/sampleapp"
)

// BurstRow is one burst.
type BurstRow struct {
	Rule     string  `json:"rule"` // default or drain-aware
	Round    int     `json:"round"`
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Started  uint64  `json:"pods_started"`
	Answered int     `json:"pods_that_answered"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

type burstOptions struct {
	requests, most, rounds int
	work                   time.Duration
	json                   string
}

// Burst is `rouse bench burst`. self is the program that runs the built-in samples.
func Burst(ctx context.Context, self string, args []string, stdout, stderr io.Writer) error {
	var o burstOptions
	fs := flag.NewFlagSet("rouse bench burst", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.requests, "n", 500, "requests at once")
	fs.IntVar(&o.most, "max-scale", 200, "pods at most; 0 for no bound")
	fs.IntVar(&o.rounds, "rounds", 3, "bursts per rule, in turns")
	fs.DurationVar(&o.work, "work", 50*time.Millisecond, "work per request; a pod takes one at a time")
	fs.StringVar(&o.json, "json", "", "write every row to this file")
	if err := cmdline.Parse(fs, args); err != nil {
		return err
	}
	if o.requests < 1 || o.rounds < 1 || o.work <= 0 {
		return cmdline.Misusef("-n, -rounds and -work must be above 0")
	}
	opts := up.Default()
	opts.Self, opts.Stderr = self, stderr
	var rows []BurstRow
	err := with(ctx, opts, o.manifests(), func(ctx context.Context, h up.Handle) (err error) {
		rows, err = o.rows(ctx, h)
		return err
	})
	if err != nil {
		return err
	}
	printBursts(stdout, o, rows)
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, b, 0o644)
}

// rows sends the bursts in turns. Between two of them everything falls asleep; the first round is what a rule does with
// a service that it knows nothing of, the later ones after it has seen starts and work.
func (o burstOptions) rows(ctx context.Context, h up.Handle) ([]BurstRow, error) {
	var rows []BurstRow
	for round := range o.rounds {
		for _, rule := range []string{"default", "drain-aware"} {
			row := BurstRow{Rule: rule, Round: round, Requests: o.requests}
			before := h.Pods().Started
			if err := row.run(ctx, o, h); err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule, err)
			}
			if err := asleep(ctx, h, rule); err != nil {
				return nil, err
			}
			row.Started = h.Pods().Started - before
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// asleep waits until the service has no process.
func asleep(ctx context.Context, h up.Handle, service string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		health, err := h.Health(service)
		if err != nil || health.Ready+health.Starting+health.Draining == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o burstOptions) manifests() []byte {
	var b []byte
	for _, rule := range []string{"default", "drain-aware"} {
		b = fmt.Appendf(b, `---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: %s, namespace: default}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/max-scale: "%d"
        autoscaling.knative.dev/window: 6s
        autoscaling.knative.dev/scale-to-zero-grace-period: 1s
        rouse.dev/burst: %s
    spec:
      containerConcurrency: 1
      containers: [{image: autoscale}]
`, rule, o.most, rule)
	}
	return b
}

// run sends the burst and waits for every answer.
func (r *BurstRow) run(ctx context.Context, o burstOptions, h up.Handle) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Minute}
	var mu sync.Mutex
	var took []float64
	pids := map[string]bool{}
	var first error
	var all sync.WaitGroup
	for range o.requests {
		all.Go(func() {
			began := time.Now()
			pid, err := one(ctx, client, h, r.Rule, o.work)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Failed++
				first = errors.Join(first, err)
				return
			}
			pids[pid] = true
			took = append(took, ms(time.Since(began)))
		})
	}
	all.Wait()
	if len(took) == 0 {
		return first
	}
	slices.Sort(took)
	r.Answered = len(pids)
	r.P50, r.P99, r.Max = quantile(took, 0.5), quantile(took, 0.99), took[len(took)-1]
	return nil
}

func one(ctx context.Context, client *http.Client, h up.Handle, service string, work time.Duration) (pid string, err error) {
	url := fmt.Sprintf("http://%s/?sleep=%d", h.Addr, work.Milliseconds())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Host = service + ".default.example.com"
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(body.String()))
	}
	return res.Header.Get(sampleapp.HeaderPID), nil
}

func printBursts(w io.Writer, o burstOptions, rows []BurstRow) {
	fmt.Fprintf(w, "%d requests at once to a sleeping service, %v of work each, one at a time per pod, at most %d pods\n", o.requests, o.work, o.most)
	fmt.Fprintf(w, "%-12s %6s %8s %8s %10s %9s %9s %9s\n", "rule", "round", "failed", "started", "answered", "p50 ms", "p99 ms", "max ms")
	for _, r := range rows {
		fmt.Fprintf(w, "%-12s %6d %8d %8d %10d %9.0f %9.0f %9.0f\n", r.Rule, r.Round, r.Failed, r.Started, r.Answered, r.P50, r.P99, r.Max)
	}
}
