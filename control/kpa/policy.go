package kpa

import (
	"time"

	"github.com/rousehq/rouse/metrics"
)

// Metric is something that can be measured of a revision and aimed at.
type Metric uint8

// The metrics. The first two are Knative's.
const (
	Concurrency Metric = iota // requests in flight
	RPS                       // requests per second
	QueueLength               // requests or records that wait for a slot
	CPU                       // cores
	Memory                    // bytes
	Lag                       // records behind the end of a partition or stream
	NumMetrics  = 6           // how many there are
)

// String returns the metric's name as annotations, logs and explanations write it.
func (m Metric) String() string {
	return [...]string{"concurrency", "rps", "queue-length", "cpu", "memory", "lag"}[m]
}

// Target is what one metric should be per pod.
type Target struct {
	Metric Metric
	// Value is the load per pod that the decision aims at: Total times the utilisation.
	Value float64
	// Total is the load that a pod can take at most; excess burst capacity is counted with it.
	Total float64
}

// Burst names the rule for a sudden load.
type Burst uint8

// The burst rules.
const (
	BurstDefault    Burst = iota // Knative's: as many pods as the load of the panic window asks for
	BurstDrainAware              // no pod that would become ready only after the queue has drained
)

// String returns the value of the annotation.
func (b Burst) String() string { return [...]string{"default", "drain-aware"}[b] }

// Policy is everything that is configured about the scaling of one revision, resolved: annotations over
// config-autoscaler over defaults. It is read only and may be shared; replacing it takes effect with the next
// decision, the state stays. DefaultPolicy gives Knative's shipped values.
type Policy struct {
	// Targets are the metrics that ask for pods; the largest wish wins. The first one is the metric of the
	// annotation and the one that excess burst capacity is counted in. At least one.
	Targets []Target
	// TargetBurstCapacity is how much sudden load the pods must be able to take before the activator leaves the
	// path. 0: the activator is in the path at zero only; -1: always. Default 211.
	TargetBurstCapacity float64

	// StableWindow is how long a load counts. Default 60 s.
	StableWindow time.Duration
	// PanicWindow is how long a load counts in panic; metrics.PanicWindow computes it. Default 6 s.
	PanicWindow time.Duration
	// Algorithm is how the windows weigh their seconds. Default linear.
	Algorithm metrics.Algorithm
	// PanicThreshold is how many times the present capacity the panic window must ask for to begin a panic, as a
	// ratio. Default 2 (200 %).
	PanicThreshold float64
	// MaxScaleUpRate is how many times the ready pods one decision may ask for. Default 1000.
	MaxScaleUpRate float64
	// MaxScaleDownRate is by how much one decision may divide the ready pods. Default 2.
	MaxScaleDownRate float64
	// ScaleDownDelay is how long a lower wish must last before it counts. Default 0.
	ScaleDownDelay time.Duration
	// Burst is the rule for a sudden load. Default BurstDefault.
	Burst Burst

	// MinScale and MaxScale bound the pods; 0 is no bound.
	MinScale int
	MaxScale int
	// InitialScale is how many pods a new revision gets before it is measured. Default 1.
	InitialScale int
	// ActivationScale is the least number of pods above zero; less than 2 is no rule.
	ActivationScale int

	// ScaleToZero lets the last pod go. Default true.
	ScaleToZero bool
	// ScaleToZeroGrace is how long the last pod stays for the network to be reprogrammed. Default 30 s.
	ScaleToZeroGrace time.Duration
	// ScaleToZeroRetention is how long the last pod stays at least once there is no load. Default 0.
	ScaleToZeroRetention time.Duration
	// ProgressDeadline is how long a revision may take to get its first pods ready. Default 600 s.
	ProgressDeadline time.Duration

	// ActivatorCapacity is how many requests one activator can carry at once. Default 100.
	ActivatorCapacity float64
	// ContainerConcurrency is how many requests a pod takes at once; 0 is no limit.
	ContainerConcurrency int
}

// DefaultPolicy returns Knative's shipped settings for a revision without a concurrency limit.
func DefaultPolicy() Policy {
	return Policy{
		Targets:              []Target{{Metric: Concurrency, Value: 70, Total: 100}},
		TargetBurstCapacity:  211,
		StableWindow:         60 * time.Second,
		PanicWindow:          6 * time.Second,
		PanicThreshold:       2,
		MaxScaleUpRate:       1000,
		MaxScaleDownRate:     2,
		InitialScale:         1,
		ScaleToZero:          true,
		ScaleToZeroGrace:     30 * time.Second,
		ProgressDeadline:     600 * time.Second,
		ActivatorCapacity:    100,
		ScaleToZeroRetention: 0,
	}
}
