package config

import (
	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/metrics"
)

// Policy returns the revision's scaling settings as the decision takes them.
func (rev *Revision) Policy() kpa.Policy {
	s := &rev.Scaling
	targets := append([]kpa.Target{{Metric: s.metric(), Value: s.Target(), Total: s.Total.V}}, s.further...)
	return kpa.Policy{
		Targets:              targets,
		TargetBurstCapacity:  s.TargetBurstCapacity.V,
		StableWindow:         s.StableWindow.V,
		PanicWindow:          s.PanicWindow(),
		Algorithm:            s.algorithm(),
		PanicThreshold:       s.PanicThreshold(),
		MaxScaleUpRate:       s.MaxScaleUpRate.V,
		MaxScaleDownRate:     s.MaxScaleDownRate.V,
		ScaleDownDelay:       s.ScaleDownDelay.V,
		Burst:                s.burst(),
		MinScale:             s.MinScale.V,
		MaxScale:             s.MaxScale.V,
		InitialScale:         s.InitialScale.V,
		ActivationScale:      s.ActivationScale.V,
		ScaleToZero:          s.EnableScaleToZero.V,
		ScaleToZeroGrace:     s.ScaleToZeroGrace.V,
		ScaleToZeroRetention: s.ScaleToZeroRetention.V,
		ProgressDeadline:     rev.ProgressDeadline.V,
		ActivatorCapacity:    s.ActivatorCapacity.V,
		ContainerConcurrency: rev.ContainerConcurrency.V,
	}
}

func (s *Scaling) metric() kpa.Metric {
	switch s.Metric.V {
	case MetricRPS:
		return kpa.RPS
	case MetricCPU:
		return kpa.CPU
	case MetricMemory:
		return kpa.Memory
	}
	return kpa.Concurrency
}

func (s *Scaling) algorithm() metrics.Algorithm {
	if s.Algorithm.V == AlgorithmWeighted {
		return metrics.Weighted
	}
	return metrics.Linear
}

func (s *Scaling) burst() kpa.Burst {
	if s.Burst.V == BurstDrainAware {
		return kpa.BurstDrainAware
	}
	return kpa.BurstDefault
}
