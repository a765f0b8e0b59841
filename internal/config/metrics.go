package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rousehq/rouse/control/kpa"
)

// metricsForm is what further metrics look like.
const metricsForm = `"METRIC=TARGET, …" with METRIC one of concurrency, rps, queue-length, cpu (cores), memory (bytes), lag, ` +
	`each at most once and none that the annotation metric names, such as "rps=50, cpu=500m, memory=256Mi"`

// suffixes of targets, as Kubernetes writes quantities.
var suffixes = []struct {
	suffix string
	factor float64
}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"m", 1e-3}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}}

// ParseMetrics reads further metrics with what one pod should carry of each: "rps=50, cpu=500m". The largest wish of
// all metrics wins. The target is aimed at as it stands: no utilisation is taken of it.
func ParseMetrics(text string) ([]kpa.Target, error) {
	var targets []kpa.Target
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		metric, known := metricNamed(name)
		if !ok || !known {
			return nil, fmt.Errorf("%q is not METRIC=TARGET", part)
		}
		v, ok := quantity(value)
		if !ok {
			return nil, fmt.Errorf("%q is not a target of at least %g", value, TargetMin)
		}
		for _, t := range targets {
			if t.Metric == metric {
				return nil, fmt.Errorf("%s is there twice", name)
			}
		}
		targets = append(targets, kpa.Target{Metric: metric, Value: v, Total: v})
	}
	return targets, nil
}

func metricNamed(name string) (kpa.Metric, bool) {
	for m := range kpa.Metric(kpa.NumMetrics) {
		if m.String() == name {
			return m, true
		}
	}
	return 0, false
}

func quantity(s string) (float64, bool) {
	factor := 1.0
	for _, x := range suffixes {
		if rest, ok := strings.CutSuffix(s, x.suffix); ok {
			s, factor = rest, x.factor
			break
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	f *= factor
	return f, err == nil && f >= TargetMin && !math.IsInf(f, 0)
}
