package config

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// The autoscaler classes that have a meaning here.
const (
	ClassKPA = "kpa.autoscaling.knative.dev"
	ClassHPA = "hpa.autoscaling.knative.dev"
)

// Bounds that ConfigMap and annotations share.
const (
	// TargetMin is the smallest target of a metric, per pod.
	TargetMin = 0.01
	// WindowMin and WindowMax bound the stable window.
	WindowMin = 6 * time.Second
	WindowMax = time.Hour
	forever   = time.Duration(math.MaxInt64)
	maxInt32  = math.MaxInt32
)

// Autoscaler is the cluster-wide scaling configuration: the ConfigMap config-autoscaler. It is the fallback of every
// revision. Obtain one from [DefaultAutoscaler] or [ParseAutoscaler].
type Autoscaler struct {
	Class                 Value[string]        // pod-autoscaler-class
	EnableScaleToZero     Value[bool]          // enable-scale-to-zero
	AllowZeroInitialScale Value[bool]          // allow-zero-initial-scale
	TargetFraction        Value[float64]       // container-concurrency-target-percentage as a fraction in (0, 1]
	ConcurrencyTarget     Value[float64]       // container-concurrency-target-default: in flight per pod at 100 %
	RPSTarget             Value[float64]       // requests-per-second-target-default: per pod at 100 %
	TargetBurstCapacity   Value[float64]       // target-burst-capacity: requests; -1 always proxies, 0 never once awake
	StableWindow          Value[time.Duration] // stable-window, whole seconds
	PanicWindowPercent    Value[float64]       // panic-window-percentage, of the stable window
	PanicThresholdPercent Value[float64]       // panic-threshold-percentage
	MaxScaleUpRate        Value[float64]       // max-scale-up-rate: factor per decision
	MaxScaleDownRate      Value[float64]       // max-scale-down-rate: divisor per decision
	ScaleToZeroGrace      Value[time.Duration] // scale-to-zero-grace-period
	ScaleToZeroRetention  Value[time.Duration] // scale-to-zero-pod-retention-period
	ScaleDownDelay        Value[time.Duration] // scale-down-delay, whole seconds
	ActivatorCapacity     Value[float64]       // activator-capacity: concurrent requests that one activator takes
	InitialScale          Value[int]           // initial-scale: pods
	MinScale              Value[int]           // min-scale: pods
	MaxScale              Value[int]           // max-scale: pods, 0 = unlimited
	MaxScaleLimit         Value[int]           // max-scale-limit: highest max-scale that a revision may ask for, 0 = none
}

// DefaultAutoscaler returns what Knative ships.
func DefaultAutoscaler() Autoscaler {
	return Autoscaler{
		Class:                 builtin("pod-autoscaler-class", ClassKPA),
		EnableScaleToZero:     builtin("enable-scale-to-zero", true),
		AllowZeroInitialScale: builtin("allow-zero-initial-scale", false),
		TargetFraction:        builtin("container-concurrency-target-percentage", 0.7),
		ConcurrencyTarget:     builtin("container-concurrency-target-default", 100.0),
		RPSTarget:             builtin("requests-per-second-target-default", 200.0),
		TargetBurstCapacity:   builtin("target-burst-capacity", 211.0),
		StableWindow:          builtin("stable-window", 60*time.Second),
		PanicWindowPercent:    builtin("panic-window-percentage", 10.0),
		PanicThresholdPercent: builtin("panic-threshold-percentage", 200.0),
		MaxScaleUpRate:        builtin("max-scale-up-rate", 1000.0),
		MaxScaleDownRate:      builtin("max-scale-down-rate", 2.0),
		ScaleToZeroGrace:      builtin("scale-to-zero-grace-period", 30*time.Second),
		ScaleToZeroRetention:  builtin("scale-to-zero-pod-retention-period", time.Duration(0)),
		ScaleDownDelay:        builtin("scale-down-delay", time.Duration(0)),
		ActivatorCapacity:     builtin("activator-capacity", 100.0),
		InitialScale:          builtin("initial-scale", 1),
		MinScale:              builtin("min-scale", 0),
		MaxScale:              builtin("max-scale", 0),
		MaxScaleLimit:         builtin("max-scale-limit", 0),
	}
}

// ParseAutoscaler reads the data of a config-autoscaler ConfigMap over the defaults. It returns every fault; with
// faults the result still holds the valid keys, but must not be put to use. Keys that it does not know are ignored,
// as Knative does: see [UnknownKeys]. at may be nil.
func ParseAutoscaler(data map[string]string, at At) (Autoscaler, []Fault) {
	a := DefaultAutoscaler()
	r := &reader{layers: []layer{{ConfigMap, data, at}}}
	a.readModes(r)
	a.readTargets(r)
	a.readTimes(r)
	a.readScales(r)
	return a, r.faults
}

func key(k string) names { return names{keys: []string{k}} }

func (a *Autoscaler) readModes(r *reader) {
	read(r, key("pod-autoscaler-class"), text(), &a.Class)
	read(r, key("enable-scale-to-zero"), boolean(), &a.EnableScaleToZero)
	read(r, key("allow-zero-initial-scale"), boolean(), &a.AllowZeroInitialScale)
}

func (a *Autoscaler) readTargets(r *reader) {
	percent := number("a number in (0, 100]; up to 1 it is read as a fraction", func(f float64) bool { return f > 0 && f <= 100 })
	read(r, key("container-concurrency-target-percentage"), percent, &a.TargetFraction)
	if a.TargetFraction.V > 1 {
		a.TargetFraction.V /= 100
	}
	read(r, key("container-concurrency-target-default"), number("a number", func(float64) bool { return true }), &a.ConcurrencyTarget)
	if t := a.ConcurrencyTarget; a.TargetFraction.V*t.V < TargetMin {
		r.refuse(strconv.FormatFloat(t.V, 'g', -1, 64), t.Origin,
			fmt.Sprintf("so large that %g of it (container-concurrency-target-percentage) is at least %g", a.TargetFraction.V, TargetMin))
	}
	read(r, key("requests-per-second-target-default"), numberFrom(TargetMin), &a.RPSTarget)
	read(r, key("target-burst-capacity"), burst(), &a.TargetBurstCapacity)
	read(r, key("panic-window-percentage"), numberIn(1, 100), &a.PanicWindowPercent)
	read(r, key("panic-threshold-percentage"), number("a number", func(float64) bool { return true }), &a.PanicThresholdPercent)
	rate := number("a number greater than 1", func(f float64) bool { return f > 1 })
	read(r, key("max-scale-up-rate"), rate, &a.MaxScaleUpRate)
	read(r, key("max-scale-down-rate"), rate, &a.MaxScaleDownRate)
	read(r, key("activator-capacity"), numberFrom(1), &a.ActivatorCapacity)
}

func burst() rule[float64] {
	return number("-1 (unlimited) or a number of at least 0", func(f float64) bool { return f == -1 || f >= 0 })
}

func (a *Autoscaler) readTimes(r *reader) {
	read(r, key("stable-window"), duration(WindowMin, WindowMax, time.Second), &a.StableWindow)
	read(r, key("scale-down-delay"), duration(0, forever, time.Second), &a.ScaleDownDelay)
	read(r, key("scale-to-zero-grace-period"), duration(1, forever, 1), &a.ScaleToZeroGrace)
	read(r, key("scale-to-zero-pod-retention-period"), duration(0, forever, 1), &a.ScaleToZeroRetention)
}

func (a *Autoscaler) readScales(r *reader) {
	lowest := 1
	if a.AllowZeroInitialScale.V {
		lowest = 0
	}
	read(r, key("initial-scale"), count(lowest, maxInt32), &a.InitialScale)
	read(r, key("min-scale"), count(0, maxInt32), &a.MinScale)
	read(r, key("max-scale-limit"), count(0, maxInt32), &a.MaxScaleLimit)
	lo, hi := 0, maxInt32
	if limit := a.MaxScaleLimit.V; limit > 0 {
		lo, hi = 1, limit
	}
	ru := count(lo, hi)
	read(r, key("max-scale"), ru, &a.MaxScale)
	_, _, present := r.find(key("max-scale"))
	switch {
	case !present && lo > 0:
		r.refuse(strconv.Itoa(a.MaxScaleLimit.V), a.MaxScaleLimit.Origin, "accompanied by max-scale: "+ru.allowed)
	case a.MaxScale.V > 0 && a.MinScale.V > a.MaxScale.V:
		r.refuse(strconv.Itoa(a.MinScale.V), a.MinScale.Origin, fmt.Sprintf("at most max-scale, which is %d", a.MaxScale.V))
	}
}

// UnknownKeys returns, in order, the keys of a config-autoscaler ConfigMap that nothing reads. They deserve a warning.
func UnknownKeys(data map[string]string) []string {
	known := make(map[string]bool)
	for _, s := range settings {
		if s.configMap != "" {
			known[s.configMap] = true
		}
	}
	var unknown []string
	for k := range data {
		if !known[k] && !strings.HasPrefix(k, "_") {
			unknown = append(unknown, k)
		}
	}
	sort.Strings(unknown)
	return unknown
}
