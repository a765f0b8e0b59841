package kpa

// MinTarget is the least target per pod: below it, numbers of pods lose their meaning.
const MinTarget = 0.01

// TargetConfig is what a target is resolved from.
type TargetConfig struct {
	// Metric is Concurrency or RPS.
	Metric Metric
	// ContainerConcurrency is the hard limit of the pod, 0 for none. It does not matter to RPS.
	ContainerConcurrency float64
	// Utilisation is container-concurrency-target-percentage as a fraction, for concurrency, or Knative's fixed 0.7
	// for RPS.
	Utilisation float64
	// Default is container-concurrency-target-default or requests-per-second-target-default.
	Default float64
	// Target and TargetUtilisation are the annotations target and target-utilization-percentage, the latter as a
	// fraction; 0 is "not set".
	Target            float64
	TargetUtilisation float64
}

// Resolve returns the target that the settings amount to.
func (c TargetConfig) Resolve() Target {
	total := c.Default
	if c.Metric == Concurrency && c.ContainerConcurrency > 0 {
		total = c.ContainerConcurrency
	}
	if c.Target > 0 {
		total = c.Target
		if c.Metric == Concurrency && c.ContainerConcurrency > 0 {
			total = min(total, c.ContainerConcurrency)
		}
	}
	utilisation := c.Utilisation
	if c.TargetUtilisation > 0 {
		utilisation = c.TargetUtilisation
	}
	return Target{Metric: c.Metric, Value: max(MinTarget, total*utilisation), Total: total}
}
