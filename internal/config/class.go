package config

import (
	"fmt"
	"slices"

	"github.com/rousehq/rouse/control/kpa"
)

// UnbuiltMetric returns the metric that a revision of [ClassHPA] names and nobody measures, "" when there is none: it is
// scaled by concurrency. Nothing makes a HorizontalPodAutoscaler: who names that class is scaled as [ClassKPA], also by the
// metrics cpu and memory.
func UnbuiltMetric(class, metric string) string {
	if class != ClassHPA || metric == "" || slices.Contains([]string{MetricConcurrency, MetricRPS, MetricCPU, MetricMemory}, metric) {
		return ""
	}
	return metric
}

// InsteadOf says by what a revision that names an [UnbuiltMetric] is scaled.
func InsteadOf(metric string) string {
	return fmt.Sprintf("metric %q is measured by nobody: %s counts", metric, MetricConcurrency)
}

// Resources returns the metrics of a revision's targets that only who looks at the application's processes can report.
func (rev *Revision) Resources() (names []string) {
	for _, t := range rev.Policy().Targets {
		if t.Metric == kpa.CPU || t.Metric == kpa.Memory {
			names = append(names, t.Metric.String())
		}
	}
	return names
}
