package kpa_test

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/rousehq/rouse/control/kpa"
)

// source turns a fuzzer's bytes into numbers; it gives zeros when they run out.
type source struct{ b []byte }

func (s *source) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

func (s *source) uint16() float64 {
	return float64(binary.LittleEndian.Uint16([]byte{s.byte(), s.byte()}))
}

// float draws a number with a wide range of sizes, always finite and not negative.
func (s *source) float() float64 { return s.uint16() * math.Pow(10, float64(s.byte()%9)-5) }

func (s *source) policy() kpa.Policy {
	p := kpa.DefaultPolicy()
	total := max(0.01, s.float())
	p.Targets = []kpa.Target{{Metric: kpa.Concurrency, Total: total, Value: max(kpa.MinTarget, total*float64(s.byte())/255)}}
	p.TargetBurstCapacity = s.float() - 1
	if p.TargetBurstCapacity < 0 {
		p.TargetBurstCapacity = -1
	}
	p.PanicThreshold = 1 + float64(s.byte())/16
	p.MaxScaleUpRate = 1.01 + s.float()
	p.MaxScaleDownRate = 1.01 + s.float()
	p.StableWindow = time.Duration(6+int(s.byte())) * time.Second
	p.ScaleDownDelay = time.Duration(s.byte()%64) * time.Second
	p.ActivationScale = int(s.byte() % 16)
	p.MinScale, p.MaxScale, p.InitialScale = int(s.byte()%4), int(s.byte()%32), int(s.byte()%4)
	p.ScaleToZero = s.byte()%4 > 0
	p.ScaleToZeroGrace = time.Duration(s.byte()) * time.Second
	p.ScaleToZeroRetention = time.Duration(s.byte()/128) * 100 * time.Second
	p.ProgressDeadline = time.Duration(s.byte()) * time.Second
	return p
}

func (s *source) observation(now time.Time) kpa.Observation {
	o := kpa.Observation{Ready: int(s.uint16()), Reachability: kpa.Reachability(s.byte() % 3)}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: s.float(), Panic: s.float(), Present: s.byte()%16 > 0}
	flags := s.byte()
	o.Replicas, o.Path.Activators, o.Path.Probe = int(flags%8), int(flags/8%3), kpa.ProbeResult(flags/24%3)
	if since := s.byte(); since > 0 {
		o.Path.ProxiedSince = now.Add(-time.Duration(since) * time.Second)
	}
	return o
}

// FuzzDecide compares Decide with the literal transcriptions of both halves of the rule over sequences of observations.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{100, 0, 5, 178, 211, 0, 5, 16, 232, 3, 5, 2, 0, 5, 54, 0, 0, 1, 0, 0, 140, 0, 5, 150, 0, 5, 1, 2, 0})
	f.Add([]byte{1, 0, 5, 178, 0, 0, 0, 16, 232, 3, 5, 2, 0, 5, 54, 60, 5, 9, 0, 1, 140, 0, 5, 150, 0, 5, 1, 2, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &source{b}
		p := src.policy()
		now := at(float64(src.byte()))
		s := kpa.NewState(&p, int(src.byte()%8), now)
		slow := newOracle(&p, &s)
		for steps := 0; len(src.b) > 0 && steps < 64; steps++ {
			now = now.Add(time.Duration(src.byte()) * 250 * time.Millisecond)
			o := src.observation(now)
			before := s.Clone()
			want := slow.scale(&p, &o, now)
			d := kpa.Decide(&p, &s, &o, now)
			got := scaled{d.Valid, d.Panic, d.Raw, d.ExcessBurstCapacity, d.MaxPanicPods}
			if !want.valid {
				want.pods, want.excess = got.pods, got.excess
			}
			if want.pods > math.MaxInt32 {
				return // more pods than Kubernetes counts
			}
			if got != want {
				t.Fatalf("step %d: Decide(%+v, %+v) = %+v, want %+v", steps, p, o, got, want)
			}
			rest := applyRule(&p, &before, &o, s.Raw, s.ExcessBurstCapacity, now)
			if got := (applied{d.Want, d.Desired >= 0, d.Mode, d.Activity}); got != rest {
				t.Fatalf("step %d: Decide(%+v, %+v) from %v = %+v, want %+v", steps, p, o, before.Activity, got, rest)
			}
		}
	})
}
