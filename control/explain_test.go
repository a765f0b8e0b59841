package control

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

func TestExplain(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "target", "10", "target-utilization-percentage", "100", "max-scale", "4"))
		w.load(id, 20, 10*time.Second)
		w.load(id, 100, 3*time.Second)
		e := w.explain(id)
		if e.Pods.Ready != 4 || e.Limit != "max-scale caps it" || e.Since.IsZero() || !e.Panic || e.Winner != "concurrency" {
			t.Errorf("explanation %+v", e)
		}
		var text strings.Builder
		e.WriteText(&text)
		for _, want := range []string{"default/hello (revision hello-1)", "4 ready", "max-scale caps it, since 2000-01-01", "set        max-scale = 4 by annotation autoscaling.knative.dev/max-scale", "panic      at most"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("text lacks %q:\n%s", want, text.String())
			}
		}
	})
}

// TestTextHasUnits: what is not known yet is not shown as a number, and what is has its unit.
func TestTextHasUnits(t *testing.T) {
	e := Explanation{Raw: -1, Want: -1, Decided: time.Unix(1, 0), Observed: []Observed{
		{Metric: "cpu", Stable: 0.4, Panic: 0.5, Target: 0.8}, {Metric: "memory", Stable: 1 << 28, Target: 1 << 30}, {Metric: "concurrency", Target: 10}}}
	var text strings.Builder
	e.WriteText(&text)
	for _, want := range []string{"decision   no data yet\n", "stable 40% of a core, panic 50% of a core; at 80% of a core per pod",
		"stable 256 MiB, panic 0 MiB; at 1024 MiB per pod", "at 10 per pod", "0 activators wanted"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("text lacks %q:\n%s", want, text.String())
		}
	}
}

// TestExplainHandlerFilters: other programs ask for a part; what is happening now comes from the last reports.
func TestExplainHandlerFilters(t *testing.T) {
	holds := map[string]bool{}
	ownership := func(d *Deps) { d.Ownership = owning(func(r identity.Revision) bool { return holds[r.Name] }) }
	inWorld(t, Config{}, ownership, func(w *world) {
		holds["hello-1"] = true
		hello := w.add(revisionOf(t, "hello-1"))
		w.add(revisionOf(t, "hello-2"))
		w.loop.Report(metrics.Message{Namespace: "default", Name: "hello-1", Stat: metrics.Stat{PodName: "activator", RequestCount: 12, AverageConcurrency: 3,
			Extension: metrics.Extension{Version: 1, QueueLength: 2}}})
		w.loop.Report(metrics.Message{Namespace: "default", Name: "hello-1", Stat: metrics.Stat{PodName: "pod", RequestCount: 15, ProxiedRequestCount: 11,
			Extension: metrics.Extension{Version: 1, QueueLength: 1}}})
		for query, want := range map[string]int{"": 2, "?owned=true": 1, "?namespace=default": 2, "?namespace=other": 0, "?service=default/hello-1&owned=true": 1} {
			rec := httptest.NewRecorder()
			w.loop.ExplainHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/explain"+query, nil))
			var es []Explanation
			if err := json.Unmarshal(rec.Body.Bytes(), &es); err != nil || len(es) != want {
				t.Errorf("/explain%s: %d explanations (%v), want %d", query, len(es), err, want)
			}
		}
		if e := w.explain(hello); e.Rate != 16 || e.Waiting != 3 {
			t.Errorf("%g requests per second, %g waiting; want 16 and 3", e.Rate, e.Waiting)
		}
	})
}

type owning func(identity.Revision) bool

func (o owning) Owns(r identity.Revision) bool { return o(r) }

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	inWorld(t, Config{}, func(d *Deps) { d.Registerer = reg }, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.load(id, 100, 5*time.Second)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		page, err := os.ReadFile("../docs/metrics.md")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if !strings.Contains(string(page), "`"+f.GetName()+"`") {
				t.Errorf("docs/metrics.md does not say what %s is", f.GetName())
			}
		}
		for name, want := range map[string]float64{
			"autoscaler_actual_pods": 2, "autoscaler_requested_pods": 2, "autoscaler_desired_pods": 2,
			"autoscaler_stable_request_concurrency": 100, "autoscaler_target_concurrency_per_pod": 70, "autoscaler_panic_mode": 1,
		} {
			if got[name] != want {
				t.Errorf("%s = %g, want %g", name, got[name], want)
			}
		}
		if got["autoscaler_scale_seconds"] != float64(len(w.story())) {
			t.Errorf("%g calls measured, want %d: %q", got["autoscaler_scale_seconds"], len(w.story()), w.story())
		}
		if got["autoscaler_reports_total"] == 0 || got["autoscaler_immediate_decisions_total"] != 1 {
			t.Errorf("counters %v", got)
		}
	})
	if _, err := New(Config{}, Deps{Pods: &endpoint.Book{}, Registerer: reg}); err == nil {
		t.Error("a second loop on the same registry was accepted")
	}
}
