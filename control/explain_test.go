package control

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/endpoint"
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
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		for name, want := range map[string]float64{
			"autoscaler_actual_pods": 2, "autoscaler_requested_pods": 2, "autoscaler_desired_pods": 2,
			"autoscaler_stable_request_concurrency": 100, "autoscaler_target_concurrency_per_pod": 70, "autoscaler_panic_mode": 1,
		} {
			if got[name] != want {
				t.Errorf("%s = %g, want %g", name, got[name], want)
			}
		}
		if got["autoscaler_reports_total"] == 0 || got["autoscaler_immediate_decisions_total"] != 1 {
			t.Errorf("counters %v", got)
		}
	})
	if _, err := New(Config{}, Deps{Pods: &endpoint.Book{}, Registerer: reg}); err == nil {
		t.Error("a second loop on the same registry was accepted")
	}
}
