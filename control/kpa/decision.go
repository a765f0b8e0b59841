package kpa

import "time"

// Mode is who carries the traffic of a revision.
type Mode uint8

// The modes.
const (
	Proxy Mode = iota // activators
	Serve             // the pods themselves
)

// String returns the mode's name.
func (m Mode) String() string { return [...]string{"proxy", "serve"}[m] }

// Activity is Knative's Active condition of a revision.
type Activity uint8

// The activities.
const (
	Activating Activity = iota // pods were asked for, not enough are ready yet
	Active
	Inactive
)

// String returns the activity's name.
func (a Activity) String() string { return [...]string{"activating", "active", "inactive"}[a] }

// Limit names the rule that had the last word on the number of pods.
type Limit uint8

// The limits, in the order in which they are applied.
const (
	LimitNone       Limit = iota // the load decided
	LimitNoData                  // no data: the previous number stays
	LimitScaleUp                 // max-scale-up-rate
	LimitScaleDown               // max-scale-down-rate
	LimitActivation              // activation-scale
	LimitCeiling                 // event sources have no work for more
	LimitPanic                   // in panic the number never falls
	LimitDrain                   // drain-aware burst
	LimitDelay                   // scale-down-delay
	LimitMin                     // min-scale
	LimitInitial                 // initial-scale not reached yet
	LimitSchedule                // the floor of a schedule
	LimitMax                     // max-scale
	LimitNoZero                  // scale to zero is off
	LimitActivating              // waiting for the first pods, until the progress deadline
	LimitIdle                    // the last pod stays until the stable window has passed
	LimitProbe                   // the last pod stays until an activator is known to be in the path
	LimitGrace                   // the last pod stays for the grace period
	LimitRetention               // the last pod stays for the retention period
)

// limitNames are the settings that the limits come from, as annotations write them where there is one.
var limitNames = [...]string{
	"none", "no-data", "max-scale-up-rate", "max-scale-down-rate", "activation-scale", "useful-parallelism", "panic", "drain-aware",
	"scale-down-delay", "min-scale", "initial-scale", "schedule", "max-scale", "enable-scale-to-zero",
	"progress-deadline", "stable-window", "activator-probe", "scale-to-zero-grace-period",
	"scale-to-zero-pod-retention-period",
}

// String returns the setting that the limit comes from.
func (l Limit) String() string { return limitNames[l] }

// Want is what one metric asked for.
type Want struct {
	// Metric and its Target and averages as they were used.
	Metric Metric
	Target float64
	Stable float64
	Panic  float64
	// StablePods and PanicPods are the averages divided by the target, rounded up, before any limit.
	StablePods int
	PanicPods  int
}

// Reasons is the explanation of a decision.
type Reasons struct {
	// Wants are the wishes of the metrics of the policy, in its order; Count of them are filled.
	Wants [NumMetrics]Want
	Count int
	// Winner is the metric that asked for most.
	Winner Metric
	// Ready is the number of ready pods that the rates were applied to.
	Ready int
	// RateLow and RateHigh are the least and the most that the rates allowed.
	RateLow  int
	RateHigh int
	// Limit is the rule that had the last word, and Since when it has had it.
	Limit Limit
	Since time.Time
}

// Decision is what to do about a revision now.
type Decision struct {
	// Valid is false when there was no data to decide with; then Desired is -1 unless bounds or time ask for a change.
	Valid bool
	// Raw is what the load asks for after rates, panic and delay: Knative's desired pods. -1 before the first data.
	Raw int
	// Want is Raw within its bounds and on its way to zero. It goes to zero before the last pod does, so that an
	// activator is in the path when that happens.
	Want int
	// Desired is what the scale target should be set to, -1 for leave it alone.
	Desired int
	// ExcessBurstCapacity is by how much the ready pods could take more than the load and the burst that is
	// configured; negative when they could not.
	ExcessBurstCapacity int
	// Mode is who should carry the traffic, and Activators how many of them.
	Mode       Mode
	Activators int
	// Activity is the Active condition after this decision.
	Activity Activity
	// Panic says that the revision is in panic, MaxPanicPods the most that it asked for in it.
	Panic        bool
	MaxPanicPods int
	// Again, when not zero, is in how long to decide again even if nothing happens.
	Again time.Duration
	// ProbeActivator asks for a probe of the public address (Path.Probe).
	ProbeActivator bool
	// Reasons explains it.
	Reasons Reasons
}
