package kpa_test

import (
	"testing"
	"time"

	"github.com/rousehq/rouse/control/kpa"
)

func benchmarkObservation() kpa.Observation {
	o := kpa.Observation{Ready: 5, Replicas: 5, Path: kpa.Path{Activators: 2}}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 300, Panic: 410, Present: true}
	return o
}

// BenchmarkDecide stands beside the literal transcription of the first half of the rule.
func BenchmarkDecide(b *testing.B) {
	b.Run("rouse", func(b *testing.B) {
		p, o, now := kpa.DefaultPolicy(), benchmarkObservation(), at(0)
		s := kpa.NewState(&p, 5, now)
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(2 * time.Second)
			kpa.Decide(&p, &s, &o, now)
		}
	})
	b.Run("delay", func(b *testing.B) {
		p, o, now := kpa.DefaultPolicy(), benchmarkObservation(), at(0)
		p.ScaleDownDelay = time.Hour
		s := kpa.NewState(&p, 5, now)
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(2 * time.Second)
			o.Metrics[kpa.Concurrency].Stable = float64(now.Unix() % 600)
			kpa.Decide(&p, &s, &o, now)
		}
	})
	b.Run("four-metrics", func(b *testing.B) {
		p, o, now := several(), benchmarkObservation(), at(0)
		for m := range o.Metrics {
			o.Metrics[m] = kpa.Sample{Stable: 3, Panic: 4, Present: true}
		}
		s := kpa.NewState(&p, 5, now)
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(2 * time.Second)
			kpa.Decide(&p, &s, &o, now)
		}
	})
	b.Run("transcription", func(b *testing.B) {
		p, o, now := kpa.DefaultPolicy(), benchmarkObservation(), at(0)
		s := kpa.NewState(&p, 5, now)
		slow := newOracle(&p, &s)
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(2 * time.Second)
			slow.scale(&p, &o, now)
		}
	})
}
