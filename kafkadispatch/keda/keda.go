// Package keda computes how many replicas a KEDA ScaledObject with kafka triggers asks for.
//
// [Trigger.Evaluate] follows KEDA's kafka scaler and the HorizontalPodAutoscaler behind it when Compat is set, its two
// oddities included: the division that lets a group have one replica more than partitions, and the tolerance that
// stops it a little below its maximum. Without Compat it has neither, counts records that retention has deleted no
// more, and leaves out what a consumer has finished beyond its commit.
//
// It is pure: values in, values out. Safe for concurrent use.
package keda

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Trigger is a kafka trigger's metadata.
type Trigger struct {
	BootstrapServers []string
	Group            string
	Topic            string
	Partitions       []int32 // partitionLimitation; nil means all

	LagThreshold               int64
	ActivationLagThreshold     int64
	Earliest                   bool // offsetResetPolicy: earliest
	AllowIdleConsumers         bool
	ExcludePersistentLag       bool
	ScaleToZeroOnInvalidOffset bool
	LimitToPartitionsWithLag   bool
	EnsureEvenDistribution     bool
	// Compat takes KEDA's choices where ours differ.
	Compat bool
}

// Partition is what is known of one partition.
type Partition struct {
	Start, End int64
	// Committed is the group's offset, or below 0 when it has none.
	Committed int64
	// Beyond is how many records after Committed are finished.
	Beyond int64
	// Persistent says that the commit has not moved since the poll before although there is lag.
	Persistent bool
}

// Bounds are a ScaledObject's replica counts.
type Bounds struct {
	Min, Max, Current int
}

// Result of an evaluation.
type Result struct {
	Active   bool
	Metric   int64
	Replicas int
}

// ParseTrigger reads a trigger's metadata and reports every fault. Fields of the sarama scaler that concern
// authentication are taken by the caller; they are not faults.
func ParseTrigger(m map[string]string) (Trigger, error) {
	t := Trigger{LagThreshold: 10}
	var errs []error
	fault := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("metadata.%s: %w", name, err))
		}
	}
	t.BootstrapServers = split(m["bootstrapServers"])
	if len(t.BootstrapServers) == 0 {
		fault("bootstrapServers", errors.New("must be set"))
	}
	if t.Group = m["consumerGroup"]; t.Group == "" {
		fault("consumerGroup", errors.New("must be set"))
	}
	t.Topic = m["topic"]
	fault("lagThreshold", number(m["lagThreshold"], 1, &t.LagThreshold))
	fault("activationLagThreshold", number(m["activationLagThreshold"], 0, &t.ActivationLagThreshold))
	switch m["offsetResetPolicy"] {
	case "", "latest":
	case "earliest":
		t.Earliest = true
	default:
		fault("offsetResetPolicy", fmt.Errorf("%q: must be latest or earliest", m["offsetResetPolicy"]))
	}
	for name, into := range map[string]*bool{
		"allowIdleConsumers": &t.AllowIdleConsumers, "excludePersistentLag": &t.ExcludePersistentLag,
		"scaleToZeroOnInvalidOffset": &t.ScaleToZeroOnInvalidOffset, "limitToPartitionsWithLag": &t.LimitToPartitionsWithLag,
		"ensureEvenDistributionOfPartitions": &t.EnsureEvenDistribution,
	} {
		fault(name, boolean(m[name], into))
	}
	if t.Topic != "" {
		var err error
		t.Partitions, err = ParsePartitions(m["partitionLimitation"])
		fault("partitionLimitation", err)
	}
	errs = append(errs, t.conflicts()...)
	return t, errors.Join(errs...)
}

func (t *Trigger) conflicts() (errs []error) {
	if t.Topic == "" && t.LimitToPartitionsWithLag {
		errs = append(errs, errors.New("metadata.limitToPartitionsWithLag: needs topic"))
	}
	if t.Topic == "" && t.EnsureEvenDistribution {
		errs = append(errs, errors.New("metadata.ensureEvenDistributionOfPartitions: needs topic"))
	}
	if t.LimitToPartitionsWithLag && (t.AllowIdleConsumers || t.EnsureEvenDistribution) {
		errs = append(errs, errors.New("metadata.limitToPartitionsWithLag: excludes allowIdleConsumers and ensureEvenDistributionOfPartitions"))
	}
	return errs
}

func split(text string) (out []string) {
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func number(text string, least int64, into *int64) error {
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least {
		return fmt.Errorf("%q: must be a whole number of %d or more", text, least)
	}
	*into = n
	return nil
}

func boolean(text string, into *bool) error {
	if text == "" {
		return nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q: must be true or false", text)
	}
	*into = v
	return nil
}

// ParsePartitions reads a list such as "1,2,10-12"; empty means all, which is nil.
func ParsePartitions(text string) ([]int32, error) {
	var out []int32
	for _, part := range split(text) {
		low, high, ranged := strings.Cut(part, "-")
		from, err := strconv.ParseInt(low, 10, 32)
		if !ranged {
			high = low
		}
		to, err2 := strconv.ParseInt(high, 10, 32)
		if err != nil || err2 != nil || from < 0 || to < from || to-from > 100_000 {
			return nil, fmt.Errorf("%q: must be partitions and ranges such as 1,2,10-12", text)
		}
		for p := from; p <= to; p++ {
			out = append(out, int32(p))
		}
	}
	return out, nil
}

// Lag of one partition: the lag that counts for the metric, and the one that counts for activation.
func (t *Trigger) Lag(p Partition) (metric, activation int64) {
	if p.Committed < 0 {
		n := t.uncommitted(p)
		return n, n
	}
	lag := p.End - p.Committed
	if !t.Compat {
		lag = max(0, p.End-max(p.Start, p.Committed)-p.Beyond)
	}
	if t.ExcludePersistentLag && p.Persistent {
		return 0, lag
	}
	return lag, lag
}

// uncommitted is the lag of a partition without a commit.
func (t *Trigger) uncommitted(p Partition) int64 {
	switch {
	case t.ScaleToZeroOnInvalidOffset:
		return 0
	case !t.Earliest:
		return 1 // somebody has to come and commit
	case t.Compat:
		return p.End
	}
	return p.End - p.Start
}

// Evaluate computes the replicas for one trigger.
func (t *Trigger) Evaluate(ps []Partition, b Bounds) Result {
	var total, all int64
	lagging := int64(0)
	for _, p := range ps {
		m, a := t.Lag(p)
		total, all = total+m, all+a
		if m > 0 {
			lagging++
		}
	}
	r := Result{Active: all > t.ActivationLagThreshold, Metric: t.clamp(total, int64(len(ps)), lagging)}
	r.Replicas = t.replicas(r, b)
	return r
}

// clamp bounds the metric so that no more replicas are asked for than can have partitions.
func (t *Trigger) clamp(total, partitions, lagging int64) int64 {
	if t.AllowIdleConsumers && !t.LimitToPartitionsWithLag && !t.EnsureEvenDistribution {
		return total
	}
	if t.EnsureEvenDistribution {
		total = evenShare(total, t.LagThreshold, partitions) * t.LagThreshold
	}
	most := partitions
	if t.LimitToPartitionsWithLag {
		most = lagging
	}
	if t.Compat && total/t.LagThreshold <= most {
		return total
	}
	return min(total, most*t.LagThreshold)
}

// evenShare is the smallest divisor of the partitions that covers the lag.
func evenShare(total, threshold, partitions int64) int64 {
	for f := int64(1); f <= partitions; f++ {
		if partitions%f == 0 && f*threshold >= total {
			return f
		}
	}
	return partitions
}

// tolerance is the HorizontalPodAutoscaler's: a ratio this close to 1 changes nothing.
const tolerance = 0.1

func (t *Trigger) replicas(r Result, b Bounds) int {
	if !r.Active {
		return b.Min
	}
	want := int(min(math.MaxInt32, (r.Metric+t.LagThreshold-1)/t.LagThreshold))
	if t.Compat && b.Current > 0 {
		ratio := float64(r.Metric) / float64(t.LagThreshold) / float64(b.Current)
		if math.Abs(ratio-1) <= tolerance {
			want = b.Current
		}
	}
	return min(max(want, 1, b.Min), b.Max)
}

// Combine takes the most that any trigger asks for, as a ScaledObject with several triggers does.
func Combine(rs []Result, b Bounds) Result {
	out := Result{Replicas: b.Min}
	for _, r := range rs {
		out.Active = out.Active || r.Active
		out.Metric = max(out.Metric, r.Metric)
	}
	for _, r := range rs {
		if r.Active {
			out.Replicas = max(out.Replicas, r.Replicas)
		}
	}
	return out
}
