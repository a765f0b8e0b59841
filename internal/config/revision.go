package config

import (
	"fmt"
	"strconv"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/identity"
)

// Defaults of what config-autoscaler does not cover.
const (
	DefaultTimeout          = 300 * time.Second
	MaxTimeout              = 600 * time.Second
	MaxContainerConcurrency = 1000
	DefaultQueueLimit       = 10_000
	DefaultQueueDeadline    = 60 * time.Second
	DefaultProgressDeadline = 600 * time.Second
)

// Revision is the whole configuration of one revision at one moment: an immutable snapshot. Share it freely; take a
// new one from a [Store] to see changes.
type Revision struct {
	ID            identity.Revision
	Service       string // the Knative Service, or what plays its part
	Configuration string

	ContainerConcurrency Value[int]           // in flight per pod at most; 0 = no limit
	Timeout              Value[time.Duration] // a whole request
	ResponseStartTimeout Value[time.Duration] // until the first byte of the response; 0 = off
	IdleTimeout          Value[time.Duration] // without a byte in either direction; 0 = off

	Scaling Scaling

	QueueLimit       Value[int]           // requests parked at most
	QueueDeadline    Value[time.Duration] // parked at most this long
	ProgressDeadline Value[time.Duration] // until the first pod must be ready

	SessionAffinity Value[string] // these four as they were written: see Dispatching
	ZonePreference  Value[string]
	OutlierEjection Value[string]
	PodProbe        Value[string]
}

// Scaling is a revision's resolved scaling configuration: annotations over config-autoscaler over defaults.
type Scaling struct {
	Class                 Value[string]
	Metric                Value[string]  // concurrency or rps for class KPA
	Algorithm             Value[string]  // AlgorithmLinear or AlgorithmWeighted
	Total                 Value[float64] // of the metric per pod, at 100 %
	Utilization           Value[float64] // fraction of Total that is aimed at, in (0, 1]
	TargetBurstCapacity   Value[float64]
	MinScale              Value[int]
	MaxScale              Value[int] // 0 = unlimited
	InitialScale          Value[int]
	ActivationScale       Value[int] // 0 = off
	StableWindow          Value[time.Duration]
	PanicWindowPercent    Value[float64]
	PanicThresholdPercent Value[float64]
	MaxScaleUpRate        Value[float64]
	MaxScaleDownRate      Value[float64]
	ScaleDownDelay        Value[time.Duration]
	ScaleToZeroRetention  Value[time.Duration]
	ScaleToZeroGrace      Value[time.Duration]
	EnableScaleToZero     Value[bool]
	ActivatorCapacity     Value[float64]
	Burst                 Value[string] // BurstDefault or BurstDrainAware
	Metrics               Value[string] // further metrics, as written; empty for none
	Schedule              Value[string] // floors, as written; empty for none
	floors                Schedule      // Schedule, parsed
	further               []kpa.Target  // Metrics, parsed
}

// Floors returns the parsed schedule, nil when there is none.
func (s *Scaling) Floors() Schedule { return s.floors }

// Target returns what one pod should carry: utilisation × total, but at least [TargetMin].
func (s Scaling) Target() float64 { return max(TargetMin, s.Total.V*s.Utilization.V) }

// PanicWindow returns the panic window: its share of the stable window, rounded to whole seconds, at least one.
func (s Scaling) PanicWindow() time.Duration {
	w := time.Duration(float64(s.StableWindow.V) * s.PanicWindowPercent.V / 100)
	return max(time.Second, w.Round(time.Second))
}

// PanicThreshold returns the factor of ready pods from which on demand means panic, such as 2 for 200 %.
func (s Scaling) PanicThreshold() float64 { return s.PanicThresholdPercent.V / 100 }

// Input is everything that a revision's configuration is made from. Nil pointers stand for fields that the manifest
// leaves out.
type Input struct {
	ID            identity.Revision
	Service       string
	Configuration string

	Autoscaler  Autoscaler        // the cluster's; the zero value stands for DefaultAutoscaler
	Annotations map[string]string // of the revision template
	Above       Layers            // environment and flags, which win over annotations

	ContainerConcurrency        *int64
	TimeoutSeconds              *int64
	ResponseStartTimeoutSeconds *int64
	IdleTimeoutSeconds          *int64
	SpecAt                      At // of the four fields above, by field name; may be nil

	specKeys map[string]string // the annotation that a field came by, by field name: see SpecFromAnnotations
}

// Resolve makes a revision's snapshot. With faults the snapshot is nil, and all faults are there, those of the
// annotations and those of the manifest's fields.
func Resolve(in Input) (*Revision, []Fault) {
	base := in.Autoscaler
	if base == (Autoscaler{}) {
		base = DefaultAutoscaler()
	}
	o, faults := ParseAnnotations(in.Annotations, base, in.Above)
	rev := &Revision{ID: in.ID, Service: in.Service, Configuration: in.Configuration}
	faults = append(faults, in.specFromFlags()...)
	faults = append(faults, in.blame(rev.readSpec(in))...)
	if len(faults) > 0 {
		return nil, faults
	}
	rev.nameFlags(in.Above.Flags)
	rev.Scaling = resolveScaling(base, o, rev.ContainerConcurrency)
	rev.QueueLimit = o.QueueLimit.Or(builtin("queue-limit", DefaultQueueLimit))
	rev.QueueDeadline = o.QueueDeadline.Or(builtin("queue-deadline", DefaultQueueDeadline))
	rev.SessionAffinity = o.SessionAffinity.Or(builtin("session-affinity", off))
	rev.ZonePreference = o.ZonePreference.Or(builtin("zone-preference", off))
	rev.OutlierEjection = o.OutlierEjection.Or(builtin("outlier-ejection", off))
	rev.PodProbe = o.PodProbe.Or(builtin("pod-probe", off))
	rev.ProgressDeadline = o.ProgressDeadline.Or(builtin("progress-deadline", DefaultProgressDeadline))
	return rev, nil
}

// readSpec reads the manifest's fields. A response can't be asked to start, nor a stream to move, later than the
// whole request may last, so the overall timeout bounds the other two.
func (rev *Revision) readSpec(in Input) (faults []Fault) {
	field := func(key string, given *int64, fallback, lo, hi int64) (v Value[int]) {
		if given == nil {
			return builtin(key, int(fallback))
		}
		v = Value[int]{int(*given), in.specOrigin(key)}
		if *given < lo || *given > hi {
			faults = append(faults, Fault{Key: v.Key, Value: strconv.FormatInt(*given, 10), Where: v.Where,
				Allowed: fmt.Sprintf("a whole number in [%d, %d]", lo, hi)})
		}
		return v
	}
	seconds := func(v Value[int]) Value[time.Duration] {
		return Value[time.Duration]{time.Duration(v.V) * time.Second, v.Origin}
	}
	rev.ContainerConcurrency = field("containerConcurrency", in.ContainerConcurrency, 0, 0, MaxContainerConcurrency)
	given := in.TimeoutSeconds
	if given != nil && *given == 0 {
		given = nil // as in Knative, 0 asks for the default
	}
	total := field("timeoutSeconds", given, int64(DefaultTimeout/time.Second), 1, int64(MaxTimeout/time.Second))
	rev.Timeout = seconds(total)
	rev.ResponseStartTimeout = seconds(field("responseStartTimeoutSeconds", in.ResponseStartTimeoutSeconds, 0, 0, int64(total.V)))
	rev.IdleTimeout = seconds(field("idleTimeoutSeconds", in.IdleTimeoutSeconds, 0, 0, int64(total.V)))
	return faults
}

func resolveScaling(a Autoscaler, o Overrides, limit Value[int]) Scaling {
	s := Scaling{
		Class:                 o.Class.Or(a.Class),
		Metric:                o.Metric.Or(builtin("metric", MetricConcurrency)),
		Algorithm:             o.Algorithm.Or(builtin("metric-aggregation-algorithm", AlgorithmLinear)),
		TargetBurstCapacity:   o.TargetBurstCapacity.Or(a.TargetBurstCapacity),
		MinScale:              o.MinScale.Or(a.MinScale),
		MaxScale:              o.MaxScale.Or(a.MaxScale),
		InitialScale:          o.InitialScale.Or(a.InitialScale),
		ActivationScale:       o.ActivationScale.Or(builtin("activation-scale", 0)),
		StableWindow:          o.StableWindow.Or(a.StableWindow),
		PanicWindowPercent:    o.PanicWindowPercent.Or(a.PanicWindowPercent),
		PanicThresholdPercent: o.PanicThresholdPercent.Or(a.PanicThresholdPercent),
		MaxScaleUpRate:        a.MaxScaleUpRate,
		MaxScaleDownRate:      a.MaxScaleDownRate,
		ScaleDownDelay:        o.ScaleDownDelay.Or(a.ScaleDownDelay),
		ScaleToZeroRetention:  o.ScaleToZeroRetention.Or(a.ScaleToZeroRetention),
		ScaleToZeroGrace:      o.ScaleToZeroGrace.Or(a.ScaleToZeroGrace),
		EnableScaleToZero:     a.EnableScaleToZero,
		ActivatorCapacity:     a.ActivatorCapacity,
		Burst:                 o.Burst.Or(builtin("burst", BurstDefault)),
		Metrics:               o.Metrics.Or(builtin("metrics", "")),
		Schedule:              o.Schedule.Or(builtin("schedule", "")),
	}
	if o.Metrics.IsSet() {
		s.further, _ = ParseMetrics(o.Metrics.V) // checked when it was read
	}
	if o.Schedule.IsSet() {
		s.floors, _ = ParseSchedule(o.Schedule.V) // checked when it was read
	}
	if s.Algorithm.V == "weightedExponential" {
		s.Algorithm.V = AlgorithmWeighted
	}
	s.Total, s.Utilization = resolveTarget(s.Metric.V, a, o, limit)
	return s
}

// rpsUtilization is fixed in Knative: config-autoscaler cannot change it, an annotation can.
const rpsUtilization = 0.7

// resourceUnits are the metrics that only class HPA takes. Kubernetes reads a cpu target as percent of what the pod
// requests and memory as MiB; a request is not known here, so that cpu is percent of one core.
var resourceUnits = map[string]struct{ size, target float64 }{
	MetricCPU:    {0.01, 80},
	MetricMemory: {1 << 20, 1024},
}

// resolveTarget returns what a pod can carry and which share of it to aim at. A pod's hard limit caps a concurrency
// target, whoever asked for more.
func resolveTarget(metric string, a Autoscaler, o Overrides, limit Value[int]) (total, utilization Value[float64]) {
	if unit, resource := resourceUnits[metric]; resource {
		target := o.Target.Or(builtin("target", unit.target))
		return Value[float64]{target.V * unit.size, target.Origin}, builtin("target-utilization-percentage", 1.0)
	}
	total, utilization = a.ConcurrencyTarget, a.TargetFraction
	if metric == MetricRPS {
		total, utilization = a.RPSTarget, builtin("target-utilization-percentage", rpsUtilization)
	} else if limit.V > 0 {
		total = Value[float64]{float64(limit.V), limit.Origin}
	}
	if o.Target.IsSet() {
		capped := metric != MetricRPS && limit.V > 0 && o.Target.V > float64(limit.V)
		if !capped {
			total = o.Target
		}
	}
	if p := o.UtilizationPercent; p.IsSet() {
		utilization = Value[float64]{p.V / 100, p.Origin}
	}
	return total, utilization
}
