package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The metrics and algorithms that an annotation can name.
const (
	MetricConcurrency = "concurrency"
	MetricRPS         = "rps"
	MetricCPU         = "cpu"    // class HPA only: percent of a core
	MetricMemory      = "memory" // class HPA only: MiB

	AlgorithmLinear   = "linear"
	AlgorithmWeighted = "weighted-exponential"

	BurstDefault    = "default"
	BurstDrainAware = "drain-aware"
)

// Overrides is what one revision asks for. A value that is not set (see [Value.IsSet]) leaves the cluster's in force.
//
// Our own annotations, beside Knative's:
//
//	rouse.dev/queue-limit     requests that may be parked per revision, [1, 10000000]; default 10000
//	rouse.dev/queue-deadline  longest that a request is parked, [1ms, 1h]; default 60s
//	rouse.dev/burst           default | drain-aware: whether a burst starts pods that would be ready only after the
//	                          queue has drained
//	rouse.dev/metrics         further metrics that ask for pods, the largest wish wins: see ParseMetrics
//	rouse.dev/schedule        times of at least so many pods: see ParseSchedule
//	rouse.dev/session-affinity, rouse.dev/zone-preference, rouse.dev/outlier-ejection, rouse.dev/pod-probe
//	                          how an activator chooses among pods: see Dispatching
//
// autoscaling.knative.dev/scale-to-zero-grace-period is not Knative's but widely written: it is honoured.
type Overrides struct {
	Class                 Value[string]
	Metric                Value[string]
	Algorithm             Value[string]  // linear or weighted-exponential; other classes may carry what they like
	Target                Value[float64] // per pod at 100 %
	UtilizationPercent    Value[float64]
	TargetBurstCapacity   Value[float64]
	MinScale              Value[int]
	MaxScale              Value[int]
	InitialScale          Value[int]
	ActivationScale       Value[int] // 0 = off
	StableWindow          Value[time.Duration]
	PanicWindowPercent    Value[float64]
	PanicThresholdPercent Value[float64]
	ScaleDownDelay        Value[time.Duration]
	ScaleToZeroRetention  Value[time.Duration]
	ScaleToZeroGrace      Value[time.Duration]
	ProgressDeadline      Value[time.Duration]
	QueueLimit            Value[int]
	QueueDeadline         Value[time.Duration]
	Burst                 Value[string]
	Metrics               Value[string] // valid for ParseMetrics when set
	Schedule              Value[string] // valid for ParseSchedule when set
	SessionAffinity       Value[string] // these four are valid for their parsers when set: see Dispatching
	ZonePreference        Value[string]
	OutlierEjection       Value[string]
	PodProbe              Value[string]
}

// Layers are the sources above the annotations. All keys are bare names: see [AnnotationKeys].
type Layers struct {
	Env   map[string]string // see EnvLayer
	Flags map[string]string
	At    At // of the annotations; may be nil
}

// EnvLayer picks the settings out of an environment: ROUSE_MIN_SCALE=1 becomes min-scale: 1.
func EnvLayer(environ []string) map[string]string {
	layer := make(map[string]string)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		for _, k := range AnnotationKeys() {
			if name == variable(k) {
				layer[k] = value
			}
		}
	}
	return layer
}

// ParseAnnotations reads a revision's annotations, overridden by the layers above them, and returns every fault.
// base is the cluster's configuration: some bounds depend on it. Annotations that it does not know are left alone.
func ParseAnnotations(annotations map[string]string, base Autoscaler, above Layers) (Overrides, []Fault) {
	var o Overrides
	r := &reader{layers: []layer{
		{Flag, above.Flags, nil},
		{Env, above.Env, nil},
		{Annotation, annotations, above.At},
	}}
	o.readMetric(r, base)
	o.readLoad(r)
	o.readScales(r, base)
	o.readTimes(r)
	o.readQueue(r)
	o.readDispatching(r)
	return o, r.faults
}

func (o *Overrides) readMetric(r *reader, base Autoscaler) {
	class := rule[string]{ClassKPA + ", " + ClassHPA + " or a class outside knative.dev", func(s string) (string, bool) {
		return s, s == ClassKPA || s == ClassHPA || !strings.HasSuffix(s, ".knative.dev")
	}}
	read(r, annotated("class"), class, &o.Class)
	// Knative judges by what was written, also when that is no class at all.
	named, _, isNamed := r.find(annotated("class"))
	effective := base.Class.V
	if isNamed {
		effective = named
	}
	metric := text()
	switch effective {
	case ClassKPA:
		metric = oneOf(MetricConcurrency, MetricRPS)
	case ClassHPA:
		metric = rule[string]{"the name of a metric", func(s string) (string, bool) { return s, s != "" }}
	}
	read(r, annotated("metric"), metric, &o.Metric)
	algorithm := text()
	if named == ClassKPA {
		algorithm = oneOf(AlgorithmLinear, AlgorithmWeighted, "weightedExponential", "")
	}
	read(r, annotated("metric-aggregation-algorithm"), algorithm, &o.Algorithm)
}

func (o *Overrides) readLoad(r *reader) {
	read(r, annotated("target"), numberFrom(TargetMin), &o.Target)
	read(r, annotated("target-utilization-percentage"), numberIn(1, 100), &o.UtilizationPercent)
	read(r, annotated("target-burst-capacity"), burst(), &o.TargetBurstCapacity)
	read(r, annotated("panic-window-percentage"), numberIn(1, 100), &o.PanicWindowPercent)
	read(r, annotated("panic-threshold-percentage"), numberIn(110, 1000), &o.PanicThresholdPercent)
}

func (o *Overrides) readScales(r *reader, base Autoscaler) {
	read(r, annotated("min-scale"), count(0, maxInt32), &o.MinScale)
	most := count(0, maxInt32)
	if limit := base.MaxScaleLimit.V; limit > 0 {
		most = count(1, limit)
		most.allowed += " (max-scale-limit)"
	}
	read(r, annotated("max-scale"), most, &o.MaxScale)
	lowest := 1
	if base.AllowZeroInitialScale.V {
		lowest = 0
	}
	read(r, annotated("initial-scale"), count(lowest, maxInt32), &o.InitialScale)
	if lo, hi := o.MinScale, o.MaxScale; hi.V != 0 && hi.V < lo.V {
		r.refuse(strconv.Itoa(hi.V), hi.Origin, fmt.Sprintf("0 (unlimited) or at least min-scale, which is %d", lo.V))
		return
	}
	lo, hi := max(2, o.MinScale.V), maxInt32
	if o.MaxScale.V > 0 {
		hi = o.MaxScale.V
	}
	activation := count(lo, hi)
	activation.allowed += ", at least min-scale and at most max-scale"
	read(r, annotated("activation-scale"), activation, &o.ActivationScale)
}

func (o *Overrides) readTimes(r *reader) {
	read(r, annotated("window"), duration(WindowMin, WindowMax, time.Second), &o.StableWindow)
	read(r, annotated("scale-down-delay"), duration(0, WindowMax, time.Second), &o.ScaleDownDelay)
	read(r, annotated("scale-to-zero-pod-retention-period"), duration(0, WindowMax, 1), &o.ScaleToZeroRetention)
	read(r, annotated("scale-to-zero-grace-period"), duration(1, forever, 1), &o.ScaleToZeroGrace)
	deadline := duration(0, forever, time.Second)
	if raw, _, _ := r.find(annotated("progress-deadline")); raw != "" {
		read(r, annotated("progress-deadline"), deadline, &o.ProgressDeadline)
	}
}

func (o *Overrides) readQueue(r *reader) {
	read(r, annotated("queue-limit"), count(1, 10_000_000), &o.QueueLimit)
	read(r, annotated("queue-deadline"), duration(time.Millisecond, time.Hour, 1), &o.QueueDeadline)
	read(r, annotated("burst"), oneOf(BurstDefault, BurstDrainAware), &o.Burst)
	readExplained(r, annotated("schedule"), scheduleForm, func(s string) error {
		_, err := ParseSchedule(s)
		return err
	}, &o.Schedule)
	main := o.Metric.Or(builtin("metric", MetricConcurrency)).V
	readExplained(r, annotated("metrics"), metricsForm, func(s string) error {
		targets, err := ParseMetrics(s)
		for _, t := range targets {
			if t.Metric.String() == main {
				return fmt.Errorf("%s is the metric that %smetric names", main, PrefixAutoscaling)
			}
		}
		return err
	}, &o.Metrics)
}
